"""Accuracy with and without compression, from the same seeds: runs kept one a line, so that hours are never lost.

For each seed the model is trained raw and once per arm: same initial weights, same samples in the same order. Two
differences come out. *In the loop*: every update of every round went through the codec; what the paper claims.
*Once*: the final raw model, coded a single time; this says what the codec does to a trained model, without the
divergence of two trainings that any change of a last bit starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from testbed.learning.federation import federate, model_spec
from testbed.learning.training import evaluate
from testbed.pairing import RAW
from testbed.paper import kept
from testbed.paper.kept import plan_hash
from testbed.paper.learner import State, Training, interleaved, through
from testbed.paper.outcome import mean_interval
from testbed.paper.settings import Accuracy, bound_of

FILE = "runs.jsonl"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One training, or (*once*) one coding of the final raw model.

    Attributes:
        plan: hash of everything that determines it but seed, codec and bound.
        bound: relative; 0 where nothing was compressed.
        accuracy: of the final model on *test_samples* held-out images, 0 to 1.
        curve: accuracy after each round, on the learner's ``test_samples``.
        ratios: compression ratio of each round's update.
    """

    plan: str
    training: str
    seed: int
    codec: str
    bound: float
    once: bool
    accuracy: float
    test_samples: int
    curve: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()

    @property
    def key(self) -> tuple[str, int, str, float, bool]:
        """What makes it another run."""
        return (self.plan, self.seed, self.codec, self.bound, self.once)


def run(size: Accuracy, trainings: tuple[Training, ...], folder: Path, tell: Tell) -> list[Run]:
    """Do the runs that *folder* does not hold yet; all of them, also those it held before."""
    runs = read(folder)
    done = {one.key for one in runs}
    for training, seed in interleaved(trainings):
        for one in _of_seed(size, training, seed, done):
            kept.append(folder / FILE, asdict(one))
            done.add(one.key)
            runs.append(one)
            if not one.once:
                tell(f"{one.training}, seed {seed}, {one.codec} {one.bound:g}: {100 * one.accuracy:.2f} %")
    wanted = {(plan_hash(training), seed) for training, seed in interleaved(trainings)}
    return [one for one in runs if (one.plan, one.seed) in wanted]


def read(folder: Path) -> list[Run]:
    """What `run` has kept."""
    return [Run(**record) for record in kept.read(folder / FILE)]


def _of_seed(size: Accuracy, training: Training, seed: int, done: set[Any]) -> Iterator[Run]:
    """What is missing of one seed. The raw run goes first, as its final model is what is coded once."""
    blank = Run(plan_hash(training), training.name, seed, RAW, 0.0, False, 0.0, 0)
    once = [
        replace(blank, codec=codec, bound=bound, once=True) for codec in size.codecs for bound in size.bounds
    ]
    once = [one for one in once if one.key not in done]
    if blank.key not in done or once:
        raw, state = _trained(training, blank)
        if blank.key not in done:
            yield raw
        for one in once:
            arrived, _ = through(state, one.codec, one.bound)
            yield _judged(training, one, arrived)
    for arm in training.learner.arms:
        one = replace(blank, codec=arm.codec, bound=bound_of(arm).value)
        if one.key not in done:
            yield _trained(training, one)[0]


def _trained(training: Training, one: Run) -> tuple[Run, State]:
    ratios: list[float] = []

    def uplink(update: State, _: State) -> State:
        arrived, ratio = through(update, one.codec, one.bound)
        ratios.append(ratio)
        return arrived

    curve = []
    state: State = {}
    rounds = federate(training.plan(one.seed), training.dataset, None if one.codec == RAW else uplink)
    for outcome, arrived in rounds:
        curve.append(outcome.accuracy)
        state = arrived
    return _judged(training, replace(one, curve=tuple(curve), ratios=tuple(ratios)), state), state


def _judged(training: Training, one: Run, state: State) -> Run:
    plan, limit = training.plan(one.seed), training.learner.final_test_samples
    accuracy = evaluate(state, model_spec(plan, training.dataset), training.dataset, limit=limit)
    images = len(training.dataset.test_labels)
    return replace(one, accuracy=accuracy, test_samples=min(limit or images, images))


@dataclass(frozen=True)
class Difference:
    """Accuracy of one arm less that of the raw run of the same seed, in percentage points.

    Attributes:
        low, high: 95 % interval of the mean by Student's t; NaN with one seed.
        deviation: sample standard deviation of the paired differences.
        raw_deviation: of the raw runs themselves: what an unpaired comparison would have to fight.
    """

    training: str
    codec: str
    bound: float
    once: bool
    seeds: int
    raw: float
    accuracy: float
    mean: float
    low: float
    high: float
    deviation: float
    raw_deviation: float
    ratio: float

    @property
    def verdict(self) -> str:
        """Against the paper's 0.5 points."""
        if not np.isfinite(self.low):
            return "one seed: no interval"
        if self.low > -LIMIT:
            return "within 0.5 points"
        if self.high < -LIMIT:
            return "loses more than 0.5 points"
        return "undecided: the interval reaches beyond 0.5 points"


LIMIT = 0.5


def differences(runs: list[Run]) -> list[Difference]:
    """One a training, codec and bound, over the seeds that have both runs."""
    raw = {(one.plan, one.seed): one for one in runs if one.codec == RAW}
    groups: dict[tuple[str, str, str, float, bool], list[Run]] = {}
    for one in runs:
        if one.codec != RAW and (one.plan, one.seed) in raw:
            groups.setdefault((one.plan, one.training, one.codec, one.bound, one.once), []).append(one)
    found = []
    for (plan, training, codec, bound, once), mine in groups.items():
        before = 100 * np.array([raw[plan, one.seed].accuracy for one in mine])
        after = 100 * np.array([one.accuracy for one in mine])
        mean, low, high, deviation = mean_interval((after - before).tolist())
        found.append(
            Difference(
                training, codec, bound, once, len(mine), float(before.mean()), float(after.mean()),
                mean, low, high, deviation, mean_interval(before.tolist())[3],
                float(np.mean([ratio for one in mine for ratio in one.ratios] or [np.nan])),
            )
        )  # fmt: skip
    trainings = list(dict.fromkeys(one.training for one in runs))
    return sorted(found, key=lambda d: (trainings.index(d.training), d.once, d.codec, -d.bound))
