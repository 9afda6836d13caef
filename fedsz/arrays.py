"""Tensors in, tensors out: dtypes and their numbers on the wire, torch, bfloat16."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

import ml_dtypes
import numpy as np

from fedsz.errors import UnsupportedTensorError

Array = np.ndarray[Any, np.dtype[Any]]

BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)

# The position is the number on the wire: append, never reorder.
DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(kind)
    for kind in (
        "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
        "float16", BFLOAT16, "float32", "float64", "complex64", "complex128",
        ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2,
    )
)  # fmt: skip
_CODE_OF = {dtype: code for code, dtype in enumerate(DTYPES)}
# NumPy's type numbers hash forty times faster than its dtypes; several of them can mean one dtype (long, long long).
_CODE_OF_NUM = {dtype.num: code for dtype, code in _CODE_OF.items()} | {
    np.dtype(char).num: _CODE_OF[np.dtype(char)] for char in "bBhHiIlLqQ"
}

#: Set in a dtype's number where the array was big-endian; its bytes travel little-endian all the same.
BIG_ENDIAN = 0x80

#: Every number that a dtype can have on the wire. One-byte items and NumPy's guests have no byte order.
LEGAL_CODES = frozenset(range(len(DTYPES))) | {
    code | BIG_ENDIAN for code, dtype in enumerate(DTYPES) if dtype.itemsize > 1 and dtype.isbuiltin == 1
}

#: dtypes that may be coded within a bound, and the dtype that codecs see instead.
LOSSY_DTYPES: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype("float16"): np.dtype("float32"),
    BFLOAT16: np.dtype("float32"),
    np.dtype("float32"): np.dtype("float32"),
    np.dtype("float64"): np.dtype("float64"),
}

_TORCH_VIEWS = {"bfloat16": BFLOAT16, "float8_e4m3fn": DTYPES[15], "float8_e5m2": DTYPES[16]}


class StateArray(np.ndarray[Any, np.dtype[Any]]):
    """What `decompress` returns: an ndarray that torch takes for a tensor, so that load_state_dict accepts it.

    Torch is not imported for this; torch calls `__torch_function__` on foreign tensor-likes and gets a tensor
    that shares the array's memory. Arithmetic keeps the class, so that an average of updates loads as well.
    """

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if return_scalar:
            return array[()]
        return array if isinstance(array, StateArray) else array.view(StateArray)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def swap(value: Any) -> Any:
            if isinstance(value, StateArray):
                return torch_tensor(value)
            if isinstance(value, (tuple, list)):
                return type(value)(swap(item) for item in value)
            return value

        return function(*swap(args), **{key: swap(value) for key, value in (kwargs or {}).items()})


def torch_tensor(array: Array) -> Any:
    """*array* as a torch tensor that shares its memory (bfloat16 and float8 included); imports torch."""
    import torch

    plain = array.view(np.ndarray)
    if not plain.dtype.isnative:
        plain = plain.astype(plain.dtype.newbyteorder("="))
    for torch_name, dtype in _TORCH_VIEWS.items():
        if plain.dtype == dtype:
            bits = torch.from_numpy(plain.view(f"int{8 * dtype.itemsize}"))
            return bits.view(getattr(torch, torch_name))
    return torch.from_numpy(plain)


def to_torch(state: Mapping[str, Array]) -> dict[str, Any]:
    """A state of arrays as a state of torch tensors that share their memory."""
    return {name: torch_tensor(array) for name, array in state.items()}


def as_array(name: object, value: object) -> Array:
    """*value* as an ndarray, without copying where its memory allows that.

    Args:
        name: for the error message.
        value: ndarray, torch tensor (any device, with or without gradient, bfloat16 included) or whatever
            ``np.asarray`` turns into numbers.

    Raises:
        UnsupportedTensorError: the name is no text, or the value is no dense tensor of a known dtype.
    """
    if not isinstance(name, str):
        raise UnsupportedTensorError(name, f"names are str, this one is {type(name).__name__}")
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedTensorError(
            name, "masked arrays have no defined bytes under the mask; fill it first"
        )
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        array = _from_torch(name, value)
    elif isinstance(value, np.ndarray):
        array = value.view(np.ndarray)
    else:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise UnsupportedTensorError(name, f"not an array: {error}") from None
    dtype_code(name, array.dtype)
    return array


def _from_torch(name: str, tensor: Any) -> Array:
    torch = sys.modules["torch"]
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise UnsupportedTensorError(
            name, "only dense, unquantised torch tensors with data can be compressed"
        )
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    torch_name = str(tensor.dtype).removeprefix("torch.")
    dtype = _TORCH_VIEWS.get(torch_name)
    if dtype is not None:
        bits = tensor.contiguous().view(torch.int16 if dtype.itemsize == 2 else torch.uint8)
        return cast(Array, bits.numpy().view(dtype))
    try:
        return cast(Array, tensor.numpy())
    except TypeError:
        raise UnsupportedTensorError(name, f"torch dtype {torch_name} has no counterpart here") from None


def dtype_code(name: str, dtype: np.dtype[Any]) -> int:
    """The number of *dtype* on the wire; UnsupportedTensorError names the tensor otherwise."""
    code = _CODE_OF_NUM.get(dtype.num)
    if code is None:
        known = ", ".join(str(known) for known in DTYPES)
        raise UnsupportedTensorError(name, f"dtype {dtype} is not supported; supported: {known}")
    return code if dtype.isnative else code | BIG_ENDIAN


def flat_native(array: Array) -> Array:
    """1-D, C-contiguous, native byte order; a view of *array* where it already is."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(-1)


def codec_values(array: Array) -> Array:
    """A tensor that may go lossy as codecs see it: flat and native, 16-bit types as float32; a view where it can be."""
    flat = flat_native(array)
    return flat.astype(LOSSY_DTYPES[flat.dtype], copy=False)


def cut(joined: Array, counts: Sequence[int]) -> list[Array]:
    """Views of so many values each, one after the other."""
    return [joined[end - count : end] for count, end in zip(counts, accumulate(counts), strict=True)]
