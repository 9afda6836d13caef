"""What a sweep will cost before it starts: cells, wall time, memory and disk, and how each was estimated.

One training step and one pass of each codec over the untrained model are timed in this process; transfers are played
over modelled links with sizes from that pass. No worker, link or result folder is made. What the policy ``auto`` tries
before it decides, evaluation and checks are not counted, so that wall time is a lower end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fedsz
from devices.profile import DeviceProfile
from testbed.busy_period import expected_flows
from testbed.carrier import ModelCarrier
from testbed.cells import Cell
from testbed.coding import DEFAULT_LOSSLESS, State
from testbed.dilation import RoundDilation, TruthfulRange
from testbed.forecast_buffered import play_estimated
from testbed.learning.data import load_or_fallback
from testbed.learning.models import ModelSpec, initial_state
from testbed.learning.training import TrainTask, train_client
from testbed.progress import time_text
from testbed.round import ClientPlan, RoundOutcome
from testbed.scenario import Compression, Scenario

# Measured with the scenarios that ship: a worker with PyTorch, and a line of rounds.jsonl with its note.
WORKER_BYTES, ROW_BYTES = 450_000_000, 2_700
WORKER_STARTS_S = 5.0
# Compression and decompression are measured this often for each update.
REPEATS = 3


@dataclass(frozen=True)
class _Coding:
    payload_bytes: int
    compress_s: float
    decompress_s: float


@dataclass(frozen=True)
class Forecast:
    """The cost of a sweep.

    Attributes:
        rounds: client-rounds in all cells.
        work_s: wall seconds of training, compressing, decompressing.
        transfers_s: wall seconds with packets in flight; 0 over modelled links.
        emulated_s: emulated seconds that those stand for, all rounds.
        memory_bytes: at its highest; disk_bytes: of the result folder without plots.
    """

    cells: tuple[Cell, ...]
    rounds: int
    work_s: float
    transfers_s: float
    emulated_s: float
    memory_bytes: int
    disk_bytes: int
    model_bytes: int

    @property
    def lines(self) -> list[str]:
        """In words."""
        wall_s = WORKER_STARTS_S + self.work_s + self.transfers_s
        parts = (
            f"{time_text(WORKER_STARTS_S)} to start, {time_text(self.work_s)} of work (a step, a pass of each codec, "
            f"timed here), {time_text(self.transfers_s)} of transfers (modelled; {time_text(self.emulated_s)} of round "
            "time emulated)"
        )
        return [
            f"{len(self.cells)} cells, {self.rounds} client-rounds; the model has {self.model_bytes / 1e6:.1f} MB",
            f"wall time  at least {time_text(wall_s)}: {parts}",
            f"memory     about {self.memory_bytes / 1e9:.1f} GB (workers, one round's updates and payloads)",
            f"disk       about {max(self.disk_bytes, 100_000) / 1e6:.1f} MB (rows, notes and payloads that are kept)",
            "nothing was started",
        ]


def forecast(scenario: Scenario, *, keep_payloads: bool = False) -> Forecast:
    """Estimate the sweep of *scenario*; takes a few seconds."""
    learning = scenario.learning
    data_dir = Path(learning.data_dir) if learning.data_dir else None
    dataset, _ = load_or_fallback(learning.data, learning.fallback_data or learning.data, data_dir)
    size = learning.image_size or max(dataset.image_size, 32)
    spec = ModelSpec(learning.model, dataset.classes, dataset.channels, size)
    state = initial_state(spec, 0)
    model_bytes = sum(array.nbytes for array in state.values())
    cells = tuple(scenario.cells())
    codings: dict[object, _Coding] = {}
    steps: dict[int, float] = {}
    done: set[object] = set()
    work_s = transfers_s = emulated_s = 0.0
    rounds = payload_bytes = most_bytes = 0
    for cell in cells:
        filled = cell.scenario
        batch = filled.learning.batch_size
        if batch not in steps:
            steps[batch] = _step_s(spec, state, dataset.name, data_dir, batch)
        train_s = steps[batch] * _steps(filled, len(dataset.train_labels))
        key = _coding_key(filled.compression)
        if key not in codings:
            codings[key] = _coding(state, filled.compression)
        coding = codings[key]
        raw = model_bytes + 4096
        asked = filled.rounds_policy.asked(len(filled.client_names))
        names = filled.client_names[:asked]
        plans = [
            _plan(name, filled.profile_of(filled.fleet_of(name)), raw, coding, train_s) for name in names
        ]
        if filled.rounds_policy.kind == "async":
            begun, cell_s = play_estimated(filled, plans)
        else:
            outcome = ModelCarrier().play(filled, plans, 0.0).outcome
            times = filled.learning.rounds
            cell_s = times * outcome.round_s
            if filled.network.engine == "mininet":
                transfers_s += times * _wall_s(filled, outcome)
            begun = [(name, number) for name in names for number in range(times)]
        emulated_s += cell_s
        rounds += len(begun)
        sent = raw + coding.payload_bytes
        payload_bytes += len(begun) * sent
        most_bytes = max(most_bytes, asked * (sent + 2 * model_bytes))
        for client, number in begun:
            pieces = {
                ("train", client, number, cell.repeat, repr(filled.learning)): train_s,
                ("code", client, number, cell.repeat, key): REPEATS
                * (coding.compress_s + coding.decompress_s),
            }
            for piece, seconds in pieces.items():
                if filled.sweep.work == "measured" or piece not in done:
                    done.add(piece)
                    work_s += seconds
    workers = 2 + len({fleet.device_name for fleet in scenario.fleets if fleet.held})
    return Forecast(
        cells,
        rounds,
        work_s,
        transfers_s,
        emulated_s,
        workers * WORKER_BYTES + most_bytes,
        rounds * ROW_BYTES + (payload_bytes if keep_payloads else 0),
        model_bytes,
    )


def _steps(scenario: Scenario, images: int) -> int:
    learning = scenario.learning
    share = images // len(scenario.client_names)
    share = min(share, learning.samples_per_client or share)
    steps = learning.local_epochs * -(-share // learning.batch_size)
    return min(steps, learning.max_steps or steps)


def _step_s(spec: ModelSpec, state: State, dataset: str, data_dir: Path | None, batch: int) -> float:
    """Seconds of one training step here, the second of two: the first loads libraries."""
    task = TrainTask(
        model=spec, state=dict(state), dataset=dataset, indices=np.arange(batch), seed=0, data_dir=data_dir,
        max_steps=1, batch_size=batch,
    )  # fmt: skip
    train_client(task)
    began = time.perf_counter()
    train_client(task)
    return time.perf_counter() - began


def _coding_key(compression: Compression) -> object:
    raw = compression.policy == "never" or compression.codec == "none"
    return (
        "none" if raw else (compression.codec, compression.bound, compression.lossless, compression.partition)
    )


def _coding(state: State, compression: Compression) -> _Coding:
    """One pass over the untrained model, the second of two."""
    codec = "none" if _coding_key(compression) == "none" else compression.codec
    for _ in range(2):
        began = time.perf_counter()
        payload = fedsz.compress(
            state,
            compression.bound,
            codec=codec,
            lossless=compression.lossless or DEFAULT_LOSSLESS,
            partition=compression.partition,
        )
        compressed = time.perf_counter()
        fedsz.decompress(payload)
        ended = time.perf_counter()
    return _Coding(len(payload), compressed - began, ended - compressed)


def _plan(name: str, device: DeviceProfile, raw: int, coding: _Coding, train_s: float) -> ClientPlan:
    return ClientPlan(
        name,
        raw,
        coding.payload_bytes,
        train_s * device.factor("train"),
        coding.compress_s * device.factor("compress"),
        coding.decompress_s,
    )


def _wall_s(scenario: Scenario, outcome: RoundOutcome) -> float:
    """Wall seconds with packets in flight, each busy period at its dilation."""
    asked, topology = scenario.network.dilation, scenario.topology()
    return RoundDilation(
        topology,
        expected_flows(topology, outcome),
        TruthfulRange(),
        lambda _: None,
        None if asked == "auto" else asked,
    ).wall_s()
