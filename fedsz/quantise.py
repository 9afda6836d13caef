"""`fedsz-q`: error-bounded uniform quantisation and an entropy coder, without prediction.

Model weights are close to noise: predicting one from its neighbours, as SZ does, adds entropy. What remains to be done
is to find each weight's grid point (grid.py), and to spend on it as many bits as it is rare (entropy.py, tans.py) or,
where both sides hold the global model, as it is rare given that (reference.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from fedsz import entropy, reference
from fedsz.errors import MalformedPayloadError
from fedsz.grid import MAX_POINT, Grid, choose_grid, dequantise, quantise, symbol_dtype
from fedsz.registry import CannotEncodeError, Floats, LossyCodec, register
from fedsz.wire import Reader, write_varints

# Counts are 32-bit numbers.
_MAX_COUNT = 1 << 31
_PLAIN, _CONDITIONAL = 1, 2


@register
class FedSZQ(LossyCodec):
    """Uniform grid of twice the bound through 0, tabled ANS; docs/codecs.md specifies the bytes."""

    codec_id: ClassVar[str] = "fedsz-q"
    wire_id: ClassVar[int] = 22
    supports_reference: ClassVar[bool] = True
    guarantees_bound: ClassVar[bool] = True
    group_elements: ClassVar[int] = 1 << 17

    def encode(self, values: Floats, bound: float, *, reference: Floats | None = None) -> bytes:
        return self.encode_many([values], [bound], [reference])

    def decode(
        self, blob: memoryview, count: int, dtype: np.dtype[np.floating], *, reference: Floats | None = None
    ) -> Floats:
        return self.decode_many(blob, [count], dtype, [reference])[0]

    def encode_many(
        self, tensors: Sequence[Floats], bounds: Sequence[float], references: Sequence[Floats | None]
    ) -> bytes:
        dtype = tensors[0].dtype
        if sum(values.size for values in tensors) >= _MAX_COUNT:
            raise CannotEncodeError
        grids = [
            choose_grid(float(values.min()), float(values.max()), bound, dtype)
            for values, bound in zip(tensors, bounds, strict=True)
        ]
        low = min(grid.low for grid in grids)
        bins = max(grid.low + grid.bins for grid in grids) - low
        grids = [Grid(grid.step, low, bins) for grid in grids]
        symbols = np.empty(sum(values.size for values in tensors), symbol_dtype(bins))
        parts = _cut(symbols, [values.size for values in tensors])
        for values, grid, bound, part in zip(tensors, grids, bounds, parts, strict=True):
            quantise(values, grid, bound, part)

        conditional = references[0] is not None
        head = bytes((_CONDITIONAL if conditional else _PLAIN,))
        head += np.array([grid.step for grid in grids], dtype.newbyteorder("<")).tobytes()
        head += write_varints([2 * low if low >= 0 else -2 * low - 1, bins])
        if bins == 1:
            return head
        if not conditional:
            return head + entropy.encode(symbols, bins)
        blobs = [
            reference.encode(part, grid, base)
            for part, grid, base in zip(parts, grids, references, strict=True)
            if base is not None
        ]
        return b"".join((head, write_varints(len(blob) for blob in blobs), *blobs))

    def decode_many(
        self,
        blob: memoryview,
        counts: Sequence[int],
        dtype: np.dtype[np.floating],
        references: Sequence[Floats | None],
    ) -> list[Floats]:
        reader = Reader(blob, "fedsz-q block")
        conditional = references[0] is not None
        if reader.take(1)[0] != (_CONDITIONAL if conditional else _PLAIN):
            raise MalformedPayloadError("fedsz-q: unknown layout")
        grids = list(_read_grids(reader, len(counts), dtype))
        results: list[Floats] = [np.empty(count, dtype) for count in counts]
        if grids[0].bins == 1:
            reader.end()
            for values, grid in zip(results, grids, strict=True):
                dequantise(np.zeros(values.size, np.uint16), grid, values)
        elif not conditional:
            symbols = _cut(entropy.decode(reader, sum(counts), grids[0].bins), counts)
            for values, grid, part in zip(results, grids, symbols, strict=True):
                dequantise(part, grid, values)
        else:
            lengths = reader.varints(len(counts))
            for values, grid, base, length in zip(results, grids, references, lengths, strict=True):
                assert base is not None
                reference.decode(Reader(reader.take(length), "fedsz-q block"), grid, base, values)
            reader.end()
        return results


def _read_grids(reader: Reader, tensors: int, dtype: np.dtype[np.floating]) -> Iterator[Grid]:
    steps = np.frombuffer(reader.take(tensors * dtype.itemsize), dtype.newbyteorder("<")).tolist()
    number, bins = reader.varint(), reader.varint()
    low = -(number + 1 >> 1) if number & 1 else number >> 1
    largest = max(abs(low), abs(low + bins - 1))
    if not 1 <= bins <= MAX_POINT or largest > MAX_POINT:
        raise MalformedPayloadError("fedsz-q: impossible grid")
    finfo = np.finfo(dtype)
    # Half of the largest number, because a damaged symbol may lie up to one more grid beyond the last point.
    limit = float(finfo.max) / (2 * max(largest, 1))
    for step in steps:
        if not float(finfo.smallest_normal) <= step <= limit:
            raise MalformedPayloadError("fedsz-q: impossible step of the grid")
        yield Grid(step, low, bins)


def _cut(symbols: np.ndarray, counts: Sequence[int]) -> list[np.ndarray]:
    """The tensors' parts of *symbols*, as views."""
    starts = np.cumsum([0, *counts]).tolist()
    return [symbols[start : start + count] for start, count in zip(starts, counts, strict=False)]
