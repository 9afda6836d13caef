"""SZ 2.1, the compressor that FedSZ recommends: the real code, as `hdf5plugin` ships it.

SZ2 is deprecated upstream and has no Python package of its own. `hdf5plugin` carries it as an HDF5 filter whose
library exports SZ's own functions, which are called here directly: the input is not copied, and the decoder's
output becomes the array. The streams are those of the HDF5 filter.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import zstandard

from fedsz.errors import MalformedPayloadError
from fedsz.lossless import zstd_compress
from fedsz.registry import CannotEncodeError, Floats, LossyCodec, register

_ABS = 0  # SZ2's own number for an absolute bound
_TYPE = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}

# Below 21 values SZ2 returns the input itself, and its decoder then frees memory that is not its own.
_MIN_COUNT = 21

_SEGMENT_SIZE = slice(18, 20)  # after version (3 bytes), flags (1) and 14 bytes of other parameters


class _Library:
    """SZ2's functions. Its settings are global variables: one call at a time."""

    def __init__(self) -> None:
        import hdf5plugin

        names = ("libh5sz.so", "libh5sz.dylib", "h5sz.dll", "libh5sz.dll")
        found = [path for name in names if (path := Path(hdf5plugin.PLUGIN_PATH) / name).exists()]
        if not found:
            raise OSError(f"no SZ filter in {hdf5plugin.PLUGIN_PATH}")
        library = ctypes.CDLL(str(found[0]))
        size = ctypes.c_size_t
        self.compress = library.SZ_compress_args
        self.compress.restype = ctypes.c_void_p
        self.compress.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(size), ctypes.c_int,
            ctypes.c_double, ctypes.c_double, ctypes.c_double, size, size, size, size, size,
        ]  # fmt: skip
        self.decompress = library.SZ_decompress
        self.decompress.restype = ctypes.c_void_p
        self.decompress.argtypes = [ctypes.c_int, ctypes.c_void_p, size, size, size, size, size, size]
        self.free = ctypes.CDLL(None).free
        self.free.argtypes = [ctypes.c_void_p]
        self.free.restype = None
        library.SZ_Init.argtypes = [ctypes.c_char_p]
        if library.SZ_Init(None) != 0:
            raise OSError("SZ_Init failed")


_lock = threading.Lock()
_loaded: list[_Library] = []


def _library() -> _Library:
    with _lock:
        if not _loaded:
            _loaded.append(_Library())
        return _loaded[0]


def _without_garbage(stream: bytes) -> bytes:
    """The same stream with a field zeroed that SZ2 fills from uninitialised memory: equal input, equal bytes.

    It is `segment_size`, which only the point-wise relative mode reads; it lies under SZ2's own zstd frame.
    """
    try:
        inner = bytearray(zstandard.decompress(stream))
    except zstandard.ZstdError:  # SZ2 leaves out its last stage on very short streams
        inner = bytearray(stream)
        inner[_SEGMENT_SIZE] = bytes(2)
        return bytes(inner)
    inner[_SEGMENT_SIZE] = bytes(2)
    return zstd_compress(inner, 3)


@register
class Sz2(LossyCodec):
    """SZ 2.1, absolute bound, one dimension: prediction by the last value, Huffman, zstd."""

    codec_id: ClassVar[str] = "sz2"
    wire_id: ClassVar[int] = 16
    trusts_input: ClassVar[bool] = True

    @classmethod
    def why_unavailable(cls) -> tuple[str, str] | None:
        try:
            _library()
        except (ImportError, OSError, AttributeError, TypeError) as error:
            return f"SZ 2.1 did not load ({error})", "install hdf5plugin (pip install 'hdf5plugin>=5.0')"
        return None

    def encode(self, values: Floats, bound: float, *, reference: Floats | None = None) -> bytes:
        if values.size < _MIN_COUNT:
            raise CannotEncodeError
        library, size = _library(), ctypes.c_size_t()
        with _lock:
            pointer = library.compress(
                *(_TYPE[values.dtype], values.ctypes.data, ctypes.byref(size), _ABS, bound, 0.0, 0.0),
                *(0, 0, 0, 0, values.size),
            )
        if not pointer:
            raise CannotEncodeError
        try:
            return _without_garbage(ctypes.string_at(pointer, size.value))
        finally:
            library.free(pointer)

    def decode(
        self,
        blob: memoryview,
        count: int,
        dtype: np.dtype[np.floating],
        *,
        reference: Floats | None = None,
        out: Floats | None = None,
    ) -> Floats:
        if count < _MIN_COUNT:
            raise MalformedPayloadError(f"sz2 block of {count} values; SZ2 codes at least {_MIN_COUNT}")
        library, raw = _library(), np.frombuffer(blob, np.uint8)
        with _lock:
            pointer = library.decompress(_TYPE[dtype], raw.ctypes.data, raw.size, 0, 0, 0, 0, count)
        if not pointer:
            raise MalformedPayloadError("SZ2 refused the stream")
        owner: Any = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
        weakref.finalize(owner, library.free, pointer)
        return cast(Floats, np.frombuffer(owner, dtype))


def version() -> str:
    """Version of the package that carries SZ 2.1."""
    return metadata.version("hdf5plugin")
