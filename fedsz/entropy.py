"""Symbols to bytes and back: which alphabet, which precision, frequency table, coder; chunk by chunk.

Symbols are made when they are needed, to be counted and to be coded: for a tensor of several chunks, making them again
from values is cheaper than keeping them outside of the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsz import frequency, planes, tans
from fedsz.compiled import compiled
from fedsz.errors import MalformedPayloadError
from fedsz.grid import Symbols, symbol_dtype
from fedsz.scratch import scratch
from fedsz.wire import Reader, write_varints

#: Symbols of one independent stream: these and what is made of them stay in a core's own cache.
CHUNK = 1 << 17
MAX_LOW_BITS = 24
#: Up to so many symbols, what is smallest is tried and not only estimated.
FEW = 4096

_MAX_PACKED = 2048
_MAX_PER_TOKEN = 8
# Where packing saves time and not bytes, its larger table may cost this share of the bytes.
_TABLE_SHARE = 0.005

#: Gives the chunk of symbols that starts at a position; valid until the next call.
Source = Callable[[int], Symbols]


@dataclass(frozen=True, slots=True)
class Alphabet:
    """How symbols below *bins* become tokens below *size*: low bits cut off, or several symbols to a token."""

    bins: int
    low_bits: int = 0
    per_token: int = 1

    @property
    def size(self) -> int:
        """Tokens that can occur."""
        return (self.bins - 1 >> self.low_bits) + 1 if self.per_token == 1 else self.bins**self.per_token

    def tokens(self, symbols: int) -> int:
        """Tokens of a chunk of so many symbols."""
        return -(-symbols // self.per_token)


def chunks(count: int) -> range:
    """Where the chunks of *count* symbols start."""
    return range(0, count, CHUNK)


def encode(source: Source, count: int, bins: int) -> bytes:
    """Code *count* symbols, each below *bins* (at least 2)."""
    alphabet, counts, _ = choose(source, count, bins)
    coded = _encode(source, count, alphabet, counts)
    if count <= FEW and bins <= 1 << MAX_LOW_BITS:
        # Estimates are rough for few symbols; their bits as they are, beside one token, are the most it may take.
        plain = _encode(source, count, Alphabet(bins, (bins - 1).bit_length()), None)
        return min(coded, plain, key=len)
    return coded


def _encode(source: Source, count: int, alphabet: Alphabet, counts: NDArray[np.uint32] | None) -> bytes:
    cutter = _Cutter(alphabet, min(count, CHUNK))
    if counts is None:
        cut = (cutter.cut(source(first)) for first in chunks(count))
        counts = _sum(planes.count(tokens, alphabet.size) for tokens, _ in cut)
    precision = _precision(alphabet.size, count)
    mantissa_bits = 1 if count < 1 << 14 else 2 if count < 1 << 20 else 3
    table, states, moves, common = _tables(counts, mantissa_bits, precision)
    head: bytes = bytes((alphabet.low_bits | (alphabet.per_token - 1) << 5, precision)) + table.tobytes()

    def pieces() -> Iterator[tuple[NDArray[np.uint16], NDArray[np.uint8]]]:
        for first in chunks(count):
            tokens, low = cutter.cut(source(first))
            yield cutter.padded(tokens, common), low

    return head + write_streams(pieces(), min(count, CHUNK), precision, states, moves)


def decode(reader: Reader, count: int, bins: int) -> Iterator[Symbols]:
    """Inverse of `encode`, to the end of *reader*: chunks of symbols, each valid until the next.

    Raises: MalformedPayloadError where damaged.
    """
    shape, precision = reader.take(2)
    alphabet = Alphabet(bins, shape & 31, (shape >> 5) + 1)
    packed = alphabet.per_token > 1
    # No more low bits than symbols have: points then stay within twice the grid.
    if alphabet.low_bits > min(MAX_LOW_BITS, (bins - 1).bit_length()) or (
        packed and (alphabet.low_bits or bins > planes.MAX_PACKED_BINS)
    ):
        raise MalformedPayloadError("fedsz-q: impossible alphabet")
    if alphabet.size > planes.MAX_ALPHABET or not tans.MIN_PRECISION <= precision <= tans.MAX_PRECISION:
        raise MalformedPayloadError("fedsz-q: impossible alphabet or precision")
    table = np.empty(1 << precision, np.uint32)
    rest = reader.take(reader.remaining())
    used = _read_tables(some_bytes(rest, 16 + 5 * alphabet.size), alphabet.size, precision, table)
    if used < 0:
        raise MalformedPayloadError("fedsz-q: damaged frequency table")
    reader = Reader(rest[used:], "fedsz-q block")
    most = min(count, CHUNK)
    held = scratch("tokens", padded_size(alphabet.tokens(most)), np.uint16)
    joined: Symbols = scratch("symbols", most, symbol_dtype(bins)) if packed or bins > 1 << 16 else held
    streams = Streams(reader, len(chunks(count)))
    for first in chunks(count):
        size = min(CHUNK, count - first)
        tokens = held[: padded_size(alphabet.tokens(size))]
        if not tans.decode(streams.next(), table, precision, tokens):
            raise MalformedPayloadError("fedsz-q: damaged token stream")
        symbols = joined[:size]
        if packed:
            planes.unpack(tokens[: alphabet.tokens(size)], bins, alphabet.per_token, symbols)
        elif alphabet.low_bits:
            low = some_bytes(reader.take(planes.low_size(size, alphabet.low_bits)))
            planes.join(tokens[:size], alphabet.low_bits, low, symbols)
        yield symbols
    reader.end()


def choose(source: Source, count: int, bins: int) -> tuple[Alphabet, NDArray[np.uint32] | None, float]:
    """The cheapest alphabet, how often its tokens occur where that is known, and bits needed in all, about."""
    if bins > 1 << 16:
        # So fine that nothing but the width matters.
        low_bits = (bins - 1).bit_length() - planes.MAX_ALPHABET.bit_length() + 1
        return Alphabet(bins, low_bits), None, float(count * (bins - 1).bit_length())
    all_counts = _sum(planes.count(source(first), bins) for first in chunks(count))
    low_bits, counts, cost = planes.choose_low_bits(all_counts)
    per_token = 1
    if bins <= planes.MAX_PACKED_BINS:
        allowed = _TABLE_SHARE * cost / planes.BITS_PER_ENTRY
        while per_token < _MAX_PER_TOKEN and bins ** (per_token + 1) <= min(_MAX_PACKED, allowed):
            per_token += 1
    return Alphabet(bins, low_bits, per_token), counts if per_token == 1 else None, cost


def write_streams(
    pieces: Iterable[tuple[NDArray[np.uint16], NDArray[np.uint8] | None]],
    most: int,
    precision: int,
    states: Any,
    moves: Any,
) -> bytes:
    """Lengths of the streams, then each stream and its low bits.

    Args:
        pieces: chunks of at most *most* tokens, padded to a multiple of 8, and their low bits.
    """
    out = scratch("stream", tans.room(padded_size(most)), np.uint8)
    lengths: list[int] = []
    parts: list[bytes] = []
    for tokens, low in pieces:
        stream = out[tans.encode(tokens, precision, states, moves, out) :]
        lengths.append(stream.size)
        parts.append(stream.tobytes())
        if low is not None:
            parts.append(low.tobytes())
    return write_varints(lengths) + b"".join(parts)


class Streams:
    """The streams of `write_streams`, one after the other, each with the bytes behind it that the decoder may read."""

    def __init__(self, reader: Reader, count: int) -> None:
        self._reader = reader
        self._lengths = iter(reader.varints(count))

    def next(self) -> NDArray[np.uint8]:
        """The next stream, valid until the one after it."""
        stream = self._reader.take(next(self._lengths))
        if len(stream) > tans.room(CHUNK):
            raise MalformedPayloadError("fedsz-q: a stream longer than any of its tokens")
        data = scratch("stream", len(stream) + tans.PADDING, np.uint8)
        data[: len(stream)] = np.frombuffer(stream, np.uint8)
        return data


def some_bytes(data: memoryview, limit: int | None = None) -> NDArray[np.uint8]:
    """A copy of the first *limit* bytes: kernels are compiled for writable arrays only."""
    return np.frombuffer(data[:limit], np.uint8).copy()


def padded_size(tokens: int) -> int:
    """*tokens* rounded up to whole groups of the coder."""
    return -(-tokens // tans.LANES) * tans.LANES


class _Cutter:
    """Symbols to tokens and low bits, in scratch that is used again for every chunk."""

    def __init__(self, alphabet: Alphabet, most: int) -> None:
        self._alphabet = alphabet
        self._tokens = scratch("tokens", padded_size(alphabet.tokens(most)), np.uint16)
        self._low = scratch("low", planes.low_size(most, alphabet.low_bits), np.uint8)

    def cut(self, symbols: Symbols) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """Tokens and low bits of a chunk, valid until the next call."""
        alphabet = self._alphabet
        low = self._low[: planes.low_size(symbols.size, alphabet.low_bits)]
        tokens = self._tokens[: alphabet.tokens(symbols.size)]
        if alphabet.low_bits:
            low[:] = 0
            planes.split(symbols, alphabet.low_bits, tokens, low)
        elif alphabet.per_token > 1:
            planes.pack(symbols, alphabet.bins, alphabet.per_token, tokens)
        else:
            tokens = symbols
        return tokens, low

    def padded(self, tokens: NDArray[np.uint16], filler: int) -> NDArray[np.uint16]:
        """The tokens of the last cut in whole groups of the coder."""
        size = padded_size(tokens.size)
        if size == tokens.size:
            return tokens
        padded = self._tokens[:size]
        if not np.shares_memory(tokens, padded):
            padded[: tokens.size] = tokens
        padded[tokens.size :] = filler
        return padded


def _sum(counts: Iterable[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    total: NDArray[np.uint32] | None = None
    for part in counts:
        total = part if total is None else total + part
    assert total is not None
    return total


def _precision(alphabet: int, size: int) -> int:
    """Bits of the frequencies' sum: fine enough for rare tokens, coarse enough that tables stay in the cache."""
    bits = (alphabet - 1).bit_length()
    return max(tans.MIN_PRECISION, min(tans.MAX_PRECISION, bits + 6, max(size.bit_length(), bits + 1)))


