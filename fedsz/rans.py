"""Entropy coder: range asymmetric numeral systems with static frequencies, eight interleaved states.

Method: J. Duda, "Asymmetric numeral systems", arXiv:1311.2540; interleaving: F. Giesen, "Interleaved entropy coders",
arXiv:1402.3392. Symbol i belongs to state i mod 8, all states share one stream of 16-bit words. A state x lies in
[2^16, 2^32) between symbols; frequencies sum to 2^precision with precision <= 14, so that no symbol moves more than one
word and the division of the encoder is one exact multiplication in 64 bits.

The encoder runs backwards and starts every state at 2^16. The decoder must end there too, with no word left: damage
that a checksum missed is caught with a probability of 1 - 2^-128.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsz.compiled import compiled

LANES = 8
MAX_PRECISION = 14
#: Words of states at the head of each stream.
STATE_WORDS = 2 * LANES

Symbols = NDArray[np.uint16]
Words = NDArray[np.uint16]
Table = NDArray[np.uint64]

# In kernels every constant is uint64: Numba turns an expression of uint64 and int64 into float64.
_ONE = np.uint64(1)
_16 = np.uint64(16)
_32 = np.uint64(32)
_LOW16 = np.uint64(0xFFFF)
_LOW32 = np.uint64(0xFFFFFFFF)
_FLOOR = np.uint64(1 << 16)


@compiled
def encoder_tables(frequencies: NDArray[np.uint32], precision: int, scale: Table, share: Table) -> None:
    """Fill, per symbol: *scale*, ceil(2^(32 + precision) / f); *share*, f << 32 | sum of the f before it."""
    start = np.uint64(0)
    one = _ONE << np.uint64(32 + precision)
    for symbol in range(frequencies.size):
        f = np.uint64(frequencies[symbol])
        share[symbol] = (f << _32) | start
        scale[symbol] = (one + f - _ONE) // f if f else np.uint64(0)
        start += f


@compiled
def decoder_table(frequencies: NDArray[np.uint32], table: Table) -> bool:
    """Fill *table* with f << 32 | slot - start << 16 | symbol; False unless the f sum up to its size, 2^precision."""
    slot = np.uint64(0)
    size = np.uint64(table.size)
    for symbol in range(frequencies.size):
        f = np.uint64(frequencies[symbol])
        if f > size - slot:
            return False
        for offset in range(f):
            table[slot] = (f << _32) | (np.uint64(offset) << _16) | np.uint64(symbol)
            slot += _ONE
    return bool(slot == size)


@compiled
def _push(
    x: Any, symbol: Any, scale: Table, share: Table, precision: Any, words: Words, at: Any
) -> tuple[Any, Any]:
    f = share[symbol] >> _32
    full = np.uint64(x >= (f << (_32 - precision)))
    words[at - _ONE] = np.uint16(x)  # kept only where the state is full: a branch here would be mispredicted
    at -= full
    x >>= full * _16
    # scale = (2^(32 + precision) + e) / f with e < f, and x < f * 2^(32 - precision): the product stays below 2^64 and
    # the excess x * e / (f * 2^(32 + precision)) below 1 / f, so this is exactly x // f.
    quotient = (x * scale[symbol]) >> (_32 + precision)
    return x + (share[symbol] & _LOW32) + quotient * ((_ONE << precision) - f), at


@compiled
def encode(
    symbols: Symbols,
    frequencies: NDArray[np.uint32],
    precision: int,
    scale: Table,
    share: Table,
    words: Words,
) -> int:
    """Code *symbols* into the end of *words*.

    Args:
        symbols: a multiple of 8 of them, every one with a frequency above 0.
        frequencies: of every symbol, sum 2^precision.
        scale, share: room for one number per frequency.
        words: at least symbols.size + 17 of them.

    Returns:
        Where in *words* the stream starts.
    """
    encoder_tables(frequencies, precision, scale, share)
    p = np.uint64(precision)
    x0 = x1 = x2 = x3 = x4 = x5 = x6 = x7 = _FLOOR
    at = np.uint64(words.size)
    for group in range(symbols.size // 8 - 1, -1, -1):
        i = np.uint64(group) * np.uint64(8)
        x7, at = _push(x7, symbols[i + np.uint64(7)], scale, share, p, words, at)
        x6, at = _push(x6, symbols[i + np.uint64(6)], scale, share, p, words, at)
        x5, at = _push(x5, symbols[i + np.uint64(5)], scale, share, p, words, at)
        x4, at = _push(x4, symbols[i + np.uint64(4)], scale, share, p, words, at)
        x3, at = _push(x3, symbols[i + np.uint64(3)], scale, share, p, words, at)
        x2, at = _push(x2, symbols[i + np.uint64(2)], scale, share, p, words, at)
        x1, at = _push(x1, symbols[i + np.uint64(1)], scale, share, p, words, at)
        x0, at = _push(x0, symbols[i], scale, share, p, words, at)
    for x in (x7, x6, x5, x4, x3, x2, x1, x0):
        at -= np.uint64(2)
        words[at] = np.uint16(x)
        words[at + _ONE] = np.uint16(x >> _16)
    return at  # type: ignore[return-value]  # a NumPy number in here, an int outside


@compiled
def _pull(x: Any, table: Table, mask: Any, precision: Any, words: Words, at: Any) -> tuple[Any, Any, Any]:
    entry = table[x & mask]
    x = (entry >> _32) * (x >> precision) + ((entry >> _16) & _LOW16)
    low = np.uint64(x < _FLOOR)
    x = (x << (low * _16)) | (np.uint64(words[at]) & (np.uint64(0) - low))
    return x, at + low, entry & _LOW16


@compiled
def decode(words: Words, table: Table, precision: int, symbols: Symbols) -> bool:
    """Inverse of `encode`; False where the stream is damaged.

    Args:
        words: the stream and at least 8 more words of any value. Untrusted.
        table: of `decoder_table`, 2^precision entries.
        symbols: room for a multiple of 8 symbols.
    """
    end = np.uint64(words.size - 8)
    if words.size < 16 + 8:
        return False
    mask = (_ONE << np.uint64(precision)) - _ONE  # every index into the table is masked with this
    p = np.uint64(precision)
    x0 = np.uint64(words[0]) | (np.uint64(words[1]) << _16)
    x1 = np.uint64(words[2]) | (np.uint64(words[3]) << _16)
    x2 = np.uint64(words[4]) | (np.uint64(words[5]) << _16)
    x3 = np.uint64(words[6]) | (np.uint64(words[7]) << _16)
    x4 = np.uint64(words[8]) | (np.uint64(words[9]) << _16)
    x5 = np.uint64(words[10]) | (np.uint64(words[11]) << _16)
    x6 = np.uint64(words[12]) | (np.uint64(words[13]) << _16)
    x7 = np.uint64(words[14]) | (np.uint64(words[15]) << _16)
    at = np.uint64(16)
    for group in range(symbols.size // 8):
        if at > end:  # a group reads at most the 8 words of padding beyond the end
            return False
        i = np.uint64(group) * np.uint64(8)
        x0, at, symbols[i] = _pull(x0, table, mask, p, words, at)
        x1, at, symbols[i + np.uint64(1)] = _pull(x1, table, mask, p, words, at)
        x2, at, symbols[i + np.uint64(2)] = _pull(x2, table, mask, p, words, at)
        x3, at, symbols[i + np.uint64(3)] = _pull(x3, table, mask, p, words, at)
        x4, at, symbols[i + np.uint64(4)] = _pull(x4, table, mask, p, words, at)
        x5, at, symbols[i + np.uint64(5)] = _pull(x5, table, mask, p, words, at)
        x6, at, symbols[i + np.uint64(6)] = _pull(x6, table, mask, p, words, at)
        x7, at, symbols[i + np.uint64(7)] = _pull(x7, table, mask, p, words, at)
    start = _FLOOR
    return bool(
        at == end
        and x0 == start
        and x1 == start
        and x2 == start
        and x3 == start
        and x4 == start
        and x5 == start
        and x6 == start
        and x7 == start
    )
