"""Entropy coder: tabled asymmetric numeral systems with static frequencies, eight interleaved states.

Method: J. Duda, "Asymmetric numeral systems", arXiv:1311.2540; the order of states in the tables is that of zstd's
finite-state entropy coder (RFC 8878, section 4.1.1); interleaving: F. Giesen, "Interleaved entropy coders",
arXiv:1402.3392. A symbol costs one table look-up and one shift either way, no multiplication and no branch, and eight
states hide the latency: range ANS in the same frame took 1.5 (encoding) and 1.9 (decoding) times as long.

Symbol i belongs to state i mod 8. Frequencies sum to M = 2^precision, a state lies in [M, 2M), and all states share one
stream of bits. The encoder starts with the last symbol and every state at M, and writes from the end of its buffer to
the front, so that the decoder reads forwards: padding (zeros, then a one), the eight states less M, then per symbol the
bits its state lost. The decoder must find every state at M again and no bit left: damage that a checksum missed is
nearly always caught.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsz.compiled import compiled, load64, store64

LANES = 8
#: So that four symbols and the seven bits before them fit 64 bits, and a decoder's entry 32.
MAX_PRECISION = 14
#: So that every state gets a symbol, and small tables still tell symbols apart.
MIN_PRECISION = 10
#: Bytes that a decoder may read beyond the end of its stream.
PADDING = 16

Symbols = NDArray[np.uint16]
Bytes = NDArray[np.uint8]
Frequencies = NDArray[np.uint32]
EncoderStates = NDArray[np.uint16]
EncoderMoves = NDArray[np.uint64]
DecoderTable = NDArray[np.uint32]

# In kernels every constant is uint64: Numba turns an expression of uint64 and int64 into float64.
_0, _1, _2, _3, _4, _5, _6, _7, _8 = (np.uint64(number) for number in range(9))
_16, _18, _24, _32, _40, _48, _56, _63 = (np.uint64(number) for number in (16, 18, 24, 32, 40, 48, 56, 63))
_BYTE = np.uint64(0xFF)
_LOW14 = np.uint64((1 << 14) - 1)
_LOW4 = np.uint64(15)


@compiled
def _spread(frequencies: Frequencies, owner: Symbols) -> None:
    """Give each of the 2^precision states to a symbol, every symbol's states about evenly spaced."""
    size = owner.size
    step, at = (size >> 1) + (size >> 3) + 3, 0  # odd: every state is met once
    for symbol in range(frequencies.size):
        for _ in range(frequencies[symbol]):
            owner[at] = symbol
            at = (at + step) & (size - 1)


@compiled
def encoder_tables(
    frequencies: Frequencies, precision: int, states: EncoderStates, moves: EncoderMoves
) -> None:
    """Fill the tables of `encode`.

    Args:
        frequencies: sum 2^precision.
        states: room for 2^precision numbers.
        moves: room for two numbers per symbol: what to add to a state so that its upper bits are the
            number of bits to write, and where in *states* the symbol's own begin, less its frequency (modulo 2^64).
    """
    size = np.int64(1) << precision
    owner = np.empty(size, np.uint16)
    _spread(frequencies, owner)
    following = np.empty(frequencies.size, np.int64)
    start = np.int64(0)
    for symbol in range(frequencies.size):
        f = np.int64(frequencies[symbol])
        following[symbol] = start
        bits = 0  # a state loses so many bits, or one less, to come into [f, 2f)
        while f and (f << bits) <= size:
            bits += 1
        moves[2 * symbol] = np.uint64((bits << 16) - (f << bits))
        moves[2 * symbol + 1] = np.uint64(start - f)
        start += f
    for state in range(size):
        symbol = owner[state]
        states[following[symbol]] = size + state
        following[symbol] += 1


