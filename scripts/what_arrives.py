"""How much of what a round taught a model arrives; prints the tables of docs/paper.md.

    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.what_arrives
    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.what_arrives --clients 1 2 4 8 --codecs sz2 fedsz-q --rounds 6

A client gets the average w of what was decoded in the round before, trains it to w + d, and sends that; w + d' arrives.
Share, length and noise are those of `fedsz.TensorDelta`. The table has medians over lossy tensors and clients, and in
what share of them less than half arrives.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean, median

import fedsz
from fedsz import ErrorBound, TensorDelta
from testbed.coding import HALF
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


def arrivals(
    training: Training, codec: str, bound: float, seed: int, rounds: int
) -> Iterator[list[TensorDelta]]:
    """One list a round, of every client's lossy tensors; every update of every round goes through *codec*."""
    found: list[TensorDelta] = []

    def uplink(update: State, before: State) -> State:
        came, _ = through(update, codec, bound)
        found.extend(fedsz.deltas(before, update, came, ErrorBound("REL", bound)))
        return came

    plan = replace(training.plan(seed), rounds=rounds, test_limit=1)
    for _ in federate(plan, training.dataset, uplink):
        yield found
        found = []


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
        "| clients | codec | bound | round | taught, bounds | share that arrives | less than half in | noise |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for clients in options.clients:
        those = replace(training, learner=replace(training.learner, clients=clients))
        for codec, bound in ARMS:
            if options.codecs and codec not in options.codecs:
                continue
            for number, found in enumerate(
                arrivals(those, codec, bound, options.seed, options.rounds), start=1
            ):
                print(
                    f"| {clients} | {codec} | {bound:g} | {number} | {median(one.length for one in found):.2f} "
                    f"| {median(one.arrived for one in found):.2f} "
                    f"| {100 * fmean(one.arrived < HALF for one in found):.0f} % of tensors "
                    f"| {median(one.noise for one in found):.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
