"""Symbols to bytes and back: which alphabet, which precision, frequency table, coder, in chunks of bounded size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsz import frequency, planes, tans
from fedsz.errors import MalformedPayloadError
from fedsz.grid import Symbols
from fedsz.wire import Reader, write_varints

#: Symbols that the coder can tell apart; what is more goes into low bits.
MAX_ALPHABET = 4096
MAX_LOW_BITS = 24
#: Tokens of one independent stream: bounds working memory and could be coded in parallel.
CHUNK = 1 << 18

_MAX_PACKED = 2048
_MAX_PER_TOKEN = 8
# A table is worth this share of the bytes it describes, where packing saves time and not bytes.
_TABLE_SHARE = 0.005
_BITS_PER_ENTRY = 5


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
    if bins <= 1 << 16:
        alphabet, counts = _choose(symbols, bins)
    else:
        alphabet, counts = Alphabet(bins, (bins - 1).bit_length() - MAX_ALPHABET.bit_length() + 1), None
    low = np.empty(planes.low_size(symbols.size, alphabet.low_bits), np.uint8)
    size = -(-symbols.size // alphabet.per_token)
    room = -(-size // tans.LANES) * tans.LANES
    if alphabet.low_bits:
        tokens = np.empty(room, np.uint16)
        planes.split(symbols, alphabet.low_bits, tokens[:size], low)
    elif alphabet.per_token > 1:
        tokens = np.empty(room, np.uint16)
        planes.pack(symbols, bins, alphabet.per_token, tokens[:size])
    elif room > size:
        tokens = np.empty(room, np.uint16)
        tokens[:size] = symbols
    else:
        tokens = symbols
    if counts is None:
        counts = planes.count(tokens[:size], alphabet.size)
    tokens[size:] = counts.argmax()

    precision = precision_for(alphabet.size, size)
    mantissa_bits = 1 if size < 1 << 14 else 2 if size < 1 << 20 else 3
    weights = np.empty(alphabet.size, np.uint64)
    table = np.zeros(frequency.weights_room(alphabet.size), np.uint8)
    table = table[: frequency.write_weights(counts, mantissa_bits, weights, table)]
    frequencies = np.empty(alphabet.size, np.uint32)
    if not frequency.normalise(weights, precision, frequencies):
        raise AssertionError("more symbols than the precision can tell apart")

    states, moves = np.empty(1 << precision, np.uint16), np.empty(2 * alphabet.size, np.uint64)
    tans.encoder_tables(frequencies, precision, states, moves)
    streams: list[NDArray[np.uint8]] = []
    for first in range(0, room, CHUNK):
        chunk = tokens[first : first + CHUNK]
        out = np.empty(tans.room(chunk.size), np.uint8)
        streams.append(out[tans.encode(chunk, precision, states, moves, out) :])
    return b"".join(
        (
            bytes((alphabet.low_bits | (alphabet.per_token - 1) << 5, precision)),
            table.tobytes(),
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
    if alphabet.size > MAX_ALPHABET or not tans.MIN_PRECISION <= precision <= tans.MAX_PRECISION:
        raise MalformedPayloadError("fedsz-q: impossible alphabet or precision")
    weights = np.empty(alphabet.size, np.uint64)
    rest = reader.take(reader.remaining())
    used = frequency.read_weights(np.frombuffer(rest, np.uint8), weights)
    frequencies = np.empty(alphabet.size, np.uint32)
    if used < 0 or not frequency.normalise(weights, precision, frequencies):
        raise MalformedPayloadError("fedsz-q: damaged frequency table")
    reader = Reader(rest[used:], "fedsz-q block")
    lookup = np.empty(1 << precision, np.uint32)
    if not tans.decoder_table(frequencies, precision, lookup):
        raise MalformedPayloadError("fedsz-q: damaged frequency table")

    size = -(-count // alphabet.per_token)
    room = -(-size // tans.LANES) * tans.LANES
    sizes = reader.varints(-(-room // CHUNK))
    tokens = np.empty(room, np.uint16)
    for at, length in enumerate(sizes):
        padded = np.empty(min(length, reader.remaining()) + tans.PADDING, np.uint8)
        padded[: -tans.PADDING] = np.frombuffer(reader.take(length), np.uint8)
        if not tans.decode(padded, lookup, precision, tokens[at * CHUNK : (at + 1) * CHUNK]):
            raise MalformedPayloadError("fedsz-q: damaged token stream")
    tokens = tokens[:size]
    low = np.frombuffer(reader.take(planes.low_size(count, alphabet.low_bits)), np.uint8)
    reader.end()
    if alphabet.per_token > 1:
        symbols = np.empty(count, np.uint16)
        planes.unpack(tokens, bins, alphabet.per_token, symbols)
        return symbols
    if not alphabet.low_bits:
        return tokens
    joined: Symbols = tokens if bins <= 1 << 16 else np.empty(count, np.uint32)
    planes.join(tokens, alphabet.low_bits, low, joined)
    return joined


def precision_for(alphabet: int, size: int) -> int:
    """Bits of the frequencies' sum: fine enough for rare tokens, coarse enough that tables stay in the cache."""
    wanted = max(tans.MIN_PRECISION, (alphabet - 1).bit_length() + 6)
    useful = max(tans.MIN_PRECISION, size.bit_length(), (alphabet - 1).bit_length() + 1)
    return min(wanted, useful, tans.MAX_PRECISION)


def _choose(symbols: Symbols, bins: int) -> tuple[Alphabet, NDArray[np.uint32] | None]:
    """The cheapest alphabet, and the tokens' counts where they are known."""
    counts = planes.count(symbols, bins)
    if bins <= 16:
        entropy = float(planes.cost(counts, 0))
        per_token = 1
        while (
            per_token < _MAX_PER_TOKEN
            and bins ** (per_token + 1) <= _MAX_PACKED
            and bins ** (per_token + 1) * _BITS_PER_ENTRY <= _TABLE_SHARE * entropy
        ):
            per_token += 1
        return (Alphabet(bins), counts) if per_token == 1 else (Alphabet(bins, 0, per_token), None)
    best, best_cost, folded = Alphabet(bins), math.inf, counts
    for low_bits in range(16):
        if low_bits:
            folded = np.add.reduceat(folded, np.arange(0, folded.size, 2), dtype=np.uint32)
        if folded.size > MAX_ALPHABET:
            continue
        cost = planes.cost(folded, low_bits) + _BITS_PER_ENTRY * np.count_nonzero(folded)
        if cost >= best_cost:
            break
        best, best_cost, counts = Alphabet(bins, low_bits), cost, folded
    return best, counts
