"""Table, picture and verdicts of `testbed.paper.accuracy`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from testbed.pairing import RAW
from testbed.paper import accuracy
from testbed.paper.accuracy import Difference, Run
from testbed.paper.figures import bound_axes, look_of
from testbed.paper.learner import Found
from testbed.paper.outcome import Outcome, Table, Verdict
from testbed.paper.settings import Accuracy
from testbed.style import COLUMNS, PAPER, Theme, drawn, legend_below

PAPER_BOUND = 1e-2
# Fewer rounds are told by their last.
MANY_ROUNDS = 20
PAIRED = (
    "Accuracy on held-out images that no client trains on; differences are paired: same seed, initial weights, samples "
    "and order. SD of raw runs is what an unpaired comparison would have to average away."
)


def run(size: Accuracy, found: Found, folder: Path, tell: Callable[[str], None]) -> Outcome:
    """Do what is missing in *folder*, then look at all of it."""
    return outcome(accuracy.run(size, found.trainings, folder, tell), found.missing)


def outcome(runs: list[Run], missing: tuple[str, ...] = ()) -> Outcome:
    """Everything that follows from *runs*."""
    found = accuracy.differences(runs)
    columns = ("training", "codec", "bound", "seeds", "raw %", "compressed %", "difference, points [95 %]",
               "SD of the pairs", "SD of raw runs", "ratio", "verdict")  # fmt: skip
    loop = tuple(_cells(one) for one in found if not one.once)
    once = tuple(_cells(one) for one in found if one.once)
    tables = [Table("In the loop: every update of every round coded", columns, loop)]
    if once:
        tables.append(Table("Once: the final raw model coded a single time", columns, once))
    return Outcome(
        tuple(_verdicts(found)),
        tuple(tables),
        {"differences": [asdict(one) | {"verdict": one.verdict} for one in found]},
        _figures(runs, found),
        missing,
        (PAIRED,),
    )  # fmt: skip


def _figures(runs: list[Run], found: list[Difference]) -> dict[str, Figure]:
    drawn_ones = {"accuracy": figure(found)} if found else {}
    followed = [one for one in runs if len(one.curve) >= MANY_ROUNDS]
    return drawn_ones | ({"rounds": rounds_figure(followed)} if followed else {})


def _cells(one: Difference) -> tuple[str, ...]:
    return (
        one.training, one.codec, f"{one.bound:g}", str(one.seeds), f"{one.raw:.2f}", f"{one.accuracy:.2f}",
        _difference(one), _number(one.deviation), _number(one.raw_deviation), _number(one.ratio), one.verdict,
    )  # fmt: skip


def _number(value: float) -> str:
    """Two digits; a dash where one seed has no deviation, or nothing was sent."""
    return "-" if np.isnan(value) else f"{value:.2f}"


def _difference(one: Difference) -> str:
    brackets = "" if np.isnan(one.low) else f" [{one.low:+.2f}, {one.high:+.2f}]"
    return f"{one.mean:+.2f}{brackets}"


def _verdicts(found: list[Difference]) -> list[Verdict]:
    verdicts = []
    for one in found:
        if one.bound == PAPER_BOUND:
            way = "final model coded once" if one.once else "in the loop"
            words = {
                "within 0.5 points": "agrees",
                "loses more than 0.5 points": "does not agree",
            }
            verdicts.append(
                Verdict(
                    f"accuracy of {one.training} at REL {one.bound:g}, {one.codec}, {way}",
                    "< 0.5 % lost",
                    f"{_difference(one)} points, {one.seeds} paired seeds",
                    words.get(one.verdict, one.verdict),
                )
            )
    return verdicts


def figure(found: list[Difference], theme: Theme = PAPER) -> Figure:
    """Difference over bound, a panel a training; the cliff is where the line falls."""
    trainings = list(dict.fromkeys(one.training for one in found))
    titles = _titles(trainings)
    kinds = list(dict.fromkeys((one.codec, one.once) for one in found))
    names = {kind: f"{kind[0]}, {'final model once' if kind[1] else 'every round'}" for kind in kinds}
    look = look_of(list(names.values()), theme)
    with drawn(theme):
        columns = min(COLUMNS, len(trainings))
        bands = -(-len(trainings) // columns)
        drawing = Figure(figsize=(max(5.6, 3.9 * columns), 3.4 * bands + 0.5), layout="constrained")
        grid = drawing.subplots(bands, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(trainings) :]:
            axes.set_visible(False)
        for axes, training in zip(grid.flat, trainings, strict=False):
            bound_axes(axes, {one.bound for one in found})
            for number, (kind, name) in enumerate(names.items()):
                mine = [d for d in found if d.training == training and (d.codec, d.once) == kind]
                if not mine:
                    continue
                style = look[name]
                shift = 1.0 + 0.06 * number  # bars of equal bounds beside each other
                means = np.array([one.mean for one in mine])
                half = np.nan_to_num(np.array([one.high for one in mine]) - means)
                axes.errorbar(
                    [one.bound * shift for one in mine], means, yerr=half, color=style.colour,
                    marker=style.marker, linestyle=style.dashes, markersize=4.5, linewidth=1.2, capsize=2,
                    label=name,
                )  # fmt: skip
            axes.axhspan(-accuracy.LIMIT, accuracy.LIMIT, color=theme.faint, alpha=0.6, zorder=0)
            axes.set_yscale("symlog", linthresh=2.0)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_title(titles[training])
        for band in grid:
            band[0].set_ylabel("accuracy less that without compression\n(points; grey: the paper's 0.5)")
        legend_below(drawing, grid.flat, COLUMNS)
    return drawing


def rounds_figure(runs: list[Run], theme: Theme = PAPER) -> Figure:
    """Accuracy after each round, mean over seeds with a band from the least to the most; a panel a training."""
    trainings = list(dict.fromkeys(one.training for one in runs))
    names = {
        (one.codec, one.bound): RAW if one.codec == RAW else f"{one.codec} REL {one.bound:g}" for one in runs
    }
    look = look_of(list(names.values()), theme)
    with drawn(theme):
        drawing = Figure(figsize=(max(5.6, 4.6 * len(trainings)), 3.9), layout="constrained")
        panels = drawing.subplots(1, len(trainings), squeeze=False, sharey=True)[0]
        titles = _titles(trainings)
        for axes, training in zip(panels, trainings, strict=True):
            for (codec, bound), name in names.items():
                curves = [
                    one.curve
                    for one in runs
                    if (one.training, one.codec, one.bound) == (training, codec, bound)
                ]
                if not curves:
                    continue
                values = 100 * np.array([curve[: min(map(len, curves))] for curve in curves])
                at = np.arange(1, values.shape[1] + 1)
                style = look[name]
                axes.fill_between(
                    at, values.min(0), values.max(0), color=style.colour, alpha=0.15, linewidth=0
                )
                axes.plot(
                    at,
                    values.mean(0),
                    color=style.colour,
                    linestyle=style.dashes,
                    linewidth=1.6,
                    label=style.name,
                )
            axes.set_title(titles[training])
            axes.set_xlabel("round")
            axes.grid(visible=True)
        panels[0].set_ylabel("test accuracy (%)")
        legend_below(drawing, panels, COLUMNS)
    return drawing


def _titles(trainings: list[str]) -> dict[str, str]:
    """Model over what is special about it; the data set only where there are several."""
    parts = {training: training.split(", ") for training in trainings}
    first = 2 if len({data for _, data, *_ in parts.values()}) == 1 else 1
    return {training: f"{words[0]}\n{', '.join(words[first:])}" for training, words in parts.items()}
