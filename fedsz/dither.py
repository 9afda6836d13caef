"""`fedsz-q-dither`: the uniform grid of `fedsz-q`, moved under every value by its own pseudo-random part of a step.

Subtractive dither (L. Schuchman, "Dither signals and their effect on quantization noise", IEEE Trans. Commun. Tech.
12(4), 1964): both sides draw u uniform on (-1/2, 1/2), the encoder takes q = rint(x / step + u), the decoder returns
(q - u) step. Without dither the error of a value is a function of that value; here it is uniform on half a step either
way whatever the value, and one value's error tells nothing of another's. Errors of many clients then average out.

It is no differential privacy: the error is bounded, and whoever holds the payload holds u.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import xxhash

from fedsz import entropy, planes, reference
from fedsz.arrays import cut
from fedsz.compiled import compiled
from fedsz.errors import MalformedPayloadError
from fedsz.grid import Grid, Symbols, choose_grid, extent, on_common_limits, read_grids, write_grids
from fedsz.quantise import CONDITIONAL, MAX_COUNT, MIN_COUNT, PLAIN, FedSZQ, Quantised, fill
from fedsz.registry import CannotEncodeError, Floats, register
from fedsz.subtractive import Dither, dither
from fedsz.wire import Reader, write_varints

SEED_BYTES = 8


@register
class FedSZQDither(FedSZQ):
    """`fedsz-q` with subtractive dither; docs/codecs.md specifies the bytes.

    The seed of a block is a hash of its values: equal tensors give equal bytes, and different clients different
    dither. A reference is moved by the dither as the values are, so that it tells their grid points as well as ever.
    """

    codec_id: ClassVar[str] = "fedsz-q-dither"
    wire_id: ClassVar[int] = 23
    decodes_in_company: ClassVar[bool] = True

    def encode_many(
        self, tensors: Sequence[Floats], bounds: Sequence[float], references: Sequence[Floats | None]
    ) -> bytes:
        dtype, sizes = tensors[0].dtype, [values.size for values in tensors]
        if min(sizes) < MIN_COUNT or sum(sizes) >= MAX_COUNT:
            raise CannotEncodeError
        grids = []
        for values, bound in zip(tensors, bounds, strict=True):
            low, high = extent(values, entropy.CHUNK)
            # As far as decoded values may lie: dither reaches half a step beyond the values.
            grids.append(choose_grid(low - bound, high + bound, bound, dtype))
        grids = on_common_limits(grids, planes.MAX_ALPHABET)
        hasher = xxhash.xxh3_64()
        for values in tensors:
            hasher.update(values.view(np.uint8).data)
        moved = Dither(np.uint64(hasher.intdigest()), np.uint64(0))
        conditional = references[0] is not None
        head = bytes((CONDITIONAL if conditional else PLAIN,)) + hasher.intdigest().to_bytes(
            SEED_BYTES, "little"
        )
        head += write_grids(grids, dtype)
        if not conditional:
            source = _Dithered(tensors, grids, bounds, moved)
            return head + entropy.encode(source, source.size, grids[0].bins)
        blobs = []
        for values, grid, bound, base in zip(tensors, grids, bounds, references, strict=True):
            assert base is not None
            blobs.append(reference.encode(_Dithered([values], [grid], [bound], moved), grid, base, moved))
            moved = moved.after(values.size)
        return b"".join((head, write_varints(len(blob) for blob in blobs), *blobs))

    def decode_many(
        self,
        blob: memoryview,
        counts: Sequence[int],
        dtype: np.dtype[np.floating],
        references: Sequence[Floats | None],
        out: Floats | None = None,
    ) -> list[Floats]:
        reader = Reader(blob, "fedsz-q-dither block")
        conditional = references[0] is not None
        if reader.take(1)[0] != (CONDITIONAL if conditional else PLAIN):
            raise MalformedPayloadError("fedsz-q-dither: unknown layout")
        moved = Dither(np.uint64(int.from_bytes(reader.take(SEED_BYTES), "little")), np.uint64(0))
        grids = list(read_grids(reader, len(counts), dtype))
        if grids[0].bins < 2:
            raise MalformedPayloadError("fedsz-q-dither: impossible grid")
        results: list[Floats] = cut(np.empty(sum(counts), dtype) if out is None else out, counts)
        if not conditional:
            fill(entropy.decode(reader, sum(counts), grids[0].bins), results, grids, moved)
            return results
        lengths = reader.varints(len(counts))
        for values, grid, base, length in zip(results, grids, references, lengths, strict=True):
            assert base is not None
            reference.decode(Reader(reader.take(length), "fedsz-q-dither block"), grid, base, values, moved)
            moved = moved.after(values.size)
        reader.end()
        return results


class _Dithered(Quantised):
    """Symbols of values moved by their dither."""

    def __init__(
        self, tensors: Sequence[Floats], grids: Sequence[Grid], bounds: Sequence[float], moved: Dither
    ) -> None:
        super().__init__(tensors, grids, bounds)
        self._moved = moved

    def quantise(self, values: Floats, grid: Grid, bound: float, symbols: Symbols, at: int) -> None:
        moved = self._moved.after(at)
        if not _quantise(values, 1 / grid.step, grid.step, grid.low, bound, *moved, symbols):
            raise CannotEncodeError


@compiled
def _quantise(
    values: Any, inverse: float, step: float, low: int, bound: float, seed: Any, first: Any, symbols: Any
) -> bool:
    """False where some value would not decode within *bound*."""
    outside = False
    for i in range(values.size):
        value = np.float64(values[i])
        u = dither(seed, first + np.uint64(i))
        point = np.rint(value * inverse + u)
        symbols[i] = np.int64(point) - low
        decoded = values.dtype.type((point - u) * step)
        outside |= not (abs(np.float64(decoded) - value) <= bound)
    return not outside
