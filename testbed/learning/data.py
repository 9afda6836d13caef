"""Real images with a held-out test set: Fashion-MNIST, CIFAR-10, Caltech101, and digits that are always there."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from testbed.learning import own
from testbed.learning.errors import DatasetDamagedError, DatasetMissingError, UnknownDatasetError
from testbed.learning.vision import torchvision

DATA_DIR_VARIABLE = "FEDSZ_DATA_DIR"
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

# sha256 of the unpacked files; gzip's own bytes differ between the original and Debian's package.
_FASHION_MNIST = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
# Images of the 101 categories, background class left out; what the published archive contains.
_CALTECH101_IMAGES, _CALTECH101_CLASSES = 8677, 101
_CALTECH101_EDGE = 128
# Ours, so that there is a data set wherever there is the testbed.
_DIGITS = Path(__file__).with_name("digits.npz")


@dataclass(frozen=True)
class Dataset:
    """Images and labels, the test part untouched by training.

    Attributes:
        train_images, test_images: uint8, shape (images, channels, height, width).
        train_labels, test_labels: int64, 0 to ``classes - 1``.
        mean, deviation: per channel over the training images, in units of 0..1.
        source: what was really loaded, and from where.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    source: str

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.train_images.shape[1])

    @property
    def image_size(self) -> int:
        """Edge length in pixels."""
        return int(self.train_images.shape[-1])


