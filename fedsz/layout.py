"""Names, order, dtypes and shapes of a state: everything about it but its values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from typing import Any

import numpy as np

from fedsz.arrays import BIG_ENDIAN, DTYPES, LEGAL_CODES, Array, dtype_code
from fedsz.errors import MalformedPayloadError, PayloadTooLargeError, UnsupportedTensorError
from fedsz.wire import Reader, write_varints

MAX_TENSORS = 1 << 16
MAX_DIMENSIONS = 64  # NumPy's own limit
MAX_NAME_BYTES = 4096
_MAX_COUNT = 1 << 60

# A server reads the same layout in every update: the latest ones are kept, with their bytes, if they are not long.
_KEPT = 4
_MAX_KEPT_BYTES = 1 << 18
_recent: tuple[tuple[bytes, Layout], ...] = ()


@dataclass(frozen=True)
class Layout:
    """Per tensor, in state order: name, number of its dtype on the wire, shape."""

    names: tuple[str, ...]
    codes: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Layout:
        """The layout of a state of arrays; UnsupportedTensorError where the format cannot hold it."""
        for name in list(arrays)[MAX_TENSORS:]:
            raise UnsupportedTensorError(name, f"a state has at most {MAX_TENSORS} tensors")
        for name in arrays:
            if len(name) * 3 > MAX_NAME_BYTES and len(_utf8(name)) > MAX_NAME_BYTES:
                raise UnsupportedTensorError(f"{name[:40]}...", f"a name has at most {MAX_NAME_BYTES} bytes")
        return cls(
            tuple(arrays),
            tuple(dtype_code(name, array.dtype) for name, array in arrays.items()),
            tuple(array.shape for array in arrays.values()),
        )

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Values per tensor."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @cached_property
    def nbytes(self) -> tuple[int, ...]:
        """Decoded bytes per tensor."""
        return tuple(
            count * DTYPES[code & ~BIG_ENDIAN].itemsize
            for count, code in zip(self.counts, self.codes, strict=True)
        )

    @cached_property
    def position(self) -> dict[str, int]:
        """Where a name stands."""
        return {name: at for at, name in enumerate(self.names)}

    @cached_property
    def kinds(self) -> tuple[bytes, ...]:
        """Per tensor what follows the last dot of its name, as UTF-8: ``bias``, ``running_mean``, ..."""
        return tuple(_utf8(name.rpartition(".")[2]) for name in self.names)

    def native_code(self, at: int) -> int:
        """The dtype number of tensor *at* without its byte order."""
        return self.codes[at] & ~BIG_ENDIAN

    def native_dtype(self, at: int) -> np.dtype[Any]:
        """The dtype of tensor *at* in this machine's byte order."""
        return DTYPES[self.native_code(at)]

    @cached_property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Per tensor the dtype as the sender had it."""
        return tuple(
            DTYPES[code & ~BIG_ENDIAN].newbyteorder(">") if code & BIG_ENDIAN else DTYPES[code]
            for code in self.codes
        )

    def dtype(self, at: int) -> np.dtype[Any]:
        """The dtype of tensor *at* as the sender had it."""
        return self.dtypes[at]

    def same_tensor(self, at: int, other: Layout) -> int | None:
        """Where *other* has a tensor of the same name, dtype and shape as tensor *at* here; None if nowhere."""
        there = other.position.get(self.names[at])
        if there is None or self.shapes[at] != other.shapes[there]:
            return None
        return there if self.native_code(at) == other.native_code(there) else None

    def write(self) -> bytes:
        """Count, name lengths, names, dtype numbers, ranks, dimensions: columns, so that zstd finds the repetition."""
        encoded = [_utf8(name) for name in self.names]
        return b"".join(
            (
                write_varints([len(encoded)]),
                write_varints(len(name) for name in encoded),
                b"".join(encoded),
                bytes(self.codes),
                bytes(len(shape) for shape in self.shapes),
                write_varints(size for shape in self.shapes for size in shape),
            )
        )

    @classmethod
    def read(cls, reader: Reader, max_bytes: int) -> Layout:
        """Inverse of `write`; every claim is checked, the sum of decoded bytes against *max_bytes*."""
        global _recent
        for written, known in _recent:  # no layout's bytes begin another's
            if reader.skip(written):
                known.check_size(max_bytes)
                return known
        before = reader.rest()
        layout = cls._read(reader)
        layout.check_size(max_bytes)
        size = len(before) - reader.remaining()
        if size <= _MAX_KEPT_BYTES:
            _recent = ((bytes(before[:size]), layout), *_recent[: _KEPT - 1])
        return layout

    @classmethod
    def _read(cls, reader: Reader) -> Layout:
        count = reader.varint()
        if count > MAX_TENSORS:
            raise MalformedPayloadError(f"{count} tensors; at most {MAX_TENSORS} are allowed")
        lengths = reader.varints(count)
        if any(length > MAX_NAME_BYTES for length in lengths):
            raise MalformedPayloadError(f"a tensor name is longer than {MAX_NAME_BYTES} bytes")
        try:
            text = bytes(reader.take(sum(lengths)))
            ends = list(accumulate(lengths))
            names = tuple(
                text[end - length : end].decode("utf-8", "surrogatepass")
                for end, length in zip(ends, lengths, strict=True)
            )
        except UnicodeDecodeError:
            raise MalformedPayloadError("a tensor name is not UTF-8") from None
        if len(set(names)) != count:
            raise MalformedPayloadError("a tensor name occurs twice")
        codes = tuple(reader.take(count))
        if not LEGAL_CODES.issuperset(codes):
            raise MalformedPayloadError("an unknown dtype number")
        ranks = reader.take(count).tolist()
        if any(rank > MAX_DIMENSIONS for rank in ranks):
            raise MalformedPayloadError(f"a tensor of more than {MAX_DIMENSIONS} dimensions")
        sizes = iter(reader.varints(sum(ranks)))
        shapes = tuple(tuple(islice(sizes, rank)) for rank in ranks)
        # Also where another dimension is 0, NumPy wants the product of the rest to fit.
        if any(math.prod(size for size in shape if size) > _MAX_COUNT for shape in shapes):
            raise MalformedPayloadError("a tensor of more than 2**60 values")
        return cls(names, codes, shapes)

    def check_size(self, max_bytes: int) -> None:
        """PayloadTooLargeError where the tensors decode to more than *max_bytes*."""
        if sum(self.nbytes) > max_bytes:
            raise PayloadTooLargeError(sum(self.nbytes), max_bytes)


def _utf8(name: str) -> bytes:
    # Lone surrogates are legal in a str and no reason to lose an update.
    return name.encode("utf-8", "surrogatepass")
