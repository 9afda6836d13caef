"""Coding a tensor's grid points given the same tensor of a model that both sides hold.

The grid and every decoded value stay what they are without a reference: quantising the *difference* to it instead would
make updates smaller than the bound vanish. Only the bytes shrink, because the reference tells nearly which
grid point each weight falls on. With t the reference in grid steps:

- the token of a weight is its distance to the grid point nearest to t, in the order in which distances get less
  likely: 0, one towards t, one away, two towards, ...;
- its context is how near t lies to the border between two grid points, in halvings: a small update leaves the grid
  point only from there. Nine contexts serve updates of any size; sixteenths of a step, the obvious choice, lose a
  fifth of the ratio where updates are small against the bound (docs/codecs.md).

Where the grid is dithered, t is moved by the value's own dither as its grid point is (`fedsz.dither`).

Each context has its own frequencies. Along (token, context) they are samples of one decaying curve, the density of
updates over their size, and are written in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsz import entropy, frequency, planes, tans
from fedsz.compiled import compiled
from fedsz.errors import MalformedPayloadError
from fedsz.grid import Grid, Symbols, dequantise, symbol_dtype
from fedsz.registry import Floats
from fedsz.scratch import scratch
from fedsz.subtractive import NO_DITHER, Dither, dither
from fedsz.wire import Reader, write_varints

CONTEXTS = 9

# First byte: as without a reference; tokens in one context; tokens in nine contexts.
_PLAIN, _ONE_CONTEXT, _IN_CONTEXTS = 0, 1, 2

_MAX_BINS = 1 << 28
_MAX_ALPHABET = planes.MAX_ALPHABET // CONTEXTS
# What an entry of the common table of all contexts takes, about.
_BITS_PER_ENTRY = 2.5


def encode(source: entropy.Source, grid: Grid, reference: Floats, moved: Dither = NO_DITHER) -> bytes:
    """Code symbols (grid points less ``grid.low``) given *reference*, of the same size; *moved*: how their grid is."""
    if not _fits(grid):
        return bytes((_PLAIN,)) + entropy.encode(source, reference.size, grid.bins)
    coded = _encode(source, grid, reference, moved)
    if reference.size <= entropy.FEW and coded[0] != _PLAIN:
        return min(coded, bytes((_PLAIN,)) + entropy.encode(source, reference.size, grid.bins), key=len)
    return coded


def _encode(source: entropy.Source, grid: Grid, reference: Floats, moved: Dither) -> bytes:
    count = reference.size
    related = _Related(source, grid, reference, moved)
    largest, counts = 0, np.zeros(CONTEXTS * _MAX_ALPHABET, np.uint32)
    for first in entropy.chunks(count):
        largest = max(largest, related.chunk(first))
        if largest < _MAX_ALPHABET:
            counts += _count_in_contexts(related.tokens, related.contexts, _MAX_ALPHABET)
    alphabet = largest + 1

    costs: dict[int, float] = {}
    if largest < _MAX_ALPHABET:
        counts = counts.reshape(CONTEXTS, _MAX_ALPHABET)[:, :alphabet].flatten()
        costs[_ONE_CONTEXT], costs[_IN_CONTEXTS] = _costs(counts, alphabet)
    else:
        costs[_ONE_CONTEXT] = entropy.choose(related.tokens_at, count, alphabet)[2]
    if 2 * alphabet > grid.bins + 1:  # only where the reference tells little
        costs[_PLAIN] = entropy.choose(source, count, grid.bins)[2]
    kind = min(costs, key=costs.__getitem__)
    if kind == _PLAIN:
        return bytes((kind,)) + entropy.encode(source, count, grid.bins)
    head = bytes((kind,)) + write_varints([alphabet])
    if kind == _ONE_CONTEXT:
        return head + entropy.encode(related.tokens_at, count, alphabet) if alphabet > 1 else head

    precision = 10 if count < 1 << 20 else 11
    table, states, moves = _tables(counts, alphabet, 1 if count < 1 << 17 else 2, precision)
    slots = scratch("tokens", entropy.padded_size(min(count, entropy.CHUNK)), np.uint16)

    def pieces() -> Iterator[tuple[NDArray[np.uint16], None]]:
        for first in entropy.chunks(count):
            related.chunk(first)
            size = entropy.padded_size(related.tokens.size)
            _slots(related.tokens, related.contexts, alphabet, slots[:size])
            yield slots[:size], None

    streams = entropy.write_streams(pieces(), slots.size, precision, states, moves)
    return b"".join((head, bytes((precision,)), table.tobytes(), streams))


def decode(reader: Reader, grid: Grid, reference: Floats, values: Floats, moved: Dither = NO_DITHER) -> None:
    """Inverse of `encode`, to the end of *reader*: fill *values*; MalformedPayloadError where damaged."""
    kind = reader.take(1)[0]
    if kind == _PLAIN:
        for first, symbols in _enumerated(entropy.decode(reader, values.size, grid.bins)):
            dequantise(symbols, grid, values[first : first + symbols.size], moved.after(first))
        return
    alphabet = reader.varint()
    if not 1 <= alphabet <= 2 * _MAX_BINS + 3 or not _fits(grid):
        raise MalformedPayloadError("fedsz-q: impossible alphabet")
    if kind == _ONE_CONTEXT and alphabet == 1:
        reader.end()
        parts: Iterable[Symbols] = [np.zeros(values.size, np.uint16)]
    elif kind == _ONE_CONTEXT:
        parts = entropy.decode(reader, values.size, alphabet)
    elif kind == _IN_CONTEXTS and alphabet <= _MAX_ALPHABET:
        parts = _read_in_contexts(reader, alphabet, grid, reference, moved)
    else:
        raise MalformedPayloadError("fedsz-q: unknown way of coding against a reference")
    ends = np.int32(grid.low), np.int32(grid.low + grid.bins - 1)
    for first, tokens in _enumerated(parts):
        part = slice(first, first + tokens.size)
        _restore(tokens, *_lens(grid, reference[part], moved.after(first)), *ends, grid.step, values[part])


class _Related:
    """Tokens and contexts of one chunk at a time."""

    def __init__(self, source: entropy.Source, grid: Grid, reference: Floats, moved: Dither) -> None:
        self._source, self._grid, self._reference, self._moved = source, grid, reference, moved
        self._made, self._largest = -1, 0
        most = min(reference.size, entropy.CHUNK)
        self._tokens = scratch("related", most, symbol_dtype(2 * grid.bins + 3))
        self._contexts = scratch("contexts", most, np.uint8)
        self.tokens, self.contexts = self._tokens, self._contexts

    def chunk(self, first: int) -> int:
        """Make the chunk that starts at *first*; returns its largest token."""
        if self._made != first:
            symbols = self._source(first)
            self.tokens, self.contexts = self._tokens[: symbols.size], self._contexts[: symbols.size]
            part = self._reference[first : first + symbols.size]
            lens = _lens(self._grid, part, self._moved.after(first))
            self._largest = _relate(symbols, np.int32(self._grid.low), *lens, self.tokens, self.contexts)
            self._made = first
        return self._largest

    def tokens_at(self, first: int) -> Symbols:
        """The tokens as a source."""
        self.chunk(first)
        return self.tokens


def _enumerated(parts: Iterable[Symbols]) -> Iterator[tuple[int, Symbols]]:
    first = 0
    for part in parts:
        yield first, part
        first += part.size


def _fits(grid: Grid) -> bool:
    """Whether points and distances are safely within 32 bits."""
    return grid.bins <= _MAX_BINS and abs(grid.low) <= _MAX_BINS


def _lens(grid: Grid, reference: Floats, moved: Dither) -> tuple[Floats, Any, Any, Any, Any, Any]:
    """What finds a reference's place on the grid: its values, the inverse step, where to look, the dither."""
    real = reference.dtype.type
    return reference, real(1 / grid.step), real(grid.low - 1), real(grid.low + grid.bins), *moved


