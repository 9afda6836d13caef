"""Compression ratio of whole trained states: model x data x bound x codec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import fedsz
from fedsz import ErrorBound, registry
from testbed.coding import DEFAULT_LOSSLESS, compare
from testbed.paper import kept
from testbed.paper.figures import bound_axes, look_of, spread
from testbed.paper.kept import plan_hash
from testbed.paper.learner import Found, State, Training, interleaved
from testbed.paper.outcome import Outcome, Table, Verdict, interval_text, mean_interval
from testbed.paper.settings import Ratio
from testbed.style import PAPER, Theme, drawn, legend_below

Tell = Callable[[str], None]
FILE = "rows.jsonl"
PAPER_BOUND, PAPER_RANGE = 1e-2, (5.55, 12.61)
# Relative width within which a figure counts as the paper's: other weights, other seeds, another build of SZ2.
SAME = 0.05


@dataclass(frozen=True)
class RatioRow:
    """One codec on the last round's update of one training and seed.

    Attributes:
        plan: hash of the training, seed apart.
        reference: coded against the global model of the round before, which both sides hold.
        error_over_bound: the largest share of its bound that any value used; 1 is the promise.
    """

    plan: str
    training: str
    seed: int
    codec: str
    reference: bool
    bound: float
    update_bytes: int
    payload_bytes: int
    error_over_bound: float

    @property
    def key(self) -> tuple[str, int, str, float]:
        """What is done in one go."""
        return (self.plan, self.seed, self.codec, self.bound)

    @property
    def ratio(self) -> float:
        """Header and checksum counted."""
        return self.update_bytes / self.payload_bytes


def run(size: Ratio, found: Found, folder: Path, tell: Tell) -> Outcome:
    """Train, then compress and decompress every state with everything."""
    rows = [RatioRow(**record) for record in kept.read(folder / FILE)]
    done = {row.key for row in rows}
    wanted = set()
    for training, seed in interleaved(found.trainings):
        plan = plan_hash(training)
        pairs = [(codec, bound) for codec in size.codecs for bound in size.bounds]
        wanted |= {(plan, seed, codec, bound) for codec, bound in pairs}
        pairs = [(codec, bound) for codec, bound in pairs if (plan, seed, codec, bound) not in done]
        if pairs:
            tell(f"{training.name}, seed {seed}: training")
            before, after = training.last_two(seed)
        for codec, bound in pairs:
            tell(f"{training.name}, seed {seed}: {codec} {bound:g}")
            for row in _rows(training, seed, codec, bound, before, after):
                kept.append(folder / FILE, asdict(row))
                rows.append(row)
    return outcome([row for row in rows if row.key in wanted], found.missing)


def _rows(
    training: Training, seed: int, codec: str, bound: float, before: State, after: State
) -> list[RatioRow]:
    rows = []
    size, wanted = fedsz.update_bytes(after), ErrorBound("REL", bound)
    for reference in (None, before) if registry.lossy_codec(codec).supports_reference else (None,):
        payload = fedsz.compress(after, wanted, codec=codec, lossless=DEFAULT_LOSSLESS, reference=reference)
        decoded = fedsz.decompress(payload, reference=reference, max_bytes=2 * size + (1 << 20))
        error = compare(after, decoded, wanted).max_error_over_bound
        rows.append(
            RatioRow(
                plan_hash(training),
                training.name,
                seed,
                codec,
                reference is not None,
                bound,
                size,
                len(payload),
                error,
            )
        )
    return rows


def outcome(rows: list[RatioRow], missing: tuple[str, ...] = ()) -> Outcome:
    """Tables, picture and verdict of *rows*."""
    bounds = sorted({row.bound for row in rows}, reverse=True)
    cells = []
    for training in dict.fromkeys(row.training for row in rows):
        for codec, reference in dict.fromkeys((row.codec, row.reference) for row in rows):
            mine = [r for r in rows if (r.training, r.codec, r.reference) == (training, codec, reference)]
            by_bound = [[row.ratio for row in mine if row.bound == bound] for bound in bounds]
            if mine:
                name = f"{codec}, given the last model" if reference else codec
                cells.append(
                    (training, name, *(interval_text(values) if values else "-" for values in by_bound))
                )
    table = Table(
        "Compression ratio of the whole state, mean over seeds [95 % interval]",
        ("training", "codec", *(f"{bound:g}" for bound in bounds)),
        tuple(cells),
    )
    worst = max(row.error_over_bound for row in rows)
    seeds = {training: len({r.seed for r in rows if r.training == training}) for training in _trainings(rows)}
    return Outcome(
        verdicts=_verdicts(rows),
        tables=(table,),
        data={"ratio": [asdict(row) | {"ratio": row.ratio} for row in rows]},
        figures={"ratio": figure(rows)},
        missing=missing,
        notes=(
            f"largest error of any value: {worst:.6f} of its bound",
            "seeds: " + ", ".join(f"{training} {count}" for training, count in seeds.items()),
            f"lossless part of every codec: {DEFAULT_LOSSLESS}",
        ),
    )


def _trainings(rows: list[RatioRow]) -> list[str]:
    return list(dict.fromkeys(row.training for row in rows))


def _verdicts(rows: list[RatioRow]) -> tuple[Verdict, ...]:
    """The paper's two ends against the smallest and the largest mean over seeds."""
    verdicts = []
    for codec in dict.fromkeys(row.codec for row in rows):
        mine = [r for r in rows if r.codec == codec and r.bound == PAPER_BOUND and not r.reference]
        if not mine:
            continue
        by_training = {t: [r.ratio for r in mine if r.training == t] for t in _trainings(mine)}
        order = sorted(by_training, key=lambda t: float(np.mean(by_training[t])))
        low, high = by_training[order[0]], by_training[order[-1]]
        verdicts.append(
            Verdict(
                f"ratio of the whole state at REL {PAPER_BOUND:g}, {codec}",
                f"{PAPER_RANGE[0]}x to {PAPER_RANGE[1]}x",
                f"{interval_text(low)}x ({order[0]}) to {interval_text(high)}x ({order[-1]})",
                _judge(mean_interval(low)[0], mean_interval(high)[0]),
            )
        )
    return tuple(verdicts)


