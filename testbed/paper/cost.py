"""What compressing costs beside a local epoch, for clients with many and with few samples.

The share is (t_C + t_D) / (t_train + t_C + t_D + t_average): no transfer and no validation in the denominator, so that
it is the largest share that compression can have in a round; any network only makes it smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
from matplotlib.figure import Figure

import fedsz
from fedsz import ErrorBound
from testbed.coding import DEFAULT_LOSSLESS
from testbed.learning.aggregate import fedavg
from testbed.learning.federation import model_spec, tasks, with_samples
from testbed.learning.models import initial_state
from testbed.learning.seeds import Seeds
from testbed.learning.training import TrainTask, train_client
from testbed.paper.figures import look_of, spread
from testbed.paper.learner import Found, Training
from testbed.paper.outcome import Outcome, Table, Verdict, interval_text, mean_interval
from testbed.paper.settings import Cost, bound_of
from testbed.paper.timing import steady, timed
from testbed.style import PAPER, Theme, drawn, legend_below, plain_log

Tell = Callable[[str], None]
LIMIT = 4.7  # the paper's, in percent
SEED = 1


@dataclass(frozen=True)
class CostRow:
    """One codec in the round of one client, once.

    Attributes:
        samples: images of the client; one local epoch over them.
        steps: optimiser steps that this takes.
        train_s, compress_s, decompress_s, average_s: CPU seconds on one core.
    """

    training: str
    samples: int
    steps: int
    codec: str
    bound: float
    repeat: int
    update_bytes: int
    payload_bytes: int
    train_s: float
    compress_s: float
    decompress_s: float
    average_s: float

    @property
    def share(self) -> float:
        """Percent of the round that the codec takes."""
        coding = self.compress_s + self.decompress_s
        return 100 * coding / (self.train_s + coding + self.average_s)


def run(size: Cost, found: Found, folder: Path, tell: Tell) -> Outcome:
    """Train one epoch and code its result, again and again; numbers of samples and codecs take turns."""
    del folder
    rows: list[CostRow] = []
    with steady():
        for training in found.trainings:
            task = _task(training, max(size.samples))
            train_client(replace(task, max_steps=1))  # libraries and kernels, once in a device's life
            for repeat in range(size.repeats):
                for samples in size.samples:
                    tell(f"{training.name}, {samples} samples, repeat {repeat + 1}")
                    rows += _round(training, task, samples, repeat, size)
    return outcome(rows, found.missing)


def _task(training: Training, samples: int) -> TrainTask:
    plan = replace(training.plan(SEED), samples_per_client=samples)
    state = initial_state(model_spec(plan, training.dataset), Seeds(SEED).model())
    return next(with_samples(task, training.dataset) for _, task in tasks(plan, training.dataset, state, 0))


def _round(training: Training, task: TrainTask, samples: int, repeat: int, size: Cost) -> list[CostRow]:
    assert task.images is not None
    assert task.labels is not None
    mine = replace(task, images=task.images[:samples], labels=task.labels[:samples])
    result, train_s = timed(partial(train_client, mine), process_time)
    raw, rows = fedsz.update_bytes(result.state), []
    _, average_s = timed(partial(fedavg, [(result.state, samples)]), process_time)
    arms = size.arms if repeat % 2 == 0 else tuple(reversed(size.arms))
    for arm in arms:
        bound = ErrorBound("REL", bound_of(arm).value)
        compress = partial(fedsz.compress, result.state, bound, codec=arm.codec, lossless=DEFAULT_LOSSLESS)
        if not repeat and samples == size.samples[0]:
            fedsz.decompress(compress(), max_bytes=2 * raw + (1 << 20))  # warms up
        payload, compress_s = timed(compress, process_time)
        _, decompress_s = timed(
            partial(fedsz.decompress, payload, max_bytes=2 * raw + (1 << 20)), process_time
        )
        rows.append(
            CostRow(
                training.name, min(samples, len(task.labels)), result.steps, arm.codec, bound.value, repeat,
                raw, len(payload), train_s, compress_s, decompress_s, average_s,
            )
        )  # fmt: skip
    return rows


def outcome(rows: list[CostRow], missing: tuple[str, ...] = ()) -> Outcome:
    """Table, picture and verdicts of *rows*."""
    keys = list(dict.fromkeys((row.training, row.samples, row.codec, row.bound) for row in rows))
    groups = {
        key: [r for r in rows if (r.training, r.samples, r.codec, r.bound) == key]
        for key in sorted_keys(keys)
    }
    cells = tuple(
        (
            training,
            str(samples),
            str(mine[0].steps),
            f"{codec} {bound:g}",
            f"{np.median([row.train_s for row in mine]):.3g}",
            f"{np.median([row.compress_s for row in mine]):.3g}",
            f"{np.median([row.decompress_s for row in mine]):.3g}",
            interval_text([row.share for row in mine], unit=" %"),
        )
        for (training, samples, codec, bound), mine in groups.items()
    )
    repeats = len({row.repeat for row in rows})
    table = Table(
        f"Cost of compression in a round without network, CPU seconds on one core, {repeats} repeats",
        ("training", "samples", "steps", "codec", "train (s)", "t_C (s)", "t_D (s)", "share, mean [95 %]"),
        cells,
    )
    data = [asdict(row) | {"share_percent": row.share} for row in rows]
    return Outcome(_verdicts(groups), (table,), {"cost": data}, {"cost": figure(rows)}, missing)


Key = tuple[str, int, str, float]


def sorted_keys(keys: list[Key]) -> list[Key]:
    """Trainings in their order, few samples first, codecs as they came."""
    trainings = list(dict.fromkeys(key[0] for key in keys))
    codecs = list(dict.fromkeys(key[2:] for key in keys))
    return sorted(keys, key=lambda key: (trainings.index(key[0]), key[1], codecs.index(key[2:])))


def _verdicts(groups: dict[Key, list[CostRow]]) -> tuple[Verdict, ...]:
    """For each codec its worst training, with the most and with the fewest samples."""
    verdicts = []
    for codec, bound in dict.fromkeys(key[2:] for key in groups):
        for which, pick in (("a full local epoch", max), ("a short local epoch", min)):
            chosen = {}
            for training in dict.fromkeys(key[0] for key in groups):
                samples = pick(key[1] for key in groups if key[0] == training)
                mine = groups.get((training, samples, codec, bound))
                if mine:
                    chosen[training, samples] = [row.share for row in mine]
            worst = max(chosen, key=lambda key: float(np.mean(chosen[key])))
            mean, low, high, _ = mean_interval(chosen[worst])
            if high < LIMIT or (np.isnan(high) and mean < LIMIT):
                word = "agrees"
            elif low > LIMIT or (np.isnan(low) and mean > LIMIT):
                word = "does not agree"
            else:
                word = "undecided: the interval reaches across"
            verdicts.append(
                Verdict(
                    f"cost of {codec} at REL {bound:g} beside {which} ({worst[1]} samples, {worst[0]})",
                    f"< {LIMIT} %",
                    interval_text(chosen[worst], unit=" %"),
                    word,
                )
            )
    return tuple(verdicts)


def figure(rows: list[CostRow], theme: Theme = PAPER) -> Figure:
    """Share over samples, a panel a training, a line a codec, and the paper's limit."""
    trainings = list(dict.fromkeys(row.training for row in rows))
    names = list(dict.fromkeys(f"{row.codec} {row.bound:g}" for row in rows))
    look = look_of(names, theme)
    with drawn(theme):
        drawing = Figure(figsize=(max(5.6, 3.9 * len(trainings)), 3.9), layout="constrained")
        grid = drawing.subplots(1, len(trainings), squeeze=False, sharey=True)
        for axes, training in zip(grid[0], trainings, strict=True):
            for name in names:
                mine = [r for r in rows if r.training == training and f"{r.codec} {r.bound:g}" == name]
                samples = sorted({row.samples for row in mine})
                shares = [[row.share for row in mine if row.samples == count] for count in samples]
                means, bars = spread(shares)
                style = look[name]
                axes.errorbar(
                    samples, means, yerr=bars, color=style.colour, marker=style.marker,
                    linestyle=style.dashes, markersize=4.5, linewidth=1.3, label=name,
                )  # fmt: skip
            axes.axhline(LIMIT, color=theme.ink, linewidth=1, linestyle=(0, (2, 2)))
            axes.set_xscale("log")
            axes.set_yscale("log")
            plain_log(axes, "xy")
            axes.grid(visible=True)
            axes.set_title(training.replace(", ", "\n"))
            axes.set_xlabel("samples of the client")
        grid[0][0].set_ylabel("share of the round (%); dotted: 4.7")
        legend_below(drawing, grid.flat)
    return drawing
