"""Coding a tensor's grid points given the same tensor of a model that both sides hold.

The grid and every decoded value stay what they are without a reference: quantising the *difference* to it instead would
make updates smaller than the bound vanish. Only the bytes shrink, because the reference tells nearly which
grid point each weight falls on. With t the reference in grid steps:

- the token of a weight is its distance to the grid point nearest to t, in the order in which distances get less
  likely: 0, one towards t, one away, two towards, ...;
- its context is how near t lies to the border between two grid points, in halvings: a small update leaves the grid
  point only from there. Nine contexts serve updates of any size; sixteenths of a step, the obvious choice, lose a
  fifth of the ratio where updates are small against the bound (docs/codecs.md).

Each context has its own frequencies. Along (token, context) they are samples of one decaying curve, the density of
updates over their size, and are written in that order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsz import entropy, frequency, planes, tans
from fedsz.compiled import compiled
from fedsz.errors import MalformedPayloadError
from fedsz.grid import Grid, Symbols, dequantise, symbol_dtype
from fedsz.registry import Floats
from fedsz.wire import Reader, write_varints

CONTEXTS = 9

# First byte: as without a reference; tokens in one context; tokens in nine contexts.
_PLAIN, _ONE_CONTEXT, _IN_CONTEXTS = 0, 1, 2

_MAX_BINS = 1 << 28
_MAX_ALPHABET = planes.MAX_ALPHABET // CONTEXTS
# What an entry of the common table of all contexts takes, about.
_BITS_PER_ENTRY = 2.5


def encode(symbols: Symbols, grid: Grid, reference: Floats) -> bytes:
    """Code *symbols* (grid points less ``grid.low``) given *reference*, of the same size."""
    if not _fits(grid):
        return bytes((_PLAIN,)) + entropy.encode(symbols, grid.bins)
    size = symbols.size
    tokens = np.empty(size, symbol_dtype(2 * grid.bins + 3))
    contexts = np.empty(size, np.uint8)
    alphabet = _relate(symbols, np.int32(grid.low), *_lens(grid, reference), tokens, contexts) + 1

    costs = {}
    if alphabet <= _MAX_ALPHABET:
        slots = np.empty(-(-size // tans.LANES) * tans.LANES, np.uint16)
        counts, costs[_ONE_CONTEXT], costs[_IN_CONTEXTS] = _count_in_contexts(
            tokens, contexts, alphabet, slots
        )
    else:
        costs[_ONE_CONTEXT] = _estimate(tokens, alphabet)
    if 2 * alphabet > grid.bins + 1:  # only where the reference tells little
        costs[_PLAIN] = _estimate(symbols, grid.bins)
    kind = min(costs, key=costs.__getitem__)
    if kind == _PLAIN:
        return bytes((kind,)) + entropy.encode(symbols, grid.bins)
    head = bytes((kind,)) + write_varints([alphabet])
    if kind == _ONE_CONTEXT:
        if alphabet <= 1 << 16:
            tokens = tokens.astype(np.uint16, copy=False)
        return head + entropy.encode(tokens, alphabet) if alphabet > 1 else head
    precision = 10 if size < 1 << 16 else 11 if size < 1 << 20 else 12
    table, states, moves = _tables(counts, alphabet, 1 if size < 1 << 17 else 2, precision)
    return b"".join(
        (head, bytes((precision,)), table.data, *entropy.write_streams(slots, precision, states, moves))
    )


def decode(reader: Reader, grid: Grid, reference: Floats, values: Floats) -> None:
    """Inverse of `encode`, to the end of *reader*: fill *values*; MalformedPayloadError where damaged."""
    kind = reader.take(1)[0]
    if kind == _PLAIN:
        dequantise(entropy.decode(reader, values.size, grid.bins), grid, values)
        return
    alphabet = reader.varint()
    if not 1 <= alphabet <= 2 * _MAX_BINS + 3 or not _fits(grid):
        raise MalformedPayloadError("fedsz-q: impossible alphabet")
    tokens: Symbols
    if kind == _ONE_CONTEXT:
        if alphabet > 1:
            tokens = entropy.decode(reader, values.size, alphabet)
        else:
            reader.end()
            tokens = np.zeros(values.size, np.uint16)
    elif kind == _IN_CONTEXTS and alphabet <= _MAX_ALPHABET:
        tokens = _read_in_contexts(reader, alphabet, grid, reference)
    else:
        raise MalformedPayloadError("fedsz-q: unknown way of coding against a reference")
    ends = np.int32(grid.low), np.int32(grid.low + grid.bins - 1)
    _restore(tokens, *_lens(grid, reference), *ends, grid.step, values)


def _fits(grid: Grid) -> bool:
    """Whether points and distances are safely within 32 bits."""
    return grid.bins <= _MAX_BINS and abs(grid.low) <= _MAX_BINS


def _lens(grid: Grid, reference: Floats) -> tuple[Floats, Any, Any, Any]:
    """What finds a reference's place on the grid: its values, the inverse step, and the ends of where to look."""
    real = reference.dtype.type
    return reference, real(1 / grid.step), real(grid.low - 1), real(grid.low + grid.bins)