def _judge(low: float, high: float) -> str:
    words = [
        f"{end} end {'agrees' if abs(ours / paper - 1) <= SAME else 'higher' if ours > paper else 'lower'}"
        for end, ours, paper in (("lower", low, PAPER_RANGE[0]), ("upper", high, PAPER_RANGE[1]))
    ]
    if all(word.endswith("agrees") for word in words):
        return "agrees"
    inside = PAPER_RANGE[0] * (1 - SAME) <= low and high <= PAPER_RANGE[1] * (1 + SAME)
    return f"{'agrees: within the range' if inside else 'does not agree'}; {', '.join(words)}"


def figure(rows: list[RatioRow], theme: Theme = PAPER) -> Figure:
    """Ratio over bound, a panel a training, a line a codec, bars from the lowest to the highest seed."""
    trainings = _trainings(rows)
    kinds = list(dict.fromkeys((row.codec, row.reference) for row in rows))
    names = {
        (codec, reference): f"{codec}, given the last model" if reference else codec
        for codec, reference in kinds
    }
    look = look_of(list(names.values()), theme)
    with drawn(theme):
        drawing = Figure(figsize=(max(5.6, 3.9 * len(trainings)), 4.2), layout="constrained")
        grid = drawing.subplots(1, len(trainings), squeeze=False, sharey=True)
        for axes, training in zip(grid[0], trainings, strict=True):
            bound_axes(axes, {row.bound for row in rows})
            for kind, name in names.items():
                mine = [r for r in rows if r.training == training and (r.codec, r.reference) == kind]
                bounds = sorted({row.bound for row in mine})
                values = [[row.ratio for row in mine if row.bound == bound] for bound in bounds]
                if not mine:
                    continue
                means, bars = spread(values)
                style = look[name]
                axes.errorbar(
                    bounds, means, yerr=bars, color=style.colour, marker=style.marker, linestyle=style.dashes,
                    markersize=4.5, linewidth=1.3, label=name,
                )  # fmt: skip
            axes.set_yscale("log")
            axes.set_title(training.replace(", ", "\n"))
            if PAPER_BOUND in {row.bound for row in rows}:
                axes.vlines(PAPER_BOUND, *PAPER_RANGE, color=theme.ink, linewidth=6, alpha=0.18, zorder=0)
        grid[0][0].set_ylabel("compression ratio (grey: the paper's range)")
        legend_below(drawing, grid.flat, 4)
    return drawing
