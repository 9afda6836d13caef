"""States in files: safetensors, NumPy archives, PyTorch checkpoints. Nothing is unpickled but tensors."""

from __future__ import annotations

import contextlib
import errno
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedsz.arrays import DTYPES, Array, as_array, flat_native
from fedsz.errors import StateFileError, UnsupportedTensorError

READABLE = (".safetensors", ".npz", ".pt", ".pth")
WRITABLE = (".safetensors", ".npz")

# Format's name to dtype, as far as both it and our container know the type.
_SAFETENSORS = {
    "BOOL": "bool", "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
_BY_NAME = {dtype.name: dtype for dtype in DTYPES}
# Keys under which training scripts keep the state dict of a checkpoint.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def load(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The state that a file holds.

    Args:
        path: ``.safetensors`` (needs the package safetensors), ``.npz``, or ``.pt`` and ``.pth`` (need torch; a
            checkpoint's ``state_dict``, ``model_state_dict`` or ``model`` is taken out of it).

    Returns:
        Names to arrays, C-contiguous, in the file's order; bfloat16 and float8 have dtypes of the package ml_dtypes.

    Raises:
        StateFileError: no such file, an ending that is not known, a missing package, or no state dict in it.
    """
    path = Path(path)
    readers = {".safetensors": _load_safetensors, ".npz": _load_npz, ".pt": _load_torch, ".pth": _load_torch}
    reader = readers.get(path.suffix)
    if reader is None:
        raise StateFileError(str(path), f"a file of tensors ends in {', '.join(READABLE)}")
    try:
        loaded = reader(path)
    except StateFileError:
        raise
    except Exception as error:  # NumPy, torch and safetensors raise whatever their parsers do
        raise StateFileError(str(path), f"cannot be read: {error}") from error
    if not isinstance(loaded, Mapping) or not loaded:
        raise StateFileError(str(path), "holds no state dict: names and tensors")
    try:
        state = {name: as_array(name, value) for name, value in loaded.items()}
    except UnsupportedTensorError as error:
        raise StateFileError(str(path), f"holds no state dict: {error}") from error
    # `ascontiguousarray` alone would make 1-d of 0-d.
    return {
        name: array if array.flags.c_contiguous else np.ascontiguousarray(array)
        for name, array in state.items()
    }


def save(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state to a file that appears whole or not at all.

    Args:
        state: as for `compress`.
        path: ``.safetensors``, which gets the metadata ``format: pt`` that loaders ask for and sorts tensors in an
            order of its own, or ``.npz``. An existing file is replaced.

    Raises:
        StateFileError: an ending or a tensor that the format does not know, or a missing package.
        UnsupportedTensorError: an entry that is no tensor.
        OSError: the file cannot be written.
    """
    path = Path(path)
    arrays = {name: as_array(name, value) for name, value in state.items()}
    # Byte order is the file format's affair.
    native = {name: flat_native(array).reshape(array.shape) for name, array in arrays.items()}
    if path.suffix == ".safetensors":
        _save_safetensors(native, path)
    elif path.suffix == ".npz":
        _save_npz(native, path)
    else:
        raise StateFileError(str(path), f"tensors are written to {' or '.join(WRITABLE)}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside *path* to write under; it takes the place of *path* at the end, or vanishes with an error."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _safetensors(path: Path) -> Any:
    try:
        import safetensors
    except ImportError:
        raise StateFileError(
            str(path), "needs the package safetensors: pip install 'fedsz-testbed[safetensors]'"
        ) from None
    return safetensors


def _load_safetensors(path: Path) -> dict[str, Array]:
    # The library's own NumPy reader knows no float8.
    views = _safetensors(path).deserialize(path.read_bytes())
    state = {}
    for name, view in views:
        dtype_name = _SAFETENSORS.get(view["dtype"])
        if dtype_name is None:
            known = ", ".join(_SAFETENSORS)
            raise StateFileError(str(path), f"tensor {name!r} has dtype {view['dtype']}; known: {known}")
        state[name] = np.frombuffer(view["data"], _BY_NAME[dtype_name]).reshape(view["shape"])
    return state


def _save_safetensors(arrays: dict[str, Array], path: Path) -> None:
    library = _safetensors(path)
    known = set(_SAFETENSORS.values())
    specs = {}
    for name, array in arrays.items():
        if array.dtype.name not in known:
            raise StateFileError(
                str(path), f"tensor {name!r} has dtype {array.dtype}, which safetensors lacks"
            )
        specs[name] = library.TensorSpec(
            dtype=array.dtype.name, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes
        )
    with replacing(path) as partial:
        library.serialize_file(specs, partial, metadata={"format": "pt"})


def _load_npz(path: Path) -> dict[str, Array]:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise StateFileError(str(path), "holds one array without a name")
    with archive:
        return {name: archive[name] for name in archive.files}


def _save_npz(arrays: dict[str, Array], path: Path) -> None:
    for name, array in arrays.items():
        if np.dtype(array.dtype.str) != array.dtype:  # NumPy would write the bytes and forget what they are
            raise StateFileError(str(path), f"tensor {name!r} has dtype {array.dtype}, which .npz lacks")
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
        # `np.savez` takes names as keywords, and its own argument is one of them.
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _load_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise StateFileError(str(path), "needs PyTorch: pip install torch") from None
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    return loaded