def _read_in_contexts(reader: Reader, alphabet: int, grid: Grid, reference: Floats) -> Symbols:
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
    contexts = np.zeros(-(-reference.size // tans.LANES) * tans.LANES, np.uint8)
    _find_contexts(*_lens(grid, reference), contexts)
    tokens = entropy.read_streams(reader, reference.size, tables, precision, contexts)
    reader.end()
    return tokens


def _estimate(symbols: Symbols, alphabet: int) -> float:
    """Bits that `entropy` would take, about."""
    if alphabet > 1 << 16:
        return float(symbols.size * alphabet.bit_length())
    return planes.choose_low_bits(symbols, alphabet)[2] if alphabet > 1 else 0.0


@compiled
def _place(value: Any, inverse: Any, first: Any, last: Any) -> Any:
    """A reference value in grid steps, kept within a step of the grid; in the tensor's own dtype, like its bounds."""
    return min(max(value * inverse, first), last)


@compiled
def _context(steps: Any, point: Any) -> Any:
    """0 for a quarter step or more to the border, one more for each halving of that; 8 for less than 2^-9."""
    border = np.float32(0.5) - np.float32(abs(steps - point))
    return (
        (border < np.float32(0.25)) + (border < np.float32(0.125)) + (border < np.float32(2.0**-4))
        + (border < np.float32(2.0**-5)) + (border < np.float32(2.0**-6)) + (border < np.float32(2.0**-7))
        + (border < np.float32(2.0**-8)) + (border < np.float32(2.0**-9))
    )  # fmt: skip


@compiled
def _relate(
    symbols: Any, low: Any, reference: Any, inverse: Any, first: Any, last: Any, tokens: Any, contexts: Any
) -> int:
    """Write every symbol's token and context; returns the largest token."""
    largest = np.int32(0)
    for i in range(symbols.size):
        steps = _place(reference[i], inverse, first, last)
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
def _find_contexts(reference: Any, inverse: Any, first: Any, last: Any, contexts: Any) -> None:
    for i in range(reference.size):
        steps = _place(reference[i], inverse, first, last)
        contexts[i] = _context(steps, np.rint(steps))


@compiled
def _restore(
    tokens: Any,
    reference: Any,
    inverse: Any,
    first: Any,
    last: Any,
    low: Any,
    high: Any,
    step: float,
    values: Any,
) -> None:
    """Values from tokens. Untrusted tokens still give points of the grid."""
    for i in range(tokens.size):
        steps = _place(reference[i], inverse, first, last)
        point = np.rint(steps)
        token = tokens[i]
        distance = np.int32((np.int64(token) + 1) >> 1)
        if token & 1 == 0:
            distance = np.int32(-distance)
        if steps < point:
            distance = np.int32(-distance)
        found = min(max(np.int32(np.int32(point) + distance), low), high)
        values[i] = np.float64(found) * step


@compiled
def _count_in_contexts(tokens: Any, contexts: Any, alphabet: int, slots: Any) -> tuple[Any, Any, Any]:
    """Write slots, context * alphabet + token, padded to the end with slot 0.

    Returns:
        How often each slot occurs; bits that tokens and tables take, about, in one context and in all.
    """
    size = tokens.size
    for i in range(size):
        slots[i] = contexts[i] * np.uint64(alphabet) + tokens[i]
    slots[size:] = 0
    counts = planes.count(slots[:size], CONTEXTS * alphabet)
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
    counts[0] += slots.size - size
    return counts, planes.cost(sums, alphabet, 0), bits


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