def _read_in_contexts(
    reader: Reader, alphabet: int, grid: Grid, reference: Floats, moved: Dither
) -> Iterator[Symbols]:
    precision = reader.take(1)[0]
    if not tans.MIN_PRECISION <= precision <= tans.MAX_PRECISION:
        raise MalformedPayloadError("fedsz-q: impossible precision")
    rest = reader.take(reader.remaining())
    tables = np.empty(CONTEXTS << precision, np.uint32)
    data = entropy.some_bytes(rest, 16 + 5 * alphabet * CONTEXTS)
    used = _read_tables(data, alphabet, precision, tables)
    if used < 0:
        raise MalformedPayloadError("fedsz-q: damaged frequency table")
    reader = Reader(rest[used:], "fedsz-q block")
    starts = entropy.chunks(reference.size)
    most = entropy.padded_size(min(reference.size, entropy.CHUNK))
    contexts, tokens = scratch("contexts", most, np.uint8), scratch("tokens", most, np.uint16)
    streams = entropy.Streams(reader, len(starts))
    for first in starts:
        part = reference[first : first + entropy.CHUNK]
        size = entropy.padded_size(part.size)
        contexts[part.size : size] = 0
        _find_contexts(*_lens(grid, part, moved.after(first)), contexts[: part.size])
        if not tans.decode_in_contexts(streams.next(), tables, precision, contexts[:size], tokens[:size]):
            raise MalformedPayloadError("fedsz-q: damaged token stream")
        yield tokens[: part.size]
    reader.end()


