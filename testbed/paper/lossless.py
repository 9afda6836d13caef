"""Lossless codecs on trained states: the whole state, as the paper compares, and the part that FedSZ codes exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import fedsz
from fedsz import ErrorBound, Partition
from testbed.paper.figures import look_of
from testbed.paper.learner import Found, State
from testbed.paper.outcome import Outcome, Table, Verdict
from testbed.paper.settings import Lossless
from testbed.paper.timing import steady, timed
from testbed.style import PAPER, Theme, drawn, legend_below, plain_log

Tell = Callable[[str], None]
SEED = 1


@dataclass(frozen=True)
class LosslessRow:
    """One codec on one training's final state.

    Attributes:
        part: ``whole`` state, or ``exact``: the tensors that FedSZ does not quantise.
        compress_s, decompress_s: one a repeat.
    """

    training: str
    part: str
    codec: str
    raw_bytes: int
    payload_bytes: int
    compress_s: tuple[float, ...]
    decompress_s: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Container counted."""
        return self.raw_bytes / self.payload_bytes

    @property
    def compress_mbs(self) -> float:
        """Median speed, MB/s of raw bytes."""
        return self.raw_bytes / float(np.median(self.compress_s)) / 1e6

    @property
    def decompress_mbs(self) -> float:
        """Median speed, MB/s of raw bytes."""
        return self.raw_bytes / float(np.median(self.decompress_s)) / 1e6

    @property
    def crossover_bps(self) -> float:
        """8 (S - S') / (t_C + t_D) with medians; 0 where nothing is saved."""
        seconds = float(np.median(self.compress_s) + np.median(self.decompress_s))
        return max(0.0, 8 * (self.raw_bytes - self.payload_bytes) / seconds)


def run(size: Lossless, found: Found, folder: Path, tell: Tell) -> Outcome:
    """Codecs take turns, everything on one core."""
    del folder
    rows: list[LosslessRow] = []
    with steady():
        for training in found.trainings:
            tell(f"{training.name}: training")
            state = training.last_two(SEED)[1]
            rule = Partition()
            exact = {name: array for name, array in state.items() if not rule.is_lossy(name, array)}
            for part, arrays in (("whole", state), ("exact", exact)):
                tell(f"{training.name}: {part}")
                rows += _rows(training.name, part, arrays, size)
    return outcome(rows, found.missing)


def _rows(training: str, part: str, state: State, size: Lossless) -> list[LosslessRow]:
    # A bound of 0 sends every tensor to the lossless codec.
    taken: Mapping[str, list[tuple[float, float]]] = {codec: [] for codec in size.codecs}
    lengths: dict[str, int] = {}
    raw = fedsz.update_bytes(state)
    for turn in range(size.repeats + 1):
        for codec in size.codecs if turn % 2 else reversed(size.codecs):
            payload, went_in = timed(partial(fedsz.compress, state, ErrorBound("ABS", 0.0), lossless=codec))
            _, came_out = timed(partial(fedsz.decompress, payload, max_bytes=2 * raw + (1 << 20)))
            lengths[codec] = len(payload)
            if turn:  # the first warms caches and libraries up
                taken[codec].append((went_in, came_out))
    return [
        LosslessRow(
            training, part, codec, raw, lengths[codec],
            tuple(one for one, _ in taken[codec]), tuple(other for _, other in taken[codec]),
        )
        for codec in size.codecs
    ]  # fmt: skip


def outcome(rows: list[LosslessRow], missing: tuple[str, ...] = ()) -> Outcome:
    """Table, picture and verdict of *rows*."""
    cells = tuple(
        (
            row.training,
            row.part,
            row.codec,
            f"{row.ratio:.3f}",
            _speed(row.raw_bytes, row.compress_s),
            _speed(row.raw_bytes, row.decompress_s),
            f"{row.crossover_bps / 1e6:.0f}",
        )
        for row in rows
    )
    repeats = len(rows[0].compress_s)
    columns = ("training", "part", "codec", "ratio", "compress MB/s", "decompress MB/s", "B* Mbit/s")
    table = Table(f"Lossless codecs, one core, median [quartiles] of {repeats}", columns, cells)
    whole = [row for row in rows if row.part == "whole"]
    fastest = max(whole, key=lambda row: row.crossover_bps)
    best = max(row.ratio for row in whole)
    verdicts = (
        Verdict(
            "no lossless codec gains much on weights, so speed decides; blosc-lz is the choice",
            "blosc-lz",
            f"best ratio {best:.3f}x; highest B*: {fastest.codec}, {fastest.crossover_bps / 1e6:.0f} Mbit/s",
            f"agrees: no codec saves more than {100 * (1 - 1 / best):.0f} %"
            + ("" if fastest.codec == "blosc-lz" else f"; by B* {fastest.codec} is the better choice"),
        ),
    )
    data = [
        asdict(row)
        | {"ratio": row.ratio, "compress_mbs": row.compress_mbs, "decompress_mbs": row.decompress_mbs}
        for row in rows
    ]
    return Outcome(verdicts, (table,), {"lossless": data}, {"lossless": figure(rows)}, missing)


def _speed(raw: int, seconds: tuple[float, ...]) -> str:
    low, middle, high = np.percentile(raw / 1e6 / np.array(seconds), [25, 50, 75])
    return f"{middle:.0f} [{low:.0f}-{high:.0f}]"


def figure(rows: list[LosslessRow], theme: Theme = PAPER) -> Figure:
    """Ratio over speed both ways, a panel a part; a sign a codec, filled for the first training."""
    parts = list(dict.fromkeys(row.part for row in rows))
    look = look_of(list(dict.fromkeys(row.codec for row in rows)), theme)
    with drawn(theme):
        drawing = Figure(figsize=(4.4 * len(parts), 3.8), layout="constrained")
        grid = drawing.subplots(1, len(parts), squeeze=False)
        for axes, part in zip(grid[0], parts, strict=True):
            trainings = list(dict.fromkeys(row.training for row in rows))
            for row in (row for row in rows if row.part == part):
                style = look[row.codec]
                seconds = float(np.median(row.compress_s) + np.median(row.decompress_s))
                first = row.training == trainings[0]
                axes.plot(
                    row.raw_bytes / seconds / 1e6, row.ratio, color=style.colour, marker=style.marker,
                    markersize=7, linestyle="none", fillstyle="full" if first else "none",
                    label=style.name if first else None,
                )  # fmt: skip
            axes.set_xscale("log")
            plain_log(axes, "x")
            axes.grid(visible=True)
            axes.set_title(f"{part} state" if part == "whole" else "what FedSZ codes exactly")
            axes.set_xlabel("speed, both ways (MB/s)")
        grid[0][0].set_ylabel("compression ratio")
        legend_below(drawing, grid.flat)
    return drawing
