"""``python -m testbed.learning.fetch NAME``: download a data set where there is internet, with its checksums."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from testbed.learning.data import DATASETS, data_folder, load_dataset
from testbed.learning.errors import LearningError
from testbed.learning.vision import torchvision


def fetch(name: str, data_dir: Path | None = None) -> str:
    """Download *name* through torchvision, load it once, and say what is there now.

    Raises: OSError or RuntimeError of the download; LearningError where what arrived is not the data set.
    """
    folder = data_folder(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    datasets = torchvision().datasets
    if name == "fashion-mnist":
        datasets.FashionMNIST(str(folder), download=True)
    elif name == "cifar-10":
        datasets.CIFAR10(str(folder), download=True)
    elif name == "caltech101":
        datasets.Caltech101(str(folder), download=True)
    return load_dataset(name, folder).source


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: there and checked; 1: not."""
    parser = argparse.ArgumentParser(prog="python -m testbed.learning.fetch", description=__doc__)
    parser.add_argument("name", choices=DATASETS)
    parser.add_argument("--data-dir", type=Path, default=None)
    options = parser.parse_args(arguments)
    try:
        print(fetch(options.name, options.data_dir))
    except (OSError, RuntimeError, LearningError) as error:
        print(f"{options.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
