"""How the errors of a decoded state are distributed: per tensor and pooled, against uniform, Laplace and Gaussian.

The distance is Kolmogorov and Smirnov's, the largest difference between two distribution functions, from 0 (the same)
to 1; of fits by maximum likelihood. With millions of values every p-value is 0, so the distance itself is what is told.
What has an interval is its mean over models trained from different seeds. Errors are looked at in units of their
tensor's bound (per tensor, and pooled so), and pooled in the weights' own unit, which is what the paper plots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from fedsz import ErrorBound
from fedsz.delta import absolute_bounds
from testbed.paper.learner import Found, State, through
from testbed.paper.outcome import Outcome, Table, Verdict, ends, interval_text
from testbed.paper.settings import Errors
from testbed.style import PAPER, Theme, drawn, legend_below

Tell = Callable[[str], None]
Values = np.ndarray[Any, np.dtype[np.float64]]
#: More values than this say nothing more about a distance of two digits.
ENOUGH = 400_000
NO_PRIVACY = (
    "The error is bounded and, dither apart, a function of the value: no differential privacy. Two updates that "
    "differ by more than two bounds in any value can be told apart with certainty, so no finite epsilon exists."
)
DITHER = (
    "fedsz-q-dither makes each value's error uniform and independent of the value; whoever holds the payload holds the "
    "dither, and the error is bounded as well: good for averaging, and no privacy either."
)
LAWS = ("uniform", "laplace", "gaussian")


@dataclass(frozen=True)
class ErrorRow:
    """Errors of one tensor, or of all lossy tensors together.

    Attributes:
        tensor: name; ``pooled`` in the weights' unit, ``pooled / bound`` in units of each tensor's bound.
        seed: of the training whose final model was coded.
        values: how many errors.
        uniform, laplace, gaussian: KS distance to the fit. The uniform is that on [-bound, bound], not fitted; in the
            weights' unit, on [-largest error, largest error].
        excess_kurtosis: -1.2 uniform, 0 Gaussian, 3 Laplace.
        correlation: of the error with the value that was coded, per tensor; pooled: median of its absolute value.
        zero_share: how many values decode to 0.
    """

    training: str
    codec: str
    bound: float
    tensor: str
    seed: int
    values: int
    uniform: float
    laplace: float
    gaussian: float
    excess_kurtosis: float
    correlation: float
    zero_share: float

    @property
    def nearest(self) -> str:
        """The law at the least distance."""
        return min(LAWS, key=lambda law: float(getattr(self, law)))


def run(size: Errors, found: Found, folder: Path, tell: Tell) -> Outcome:
    """Train, code, and look at what decoding changed."""
    del folder
    rows: list[ErrorRow] = []
    samples: dict[tuple[str, float, str], Values] = {}
    for training in found.trainings:
        for seed in training.seeds():
            tell(f"{training.name}, seed {seed}: training")
            state = training.last_two(seed)[1]
            for codec in size.codecs:
                for bound in size.bounds:
                    tell(f"{training.name}, seed {seed}, {codec} {bound:g}")
                    mine, pooled = look(training.name, state, codec, bound, seed)
                    rows += mine
                    for kind, values in pooled.items():
                        samples.setdefault((codec, bound, kind), values)  # the picture shows the first
    return outcome(rows, samples, found.missing)


def look(
    training: str, state: State, codec: str, bound: float, seed: int = 1
) -> tuple[list[ErrorRow], dict[str, Values]]:
    """Rows of each lossy tensor and of all of them; the pooled errors (a sample of many)."""
    wanted = ErrorBound("REL", bound)
    decoded, _ = through(state, codec, bound)
    rows = []
    in_bounds, in_units = [], []
    for name, allowed in absolute_bounds(state, wanted).items():
        exact = state[name].astype(np.float64).ravel()
        errors = np.asarray(decoded[name], np.float64).ravel() - exact
        if not errors.any():
            continue  # coded exactly, as some codecs do where that is smaller: nothing to look at
        zeros = float(np.mean(np.asarray(decoded[name]) == 0))
        correlation = float(np.corrcoef(exact, errors)[0, 1]) if errors.std() > 0 else 0.0
        in_bounds.append(errors / allowed)
        in_units.append(errors)
        rows.append(_row(training, codec, bound, name, seed, errors / allowed, 1.0, correlation, zeros))
    if not rows:
        return [], {}
    typical = float(np.median([abs(row.correlation) for row in rows]))
    zeros = float(np.average([row.zero_share for row in rows], weights=[row.values for row in rows]))
    pooled = {"pooled / bound": np.concatenate(in_bounds), "pooled": np.concatenate(in_units)}
    for kind, values in pooled.items():
        edge = 1.0 if kind == "pooled / bound" else float(np.abs(values).max())
        rows.append(_row(training, codec, bound, kind, seed, values, edge, typical, zeros))
    return rows, {kind: _some(values) for kind, values in pooled.items()}


def _row(
    training: str, codec: str, bound: float, tensor: str, seed: int, errors: Values, edge: float,
    correlation: float, zeros: float,
) -> ErrorRow:  # fmt: skip
    distances = distances_of(errors, edge)
    return ErrorRow(
        training, codec, bound, tensor, seed, len(errors),
        distances["uniform"], distances["laplace"], distances["gaussian"],
        float(stats.kurtosis(errors)) if errors.std() > 0 else float("nan"), correlation, zeros,
    )  # fmt: skip


def _some(values: Values) -> Values:
    """At most `ENOUGH` of them, drawn with a fixed seed."""
    if len(values) <= ENOUGH:
        return values
    return np.random.default_rng(0).choice(values, ENOUGH, replace=False)


def fits(errors: Values, edge: float) -> Mapping[str, Any]:
    """Frozen laws: uniform on [-edge, edge]; Laplace and Gaussian by maximum likelihood."""
    middle = float(np.median(errors))
    return {
        "uniform": stats.uniform(-edge, 2 * edge),
        "laplace": stats.laplace(middle, max(float(np.mean(np.abs(errors - middle))), 1e-300)),
        "gaussian": stats.norm(float(errors.mean()), max(float(errors.std()), 1e-300)),
    }


def distances_of(errors: Values, edge: float) -> dict[str, float]:
    """KS distance of *errors* to each law, over `ENOUGH` of them at most."""
    ordered = np.sort(_some(errors))
    count = len(ordered)
    above, below = np.arange(1, count + 1) / count, np.arange(count) / count
    found = {}
    for law, fit in fits(errors, edge).items():
        expected = fit.cdf(ordered)
        found[law] = float(max((above - expected).max(), (expected - below).max()))
    return found


def outcome(
    rows: list[ErrorRow],
    samples: Mapping[tuple[str, float, str], Values] = {},
    missing: tuple[str, ...] = (),
) -> Outcome:
    """Tables, picture and verdicts of *rows*."""
    table = Table(
        "KS distance of the pooled errors to each law, mean over seeds [95 % interval]",
        ("training", "codec", "bound", "errors", "seeds", "uniform", "Laplace", "Gaussian", "nearest",
         "excess kurtosis", "correlation with the value", "decoded to 0"),
        tuple(_pooled(rows)),
    )  # fmt: skip
    each = Table(
        "Per tensor: which law is nearest, and the median KS distance over tensors, mean over seeds [95 % interval]",
        ("training", "codec", "bound", "tensors", "uniform nearest", "Laplace nearest", "Gaussian nearest",
         "to uniform", "to Laplace", "to Gaussian"),
        tuple(_each(rows)),
    )  # fmt: skip
    figures = {"errors": figure(samples)} if samples else {}
    notes = (NO_PRIVACY, DITHER)
    return Outcome(
        _verdicts(rows), (table, each), {"errors": [asdict(r) for r in rows]}, figures, missing, notes
    )


def _is_pooled(row: ErrorRow) -> bool:
    return row.tensor.startswith("pooled")


def _pooled(rows: list[ErrorRow]) -> list[tuple[str, ...]]:
    cells = []
    pooled = [row for row in rows if _is_pooled(row)]
    for key in dict.fromkeys((row.training, row.codec, row.bound, row.tensor) for row in pooled):
        mine = [row for row in pooled if (row.training, row.codec, row.bound, row.tensor) == key]
        nearest = [row.nearest for row in mine]
        laws = sorted(set(nearest), key=lambda law: (-nearest.count(law), law))
        cells.append(
            (
                key[0], key[1], f"{key[2]:g}", key[3], str(len(mine)),
                *(interval_text([getattr(row, law) for row in mine], 3) for law in LAWS),
                ", ".join(f"{law} {nearest.count(law)}" for law in laws),
                f"{np.mean([row.excess_kurtosis for row in mine]):.2f}",
                f"{np.mean([row.correlation for row in mine]):.3f}",
                f"{100 * np.mean([row.zero_share for row in mine]):.1f} %",
            )
        )  # fmt: skip
    return cells


def _each(rows: list[ErrorRow]) -> list[tuple[str, ...]]:
    cells = []
    for key in dict.fromkeys((row.training, row.codec, row.bound) for row in rows):
        mine = [r for r in rows if (r.training, r.codec, r.bound) == key and not _is_pooled(r)]
        seeds = sorted({row.seed for row in mine})
        texts = [
            interval_text(
                [float(np.median([getattr(row, law) for row in mine if row.seed == seed])) for seed in seeds],
                3,
            )
            for law in LAWS
        ]
        counts = [str(sum(row.nearest == law for row in mine)) for law in LAWS]
        cells.append((key[0], key[1], f"{key[2]:g}", str(len(mine)), *counts, *texts))
    return cells


def leads(rows: Sequence[ErrorRow]) -> list[float]:
    """By how much Laplace is nearer than the nearest other law, of the same errors; below 0, the other is nearer."""
    return [min(row.uniform, row.gaussian) - row.laplace for row in rows]


def _verdicts(rows: list[ErrorRow]) -> tuple[Verdict, ...]:
    """For each codec: is Laplace nearest, pooled as the paper pools? An interval that holds 0 decides nothing."""
    verdicts = []
    for codec in dict.fromkeys(row.codec for row in rows):
        pooled = [row for row in rows if row.codec == codec and row.tensor == "pooled"]
        single = [row for row in rows if row.codec == codec and not _is_pooled(row)]
        cases = dict.fromkeys((row.training, row.bound) for row in pooled)
        over_seeds = [
            ends(leads([row for row in pooled if (row.training, row.bound) == case])) for case in cases
        ]
        nearer, farther = sum(low > 0 for low, _ in over_seeds), sum(high < 0 for _, high in over_seeds)
        distances = [row.laplace for row in pooled]
        count, alone = len(cases), sum(row.nearest == "laplace" for row in single)
        if nearer == count:
            word = "agrees"
        elif nearer:
            word = "agrees in part"
        else:
            word = "does not agree" if farther == count else "undecided: another law is as near"
        verdicts.append(
            Verdict(
                f"the error of {codec} looks Laplacian",
                "Laplacian",
                f"Laplace is nearest in {nearer} of {count} pooled cases, another law in {farther}, not to be told in "
                f"{count - nearer - farther} (KS {min(distances):.3f} to {max(distances):.3f}); nearest for {alone} of "
                f"{len(single)} tensors alone",
                word,
            )
        )
    return tuple(verdicts)


def figure(samples: Mapping[tuple[str, float, str], Values], theme: Theme = PAPER) -> Figure:
    """Densities of the pooled errors with the three fits: above in units of the bound, below in the weights' unit.

    At the middle one of the bounds; in units of the bound the others look the same.
    """
    codecs = list(dict.fromkeys(codec for codec, _, _ in samples))
    bounds = sorted({bound for _, bound, _ in samples}, reverse=True)
    columns = [(codec, bounds[len(bounds) // 2]) for codec in codecs]
    kinds = ("pooled / bound", "pooled")
    with drawn(theme):
        drawing = Figure(figsize=(max(6.4, 2.9 * len(columns)), 5.4), layout="constrained")
        grid = drawing.subplots(2, len(columns), squeeze=False)
        for band, kind in zip(grid, kinds, strict=True):
            for axes, (codec, bound) in zip(band, columns, strict=True):
                values = samples[codec, bound, kind]
                edge = 1.0 if kind == "pooled / bound" else float(np.percentile(np.abs(values), 99.5))
                bins = np.linspace(-1.15 * edge, 1.15 * edge, 90)
                axes.hist(values, bins=bins, density=True, color=theme.faint)
                whole = 1.0 if kind == "pooled / bound" else float(np.abs(values).max())
                line = np.linspace(bins[0], bins[-1], 400)
                for (law, fit), colour, dashes in zip(
                    fits(values, whole).items(),
                    ("#009e73", "#d55e00", "#0072b2"),
                    ("-", "--", ":"),
                    strict=True,
                ):
                    axes.plot(line, fit.pdf(line), color=colour, linestyle=dashes, linewidth=1.3, label=law)
                axes.set_title(f"{codec} {bound:g}", fontsize=9.5)
                axes.set_yticks([])
                axes.set_xlabel(
                    "error / bound" if kind == "pooled / bound" else "error (unit of the weights)"
                )
                axes.tick_params(axis="x", labelsize=7.5)
        legend_below(drawing, grid.flat, 3)
    return drawing
