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
from fedsz.grid import MAX_POINT, Grid, Symbols, choose_grid, dequantise, quantise, symbol_dtype
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
        sources = [_Quantised(*of_tensor) for of_tensor in zip(tensors, grids, bounds, strict=True)]

        conditional = references[0] is not None
        head = bytes((_CONDITIONAL if conditional else _PLAIN,))
        head += np.array([grid.step for grid in grids], dtype.newbyteorder("<")).tobytes()
        head += write_varints([2 * low if low >= 0 else -2 * low - 1, bins])
        if bins == 1:
            for source in sources:
                source.prove()
            return head
        if conditional:
            blobs = [
                reference.encode(source, grid, base)
                for source, grid, base in zip(sources, grids, references, strict=True)
                if base is not None
            ]
            return b"".join((head, write_varints(len(blob) for blob in blobs), *blobs))
        if len(sources) == 1:
            return head + entropy.encode(sources[0], tensors[0].size, bins)
        together = np.concatenate([source.whole() for source in sources])
        return head + entropy.encode(entropy.slices(together), together.size, bins)

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
                values.fill(grid.low * grid.step)
        elif conditional:
            lengths = reader.varints(len(counts))
            for values, grid, base, length in zip(results, grids, references, lengths, strict=True):
                assert base is not None
                reference.decode(Reader(reader.take(length), "fedsz-q block"), grid, base, values)
            reader.end()
        else:
            parts = entropy.decode(reader, sum(counts), grids[0].bins)
            if len(counts) > 1:
                parts = iter(
                    np.split(np.concatenate([part.copy() for part in parts]), np.cumsum(counts[:-1]))
                )
            _fill(parts, results, grids)
        return results


class _Quantised:
    """The symbols of a tensor, a chunk at a time and proven; the last chunk is kept."""

    def __init__(self, values: Floats, grid: Grid, bound: float) -> None:
        self._values, self._grid, self._bound = values, grid, bound
        self._scratch = np.empty(min(values.size, entropy.CHUNK), symbol_dtype(grid.bins))
        self._made = -1

    def __call__(self, first: int) -> Symbols:
        values = self._values[first : first + entropy.CHUNK]
        symbols = self._scratch[: values.size]
        if self._made != first:
            quantise(values, self._grid, self._bound, symbols)
            self._made = first
        return symbols

    def prove(self) -> None:
        """Quantise all of it; CannotEncodeError where some value would not decode within the bound."""
        for first in entropy.chunks(self._values.size):
            self(first)

    def whole(self) -> Symbols:
        """All symbols at once."""
        return np.concatenate([self(first).copy() for first in entropy.chunks(self._values.size)])


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


def _fill(parts: Iterator[Symbols], results: Sequence[Floats], grids: Sequence[Grid]) -> None:
    """Values from symbols: the chunks of one tensor, or one part for each of several."""
    if len(results) > 1:
        for values, grid, part in zip(results, grids, parts, strict=True):
            dequantise(part, grid, values)
        return
    first = 0
    for part in parts:
        dequantise(part, grids[0], results[0][first : first + part.size])
        first += part.size
