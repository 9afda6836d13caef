"""How much of what a round taught a model arrives; prints the tables of docs/paper.md.

    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.what_arrives
    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.what_arrives --clients 1 2 4 8 --codecs sz2 fedsz-q --rounds 6

A client gets the average w of what was decoded in the round before, trains it to w + d, and sends that; w + d' arrives.
Share, length and noise are those of `fedsz.TensorDelta`. The table has medians over lossy tensors and clients, in what
share of them less than half arrives, and how many times smaller the whole update became, alone and given w.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from statistics import fmean, median

import fedsz
from fedsz import ErrorBound, TensorDelta
from fedsz.registry import lossy_codec
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


@dataclass
class Round:
    """What all updates of one round came to: their lossy tensors, and ratios (given w: 0 where it cannot be)."""

    deltas: list[TensorDelta] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    given: list[float] = field(default_factory=list)


def arrivals(training: Training, codec: str, bound: float, seed: int, rounds: int) -> Iterator[Round]:
    """One after the other; every update of every round goes through *codec*."""
    found = Round()

    def uplink(update: State, before: State) -> State:
        came, ratio = through(update, codec, bound)
        found.deltas.extend(fedsz.deltas(before, update, came, ErrorBound("REL", bound)))
        found.alone.append(ratio)
        found.given.append(through(update, codec, bound, before)[1] if given else 0.0)
        return came

    given = lossy_codec(codec).supports_reference
    plan = replace(training.plan(seed), rounds=rounds, test_limit=1)
    for _ in federate(plan, training.dataset, uplink):
        yield found
        found = Round()


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    trainings = {one.name: one for one in find(load(locate("accuracy")).reduced.learners).trainings}
    parser.add_argument("--training", default="resnet50, fashion-mnist, lr 0.0002", choices=trainings)
    parser.add_argument("--clients", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--codecs", nargs="+", default=[], help="of those in the table; all of them unless given"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    training = trainings[options.training]
    print(
        "| clients | codec | bound | round | taught, bounds | share that arrives | less than half in | noise | ratio "
        "| given the last model |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for clients in options.clients:
        those = replace(training, learner=replace(training.learner, clients=clients))
        for codec, bound in ARMS:
            if options.codecs and codec not in options.codecs:
                continue
            for number, found in enumerate(
                arrivals(those, codec, bound, options.seed, options.rounds), start=1
            ):
                deltas = found.deltas
                given = f"{fmean(found.given):.2f}" if any(found.given) else "-"
                print(
                    f"| {clients} | {codec} | {bound:g} | {number} | {median(one.length for one in deltas):.2f} "
                    f"| {median(one.arrived for one in deltas):.2f} "
                    f"| {100 * fmean(one.lost for one in deltas):.0f} % of tensors "
                    f"| {median(one.noise for one in deltas):.2f} | {fmean(found.alone):.2f} | {given} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
