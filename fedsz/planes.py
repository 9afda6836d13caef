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

Bytes = NDArray[np.uint8]
Counts = NDArray[np.uint32]
Tokens = NDArray[np.uint16]

_ONE = np.uint64(1)
_8 = np.uint64(8)


@compiled
def _count(symbols: Any, counts: Any) -> None:
    bins = counts.size // 4
    one = np.uint32(1)
    a, b, c, d = counts[:bins], counts[bins : 2 * bins], counts[2 * bins : 3 * bins], counts[3 * bins :]
    for group in range(symbols.size // 4):
        i = np.uint64(group) * np.uint64(4)
        a[symbols[i]] += one
        b[symbols[i + _ONE]] += one
        c[symbols[i + np.uint64(2)]] += one
        d[symbols[i + np.uint64(3)]] += one
    for last in range(symbols.size - symbols.size % 4, symbols.size):
        a[symbols[last]] += one


def count(symbols: Tokens, alphabet: int) -> Counts:
    """How often each symbol below *alphabet* occurs; every symbol must be below it."""
    # Four histograms: the most frequent weight would otherwise wait for its own last increment.
    counts: Counts = np.zeros(4 * alphabet, np.uint32)
    _count(symbols, counts)
    total: Counts = counts.reshape(4, alphabet).sum(0, dtype=np.uint32)
    return total


@compiled
def split(symbols: Any, low_bits: int, tokens: Tokens, low: Bytes) -> None:
    """Cut *low_bits* off every symbol.

    Args:
        symbols: uint16 or uint32.
        low_bits: 1 to 24.
        tokens: gets the symbols without their low bits.
        low: gets the low bits, `low_size` bytes: first whole bytes as planes, then the rest of every
            symbol, 8 symbols to as many bytes as bits remain.
    """
    n = symbols.size
    planes = low_bits >> 3
    shift = np.uint64(low_bits)
    for i in range(n):
        tokens[i] = np.uint16(np.uint64(symbols[i]) >> shift)
    for plane in range(planes):
        shift = _8 * np.uint64(plane)
        for i in range(n):
            low[plane * n + i] = np.uint8(np.uint64(symbols[i]) >> shift)
    rest = low_bits & 7
    if rest == 0:
        return
    shift, mask = _8 * np.uint64(planes), (_ONE << np.uint64(rest)) - _ONE
    at = planes * n
    for first in range(0, n, 8):
        held = np.uint64(0)
        for j in range(min(8, n - first)):
            held |= ((np.uint64(symbols[first + j]) >> shift) & mask) << np.uint64(j * rest)
        for _ in range(rest):
            low[at] = np.uint8(held)
            held >>= _8
            at += 1


@compiled
def join(tokens: Tokens, low_bits: int, low: Bytes, symbols: Any) -> None:
    """Inverse of `split`; *symbols* may be *tokens* itself. *low* must have `low_size` bytes."""
    n = symbols.size
    planes, rest = low_bits >> 3, low_bits & 7
    mask = (_ONE << np.uint64(rest)) - _ONE
    shift = np.uint64(low_bits)
    above = _8 * np.uint64(planes)
    at = planes * n
    for first in range(0, n, 8):
        held = np.uint64(0)
        for j in range(rest):
            held |= np.uint64(low[at + j]) << (_8 * np.uint64(j))
        at += rest
        for j in range(min(8, n - first)):
            i = first + j
            symbols[i] = (np.uint64(tokens[i]) << shift) | (((held >> np.uint64(j * rest)) & mask) << above)
    for plane in range(planes):
        shift = _8 * np.uint64(plane)
        for i in range(n):
            symbols[i] |= np.uint64(low[plane * n + i]) << shift


def low_size(count: int, low_bits: int) -> int:
    """Bytes that the low bits of *count* symbols take."""
    return (low_bits >> 3) * count + (low_bits & 7) * -(-count // 8)


@compiled
def pack(symbols: Tokens, bins: int, per_token: int, tokens: Tokens) -> None:
    """Write *per_token* symbols below *bins* as one number to that base; missing ones at the end are 0."""
    n = symbols.size
    for t in range(tokens.size):
        token = 0
        for j in range(per_token - 1, -1, -1):
            i = t * per_token + j
            token = token * bins + (symbols[i] if i < n else 0)
        tokens[t] = token


@compiled
def _unpack(tokens: Tokens, digits: NDArray[np.uint64], per_token: int, symbols: Tokens) -> None:
    n = symbols.size
    whole = n // per_token
    for t in range(whole):
        held = digits[tokens[t]]
        for j in range(per_token):
            symbols[t * per_token + j] = held & np.uint64(0xFF)
            held >>= _8
    for i in range(whole * per_token, n):
        symbols[i] = (digits[tokens[whole]] >> (_8 * np.uint64(i - whole * per_token))) & np.uint64(0xFF)


def unpack(tokens: Tokens, bins: int, per_token: int, symbols: Tokens) -> None:
    """Inverse of `pack`; *tokens* must be below ``bins ** per_token``, *bins* below 256 and *per_token* at most 8."""
    alphabet = np.arange(bins**per_token, dtype=np.uint64)
    digits = np.zeros_like(alphabet)
    for j in range(per_token):
        digits |= (alphabet // np.uint64(bins**j) % np.uint64(bins)) << np.uint64(8 * j)
    _unpack(tokens, digits, per_token, symbols)


@compiled
def cost(counts: Counts, low_bits: int) -> Any:
    """Bits that an ideal coder needs for symbols that occur *counts* times, each with *low_bits* beside it."""
    total: Any = 0
    bits: Any = 0.0
    for symbol in range(counts.size):
        n = np.float64(counts[symbol])
        if n > 0:
            total += np.int64(counts[symbol])
            bits -= n * np.log2(n)
    return bits + total * (np.log2(np.float64(total)) + low_bits)
