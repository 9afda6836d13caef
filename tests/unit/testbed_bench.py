"""A workbench whose work takes exactly as long as is written down: for tests of decisions, which no load may sway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.coding import Fidelity
from testbed.work import Model, Timed, Trained

UPDATE_BYTES = 8_000_000


@dataclass(frozen=True)
class Speed:
    """Seconds to compress and to decompress, and the payload's share of the update's bytes."""

    compress_s: float
    decompress_s: float
    share: float


class SteadyBench:
    """Stands where `Workbench` stands; *speeds* by codec, and by "codec, given" for one that a reference changes."""

    def __init__(self, speeds: dict[str, Speed]) -> None:
        self.speeds = speeds

    def initial(self, seed: int) -> Model:
        return Model.of({"w": np.full(UPDATE_BYTES // 4, float(seed % 7), np.float32)})

    def samples_of(self, scenario: Any, seed: int) -> dict[str, np.ndarray]:
        return {name: np.arange(10) for name in scenario.client_names}

    def doubt(self, fleet: Any) -> str:
        return ""

    def train(self, scenario: Any, fleet: Any, model: Model, *rest: Any) -> Timed[Trained]:
        return Timed(Trained(model, 10, 0.5), 1.0, "measured")

    def encode(
        self, scenario: Any, fleet: Any, model: Model, settings: Any, reference: Any, *rest: Any
    ) -> Timed[bytes]:
        speed = self._speed(settings.codec, reference)
        return Timed(bytes(round(speed.share * UPDATE_BYTES)), speed.compress_s, "measured")

    def decode(
        self, payload: bytes, digest: str, codec: str, reference: Any, like: Model, *rest: Any
    ) -> Timed[Model]:
        return Timed(like, self._speed(codec, reference).decompress_s, "measured")

    def _speed(self, codec: str, reference: Any) -> Speed:
        given = self.speeds.get(f"{codec}, given") if reference is not None else None
        return given or self.speeds[codec]

    def fidelity(self, *states: Any) -> Fidelity:
        return Fidelity(0.0, 0.0)

    def average(self, updates: Any, rng: Any) -> Timed[Model]:
        return Timed(updates[0][0], 0.001, "measured")

    def accuracy(self, model: Model, samples: int | None) -> float:
        return 0.5