@compiled
def _tables(counts: Any, mantissa_bits: int, precision: int) -> tuple[Any, Any, Any, int]:
    """The table on the wire, the coder's two tables, and the most frequent token."""
    weights = np.empty(counts.size, np.uint64)
    table = np.zeros(16 + 5 * counts.size, np.uint8)
    used = frequency.write_weights(counts, mantissa_bits, weights, table)
    frequencies = np.empty(counts.size, np.uint32)
    frequency.normalise(
        weights, precision, frequencies
    )  # cannot fail: the precision has room for every token
    states, moves = np.empty(1 << precision, np.uint16), np.empty(2 * counts.size, np.uint64)
    tans.encoder_tables(frequencies, precision, states, moves)
    return table[:used].copy(), states, moves, np.argmax(counts)  # type: ignore[return-value]


@compiled
def _read_tables(data: Any, alphabet: int, precision: int, table: Any) -> int:
    """Fill the decoder's *table* from untrusted *data*; returns the bytes read, or -1."""
    weights = np.empty(alphabet, np.uint64)
    used = frequency.read_weights(data, weights)
    frequencies = np.empty(alphabet, np.uint32)
    if used < 0 or not frequency.normalise(weights, precision, frequencies):
        return -1
    return used if tans.decoder_table(frequencies, precision, table) else -1
