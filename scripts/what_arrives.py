"""How much of what a round taught a model arrives; prints the table of docs/paper.md.

    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.what_arrives

A client gets the state w that was decoded in the round before, trains it to w + d, and sends that; w + d' arrives.
For each tensor that goes lossy, the share that arrives is the projection of d' on d, <d, d'> / <d, d>: 1 where the
error knows nothing of d, 0 where d was rounded away. What is left of d' is noise. Lengths are root mean squares in
units of the tensor's bound; the table has medians over tensors, and in how many less than half arrives.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

import fedsz
from fedsz import ErrorBound
from testbed.coding import DEFAULT_LOSSLESS
from testbed.learning.data import load_dataset
from testbed.learning.federation import federate
from testbed.paper.learner import Training
from testbed.paper.settings import Accuracy, load, locate

ARMS = (
    ("sz2", 1e-2),
    ("sz3", 1e-2),
    ("zfp", 1e-2),
    ("fedsz-q", 1e-2),
    ("fedsz-q-dither", 1e-2),
    ("sz2", 1e-3),
)
State = Mapping[str, np.ndarray]


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
    rows = []
    for tensor in fedsz.inspect(_payload(sent, "fedsz-q", bound)).tensors:
        if tensor.lossy:
            old, new, came = (state[tensor.name].astype(np.float64) for state in (before, sent, arrived))
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
        payload = _payload(update, codec, bound)
        came = fedsz.decompress(payload, max_bytes=2 * fedsz.update_bytes(update) + (1 << 20))
        found.append(arrival(before, update, came, bound))
        return came

    for number, _ in enumerate(federate(training.plan(seed), training.dataset, uplink), start=1):
        yield found[-1]
        if number == rounds:
            return


def _payload(state: State, codec: str, bound: float) -> bytes:
    return fedsz.compress(state, ErrorBound("REL", bound), codec=codec, lossless=DEFAULT_LOSSLESS)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--label", default="", help="of the learner in scenarios/paper/accuracy.yaml")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size: Accuracy = load(locate("accuracy")).reduced
    learner = next(
        one for one in size.learners[::-1] if (one.model, one.label) == (options.model, options.label)
    )
    training = Training(learner, load_dataset("fashion-mnist"))
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
