"""Symbols to bytes and back: which alphabet, which precision, frequency table, coder, in chunks of bounded size."""

from __future__ import annotations

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

    precision = _precision(alphabet.size, size)
    mantissa_bits = 1 if size < 1 << 14 else 2 if size < 1 << 20 else 3
    table, states, moves, common = _tables(counts, mantissa_bits, precision)
    tokens[size:] = common
    streams: list[NDArray[np.uint8]] = []
    for first in range(0, room, CHUNK):
        chunk = tokens[first : first + CHUNK]
        out = np.empty(tans.room(chunk.size), np.uint8)
        streams.append(out[tans.encode(chunk, precision, states, moves, out) :])
    return b"".join(
        (
            bytes((alphabet.low_bits | (alphabet.per_token - 1) << 5, precision)),
            table.data,
            write_varints(stream.size for stream in streams),
            *(stream.data for stream in streams),
            low.data,
        )
    )


def decode(reader: Reader, count: int, bins: int) -> Symbols:
    """Inverse of `encode`: *count* symbols, read to the end of *reader*; MalformedPayloadError where damaged."""
    shape, precision = reader.take(2)
    alphabet = Alphabet(bins, shape & 31, (shape >> 5) + 1)
    if alphabet.low_bits > MAX_LOW_BITS or (alphabet.low_bits and alphabet.per_token > 1):
        raise MalformedPayloadError("fedsz-q: impossible alphabet")
    if alphabet.size > planes.MAX_ALPHABET or not tans.MIN_PRECISION <= precision <= tans.MAX_PRECISION:
        raise MalformedPayloadError("fedsz-q: impossible alphabet or precision")
    rest = reader.take(reader.remaining())
    data = np.empty(len(rest) + tans.PADDING, np.uint8)
    data[: len(rest)] = np.frombuffer(rest, np.uint8)
    table = np.empty(1 << precision, np.uint32)
    at = _read_tables(data[: len(rest)], alphabet.size, precision, table)
    if at < 0:
        raise MalformedPayloadError("fedsz-q: damaged frequency table")

    reader = Reader(rest[at:], "fedsz-q block")
    size = -(-count // alphabet.per_token)
    room = -(-size // tans.LANES) * tans.LANES
    lengths = reader.varints(-(-room // CHUNK))
    tokens = np.empty(room, np.uint16)
    at = len(rest) - reader.remaining()
    for chunk, length in enumerate(lengths):
        reader.take(length)
        stream = data[at : at + length + tans.PADDING]
        if not tans.decode(stream, table, precision, tokens[chunk * CHUNK : (chunk + 1) * CHUNK]):
            raise MalformedPayloadError("fedsz-q: damaged token stream")
        at += length
    tokens = tokens[:size]
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


def _precision(alphabet: int, size: int) -> int:
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
