"""Train the small models whose weights the codec benchmarks compress; results are cached, not committed.

    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.make_states            # MobileNetV2 rounds, ResNet50
    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.make_states --alexnet  # also AlexNet, 228 MB a state

The MobileNetV2 rounds are those of the side-information table in docs/codecs.md: Fashion-MNIST at 32 pixels, first
stride 1, batch 64, 60 steps a round from scratch with Adam 1e-3 whose state starts afresh each round. Each model's
``global-N`` is the state before round N+1 and after round N; ``client-*`` start from the last global.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from testbed.learning.models import ModelSpec, initial_state
from testbed.learning.training import TrainTask, train_client

DEFAULT_FOLDER = Path(__file__).resolve().parents[1] / ".state" / "states"
STEPS = 60
BATCH = 64


def main() -> None:
    """Make whatever is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--alexnet", action="store_true")
    parser.add_argument("--rounds", type=int, default=8, help="MobileNetV2 rounds before the last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)

    last = rounds(folder, "mobilenet_v2", 32, arguments.rounds)
    make(folder / "mobilenet_v2-client-15-steps.safetensors", replace(last, max_steps=15))
    make(
        folder / "mobilenet_v2-client-sgd.safetensors",
        replace(last, optimizer="sgd", learning_rate=0.01, momentum=0.9),
    )
    rounds(folder, "resnet50", 32, 1, steps=20)
    if arguments.alexnet:
        rounds(folder, "alexnet", 64, 1, steps=20, learning_rate=1e-4)


def rounds(
    folder: Path, model: str, image_size: int, count: int, steps: int = STEPS, learning_rate: float = 1e-3
) -> TrainTask:
    """Train *count* rounds of one client; returns the task of the round after them."""
    spec = ModelSpec(model, classes=10, in_channels=1, image_size=image_size)
    start = folder / f"{model}-global-0.safetensors"
    if not start.exists():
        save(initial_state(spec, seed=0), start)
    task = TrainTask(
        spec, load_file(start), "fashion-mnist", np.arange(60_000), seed=0, max_steps=steps, batch_size=BATCH,
        optimizer="adam", learning_rate=learning_rate, device="cpu",
    )  # fmt: skip
    for number in range(1, count + 1):
        state = make(folder / f"{model}-global-{number}.safetensors", replace(task, seed=number))
        task = replace(task, state=state, seed=number + 1)
    return task


def make(path: Path, task: TrainTask) -> dict[str, np.ndarray]:
    """The state in *path*, trained first where it is missing."""
    if not path.exists():
        result = train_client(task)
        save(result.state, path)
        print(f"{path.name}: {result.steps} steps, loss {result.loss:.3f}", flush=True)
    return load_file(path)


def save(state: dict[str, np.ndarray], path: Path) -> None:
    """Write under a temporary name first: a state in the folder is always whole."""
    partial = path.with_suffix(".part")
    save_file(state, partial)
    partial.rename(path)


if __name__ == "__main__":
    main()
