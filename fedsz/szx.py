"""`szx`: our implementation of SZx's published algorithm (it has no maintained Python package).

X. Yu, S. Di, K. Zhao, J. Tian, D. Tao, X. Liang, F. Cappello: "Ultrafast Error-bounded Lossy Compression for
Scientific Datasets", HPDC 2022, arXiv:2201.13020. Blocks of 128 values. A block whose values all lie within the bound
of the middle of its range is that middle. Of any other, the differences to the middle are kept with as many leading
bits as the bound needs, shifted right to whole bytes (the paper's solution C), and bytes that equal those of the value
before are left out. The bytes are not those of the authors' C code.

One addition: each block is decoded while it is encoded, and one in which float rounding breaks the bound is stored
exactly.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from fedsz.compiled import compiled
from fedsz.errors import MalformedPayloadError
from fedsz.registry import Floats, LossyCodec, register
from fedsz.wire import Reader

BLOCK = 128
_MAX_SHARED = 3  # leading bytes that two bits can count

_8 = np.uint64(8)
_BYTE = np.uint64(0xFF)


@register
class Szx(LossyCodec):
    """Constant blocks, truncated differences to the middle of the block, shared leading bytes.

    The blob, little-endian; a value has w bytes, n values make b blocks, v values lie in blocks that are not constant:

    | size | field |
    | --- | --- |
    | (b + 7) / 8 | a bit per block, lowest first: 1 where it is not constant |
    | w b | middle of each block; 0 where a block is stored exactly |
    | one per block with its bit set | leading bits kept, 1 to 8 w |
    | (v + 3) / 4 | two bits per value, lowest first: leading bytes, of those kept, shared with the value before |
    | rest | per value, the other bytes kept, most significant first |
    """

    codec_id: ClassVar[str] = "szx"
    wire_id: ClassVar[int] = 21
    guarantees_bound: ClassVar[bool] = True

    def encode(self, values: Floats, bound: float, *, reference: Floats | None = None) -> bytes:
        width = values.itemsize
        blocks = -(-values.size // BLOCK)
        flags, middles = np.zeros(-(-blocks // 8), np.uint8), np.empty(blocks, values.dtype)
        kept, shared = np.empty(blocks, np.uint8), np.zeros(-(-values.size // 4), np.uint8)
        rest = np.empty(values.size * width, np.uint8)
        # frexp is in [0.5, 1): the exponent of the leading bit is one less.
        exponent = math.frexp(bound)[1] - 1
        sizes = _encode(values, bound, exponent, flags, middles, kept, shared, rest, _bits(values.dtype))
        little = middles.astype(values.dtype.newbyteorder("<"), copy=False)
        varying, in_varying, used = sizes
        parts = (flags, little.view(np.uint8), kept[:varying], shared[: -(-in_varying // 4)], rest[:used])
        return b"".join(part.data for part in parts)

    def decode(
        self,
        blob: memoryview,
        count: int,
        dtype: np.dtype[np.floating],
        *,
        reference: Floats | None = None,
        out: Floats | None = None,
    ) -> Floats:
        reader = Reader(blob, "szx block")
        blocks = -(-count // BLOCK)
        flags = np.frombuffer(reader.take(-(-blocks // 8)), np.uint8).copy()
        middles = np.frombuffer(reader.take(blocks * dtype.itemsize), dtype.newbyteorder("<")).astype(dtype)
        varies = np.unpackbits(flags, bitorder="little")
        if varies[blocks:].any():
            raise MalformedPayloadError("szx: a flag of a block that does not exist")
        varying = int(varies.sum())
        kept = np.frombuffer(reader.take(varying), np.uint8).copy()
        if varying and not 1 <= int(kept.min()) <= int(kept.max()) <= 8 * dtype.itemsize:
            raise MalformedPayloadError("szx: impossible number of bits")
        in_varying = varying * BLOCK - (blocks * BLOCK - count if varies[blocks - 1] else 0)
        shared = np.frombuffer(reader.take(-(-in_varying // 4)), np.uint8).copy()
        rest = np.frombuffer(reader.take(reader.remaining()), np.uint8).copy()
        values: Floats = np.empty(count, dtype) if out is None else out
        if _decode(values, flags, middles, kept, shared, rest, _bits(dtype)) != rest.size:
            raise MalformedPayloadError("szx: bytes of values are missing or left over")
        if not np.isfinite(values).all():
            raise MalformedPayloadError("szx: a value that is not finite")
        return values


def _bits(dtype: np.dtype[np.floating]) -> Any:
    """Room for the differences of a block, as bit patterns; kernels view it as floats."""
    return np.empty(BLOCK, np.uint32 if dtype.itemsize == 4 else np.uint64)


@compiled
def _encode(
    values: Any,
    bound: float,
    bound_exponent: int,
    flags: Any,
    middles: Any,
    kept: Any,
    shared: Any,
    rest: Any,
    bits: Any,
) -> tuple[int, int, int]:
    """Returns how many blocks vary, how many values are in them, and how many bytes of *rest* were written."""
    width = values.itemsize
    full, mantissa = (32, 23) if width == 4 else (64, 52)
    bias = (1 << (full - mantissa - 2)) - 1
    differences = bits.view(values.dtype)
    varying, in_varying, used = 0, 0, 0
    for block in range(middles.size):
        own = values[block * BLOCK : (block + 1) * BLOCK]
        low = high = own[0]
        for value in own:
            low, high = min(low, value), max(high, value)
        middle = values.dtype.type(low * 0.5 + high * 0.5)  # halves first: the sum may overflow
        middles[block] = middle
        if np.float64(high) - np.float64(middle) <= bound and np.float64(middle) - np.float64(low) <= bound:
            continue
        flags[block >> 3] |= np.uint8(1 << (block & 7))

        radius = max(high - middle, middle - low)
        differences[0] = radius
        radius_exponent = np.int64(np.uint64(bits[0]) >> np.uint64(mantissa)) - bias
        # Sign and exponent, and mantissa bits down to one below the bound's leading bit.
        need: Any = full - mantissa + max(np.int64(0), radius_exponent - bound_exponent + 1)
        if need < full:
            mask = bits.dtype.type(
                ((np.uint64(1) << np.uint64(need)) - np.uint64(1)) << np.uint64(full - need)
            )
            outside = False
            for i in range(own.size):
                differences[i] = own[i] - middle
                bits[i] &= mask
                decoded = values.dtype.type(differences[i] + middle)
                outside |= not (abs(np.float64(decoded) - np.float64(own[i])) <= bound)
            if outside:
                need = full
        if need >= full:
            need = full
            middles[block] = 0
            for i in range(own.size):
                differences[i] = own[i]
        kept[varying] = need
        varying += 1

        size = (need + 7) >> 3
        shift = np.uint64(8 * size - need)
        before = np.uint64(0)
        for i in range(own.size):
            shifted = np.uint64(bits[i]) >> shift
            changed = shifted ^ before
            before = shifted
            same = 0
            while (
                same < _MAX_SHARED and same < size and not (changed >> np.uint64(full - 8 - 8 * same)) & _BYTE
            ):
                same += 1
            shared[in_varying >> 2] |= np.uint8(same << (2 * (in_varying & 3)))
            in_varying += 1
            for byte in range(same, size):
                rest[used] = np.uint8(shifted >> np.uint64(full - 8 - 8 * byte))
                used += 1
    return varying, in_varying, used


@compiled
def _decode(values: Any, flags: Any, middles: Any, kept: Any, shared: Any, rest: Any, bits: Any) -> int:
    """Fill *values* from untrusted arrays whose sizes and *kept* have been checked; returns bytes read, or -1."""
    full = 8 * values.itemsize
    differences = bits.view(values.dtype)
    varying, in_varying, used = 0, 0, 0
    for block in range(middles.size):
        own = values[block * BLOCK : (block + 1) * BLOCK]
        middle = middles[block]
        if not (flags[block >> 3] >> (block & 7)) & 1:
            own[:] = middle
            continue
        need = np.int64(kept[varying])
        varying += 1
        size = (need + 7) >> 3
        shift = np.uint64(8 * size - need)
        if used + own.size * size > rest.size:
            # Near the end: count first, so that the loop below never reads beyond it.
            wanted = 0
            for i in range(own.size):
                at = in_varying + i
                wanted += max(0, size - ((shared[at >> 2] >> (2 * (at & 3))) & 3))
            if wanted > rest.size - used:
                return -1
        before = np.uint64(0)
        for i in range(own.size):
            same = min(size, np.int64((shared[in_varying >> 2] >> (2 * (in_varying & 3))) & 3))
            in_varying += 1
            below = np.uint64(full - 8 * same)  # the bits that are not shared
            shifted = (before >> below) << below if same else np.uint64(0)
            for byte in range(same, size):
                shifted |= np.uint64(rest[used]) << np.uint64(full - 8 - 8 * byte)
                used += 1
            before = shifted
            bits[i] = shifted << shift
        if need == full:
            for i in range(own.size):
                own[i] = differences[i]
        else:
            for i in range(own.size):
                own[i] = differences[i] + middle
    return used
