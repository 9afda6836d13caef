"""Local training and evaluation as plain functions that a fresh process can import and run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from testbed.learning.data import Dataset, cached_dataset
from testbed.learning.errors import TaskError
from testbed.learning.models import ModelSpec, load, tensor, to_numpy


@dataclass(frozen=True, slots=True)
class TrainTask:
    """One client's work in one round; with this alone the result is determined.

    Attributes:
        model: the shape of the model.
        state: the global model as it arrived, name to array.
        dataset: name as `load_dataset` takes it.
        indices: which training samples are this client's.
        seed: order of the samples and dropout; take another one for each client and round.
        data_dir: where the data lies, as `load_dataset` takes it.
        local_epochs: passes over the client's samples.
        max_steps: stop after so many batches; None: no limit.
        batch_size: at least 2 (batch norm needs two samples; a left-over single one joins the batch before it).
        optimizer: ``sgd`` or ``adam``; its state starts afresh each round, as in FedAvg.
        proximal_mu: FedProx (Li et al., arXiv:1812.06127), weight of ``mu / 2 * |w - w_global|^2``; 0 is FedAvg.
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        images, labels: the samples themselves instead of *dataset* and *indices*; so a client under a memory
            ceiling holds its own samples only. uint8, shape (samples, channels, height, width), and int64.
        mean, deviation: per channel, in units of 0..1; needed with *images*.
    """

    model: ModelSpec
    state: Mapping[str, np.ndarray]
    dataset: str
    indices: np.ndarray
    seed: int
    data_dir: Path | None = None
    local_epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    proximal_mu: float = 0.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    images: np.ndarray | None = None
    labels: np.ndarray | None = None
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.local_epochs < 1 or (self.max_steps is not None and self.max_steps < 1):
            raise TaskError(
                f"local_epochs {self.local_epochs} and max_steps {self.max_steps} must be at least 1"
            )
        if self.batch_size < 2:
            raise TaskError(f"batch_size {self.batch_size} must be at least 2")
        if self.optimizer not in ("sgd", "adam"):
            raise TaskError(f"unknown optimizer {self.optimizer!r}; known: sgd, adam")
        if self.proximal_mu < 0:
            raise TaskError(f"proximal_mu {self.proximal_mu} must not be negative")


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a client has after local training.

    Attributes:
        state: names, order, shapes and dtypes of the task's state.
        samples: how many it holds: its weight in the average.
        steps: batches done.
        loss: mean training loss over those batches.
        device: where it ran, for example ``cpu``.
    """

    state: dict[str, np.ndarray]
    samples: int
    steps: int
    loss: float
    device: str


def train_client(task: TrainTask) -> TrainResult:
    """Train one client's copy of the model.

    On the CPU with a fixed number of threads, equal tasks give bit-identical results; the process's random state is
    left as it was. On a GPU, cuDNN is held to deterministic algorithms, which leaves a few operations (adaptive
    pooling's gradient) that may differ in the last bits.

    Raises: TaskError where the client has fewer than two samples.
    """
    device = pick_device(task.device)
    images, labels, mean, deviation = _samples(task)
    if len(labels) < 2:
        raise TaskError(f"a client needs at least two samples to train, this one has {len(labels)}")
    with torch.random.fork_rng():
        torch.manual_seed(task.seed)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        model = load(task.model, task.state).to(device).train()
        anchor = [parameter.detach().clone() for parameter in model.parameters()] if task.proximal_mu else []
        optimizer = _optimizer(task, model)
        losses = torch.zeros((), dtype=torch.float64)
        steps = 0
        for chosen in _batches(len(labels), task):
            inputs = prepare(images[chosen], mean, deviation, task.model.image_size, device)
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(inputs), labels[chosen].to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            for parameter, start in zip(model.parameters(), anchor, strict=bool(anchor)) if anchor else ():
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.detach() - start, alpha=task.proximal_mu)
            optimizer.step()
            losses += loss.detach().cpu()
            steps += 1
        return TrainResult(
            to_numpy(model.state_dict()), len(labels), steps, float(losses / steps), str(device)
        )


def warm_up(task: TrainTask) -> None:
    """One step of *task*, result dropped: loads libraries, data and kernels before anything is measured."""
    train_client(replace(task, local_epochs=1, max_steps=1))


def evaluate(
    state: Mapping[str, np.ndarray],
    model: ModelSpec,
    dataset: Dataset,
    *,
    batch_size: int = 500,
    limit: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> float:
    """Share of the held-out test images that the model gets right, 0 to 1; *limit* takes the first so many."""
    return float(correct(state, model, dataset, batch_size=batch_size, limit=limit, device=device).mean())


def correct(
    state: Mapping[str, np.ndarray],
    model: ModelSpec,
    dataset: Dataset,
    *,
    batch_size: int = 500,
    limit: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> np.ndarray:
    """For each test image whether the model gets it right, bool, shape (images,); for paired comparisons."""
    place = pick_device(device)
    network = load(model, state).to(place).eval()
    images, labels = dataset.test_images[:limit], dataset.test_labels[:limit]
    hits: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(labels), batch_size):
            piece = slice(start, start + batch_size)
            inputs = prepare(images[piece], dataset.mean, dataset.deviation, model.image_size, place)
            hits.append((network(inputs).argmax(1).cpu() == labels[piece]).numpy())
    return np.concatenate(hits)


def pick_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Where to compute; TaskError where a GPU is asked for by name and there is none."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TaskError("device cuda was asked for, but this PyTorch sees no GPU")
    return torch.device("cuda")


def prepare(
    images: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...], size: int, device: torch.device
) -> Tensor:
    """uint8 images as the model wants them: float32, normalised per channel, resized to *size* x *size*."""
    # Into a fresh tensor: the strides of a dimension of size 1 are arbitrary, and convolutions choose their kernel,
    # and so their rounding, by strides.
    values = torch.empty(images.shape, device=device).copy_(images).div_(255)
    shape = (1, len(mean), 1, 1)
    values.sub_(torch.tensor(mean, device=device).view(shape)).div_(
        torch.tensor(deviation, device=device).view(shape)
    )
    if values.shape[-1] != size or values.shape[-2] != size:
        values = nn.functional.interpolate(values, (size, size), mode="bilinear", align_corners=False)
    return values


def _samples(task: TrainTask) -> tuple[Tensor, Tensor, tuple[float, ...], tuple[float, ...]]:
    if task.images is not None:
        if task.labels is None or not task.mean or not task.deviation:
            raise TaskError("images come with labels, mean and deviation")
        return tensor(task.images), tensor(task.labels), task.mean, task.deviation
    dataset = cached_dataset(task.dataset, task.data_dir)
    chosen = torch.from_numpy(np.asarray(task.indices, dtype=np.int64))
    return dataset.train_images[chosen], dataset.train_labels[chosen], dataset.mean, dataset.deviation


def _optimizer(task: TrainTask, model: nn.Module) -> torch.optim.Optimizer:
    if task.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=task.learning_rate, weight_decay=task.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=task.learning_rate, momentum=task.momentum, weight_decay=task.weight_decay
    )


def _batches(samples: int, task: TrainTask) -> Iterator[Tensor]:
    """Shuffled batches of every epoch, from the task's seed alone."""
    random = np.random.default_rng(np.random.SeedSequence([task.seed, samples]))
    done = 0
    for _ in range(task.local_epochs):
        order = torch.from_numpy(random.permutation(samples))
        start = 0
        while start < samples:
            stop = start + task.batch_size
            if samples - stop == 1:
                stop = samples
            yield order[start:stop]
            start = stop
            done += 1
            if done == task.max_steps:
                return
