"""One seed in the scenario feeds every random choice, each from a stream of its own.

Nothing here depends on the codec, the bound or the links: two runs that differ only in these have the same initial
weights, the same split and the same order of samples, so their accuracies can be compared in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Places in the tree of seeds; a number once given keeps its meaning, or old results cannot be repeated.
_MODEL, _PARTITION, _TRAINING, _DEVICE, _CHOICE = range(5)


@dataclass(frozen=True, slots=True)
class Seeds:
    """The streams of one run. *seed* is a non-negative integer; every answer is 0 to 2^32 - 1."""

    seed: int

    def model(self) -> int:
        """Initial weights."""
        return self._draw(_MODEL)

    def partition(self) -> int:
        """Who has which samples."""
        return self._draw(_PARTITION)

    def training(self, round_number: int, client: int) -> int:
        """Order of the samples and dropout, for one client (by number) in one round."""
        return self._draw(_TRAINING, round_number, client)

    def device(self, client: int) -> int:
        """Draw of a device from its profile's uncertainty."""
        return self._draw(_DEVICE, client)

    def choice(self, round_number: int) -> int:
        """Which clients take part in a round."""
        return self._draw(_CHOICE, round_number)

    def _draw(self, *place: int) -> int:
        return int(np.random.SeedSequence(self.seed, spawn_key=place).generate_state(1)[0])
