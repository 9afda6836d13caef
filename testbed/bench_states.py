"""State dicts to compress: small trainings that are done once and kept, and files of your own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedsz import StateFileError, files
from testbed.errors import TestbedError

DEFAULT_FOLDER = Path.home() / ".cache" / "fedsz-testbed" / "states"
BATCH = 64

#: Edge of the images, steps a round, learning rate of Adam. AlexNet's pooling needs 64 pixels, and without batch norm
#: a smaller rate.
TRAININGS: dict[str, tuple[int, int, float]] = {
    "mobilenet_v2": (32, 60, 1e-3),
    "resnet50": (32, 60, 1e-3),
    "alexnet": (64, 60, 1e-4),
}

Tell = Callable[[str], None]
State = dict[str, np.ndarray[Any, np.dtype[Any]]]


class StateSourceError(TestbedError):
    """A state that cannot be had: unknown name, or a file that is no state dict."""

    def __init__(self, source: str, why: str) -> None:
        super().__init__(source, why)
        self.source, self.why = source, why

    def __str__(self) -> str:
        return f"{self.source}: {self.why}"


def load_state(source: str, folder: Path = DEFAULT_FOLDER) -> State:
    """A state dict as arrays.

    Args:
        source: path of a file that `fedsz.files.load` reads, or the name of a training: ``resnet50`` after one round,
            ``mobilenet_v2@8`` after eight.
        folder: where trained states are kept.

    Raises: StateSourceError.
    """
    path = Path(source)
    if path.suffix in files.READABLE:
        return _from_file(path)
    name, _, rounds = source.partition("@")
    if name not in TRAININGS or (rounds and not rounds.isdigit()):
        known = ", ".join(TRAININGS)
        raise StateSourceError(
            source, f"neither a {', '.join(files.READABLE)} file nor one of {known} (NAME or NAME@ROUNDS)"
        )
    return trained(name, int(rounds or 1), folder)


def trained(
    model: str, rounds: int, folder: Path = DEFAULT_FOLDER, tell: Tell = lambda line: None, **changes: Any
) -> State:
    """*model* after so many rounds of one client on Fashion-MNIST, batch 64, Adam whose state starts afresh each round.

    Where Fashion-MNIST is not installed, on handwritten digits. Every round's state is kept in *folder*, so that the
    one before can serve as reference; ``rounds = 0`` is the fresh model.

    Args:
        changes: of the last round's `TrainTask`, for example ``max_steps=15``.
    """
    label = "".join(f"-{name}-{value}" for name, value in sorted(changes.items()))
    path = folder / f"{model}-round-{rounds}{label}.safetensors"
    if not path.exists():
        before = trained(model, rounds - 1, folder, tell) if rounds else None
        state = _train(model, rounds, before, tell, changes)
        folder.mkdir(parents=True, exist_ok=True)
        files.save(state, path)
    return _from_file(path)


def _train(model: str, rounds: int, before: State | None, tell: Tell, changes: Mapping[str, Any]) -> State:
    # Training loads PyTorch, which nothing else here needs.
    from testbed.learning.data import load_or_fallback
    from testbed.learning.models import ModelSpec, initial_state
    from testbed.learning.training import TrainTask, train_client

    edge, steps, rate = TRAININGS[model]
    dataset, note = load_or_fallback("fashion-mnist")
    if note:
        tell(note)
    spec = ModelSpec(model, dataset.classes, in_channels=dataset.channels, image_size=edge)
    if before is None:
        return initial_state(spec, seed=0)
    task = TrainTask(
        spec, before, dataset.name, np.arange(len(dataset.train_labels)), seed=rounds, max_steps=steps,
        local_epochs=100, batch_size=BATCH, optimizer="adam", learning_rate=rate, device="cpu",
    )  # fmt: skip
    result = train_client(replace(task, **changes))
    tell(f"{model}, round {rounds}: {result.steps} steps, loss {result.loss:.3f}")
    return result.state


def _from_file(path: Path) -> State:
    try:
        return files.load(path)
    except StateFileError as error:
        raise StateSourceError(error.path, error.why) from error
