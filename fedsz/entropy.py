"""Symbols to bytes and back: which alphabet, which precision, frequency table, coder, in chunks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsz import frequency, planes, tans
from fedsz.compiled import compiled
from fedsz.errors import MalformedPayloadError
from fedsz.grid import Symbols, symbol_dtype
from fedsz.wire import Reader, write_varints

MAX_LOW_BITS = 24
#: Tokens of one independent stream: bounds working memory and could be coded in parallel.
CHUNK = 1 << 18

_MAX_PACKED = 2048
_MAX_PER_TOKEN = 8
# Where packing saves time and not bytes, its larger table may cost this share of the bytes.
_TABLE_SHARE = 0.005


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


def encode(symbols: Symbols, bins: int) -> bytes:
    """Code *symbols*, each below *bins* (at least 2)."""
    alphabet, counts = _choose(symbols, bins)
    size = -(-symbols.size // alphabet.per_token)
    room = -(-size // tans.LANES) * tans.LANES
    low = np.zeros(planes.low_size(symbols.size, alphabet.low_bits), np.uint8)
    if room == symbols.size and not alphabet.low_bits:
        tokens = symbols
    else:
        tokens = np.empty(room, np.uint16)
        if alphabet.low_bits:
            planes.split(symbols, alphabet.low_bits, tokens[:size], low)
        elif alphabet.per_token > 1:
            planes.pack(symbols, bins, alphabet.per_token, tokens[:size])
        else:
            tokens[:size] = symbols
    if counts is None:
        counts = planes.count(tokens[:size], alphabet.size)

    precision = precision_for(alphabet.size, size)
    mantissa_bits = 1 if size < 1 << 14 else 2 if size < 1 << 20 else 3
    table, states, moves, common = _tables(counts, mantissa_bits, precision)
    tokens[size:] = common
    return b"".join(
        (
            bytes((alphabet.low_bits | (alphabet.per_token - 1) << 5, precision)),
            table.data,
            *write_streams(tokens, precision, states, moves),
            low.data,
        )
    )


def write_streams(
    tokens: NDArray[np.uint16], precision: int, states: Any, moves: Any
) -> Iterator[bytes | memoryview]:
    """Lengths, then streams, of *tokens*: a multiple of 8 of them."""
    streams: list[memoryview] = []
    for first in range(0, tokens.size, CHUNK):
        chunk = tokens[first : first + CHUNK]
        out = np.empty(tans.room(chunk.size), np.uint8)
        streams.append(out[tans.encode(chunk, precision, states, moves, out) :].data)
    yield write_varints(len(stream) for stream in streams)
    yield from streams


def read_streams(
    reader: Reader, count: int, table: Any, precision: int, contexts: NDArray[np.uint8] | None = None
) -> NDArray[np.uint16]:
    """Inverse of `write_streams`: *count* tokens.

    Args:
        table: the decoder's; with *contexts* one after the other.
        contexts: of every token, *count* rounded up to a multiple of 8 of them.
    """
    room = -(-count // tans.LANES) * tans.LANES
    lengths = reader.varints(-(-room // CHUNK))
    whole = reader.take(sum(lengths))
    data = np.empty(len(whole) + tans.PADDING, np.uint8)
    data[: len(whole)] = np.frombuffer(whole, np.uint8)
    tokens = np.empty(room, np.uint16)
    at = first = 0
    for length in lengths:
        chunk, stream = tokens[first : first + CHUNK], data[at : at + length + tans.PADDING]
        if contexts is None:
            good = tans.decode(stream, table, precision, chunk)
        else:
            good = tans.decode_in_contexts(stream, table, precision, contexts[first : first + CHUNK], chunk)
        if not good:
            raise MalformedPayloadError("fedsz-q: damaged token stream")
        at, first = at + length, first + CHUNK
    return tokens[:count]


def decode(reader: Reader, count: int, bins: int) -> Symbols:
    """Inverse of `encode`: *count* symbols, read to the end of *reader*; MalformedPayloadError where damaged."""
    shape, precision = reader.take(2)
    alphabet = Alphabet(bins, shape & 31, (shape >> 5) + 1)
    if alphabet.low_bits > MAX_LOW_BITS or (alphabet.low_bits and alphabet.per_token > 1):
        raise MalformedPayloadError("fedsz-q: impossible alphabet")
    if alphabet.size > planes.MAX_ALPHABET or not tans.MIN_PRECISION <= precision <= tans.MAX_PRECISION:
        raise MalformedPayloadError("fedsz-q: impossible alphabet or precision")
    table = np.empty(1 << precision, np.uint32)
    rest = reader.take(reader.remaining())
    used = _read_tables(some_bytes(rest, 16 + 5 * alphabet.size), alphabet.size, precision, table)
    if used < 0:
        raise MalformedPayloadError("fedsz-q: damaged frequency table")
    reader = Reader(rest[used:], "fedsz-q block")
    tokens = read_streams(reader, -(-count // alphabet.per_token), table, precision)
    low = np.frombuffer(reader.take(planes.low_size(count, alphabet.low_bits)), np.uint8)
    reader.end()
    if alphabet.per_token > 1:
        symbols = np.empty(count, np.uint16)
        planes.unpack(tokens, bins, alphabet.per_token, symbols)
        return symbols
    if alphabet.low_bits:
        joined = tokens if bins <= 1 << 16 else np.empty(count, symbol_dtype(bins))
        planes.join(tokens, alphabet.low_bits, low, joined)
        return joined
    return tokens


def some_bytes(data: memoryview, limit: int) -> NDArray[np.uint8]:
    """A copy of the first *limit* bytes: kernels are compiled for writable arrays only."""
    return np.frombuffer(data[:limit], np.uint8).copy()


def precision_for(alphabet: int, size: int) -> int:
    """Bits of the frequencies' sum: fine enough for rare tokens, coarse enough that tables stay in the cache."""
    bits = (alphabet - 1).bit_length()
    return max(tans.MIN_PRECISION, min(tans.MAX_PRECISION, bits + 6, max(size.bit_length(), bits + 1)))


def _choose(symbols: Symbols, bins: int) -> tuple[Alphabet, NDArray[np.uint32] | None]:
    """The cheapest alphabet, and the tokens' counts where they are known."""
    if bins > 1 << 16:
        # So fine that nothing but the width matters.
        return Alphabet(bins, (bins - 1).bit_length() - planes.MAX_ALPHABET.bit_length() + 1), None
    low_bits, counts, cost = planes.choose_low_bits(symbols, bins)
    per_token = 1
    if bins <= 16:
        allowed = _TABLE_SHARE * cost / planes.BITS_PER_ENTRY
        while per_token < _MAX_PER_TOKEN and bins ** (per_token + 1) <= min(_MAX_PACKED, allowed):
            per_token += 1
    return Alphabet(bins, low_bits, per_token), counts if per_token == 1 else None


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
