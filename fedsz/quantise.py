"""`fedsz-q`: error-bounded uniform quantisation and an entropy coder, without prediction.

Model weights are close to noise: predicting one from its neighbours, as SZ does, adds entropy. What remains to be done
is to find each weight's grid point (grid.py), and to spend on it as many bits as it is rare (entropy.py, tans.py) or,
where both sides hold the global model, as it is rare given that (reference.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

from fedsz import entropy, planes, reference
from fedsz.arrays import cut
from fedsz.errors import MalformedPayloadError
from fedsz.grid import (
    Grid,
    Symbols,
    choose_grid,
    dequantise,
    dequantise_all,
    extent,
    on_common_limits,
    quantise,
    read_grids,
    symbol_dtype,
    write_grids,
)
from fedsz.registry import CannotEncodeError, Floats, LossyCodec, register
from fedsz.scratch import scratch
from fedsz.subtractive import NO_DITHER, Dither
from fedsz.wire import Reader, write_varints

# From here on a block is smaller than the raw tensors, whatever the bound, the company and the reference. So none of
# these decides whether the container stores a tensor exactly instead: what it decodes to hangs on the tensor alone.
MIN_COUNT = 128
# Counts are 32-bit numbers.
MAX_COUNT = 1 << 31
# The first byte of a block.
_PLAIN, _CONDITIONAL = 1, 2
SEED_BYTES = 8


@register
class FedSZQ(LossyCodec):
    """Uniform grid of twice the bound through 0, tabled ANS; docs/codecs.md specifies the bytes."""

    codec_id: ClassVar[str] = "fedsz-q"
    wire_id: ClassVar[int] = 22
    supports_reference: ClassVar[bool] = True
    guarantees_bound: ClassVar[bool] = True
    group_elements: ClassVar[int] = 1 << 17
    #: The grid is moved under every value, and blocks carry the seed of how.
    dithered: ClassVar[bool] = False

    @classmethod
    def why_unavailable(cls) -> tuple[str, str] | None:
        if sys.byteorder == "big":
            return "its kernels are written for little-endian machines", "use sz3-nopred, the nearest to it"
        return None

    def encode(self, values: Floats, bound: float, *, reference: Floats | None = None) -> bytes:
        return self.encode_many([values], [bound], [reference])

    def decode(
        self,
        blob: memoryview,
        count: int,
        dtype: np.dtype[np.floating],
        *,
        reference: Floats | None = None,
        out: Floats | None = None,
    ) -> Floats:
        values = np.empty(count, dtype) if out is None else out
        self.decode_many(blob, [count], dtype, [reference], values)
        return values

    def encode_many(
        self, tensors: Sequence[Floats], bounds: Sequence[float], references: Sequence[Floats | None]
    ) -> bytes:
        dtype = tensors[0].dtype
        if min(values.size for values in tensors) < MIN_COUNT:
            raise CannotEncodeError
        if sum(values.size for values in tensors) >= MAX_COUNT:
            raise CannotEncodeError
        grids = [
            self._grid(*extent(values, entropy.CHUNK), bound, dtype)
            for values, bound in zip(tensors, bounds, strict=True)
        ]
        grids = on_common_limits(grids, planes.MAX_ALPHABET)
        bins, conditional, moved = grids[0].bins, references[0] is not None, self._dither(tensors)
        seed = b"" if moved.seed is None else int(moved.seed).to_bytes(SEED_BYTES, "little")
        head = bytes((_CONDITIONAL if conditional else _PLAIN,)) + seed + write_grids(grids, dtype)
        if conditional and bins > 1:
            blobs = []
            for values, grid, bound, base in zip(tensors, grids, bounds, references, strict=True):
                assert base is not None
                blobs.append(reference.encode(Quantised([values], [grid], [bound], moved), grid, base, moved))
                moved = moved.after(values.size)
            return b"".join((head, write_varints(len(blob) for blob in blobs), *blobs))
        source = Quantised(tensors, grids, bounds, moved)
        if bins == 1:
            for first in entropy.chunks(source.size):
                source(first)  # proves the bound
            return head
        return head + entropy.encode(source, source.size, bins)

    def decode_many(
        self,
        blob: memoryview,
        counts: Sequence[int],
        dtype: np.dtype[np.floating],
        references: Sequence[Floats | None],
        out: Floats | None = None,
    ) -> list[Floats]:
        reader = Reader(blob, f"{self.codec_id} block")
        conditional = references[0] is not None
        if reader.take(1)[0] != (_CONDITIONAL if conditional else _PLAIN):
            raise MalformedPayloadError(f"{self.codec_id}: unknown layout")
        moved = NO_DITHER
        if self.dithered:
            moved = Dither(np.uint64(int.from_bytes(reader.take(SEED_BYTES), "little")), np.uint64(0))
        grids = list(read_grids(reader, len(counts), dtype))
        room = np.empty(sum(counts), dtype) if out is None else out
        results: list[Floats] = cut(room, counts)
        if grids[0].bins == 1:
            if self.dithered:
                raise MalformedPayloadError(f"{self.codec_id}: impossible grid")
            reader.end()
            for values, grid in zip(results, grids, strict=True):
                values.fill(grid.low * grid.step)
        elif conditional:
            lengths = reader.varints(len(counts))
            for values, grid, base, length in zip(results, grids, references, lengths, strict=True):
                assert base is not None
                part = Reader(reader.take(length), f"{self.codec_id} block")
                reference.decode(part, grid, base, values, moved)
                moved = moved.after(values.size)
            reader.end()
        else:
            parts = entropy.decode(reader, room.size, grids[0].bins)
            if len(counts) > 1 and room.size <= entropy.CHUNK and not self.dithered:
                for symbols in parts:  # one chunk
                    dequantise_all(symbols, counts, grids, room)
            else:
                fill(parts, results, grids, moved)
        return results

    def _grid(self, low: float, high: float, bound: float, dtype: np.dtype[np.floating]) -> Grid:
        """The grid of a tensor between *low* and *high*."""
        return choose_grid(low, high, bound, dtype)

    def _dither(self, tensors: Sequence[Floats]) -> Dither:
        """How the grid of a block of *tensors* is moved."""
        return NO_DITHER


class Quantised:
    """The symbols of tensors, one after the other, a chunk at a time; proven, and the last chunk kept."""

    def __init__(
        self, tensors: Sequence[Floats], grids: Sequence[Grid], bounds: Sequence[float], moved: Dither
    ) -> None:
        self._parts, self._moved = list(zip(tensors, grids, bounds, strict=True)), moved
        self.size = sum(values.size for values in tensors)
        self._symbols = scratch("quantised", min(self.size, entropy.CHUNK), symbol_dtype(grids[0].bins))
        self._made = -1

    def __call__(self, first: int) -> Symbols:
        symbols = self._symbols[: min(entropy.CHUNK, self.size - first)]
        if self._made == first:
            return symbols
        start = 0
        for values, grid, bound in self._parts:
            begin, end = max(start, first), min(start + values.size, first + symbols.size)
            if begin < end:
                part = values[begin - start : end - start]
                quantise(part, grid, bound, symbols[begin - first : end - first], self._moved.after(begin))
            start += values.size
        self._made = first
        return symbols


def fill(
    parts: Iterable[Symbols], results: Sequence[Floats], grids: Sequence[Grid], moved: Dither = NO_DITHER
) -> None:
    """Values of tensors from symbols of one after the other, cut in other places."""
    targets = iter(zip(results, grids, strict=True))
    values, grid = next(targets)
    filled = done = 0
    for symbols in parts:
        used = 0
        while used < symbols.size:
            if filled == values.size:
                values, grid = next(targets)
                filled = 0
            size = min(symbols.size - used, values.size - filled)
            dequantise(symbols[used : used + size], grid, values[filled : filled + size], moved.after(done))
            used, filled, done = used + size, filled + size, done + size