@compiled
def _place(value: Any, inverse: Any, first: Any, last: Any, seed: Any, index: Any) -> Any:
    """A reference value in grid steps, kept within a step of the grid.

    In the tensor's own dtype, like its bounds; with its dither in float64.
    """
    if seed is None:
        return min(max(value * inverse, first), last)
    return min(max(value * inverse + dither(seed, index), first), last)


@compiled
def _context(steps: Any, point: Any) -> Any:
    """0 for a quarter step or more to the border, one more for each halving of that; 8 for less than 2^-9.

    Halvings are counted by the exponent of the distance as binary32, which 125 is for [1/4, 1/2).
    """
    bits = np.float32(np.float32(0.5) - np.float32(abs(steps - point))).view(np.int32)
    return min(max(np.int32(125) - np.int32(bits >> 23), np.int32(0)), np.int32(8))


@compiled
def _relate(
    symbols: Any,
    low: Any,
    reference: Any,
    inverse: Any,
    first: Any,
    last: Any,
    seed: Any,
    at: Any,
    tokens: Any,
    contexts: Any,
) -> int:
    """Write every symbol's token and context; returns the largest token."""
    largest = np.int32(0)
    for i in range(symbols.size):
        steps = _place(reference[i], inverse, first, last, seed, at + np.uint64(i))
        point = np.rint(steps)
        distance = np.int32(np.int32(symbols[i]) + low - np.int32(point))
        if steps < point:
            distance = np.int32(-distance)
        token = np.int32(2 * distance - 1) if distance > 0 else np.int32(-2 * distance)
        largest = max(largest, token)
        tokens[i] = token
        contexts[i] = _context(steps, point)
    return np.int64(largest)  # type: ignore[return-value]  # a NumPy number in here, an int outside


@compiled
def _find_contexts(
    reference: Any, inverse: Any, first: Any, last: Any, seed: Any, at: Any, contexts: Any
) -> None:
    for i in range(reference.size):
        steps = _place(reference[i], inverse, first, last, seed, at + np.uint64(i))
        contexts[i] = _context(steps, np.rint(steps))


@compiled
def _restore(
    tokens: Any,
    reference: Any,
    inverse: Any,
    first: Any,
    last: Any,
    seed: Any,
    at: Any,
    low: Any,
    high: Any,
    step: float,
    values: Any,
) -> None:
    """Values from tokens. Untrusted tokens still give points of the grid."""
    for i in range(tokens.size):
        steps = _place(reference[i], inverse, first, last, seed, at + np.uint64(i))
        point = np.rint(steps)
        token = tokens[i]
        distance = np.int32((np.int64(token) + 1) >> 1)
        if token & 1 == 0:
            distance = np.int32(-distance)
        if steps < point:
            distance = np.int32(-distance)
        found = min(max(np.int32(np.int32(point) + distance), low), high)
        values[i] = (np.float64(found) - dither(seed, at + np.uint64(i))) * step