def load_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set by name: ``fashion-mnist``, ``cifar-10``, ``caltech101``, ``digits``, or a user's ``FILE.npz``.

    Args:
        data_dir: torchvision's layout; None: ``$FEDSZ_DATA_DIR``, else ``~/.cache/fedsz-testbed/data``.

    Raises: UnknownDatasetError; DatasetMissingError, which says how to get it; DatasetDamagedError.
    """
    if own.is_data(name):
        return _dataset(name, *own.read_data(name))
    if name not in _LOADERS:
        raise UnknownDatasetError(name, tuple(_LOADERS))
    return _LOADERS[name](data_folder(data_dir))


def load_or_fallback(
    name: str, fallback: str = "digits", data_dir: Path | None = None
) -> tuple[Dataset, str]:
    """`load_dataset`, or *fallback* where the files are missing; the note says so and is empty otherwise."""
    try:
        return load_dataset(name, data_dir), ""
    except DatasetMissingError as missing:
        return load_dataset(fallback, data_dir), f"{missing}; {fallback} was used instead"


def data_folder(data_dir: Path | None = None) -> Path:
    """Where data sets are looked for."""
    if data_dir is not None:
        return data_dir
    named = os.environ.get(DATA_DIR_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "fedsz-testbed" / "data"


@lru_cache(maxsize=2)
def cached_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """`load_dataset`, kept: a worker that trains many clients reads the files once."""
    return load_dataset(name, data_dir)


def _dataset(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: int,
    source: str,
) -> Dataset:
    images = train[0]
    # In float64 and by channel; 60 000 images are summed exactly as integers.
    count = images.size / images.shape[1]
    first = images.sum(axis=(0, 2, 3), dtype=np.int64) / count
    second = np.array([np.square(images[:, c], dtype=np.int64).sum() for c in range(images.shape[1])]) / count
    deviation = np.sqrt(second - first**2) / 255
    return Dataset(
        name=name,
        train_images=torch.from_numpy(np.ascontiguousarray(images)),
        train_labels=torch.from_numpy(train[1].astype(np.int64)),
        test_images=torch.from_numpy(np.ascontiguousarray(test[0])),
        test_labels=torch.from_numpy(test[1].astype(np.int64)),
        classes=classes,
        mean=tuple(float(value) for value in first / 255),
        deviation=tuple(float(value) for value in deviation),
        source=source,
    )


def _fashion_mnist(folder: Path) -> Dataset:
    places = (folder / "FashionMNIST" / "raw", DEBIAN_FASHION_MNIST)
    for place in places:
        found = {stem: _either(place / stem) for stem in _FASHION_MNIST}
        if all(found.values()):
            break
    else:
        command = "apt install dataset-fashion-mnist, or " + fetch_command("fashion-mnist", folder)
        raise DatasetMissingError("fashion-mnist", [str(place) for place in places], command)
    parts = [_idx(file, _FASHION_MNIST[stem]) for stem, file in found.items() if file is not None]
    train_images, train_labels, test_images, test_labels = parts
    return _dataset(
        "fashion-mnist",
        (train_images[:, None], train_labels),
        (test_images[:, None], test_labels),
        10,
        f"Fashion-MNIST, 60000 + 10000 images, 28 x 28 grey, from {place}",
    )


def _either(file: Path) -> Path | None:
    for candidate in (file, file.with_name(file.name + ".gz")):
        if candidate.is_file():
            return candidate
    return None


def _idx(file: Path, sha256: str) -> np.ndarray:
    """One file of the MNIST family: magic, dimensions as big-endian integers, then bytes."""
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError) as error:
        raise DatasetDamagedError(str(file), f"cannot be unpacked: {error}") from error
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise DatasetDamagedError(str(file), f"content does not have the sha256 {sha256}")
    rank = raw[3]
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()  # torch wants it writable


def _digits(folder: Path) -> Dataset:
    """1797 handwritten digits, in a file beside this one; every fifth image of a seeded order is held out.

    E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    doi:10.24432/C50P49, CC BY 4.0. The test set of 13 writers: 8 x 8 counts from 0 to 16.
    """
    del folder
    with np.load(_DIGITS) as file:
        counts, labels = file["images"], file["labels"].astype(np.int64)
    images = np.rint(counts * (255 / 16)).astype(np.uint8)[:, None]
    order = np.random.default_rng(20240423).permutation(len(images))
    test, train = order[::5], np.delete(order, np.s_[::5])
    return _dataset(
        "digits",
        (images[train], labels[train]),
        (images[test], labels[test]),
        10,
        f"UCI handwritten digits, {len(train)} + {len(test)} images, 8 x 8 grey",
    )


def _cifar10(folder: Path) -> Dataset:
    vision = torchvision()
    if not (folder / "cifar-10-batches-py").is_dir():
        raise DatasetMissingError("cifar-10", [str(folder)], fetch_command("cifar-10", folder))
    try:  # torchvision checks the md5 of every file before it unpickles one
        train, test = (vision.datasets.CIFAR10(str(folder), train=part) for part in (True, False))
    except RuntimeError as error:
        raise DatasetDamagedError(str(folder / "cifar-10-batches-py"), str(error)) from error
    return _dataset(
        "cifar-10",
        (train.data.transpose(0, 3, 1, 2), np.array(train.targets)),
        (test.data.transpose(0, 3, 1, 2), np.array(test.targets)),
        10,
        f"CIFAR-10, 50000 + 10000 images, 32 x 32 colour, from {folder}",
    )


def _caltech101(folder: Path) -> Dataset:
    """Caltech101 has no official split: a seeded fifth of each class is held out."""
    from PIL import Image

    if not (folder / "caltech101" / "101_ObjectCategories").is_dir():
        raise DatasetMissingError("caltech101", [str(folder)], fetch_command("caltech101", folder))
    classes = sorted(
        path
        for path in (folder / "caltech101" / "101_ObjectCategories").iterdir()
        if path.is_dir() and path.name != "BACKGROUND_Google"
    )
    files = [(file, label) for label, path in enumerate(classes) for file in sorted(path.glob("*.jpg"))]
    if len(classes) != _CALTECH101_CLASSES or len(files) != _CALTECH101_IMAGES:
        raise DatasetDamagedError(
            str(folder / "caltech101"),
            f"has {len(files)} images in {len(classes)} classes, not {_CALTECH101_IMAGES} in {_CALTECH101_CLASSES}",
        )
    images = np.empty((len(files), 3, _CALTECH101_EDGE, _CALTECH101_EDGE), np.uint8)
    for index, (file, _) in enumerate(files):
        with Image.open(file) as image:
            square = image.convert("RGB").resize(
                (_CALTECH101_EDGE, _CALTECH101_EDGE), Image.Resampling.BILINEAR
            )
        images[index] = np.asarray(square).transpose(2, 0, 1)
    labels = np.array([label for _, label in files])
    test = held_out(labels, fraction=0.2, seed=101)
    return _dataset(
        "caltech101",
        (images[~test], labels[~test]),
        (images[test], labels[test]),
        _CALTECH101_CLASSES,
        f"Caltech101, {int((~test).sum())} + {int(test.sum())} images, {_CALTECH101_EDGE} x {_CALTECH101_EDGE} colour, "
        f"own split, from {folder}",
    )


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which samples are test samples, bool: the given share of every class, at least one of each."""
    random = np.random.default_rng(seed)
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        test[members[: max(1, round(fraction * len(members)))]] = True
    return test


def fetch_command(name: str, folder: Path) -> str:
    """The command that downloads a data set on a machine with internet."""
    return f"python -m testbed.learning.fetch {name} --data-dir {folder}"


_LOADERS: dict[str, Callable[[Path], Dataset]] = {
    "fashion-mnist": _fashion_mnist,
    "cifar-10": _cifar10,
    "caltech101": _caltech101,
    "digits": _digits,
}
DATASETS = tuple(_LOADERS)
