"""Make the synthetic bandwidth traces in scenarios/traces; run again, it writes the same bytes.

They are shapes, not recordings: what a phone's uplink does on a walk, on a commute and at the edge of a cell, after the
ranges and time scales of published recordings (Riiser et al., MMSys 2013; Raca et al., MMSys 2018). A log-rate that
wanders and returns (shadowing), steps at changes of cell, and outages. For results about a real network, use a
recording of it: `netem.trace.read_trace` reads five formats.

    python scripts/make_traces.py [FOLDER]
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from netem.trace import Trace, write_trace


@dataclass(frozen=True)
class Shape:
    """One kind of journey.

    Attributes:
        seconds: length; one rate a second.
        median_mbit: of the rate while there is coverage.
        spread: standard deviation of the log-rate (natural).
        memory_s: how long the rate remembers itself.
        cell_s: mean time in one cell; a new cell multiplies the rate by a step of standard deviation *cell_spread*.
        outage_every_s, outage_s: mean time between outages and mean length; inf for none.
    """

    seed: int
    seconds: int
    median_mbit: float
    spread: float
    memory_s: float
    cell_s: float
    cell_spread: float
    outage_every_s: float
    outage_s: float
    story: str


SHAPES = {
    "walk": Shape(
        11, 300, 18.0, 0.35, 12.0, 120.0, 0.3, math.inf, 0.0, "a walk through a town with good coverage"
    ),
    "commute": Shape(
        23, 600, 12.0, 0.6, 6.0, 35.0, 0.6, 150.0, 4.0, "a train ride: many cells, tunnels"
    ),
    "cell-edge": Shape(
        37, 300, 1.5, 0.7, 20.0, 90.0, 0.4, 80.0, 2.5, "indoors at the edge of a cell: slow, with gaps"
    ),
}  # fmt: skip
LOWEST_MBIT, HIGHEST_MBIT = 0.05, 150.0


def make(shape: Shape) -> Trace:
    """One trace; `random.Random` with a fixed seed gives the same numbers in every Python version.

    Only `random()` is drawn from and only arithmetic, `exp`, `log`, `sqrt` and `cos` are used; the result is rounded to
    1 kbit/s, coarser than any difference between maths libraries.
    """
    rng = random.Random(shape.seed)  # noqa: S311 - a shape, not a secret

    def normal() -> float:
        return math.sqrt(-2.0 * math.log(1.0 - rng.random())) * math.cos(2.0 * math.pi * rng.random())

    keep = math.exp(-1.0 / shape.memory_s)
    wander, cell, gap_left = normal(), 0.0, 0.0
    rates = []
    for _ in range(shape.seconds):
        wander = keep * wander + math.sqrt(1.0 - keep * keep) * normal()
        if rng.random() < 1.0 / shape.cell_s:
            cell = shape.cell_spread * normal()
        if gap_left <= 0.0 and rng.random() < 1.0 / shape.outage_every_s:
            gap_left = -shape.outage_s * math.log(1.0 - rng.random())
        mbit = shape.median_mbit * math.exp(shape.spread * wander + cell)
        gap_left -= 1.0
        rates.append(0.0 if gap_left > 0.0 else round(min(max(mbit, LOWEST_MBIT), HIGHEST_MBIT), 3))
    # As decimal text would read them, so that the file holds exactly these rates.
    return Trace(tuple(float(t) for t in range(shape.seconds)), tuple(rate * 1e6 for rate in rates))


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in SHAPES.items():
        comment = f"Synthetic: {shape.story}. Made by scripts/make_traces.py, seed {shape.seed}."
        write_trace(folder / f"{name}.csv", make(shape), comment)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "scenarios" / "traces")
