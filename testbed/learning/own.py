"""A user's own model and data, named in a scenario by their files.

A model is ``FILE.py:FUNCTION``, and the function takes ``(classes, in_channels, image_size)`` and returns a
`torch.nn.Module` that makes logits of shape (batch, classes) from images of shape (batch, in_channels, image_size,
image_size). Data is ``FILE.npz`` with the arrays of `ARRAYS`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
import zipfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
from torch import nn

from testbed.learning.errors import DatasetDamagedError, OwnModelError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_MODEL = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")

Part = tuple[np.ndarray, np.ndarray]


def is_model(name: str) -> bool:
    """Whether *name* stands for a function in a file."""
    return _MODEL.fullmatch(name) is not None


def is_data(name: str) -> bool:
    """Whether *name* stands for a file of arrays."""
    return name.endswith(".npz")


def located(name: str, folder: Path) -> str:
    """*name* with its file's full path, looked for in *folder*, so that it means the same to every process.

    Nothing of the file is run. Raises: OwnModelError, DatasetDamagedError, which say what is missing.
    """
    match = _MODEL.fullmatch(name)
    if match is None:
        path = (folder / name).resolve()
        _check_members(path)
        return str(path)
    path = (folder / match["file"]).resolve()
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise OwnModelError(name, f"{path} cannot be read: {error}") from error
    # A class makes a model as well as a function does; so may what is imported or assigned.
    made = [item.name for item in tree.body if isinstance(item, ast.FunctionDef | ast.ClassDef)]
    other = {
        alias.asname or alias.name
        for item in tree.body
        if isinstance(item, ast.ImportFrom)
        for alias in item.names
    }
    other |= {
        target.id
        for item in tree.body
        if isinstance(item, ast.Assign)
        for target in item.targets
        if isinstance(target, ast.Name)
    }
    if match["function"] not in other.union(made):
        raise OwnModelError(
            name, f"{path} has no function {match['function']!r}; it has {', '.join(made) or 'none'}"
        )
    return f"{path}:{match['function']}"


def build(name: str, classes: int, in_channels: int, image_size: int) -> nn.Module:
    """The model of a located *name*. OwnModelError where the file or the function fails."""
    file, _, function = name.rpartition(":")
    path = Path(file)
    try:
        module = _module(file, path.stat().st_mtime_ns)
        model = getattr(module, function)(classes, in_channels, image_size)
    except Exception as error:  # a user's code may raise anything; it stays as the cause
        raise OwnModelError(name, f"{type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise OwnModelError(name, f"returned {type(model).__name__}; a torch.nn.Module is expected")
    return model


@lru_cache(maxsize=4)
def _module(file: str, changed: int) -> ModuleType:
    """The file as a module under a name of its own; read again when it has changed."""
    name = f"own_model_{hashlib.sha256(f'{file}:{changed}'.encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look for it there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def read_data(file: str) -> tuple[Part, Part, int, str]:
    """Training part, test part, number of classes, and what it is in words.

    Images come as uint8 of shape (images, height, width), or with 1 or 3 channels after that; they leave as (images,
    channels, height, width). Labels are whole numbers from 0. Raises: DatasetDamagedError.
    """
    path = Path(file)
    _check_members(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ARRAYS}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetDamagedError(file, f"cannot be read: {error}") from error
    parts = []
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or (images.ndim == 4 and images.shape[3] not in (1, 3))
        ):
            raise DatasetDamagedError(
                file,
                f"{part}_images is {images.dtype} of shape {images.shape}; uint8 of shape (images, height, width) or "
                "(images, height, width, 1 or 3) is expected",
            )
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or len(labels) != len(images):
            raise DatasetDamagedError(
                file, f"{part}_labels is {labels.dtype} of shape {labels.shape}; a whole number for each of the "
                f"{len(images)} images is expected"
            )  # fmt: skip
        if not len(labels) or labels.min() < 0:
            raise DatasetDamagedError(file, f"{part}_labels are at least one, and none is below 0")
        parts.append((images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2), labels))
    train, test = parts
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DatasetDamagedError(
            file, f"training and test images differ in shape: {train[0].shape[1:]}, {test[0].shape[1:]}"
        )
    classes = int(max(train[1].max(), test[1].max())) + 1
    _, channels, height, width = train[0].shape
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    words = (
        f"{path.name} (sha256 {digest}), {len(train[0])} + {len(test[0])} images, {height} x {width} "
        f"{'grey' if channels == 1 else 'colour'}, {classes} classes"
    )
    return train, test, classes, words


def _check_members(path: Path) -> None:
    """That the arrays are there, without reading them."""
    try:
        with zipfile.ZipFile(path) as stored:
            found = {name.removesuffix(".npy") for name in stored.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DatasetDamagedError(str(path), f"cannot be read: {reason}") from error
    missing = [name for name in ARRAYS if name not in found]
    if missing:
        raise DatasetDamagedError(
            str(path), f"has no array {', '.join(missing)}; expected are {', '.join(ARRAYS)}"
        )
