"""From grid symbols to the coder's alphabet and back.

Where the grid is fine, neighbouring points are about equally frequent: the low bits of a symbol are noise, stored as
they are, and only the rest is coded. Where it is coarse, several symbols become one, because a coder's time goes by
symbols and not by bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsz.compiled import compiled

#: Symbols that a coder can tell apart; what is more goes into low bits.
MAX_ALPHABET = 4096
#: Finest grid of which several symbols may become one token.
MAX_PACKED_BINS = 16
#: What a frequency table takes for each symbol that occurs, about.
BITS_PER_ENTRY = 5

Bytes = NDArray[np.uint8]
Counts = NDArray[np.uint32]
Tokens = NDArray[np.uint16]

_1, _2, _3, _8 = (np.uint64(number) for number in (1, 2, 3, 8))
_BYTE = np.uint64(0xFF)


@compiled
def count(symbols: Any, alphabet: int) -> Counts:
    """How often each symbol below *alphabet* occurs; every symbol must be below it."""
    # Four histograms: the most frequent weight would otherwise wait for its own last increment.
    counts = np.zeros((4, alphabet), np.uint32)
    a, b, c, d = counts[0], counts[1], counts[2], counts[3]
    one = np.uint32(1)
    for group in range(symbols.size // 4):
        i = np.uint64(group) << _2
        a[symbols[i]] += one
        b[symbols[i + _1]] += one
        c[symbols[i + _2]] += one
        d[symbols[i + _3]] += one
    for last in range(symbols.size - symbols.size % 4, symbols.size):
        a[symbols[last]] += one
    for symbol in range(alphabet):
        a[symbol] += b[symbol] + c[symbol] + d[symbol]
    return a  # type: ignore[no-any-return]


@compiled
def cost(counts: Any, size: Any, low_bits: Any) -> Any:
    """Bits that the first *size* symbols take with an ideal coder, their frequency table and *low_bits* a value."""
    total: Any = 0
    bits: Any = 0.0
    used = 0
    for symbol in range(size):
        n = np.float64(counts[symbol])
        if n > 0:
            total += np.int64(counts[symbol])
            bits -= n * np.log2(n)
            used += 1
    return bits + total * (np.log2(np.float64(total)) + low_bits) + used * BITS_PER_ENTRY


@compiled
def choose_low_bits(counts: Any) -> tuple[int, Counts, float]:
    """How many low bits to cut off symbols that occur *counts* times, by the cost of what remains.

    Returns:
        Low bits; how often each remaining symbol occurs; bits that both take, about.
    """
    counts = counts.copy()
    size, low_bits = counts.size, 0
    while size > MAX_ALPHABET:
        size = _fold(counts, size)
        low_bits += 1
    least = cost(counts, size, low_bits)
    while size > 16:
        folded = counts[:size].copy()
        half = _fold(folded, size)
        bits = cost(folded, half, low_bits + 1)
        if bits >= least:
            break
        counts, size, low_bits, least = folded, half, low_bits + 1, bits
    return low_bits, counts[:size].copy(), least


@compiled
def _fold(counts: Any, size: Any) -> Any:
    """Join neighbours in place; returns how many symbols remain."""
    half = (size + 1) >> 1
    for symbol in range(half):
        joined = counts[2 * symbol]
        if 2 * symbol + 1 < size:
            joined += counts[2 * symbol + 1]
        counts[symbol] = joined
    return half


def low_size(size: int, low_bits: int) -> int:
    """Bytes that the low bits of *size* symbols take."""
    return sum(-(-size * width // 8) for width in (16, 8, 4, 2, 1) if low_bits & width)


@compiled
def split(symbols: Any, low_bits: int, tokens: Tokens, low: Bytes) -> None:
    """Cut *low_bits* off every symbol.

    The bits lie in planes 16, 8, 4, 2 and 1 bits wide, as their number is made up of these, lowest bits first. A plane
    of half a byte holds the first half of the symbols in the lower halves of its bytes and the rest in the upper ones,
    and so on: no shift depends on a position, so that compilers vectorise the loops.

    Args:
        symbols: uint16 or uint32.
        low_bits: 1 to 24.
        tokens: gets the symbols without their low bits.
        low: gets the low bits; `low_size` bytes, all 0.
    """
    n = symbols.size
    shift = np.uint64(low_bits)
    for i in range(n):
        tokens[i] = np.uint16(np.uint64(symbols[i]) >> shift)
    at, done = 0, np.uint64(0)
    for width in (16, 8, 4, 2, 1):
        if low_bits & width:
            for _ in range(max(1, width // 8)):
                at = _put_plane(symbols, done, min(width, 8), low, at)
                done += np.uint64(min(width, 8))


@compiled
def _put_plane(symbols: Any, done: Any, width: Any, low: Bytes, at: Any) -> Any:
    """One plane of at most 8 bits, from bit *done* of the symbols to byte *at* of *low*; returns the byte after it."""
    size = (symbols.size * width + 7) // 8
    plane = low[at : at + size]
    mask = np.uint64((1 << width) - 1)
    for part in range(8 // width):
        of_part = symbols[
            part * size : (part + 1) * size
        ]  # slices, because an index that is a sum stops vectorising
        up = np.uint64(part * width)
        for i in range(of_part.size):
            plane[i] |= np.uint8(((np.uint64(of_part[i]) >> done) & mask) << up)
    return at + size


@compiled
def _get_plane(low: Bytes, at: Any, width: Any, symbols: Any, done: Any) -> Any:
    """Inverse of `_put_plane`."""
    size = (symbols.size * width + 7) // 8
    plane = low[at : at + size]
    mask = np.uint64((1 << width) - 1)
    for part in range(8 // width):
        of_part = symbols[part * size : (part + 1) * size]
        up = np.uint64(part * width)
        for i in range(of_part.size):
            of_part[i] |= ((np.uint64(plane[i]) >> up) & mask) << done
    return at + size


@compiled
def join(tokens: Tokens, low_bits: int, low: Bytes, symbols: Any) -> None:
    """Inverse of `split`; *symbols* may be *tokens* itself. *low* must have `low_size` bytes."""
    n = symbols.size
    shift = np.uint64(low_bits)
    for i in range(n):
        symbols[i] = np.uint64(tokens[i]) << shift
    at, done = 0, np.uint64(0)
    for width in (16, 8, 4, 2, 1):
        if low_bits & width:
            for _ in range(max(1, width // 8)):
                at = _get_plane(low, at, min(width, 8), symbols, done)
                done += np.uint64(min(width, 8))


@compiled
def pack(symbols: Any, bins: int, per_token: int, tokens: Tokens) -> None:
    """Write *per_token* symbols below *bins* as one number to that base.

    The digits of a token lie a token array's length apart, lowest digit first, so that compilers vectorise the loops;
    missing symbols at the end are 0.
    """
    base, size = np.uint16(bins), tokens.size
    tokens[:] = 0
    for digit in range(per_token - 1, -1, -1):
        part = symbols[digit * size : (digit + 1) * size]
        for t in range(part.size):
            tokens[t] = tokens[t] * base + part[t]
        for t in range(part.size, size):
            tokens[t] *= base


@compiled
def unpack(tokens: Tokens, bins: int, per_token: int, symbols: Any) -> None:
    """Inverse of `pack`; destroys *tokens*. Tokens below `MAX_ALPHABET` and *bins* of at most `MAX_PACKED_BINS`."""
    base, size = np.uint32(bins), tokens.size
    # Exact division: token * excess / 2^22 < 2^12 * 2^4 / 2^22 stays below 1 / bins.
    scale = np.uint32(((1 << 22) + bins - 1) // bins)
    for digit in range(per_token):
        part = symbols[digit * size : (digit + 1) * size]
        for t in range(part.size):
            quotient = np.uint32(np.uint32(tokens[t]) * scale) >> np.uint32(22)
            part[t] = np.uint32(tokens[t]) - quotient * base
            tokens[t] = quotient