@compiled
def decoder_table(frequencies: Frequencies, precision: int, table: DecoderTable) -> bool:
    """Fill *table*, per state: symbol << 18 | the next state before its new bits << 4 | how many those are.

    False unless the frequencies, from a stranger, sum up to 2^precision.
    """
    size = np.int64(1) << precision
    total = np.int64(0)
    for symbol in range(frequencies.size):
        total += np.int64(frequencies[symbol])
    if total != size or table.size != size:
        return False
    owner = np.empty(size, np.uint16)
    _spread(frequencies, owner)
    following = frequencies.astype(np.int64)
    most = np.empty(frequencies.size, np.int64)
    for symbol in range(frequencies.size):
        most[symbol] = 0
        while following[symbol] and (following[symbol] << most[symbol]) < size:
            most[symbol] += 1
    for state in range(size):
        symbol = owner[state]
        after = following[symbol]
        following[symbol] += 1
        # The first states of a symbol take the most new bits, the others one less.
        bits = most[symbol] - ((after << most[symbol]) >= 2 * size)
        table[state] = np.uint32((np.int64(symbol) << 18) | (((after << bits) - size) << 4) | bits)
    return True


@compiled
def _push(
    x: Any, symbol: Any, states: EncoderStates, moves: EncoderMoves, held: Any, filled: Any
) -> tuple[Any, Any, Any]:
    at = np.uint64(symbol) << _1
    bits = (x + moves[at]) >> _16
    held = (held << bits) | (x & ((_1 << bits) - _1))
    return np.uint64(states[(x >> bits) + moves[at + _1]]), held, filled + bits


@compiled
def _flush(held: Any, filled: Any, out: Bytes, at: Any) -> tuple[Any, Any]:
    store64(out, at - _8, (held << (_63 - filled)) << _1)
    return at - (filled >> _3), filled & _7


