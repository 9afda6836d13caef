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

from fedsz import entropy, planes
from fedsz.arrays import cut
from fedsz.compiled import compiled
from fedsz.errors import MalformedPayloadError
from fedsz.grid import Grid, Symbols, choose_grid, extent, on_common_limits, read_grids, write_grids
from fedsz.quantise import MAX_COUNT, MIN_COUNT, FedSZQ, Quantised, fill
from fedsz.registry import CannotEncodeError, Floats, register
from fedsz.wire import Reader

_LAYOUT = 1
SEED_BYTES = 8

# In kernels every constant is uint64: Numba turns an expression of uint64 and int64 into float64.
_1, _27, _30, _31, _40 = (np.uint64(number) for number in (1, 27, 30, 31, 40))
_GOLDEN, _MIX_A, _MIX_B = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


@register
class FedSZQDither(FedSZQ):
    """`fedsz-q` with subtractive dither; docs/codecs.md specifies the bytes.

    The seed of a block is a hash of its values: equal tensors give equal bytes, and different clients different
    dither. Not coded against a reference: the weight's grid point is not where the global model's is.
    """

    codec_id: ClassVar[str] = "fedsz-q-dither"
    wire_id: ClassVar[int] = 23
    supports_reference: ClassVar[bool] = False

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
        source = _Dithered(tensors, grids, bounds, hasher.intdigest())
        head = bytes((_LAYOUT,)) + source.seed.to_bytes(SEED_BYTES, "little") + write_grids(grids, dtype)
        return head + entropy.encode(source, source.size, grids[0].bins)

    def decode_many(
        self,
        blob: memoryview,
        counts: Sequence[int],
        dtype: np.dtype[np.floating],
        references: Sequence[Floats | None],
        out: Floats | None = None,
    ) -> list[Floats]:
        reader = Reader(blob, "fedsz-q-dither block")
        if reader.take(1)[0] != _LAYOUT:
            raise MalformedPayloadError("fedsz-q-dither: unknown layout")
        seed = np.uint64(int.from_bytes(reader.take(SEED_BYTES), "little"))
        grids = list(read_grids(reader, len(counts), dtype))
        if grids[0].bins < 2:
            raise MalformedPayloadError("fedsz-q-dither: impossible grid")
        results: list[Floats] = cut(np.empty(sum(counts), dtype) if out is None else out, counts)

        def moved_back(symbols: Symbols, grid: Grid, values: Floats, at: int) -> None:
            _dequantise(symbols, grid.low, grid.step, seed, np.uint64(at), values)

        fill(entropy.decode(reader, sum(counts), grids[0].bins), results, grids, moved_back)
        return results


class _Dithered(Quantised):
    """Symbols of values moved by their dither."""

    def __init__(
        self, tensors: Sequence[Floats], grids: Sequence[Grid], bounds: Sequence[float], seed: int
    ) -> None:
        super().__init__(tensors, grids, bounds)
        self.seed = seed

    def quantise(self, values: Floats, grid: Grid, bound: float, symbols: Symbols, at: int) -> None:
        seed, first = np.uint64(self.seed), np.uint64(at)
        if not _quantise(values, 1 / grid.step, grid.step, grid.low, bound, seed, first, symbols):
            raise CannotEncodeError


@compiled
def _dither(seed: Any, index: Any) -> Any:
    """The dither of value *index* (uint64): SplitMix64's output number *index* (Steele, Lea and Flood, OOPSLA 2014).

    One of the 2^24 middles of equal parts of (-1/2, 1/2).
    """
    z = seed + (index + _1) * _GOLDEN
    z = (z ^ (z >> _30)) * _MIX_A
    z = (z ^ (z >> _27)) * _MIX_B
    z = z ^ (z >> _31)
    return (np.float64(z >> _40) + 0.5) * 2.0**-24 - 0.5


@compiled
def _quantise(
    values: Any, inverse: float, step: float, low: int, bound: float, seed: Any, first: Any, symbols: Any
) -> bool:
    """False where some value would not decode within *bound*."""
    outside = False
    for i in range(values.size):
        value = np.float64(values[i])
        u = _dither(seed, first + np.uint64(i))
        point = np.rint(value * inverse + u)
        symbols[i] = np.int64(point) - low
        decoded = values.dtype.type((point - u) * step)
        outside |= not (abs(np.float64(decoded) - value) <= bound)
    return not outside


@compiled
def _dequantise(symbols: Any, low: int, step: float, seed: Any, first: Any, values: Any) -> None:
    for i in range(symbols.size):
        u = _dither(seed, first + np.uint64(i))
        values[i] = (np.float64(np.int64(symbols[i]) + low) - u) * step
