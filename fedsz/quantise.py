"""`fedsz-q`: error-bounded uniform quantisation and an entropy coder, without prediction.

Model weights are close to noise: predicting one from its neighbours, as SZ does, adds entropy. What remains to be done
is to find each weight's grid point (grid.py), and to spend on it as many bits as it is rare (entropy.py, rans.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fedsz import entropy
from fedsz.errors import MalformedPayloadError
from fedsz.grid import MAX_POINT, Grid, Symbols, choose_grid, dequantise, quantise, symbol_dtype
from fedsz.registry import CannotEncodeError, Floats, LossyCodec, register
from fedsz.wire import Reader, write_varints

# Counts are 32-bit numbers.
_MAX_COUNT = 1 << 31
_PLAIN = 1


@register
class FedSZQ(LossyCodec):
    """Uniform grid of twice the bound through 0, interleaved rANS.

    The blob, little-endian, for one tensor or a group with one alphabet:

    | size | field |
    | --- | --- |
    | 1 | 1: coded without a reference |
    | item size per tensor | step, in the tensors' dtype |
    | varint | lowest grid point, zigzag |
    | varint | number of grid points, "bins" |
    | rest, absent where bins = 1 | symbols, see docs/codecs.md |
    """

    codec_id: ClassVar[str] = "fedsz-q"
    wire_id: ClassVar[int] = 22
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
        symbols = np.empty(sum(values.size for values in tensors), symbol_dtype(bins))
        first = 0
        for values, grid, bound in zip(tensors, grids, bounds, strict=True):
            quantise(values, Grid(grid.step, low, bins), bound, symbols[first : first + values.size])
            first += values.size
        head = bytes((_PLAIN,)) + np.array([grid.step for grid in grids], dtype.newbyteorder("<")).tobytes()
        head += write_varints([2 * low if low >= 0 else -2 * low - 1, bins])
        if bins == 1:
            return head
        return head + entropy.encode(symbols, bins)

    def decode_many(
        self,
        blob: memoryview,
        counts: Sequence[int],
        dtype: np.dtype[np.floating],
        references: Sequence[Floats | None],
    ) -> list[Floats]:
        reader = Reader(blob, "fedsz-q block")
        if reader.take(1)[0] != _PLAIN:
            raise MalformedPayloadError("fedsz-q: unknown layout")
        steps = np.frombuffer(reader.take(len(counts) * dtype.itemsize), dtype.newbyteorder("<")).tolist()
        number, bins = reader.varint(), reader.varint()
        low = -(number + 1 >> 1) if number & 1 else number >> 1
        largest = max(abs(low), abs(low + bins - 1))
        if not 1 <= bins <= MAX_POINT or largest > MAX_POINT:
            raise MalformedPayloadError("fedsz-q: impossible grid")
        limit = float(np.finfo(dtype).max) / max(largest, 1) / 2
        if not all(0 < step <= limit for step in steps):
            raise MalformedPayloadError("fedsz-q: a grid step that is not above 0, or too large")
        count = sum(counts)
        if bins == 1:
            reader.end()
            symbols: Symbols = np.zeros(count, np.uint16)
        else:
            symbols = entropy.decode(reader, count, bins)
        results: list[Floats] = []
        first = 0
        for size, step in zip(counts, steps, strict=True):
            values: Floats = np.empty(size, dtype)
            dequantise(symbols[first : first + size], Grid(step, low, bins), values)
            results.append(values)
            first += size
        return results