@compiled
def encode(symbols: Symbols, precision: int, states: EncoderStates, moves: EncoderMoves, out: Bytes) -> int:
    """Code *symbols* into the end of *out*.

    Args:
        symbols: a multiple of 8 of them, every one with a frequency above 0.
        states, moves: of `encoder_tables`.
        out: room for `room` bytes.

    Returns:
        Where in *out* the stream starts.
    """
    start = _1 << np.uint64(precision)
    x0 = x1 = x2 = x3 = x4 = x5 = x6 = x7 = start
    held, filled, at = _0, _0, np.uint64(out.size)
    for group in range(symbols.size // 8 - 1, -1, -1):
        i = np.uint64(group) << _3
        x7, held, filled = _push(x7, symbols[i + _7], states, moves, held, filled)
        x6, held, filled = _push(x6, symbols[i + _6], states, moves, held, filled)
        x5, held, filled = _push(x5, symbols[i + _5], states, moves, held, filled)
        x4, held, filled = _push(x4, symbols[i + _4], states, moves, held, filled)
        at, filled = _flush(held, filled, out, at)
        x3, held, filled = _push(x3, symbols[i + _3], states, moves, held, filled)
        x2, held, filled = _push(x2, symbols[i + _2], states, moves, held, filled)
        x1, held, filled = _push(x1, symbols[i + _1], states, moves, held, filled)
        x0, held, filled = _push(x0, symbols[i], states, moves, held, filled)
        at, filled = _flush(held, filled, out, at)
    for x in (x7, x6, x5, x4, x3, x2, x1, x0):
        held = (held << np.uint64(precision)) | (x - start)
        at, filled = _flush(held, filled + np.uint64(precision), out, at)
    held = ((held << _1) | _1) << (_7 - filled)
    at, filled = _flush(held, _8, out, at)
    return np.int64(at)  # type: ignore[return-value]  # a NumPy number in here, an int outside


def room(symbols: int) -> int:
    """Bytes that `encode` may touch."""
    return (symbols * MAX_PRECISION >> 3) + 2 * LANES + 2 * PADDING


@compiled
def _pull(x: Any, table: DecoderTable, held: Any, at: Any) -> tuple[Any, Any, Any, Any]:
    entry = np.uint64(table[x])
    bits = entry & _LOW4
    x = ((entry >> _4) & _LOW14) + (held & ((_1 << bits) - _1))
    return x, held >> bits, at + bits, entry >> _18


@compiled
def _first_states(data: Bytes, precision: Any, start: NDArray[np.uint64]) -> Any:
    """Read the eight states of an untrusted stream; returns the position of the next bit, 0 where it is damaged."""
    if data.size < 1 + PADDING or data[0] == 0:
        return _0
    at = _1
    while not (data[0] >> (at - _1)) & _1:
        at += _1
    if at + _8 * precision > np.uint64(data.size - PADDING) << _3:
        return _0
    for lane in range(8):
        start[lane] = (load64(data, at >> _3) >> (at & _7)) & ((_1 << precision) - _1)
        at += precision
    return at


@compiled
def decode(data: Bytes, table: DecoderTable, precision: int, symbols: Symbols) -> bool:
    """Inverse of `encode`; False where the stream is damaged.

    Args:
        data: the stream, untrusted, and 16 more bytes of any value.
        table: of `decoder_table`, 2^precision entries. Whatever the bits, a next state is below that: an entry's
            offset is at most 2^precision - 2^bits.
        symbols: room for a multiple of 8 symbols.
    """
    x = np.empty(8, np.uint64)
    at = _first_states(data, np.uint64(precision), x)
    if at == _0:
        return False
    x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    # Positions count bits. Each check against the end is followed by reads of at most 7 + 8 bytes beyond it.
    end = np.uint64(data.size - PADDING) << _3
    for group in range(symbols.size // 8):
        if at > end:
            return False
        i = np.uint64(group) << _3
        held = load64(data, at >> _3) >> (at & _7)
        x0, held, at, symbols[i] = _pull(x0, table, held, at)
        x1, held, at, symbols[i + _1] = _pull(x1, table, held, at)
        x2, held, at, symbols[i + _2] = _pull(x2, table, held, at)
        x3, held, at, symbols[i + _3] = _pull(x3, table, held, at)
        held = load64(data, at >> _3) >> (at & _7)
        x4, held, at, symbols[i + _4] = _pull(x4, table, held, at)
        x5, held, at, symbols[i + _5] = _pull(x5, table, held, at)
        x6, held, at, symbols[i + _6] = _pull(x6, table, held, at)
        x7, held, at, symbols[i + _7] = _pull(x7, table, held, at)
    return bool(at == end and (x0 | x1 | x2 | x3 | x4 | x5 | x6 | x7) == _0)


@compiled
def decode_in_contexts(
    data: Bytes, tables: DecoderTable, precision: int, contexts: Bytes, symbols: Symbols
) -> bool:
    """As `decode`, each symbol with the table of its context.

    Args:
        tables: 2^precision entries per context, one context after the other.
        contexts: of every symbol; trusted to have a table.
    """
    x = np.empty(8, np.uint64)
    p = np.uint64(precision)
    at = _first_states(data, p, x)
    if at == _0:
        return False
    x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    end = np.uint64(data.size - PADDING) << _3
    for group in range(symbols.size // 8):
        if at > end:
            return False
        i = np.uint64(group) << _3
        c = load64(contexts, i)
        held = load64(data, at >> _3) >> (at & _7)
        x0, held, at, symbols[i] = _pull(x0 | ((c & _BYTE) << p), tables, held, at)
        x1, held, at, symbols[i + _1] = _pull(x1 | (((c >> _8) & _BYTE) << p), tables, held, at)
        x2, held, at, symbols[i + _2] = _pull(x2 | (((c >> _16) & _BYTE) << p), tables, held, at)
        x3, held, at, symbols[i + _3] = _pull(x3 | (((c >> _24) & _BYTE) << p), tables, held, at)
        held = load64(data, at >> _3) >> (at & _7)
        x4, held, at, symbols[i + _4] = _pull(x4 | (((c >> _32) & _BYTE) << p), tables, held, at)
        x5, held, at, symbols[i + _5] = _pull(x5 | (((c >> _40) & _BYTE) << p), tables, held, at)
        x6, held, at, symbols[i + _6] = _pull(x6 | (((c >> _48) & _BYTE) << p), tables, held, at)
        x7, held, at, symbols[i + _7] = _pull(x7 | ((c >> _56) << p), tables, held, at)
    return bool(at == end and (x0 | x1 | x2 | x3 | x4 | x5 | x6 | x7) == _0)
