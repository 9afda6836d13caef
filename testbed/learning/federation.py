"""Federated learning without devices and links: what a codec does to accuracy, in paired runs.

The rounds of the testbed train through a `devices.Worker`, one client at a time under its limits. Here only
the learning counts, so everything happens in this process, with the same tasks, seeds and aggregation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from testbed.learning.aggregate import Average
from testbed.learning.data import Dataset
from testbed.learning.errors import TaskError
from testbed.learning.models import ModelSpec, initial_state
from testbed.learning.partition import split
from testbed.learning.seeds import Seeds
from testbed.learning.training import TrainTask, evaluate, train_client

State = Mapping[str, np.ndarray]
Transmission = Callable[[State, State], State]  # (update, global model both sides hold) -> what arrives


@dataclass(frozen=True, slots=True)
class Plan:
    """One federated run, apart from the codec.

    Attributes:
        model: name as `build_model` takes it; classes, channels and size come from the data.
        image_size: edge that images are brought to; None: the data's own, at least 28.
        alpha: Dirichlet parameter of the split; None: IID.
        clients_per_round: how many of *clients* train in a round, drawn anew; None: all.
        samples_per_client, max_steps, test_limit: smaller than everything, to save time; None: everything.
        Other fields: as in `TrainTask`.
    """

    model: str
    seed: int
    clients: int = 4
    rounds: int = 10
    image_size: int | None = None
    alpha: float | None = None
    clients_per_round: int | None = None
    samples_per_client: int | None = None
    test_limit: int | None = None
    local_epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    proximal_mu: float = 0.0
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The global model after a round.

    Attributes:
        round: from 1.
        accuracy: on the held-out test set, 0 to 1.
        loss: mean training loss of the round's clients.
    """

    round: int
    accuracy: float
    loss: float


def model_spec(plan: Plan, dataset: Dataset) -> ModelSpec:
    """The model of *plan* fitted to *dataset*."""
    size = plan.image_size if plan.image_size is not None else max(dataset.image_size, 28)
    return ModelSpec(plan.model, dataset.classes, dataset.channels, size)


def tasks(
    plan: Plan, dataset: Dataset, state: State, round_number: int, data_dir: Path | None = None
) -> Iterator[tuple[int, TrainTask]]:
    """The number and the task of every client that trains in a round (counted from 0)."""
    seeds = Seeds(plan.seed)
    labels = dataset.train_labels.numpy()
    shares = split(
        labels, plan.clients, seeds.partition(), alpha=plan.alpha, samples_per_client=plan.samples_per_client
    )
    chosen = np.arange(plan.clients)
    if plan.clients_per_round is not None:
        if not 1 <= plan.clients_per_round <= plan.clients:
            raise TaskError(f"clients_per_round {plan.clients_per_round}; there are {plan.clients} clients")
        random = np.random.default_rng(seeds.choice(round_number))
        chosen = np.sort(random.choice(plan.clients, plan.clients_per_round, replace=False))
    for client in chosen.tolist():
        yield (
            client,
            TrainTask(
                model=model_spec(plan, dataset),
                state=state,
                dataset=dataset.name,
                indices=shares[client],
                seed=seeds.training(round_number, client),
                data_dir=data_dir,
                local_epochs=plan.local_epochs,
                max_steps=plan.max_steps,
                batch_size=plan.batch_size,
                optimizer=plan.optimizer,
                learning_rate=plan.learning_rate,
                momentum=plan.momentum,
                weight_decay=plan.weight_decay,
                proximal_mu=plan.proximal_mu,
                device=plan.device,
            ),
        )


def federate(
    plan: Plan,
    dataset: Dataset,
    uplink: Transmission | None = None,
    *,
    start: State | None = None,
    first_round: int = 0,
) -> Iterator[tuple[Outcome, State]]:
    """Run the rounds of *plan*; after each, its outcome and the global model.

    Args:
        uplink: what becomes of a client's state on its way (compress and decompress); None: it arrives as it is.
        start, first_round: resume from a checkpoint.
    """
    spec = model_spec(plan, dataset)
    state: State = initial_state(spec, Seeds(plan.seed).model()) if start is None else start
    for round_number in range(first_round, plan.rounds):
        average = Average()
        losses: list[float] = []
        for _, task in tasks(plan, dataset, state, round_number):
            result = train_client(with_samples(task, dataset))
            arrived = result.state if uplink is None else uplink(result.state, state)
            average.add(arrived, result.samples)
            losses.append(result.loss)
        state = average.result()
        accuracy = evaluate(state, spec, dataset, limit=plan.test_limit, device=plan.device)
        yield Outcome(round_number + 1, accuracy, float(np.mean(losses))), state


def with_samples(task: TrainTask, dataset: Dataset) -> TrainTask:
    """*task* carrying its own samples, so that whoever runs it holds this client's data and no more."""
    return replace(
        task,
        images=dataset.train_images.numpy()[task.indices],
        labels=dataset.train_labels.numpy()[task.indices],
        mean=dataset.mean,
        deviation=dataset.deviation,
    )
