"""The trainings behind the experiments: who is there, who is missing, and the states they pass through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fedsz
from fedsz import ErrorBound
from testbed.coding import DEFAULT_LOSSLESS
from testbed.learning.data import Dataset, load_dataset
from testbed.learning.errors import DatasetMissingError
from testbed.learning.federation import Plan, federate, model_spec
from testbed.learning.models import initial_state
from testbed.learning.seeds import Seeds
from testbed.paper.settings import Learner

State = Mapping[str, np.ndarray]
PAPER_LR = 1e-3


def through(state: State, codec: str, bound: float, reference: State | None = None) -> tuple[State, float]:
    """*state* as it arrives, and the ratio: the real codec at a relative bound, both ways."""
    wanted = ErrorBound("REL", bound)
    payload = fedsz.compress(state, wanted, codec=codec, lossless=DEFAULT_LOSSLESS, reference=reference)
    size = fedsz.update_bytes(state)
    limit = 2 * size + (1 << 20)
    return fedsz.decompress(payload, reference=reference, max_bytes=limit), size / len(payload)


@dataclass(frozen=True)
class Training:
    """One learner on one data set that is here."""

    learner: Learner
    dataset: Dataset

    @property
    def name(self) -> str:
        """For tables: ``mobilenet_v2, fashion-mnist``, what the paper has otherwise, and the label."""
        rate = "" if self.learner.lr == PAPER_LR else f", lr {self.learner.lr:g}"
        clients = "" if self.learner.clients == 1 else f", {self.learner.clients} clients"
        label = self.learner.label and f", {self.learner.label}"
        return f"{self.learner.model}, {self.dataset.name}{rate}{clients}{label}"

    def plan(self, seed: int) -> Plan:
        """Everything but the codec."""
        chosen = self.learner
        return Plan(
            model=chosen.model,
            seed=seed,
            clients=chosen.clients,
            rounds=chosen.rounds,
            image_size=chosen.image_size,
            samples_per_client=chosen.samples,
            test_limit=chosen.test_samples,
            local_epochs=chosen.local_epochs,
            max_steps=chosen.max_steps,
            batch_size=chosen.batch_size,
            optimizer="adam",
            learning_rate=chosen.lr,
        )

    def seeds(self) -> range:
        """From 1."""
        return range(1, self.learner.seeds + 1)

    def last_two(self, seed: int) -> tuple[State, State]:
        """The raw global models before and after the last round."""
        plan = self.plan(seed)
        before: State = initial_state(model_spec(plan, self.dataset), Seeds(seed).model())
        after = before
        for _, state in federate(plan, self.dataset):
            before, after = after, state
        return before, after


@dataclass(frozen=True)
class Found:
    """Trainings that can be done here, and for the others a line each: which, why, and the command that helps."""

    trainings: tuple[Training, ...]
    missing: tuple[str, ...]


def find(learners: Iterable[Learner], data_dir: Path | None = None) -> Found:
    """Load the data of *learners*.

    Raises: DatasetMissingError where none of it is here; DatasetDamagedError.
    """
    loaded: dict[str, Dataset | DatasetMissingError] = {}
    trainings, missing = [], []
    for learner in learners:
        for name in learner.data:
            if name not in loaded:
                try:
                    loaded[name] = load_dataset(name, data_dir)
                except DatasetMissingError as error:
                    loaded[name] = error
            data = loaded[name]
            if isinstance(data, Dataset):
                trainings.append(Training(learner, data))
            else:
                missing.append(f"{learner.model}, {name}: {data}")
    if not trainings:
        raise next(error for error in loaded.values() if isinstance(error, DatasetMissingError))
    return Found(tuple(trainings), tuple(missing))


def interleaved(trainings: Iterable[Training]) -> Iterator[tuple[Training, int]]:
    """Seed 1 of each, then seed 2: wherever it stops, all have gone equally far."""
    trainings = list(trainings)
    for seed in range(1, max(training.learner.seeds for training in trainings) + 1):
        for training in trainings:
            if seed in training.seeds():
                yield training, seed
