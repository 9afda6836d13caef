"""How much of what a round taught a model arrives; prints the table of docs/paper.md.

    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.what_arrives

A client gets the state w that was decoded in the round before, trains it to w + d, and sends that; w + d' arrives.
For each tensor that goes lossy, the share that arrives is the projection of d' on d, <d, d'> / <d, d>: 1 where the
error knows nothing of d, 0 where d was rounded away. What is left of d' is noise. Lengths are root mean squares in
units of the tensor's bound; the table has medians over tensors, and in how many less than half arrives.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np

from fedsz import Partition
from testbed.learning.federation import federate
from testbed.paper.learner import State, Training, find, through
from testbed.paper.settings import load, locate

ARMS = (
    ("sz2", 1e-2),
    ("sz3", 1e-2),
    ("zfp", 1e-2),
    ("fedsz-q", 1e-2),
    ("fedsz-q-dither", 1e-2),
    ("sz2", 1e-3),
)


@dataclass(frozen=True)
class Arrival:
    """What became of one round's update, a value a lossy tensor; lengths are root mean squares in bounds.

    Attributes:
        taught: length of d.
        share: of d that arrives.
        noise: length of the rest.
    """

    taught: tuple[float, ...]
    share: tuple[float, ...]
    noise: tuple[float, ...]


def arrival(before: State, sent: State, arrived: State, bound: float) -> Arrival:
    """Of an update from *before* to *sent* of which *arrived* is what was decoded."""
    rule, rows = Partition(), []
    for name in sent:
        if rule.is_lossy(name, sent[name]):
            old, new, came = (state[name].astype(np.float64) for state in (before, sent, arrived))
            taught, came = new - old, came - old
            share = float(np.vdot(taught, came) / np.vdot(taught, taught))
            width = bound * float(np.ptp(new))
            rows.append((_length(taught) / width, share, _length(came - share * taught) / width))
    return Arrival(*(tuple(column) for column in zip(*rows, strict=True)))


def _length(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def arrivals(training: Training, codec: str, bound: float, seed: int, rounds: int) -> Iterator[Arrival]:
    """One a round, every round's update through *codec*."""
    found: list[Arrival] = []

    def uplink(update: State, before: State) -> State:
        came, _ = through(update, codec, bound)
        found.append(arrival(before, update, came, bound))
        return came

    for number, _ in enumerate(federate(training.plan(seed), training.dataset, uplink), start=1):
        yield found[-1]
        if number == rounds:
            return


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    trainings = {one.name: one for one in find(load(locate("accuracy")).reduced.learners).trainings}
    parser.add_argument("--training", default="resnet50, fashion-mnist, lr 0.0002", choices=trainings)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    training = trainings[options.training]
    print(
        "| codec | bound | round | taught, bounds | share that arrives | less than half arrives in | noise, bounds |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    for codec, bound in ARMS:
        for number, one in enumerate(arrivals(training, codec, bound, options.seed, options.rounds), start=1):
            few = sum(share < 0.5 for share in one.share)
            print(
                f"| {codec} | {bound:g} | {number} | {median(one.taught):.2f} | {median(one.share):.2f} "
                f"| {few} of {len(one.share)} tensors | {median(one.noise):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