@compiled
def _count_in_contexts(tokens: Any, contexts: Any, alphabet: int) -> Any:
    """How often each token below *alphabet* occurs in each context: context * alphabet + token."""
    slots = np.empty(tokens.size, np.uint16)
    _slots(tokens, contexts, alphabet, slots)
    return planes.count(slots, CONTEXTS * alphabet)


@compiled
def _slots(tokens: Any, contexts: Any, alphabet: int, slots: Any) -> None:
    """Write context * alphabet + token, then slot 0 to the end of *slots*."""
    wide = np.uint64(alphabet)
    for i in range(tokens.size):
        slots[i] = contexts[i] * wide + tokens[i]
    slots[tokens.size :] = 0


@compiled
def _costs(counts: Any, alphabet: int) -> tuple[float, float]:
    """Bits that tokens and tables take, about, in one context and in all."""
    bits: Any = 0.0
    sums = np.zeros(alphabet, np.uint32)
    for context in range(CONTEXTS):
        total: Any = 0.0
        for token in range(alphabet):
            n = np.float64(counts[context * alphabet + token])
            sums[token] += counts[context * alphabet + token]
            if n > 0:
                total += n
                bits += _BITS_PER_ENTRY - n * np.log2(n)
        if total > 0:
            bits += total * np.log2(total)
    return planes.cost(sums, alphabet, 0), bits


@compiled
def _position(context: Any, token: Any) -> Any:
    """Where the count of a token in a context stands in the common table: by the size of the update it means."""
    return token * CONTEXTS + (CONTEXTS - 1 - context if token & 1 else context)


@compiled
def _frequencies(weights: Any, context: Any, alphabet: int, precision: int, frequencies: Any) -> None:
    """One context's frequencies from the weights of all; token 0 alone in a context that never occurs."""
    own = np.empty(alphabet, np.uint64)
    for token in range(alphabet):
        own[token] = weights[_position(context, token)]
    if not frequency.normalise(own, precision, frequencies):
        frequencies[:] = 0
        frequencies[0] = 1 << precision


@compiled
def _tables(counts: Any, alphabet: int, mantissa_bits: int, precision: int) -> tuple[Any, Any, Any]:
    """The table on the wire and the coder's two tables, in which contexts follow one another."""
    ordered = np.empty(counts.size, np.uint64)
    for context in range(CONTEXTS):
        # Each context is half as wide as the one before: so scaled, the counts are one density.
        width = np.uint64(min(context, CONTEXTS - 2))
        for token in range(alphabet):
            ordered[_position(context, token)] = np.uint64(counts[context * alphabet + token]) << width
    weights = np.empty(counts.size, np.uint64)
    table = np.zeros(16 + 5 * counts.size, np.uint8)
    used = frequency.write_weights(ordered, mantissa_bits, weights, table)
    size = 1 << precision
    states, moves = np.empty(CONTEXTS * size, np.uint16), np.empty(2 * counts.size, np.uint64)
    frequencies = np.empty(alphabet, np.uint32)
    for context in range(CONTEXTS):
        _frequencies(weights, context, alphabet, precision, frequencies)
        own = moves[2 * context * alphabet : 2 * (context + 1) * alphabet]
        tans.encoder_tables(frequencies, precision, states[context * size : (context + 1) * size], own)
        for token in range(alphabet):
            own[2 * token + 1] += np.uint64(context * size)
    return table[:used].copy(), states, moves


@compiled
def _read_tables(data: Any, alphabet: int, precision: int, tables: Any) -> int:
    """Fill the decoder's *tables* from untrusted *data*; returns the bytes read, or -1."""
    weights = np.empty(alphabet * CONTEXTS, np.uint64)
    used = frequency.read_weights(data, weights)
    if used < 0:
        return -1
    size = 1 << precision
    frequencies = np.empty(alphabet, np.uint32)
    for context in range(CONTEXTS):
        _frequencies(weights, context, alphabet, precision, frequencies)
        if not tans.decoder_table(frequencies, precision, tables[context * size : (context + 1) * size]):
            return -1
    return used
