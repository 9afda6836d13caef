"""Train the small models whose weights the codec benchmarks compress; kept in ~/.cache/fedsz-testbed/states.

    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.make_states            # MobileNetV2's rounds, ResNet50
    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.make_states --alexnet  # also AlexNet, 228 MB a state

MobileNetV2's rounds are those of the side-information table in docs/codecs.md: Fashion-MNIST at 32 pixels, first stride
1, batch 64, 60 steps a round from scratch; eight rounds with Adam, then a ninth of 15 steps, and one with SGD instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from testbed.bench_states import DEFAULT_FOLDER, State, trained

SHORT = {"max_steps": 15}
SGD = {"optimizer": "sgd", "learning_rate": 0.01}


def pairs(folder: Path = DEFAULT_FOLDER) -> dict[str, tuple[State, State]]:
    """Per line of the side-information table: the global model, and a client's after the round."""

    def at(rounds: int, **changes: object) -> State:
        return trained("mobilenet_v2", rounds, folder, print, **changes)

    return {
        "first (Adam 1e-3)": (at(0), at(1)),
        "second": (at(1), at(2)),
        "eighth": (at(7), at(8)),
        "ninth, 15 steps": (at(8), at(9, **SHORT)),
        "ninth, SGD 0.01, momentum 0.9": (at(8), at(9, **SGD)),
    }


def main() -> None:
    """Train whatever is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--alexnet", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs(arguments.folder)
    for model in ("resnet50", "alexnet")[: 1 + arguments.alexnet]:
        trained(model, 1, arguments.folder, print)


if __name__ == "__main__":
    main()
