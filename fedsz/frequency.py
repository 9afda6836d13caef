"""How often each symbol occurs: counts to coder frequencies, and their few bytes on the wire.

A count travels as its logarithm, the level 1 + 2^m * exponent + the m mantissa bits after the leading one, and a
level as 1 + its difference to the one before, zigzag, in a Rice code; 0 stands for a run of absent symbols, whose
length follows. Histograms of weights are smooth, so that is about 4 bits a symbol; rounding to m = 3 bits costs
0.0005 bits a value. Both sides then turn the same rounded weights into frequencies with the same integer arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsz.compiled import compiled

Counts = NDArray[np.uint32] | NDArray[np.uint64]
Weights = NDArray[np.uint64]
Frequencies = NDArray[np.uint32]

MAX_MANTISSA_BITS = 3
_MAX_EXPONENT = 31 + 8  # counts below 2^31, scaled by up to 2^8
_MAX_QUOTIENT = 24  # a longer Rice quotient is written as this many ones and the number itself
_ESCAPE_BITS = 10
_HEAD_BITS = 8  # Rice parameter and mantissa bits


@compiled
def _level(count: Any, mantissa_bits: int) -> Any:
    """Logarithmic level of *count*, rounded to nearest."""
    if count == 0:
        return 0
    scaled = np.int64(count) << mantissa_bits
    exponent = 0
    while (scaled >> exponent) >= (2 << mantissa_bits):
        exponent += 1
    mantissa = scaled >> exponent
    if exponent and (scaled >> (exponent - 1)) & 1:
        mantissa += 1
        if mantissa == (2 << mantissa_bits):
            mantissa >>= 1
            exponent += 1
    return 1 + (exponent << mantissa_bits) + mantissa - (1 << mantissa_bits)


@compiled
def _weight(level: int, mantissa_bits: int) -> int:
    """The count that *level* stands for, times 2^mantissa_bits."""
    if level == 0:
        return 0
    exponent = (level - 1) >> mantissa_bits
    mantissa = (level - 1) & ((1 << mantissa_bits) - 1)
    return ((1 << mantissa_bits) + mantissa) << exponent


@compiled
def _put(out: NDArray[np.uint8], at: int, value: int, bits: int) -> int:
    """Write *bits* (up to 32) of *value* at bit *at* of zeroed *out*; returns the bit after them."""
    left = np.uint64(value) << np.uint64(at & 7)
    byte, end = at >> 3, at + bits
    while byte << 3 < end:
        out[byte] |= np.uint8(left)
        left >>= np.uint64(8)
        byte += 1
    return end


@compiled
def _get(data: NDArray[np.uint8], at: int, bits: int) -> Any:
    """*bits* (up to 32) at bit *at*; bits beyond the end are 0. Untrusted *data*."""
    held = np.uint64(0)
    byte = at >> 3
    for j in range(5):
        if byte + j < data.size:
            held |= np.uint64(data[byte + j]) << np.uint64(8 * j)
    return np.int64((held >> np.uint64(at & 7)) & ((np.uint64(1) << np.uint64(bits)) - np.uint64(1)))


@compiled
def _put_rice(out: NDArray[np.uint8], at: int, number: int, rice: int) -> int:
    quotient = number >> rice
    if quotient < _MAX_QUOTIENT:
        at = _put(out, at, (1 << quotient) - 1, quotient + 1)
        return _put(out, at, number & ((1 << rice) - 1), rice)
    at = _put(out, at, (1 << _MAX_QUOTIENT) - 1, _MAX_QUOTIENT)
    return _put(out, at, number, _ESCAPE_BITS)


@compiled
def _get_rice(data: NDArray[np.uint8], at: int, rice: int) -> tuple[int, int]:
    quotient = 0
    while quotient < _MAX_QUOTIENT and _get(data, at, 1):
        quotient += 1
        at += 1
    if quotient < _MAX_QUOTIENT:
        return at + 1 + rice, (quotient << rice) | _get(data, at + 1, rice)
    return at + _ESCAPE_BITS, _get(data, at, _ESCAPE_BITS)


@compiled
def write_weights(counts: Counts, mantissa_bits: int, weights: Weights, out: NDArray[np.uint8]) -> int:
    """Write the levels of *counts* to *out*, and what a reader will make of them to *weights*.

    Args:
        counts: of every symbol of the alphabet; at least one above 0.
        mantissa_bits: 0 to 3.
        weights: room for as many numbers.
        out: room for 16 + 5 * counts.size bytes, all 0.

    Returns:
        How many bytes were written.
    """
    numbers = np.empty(counts.size, np.int64)
    size, before, absent = 0, 0, 0
    for symbol in range(counts.size):
        level = _level(counts[symbol], mantissa_bits)
        weights[symbol] = _weight(level, mantissa_bits)
        if level == 0:
            absent += 1
            continue
        if absent:
            numbers[size] = -absent
            size += 1
            absent = 0
        step = level - before
        numbers[size] = 1 + ((step << 1) if step >= 0 else (-step << 1) - 1)
        size += 1
        before = level
    if absent:
        numbers[size] = -absent
        size += 1

    best, best_bits = 0, np.int64(1) << 62
    for rice in range(8):
        bits = np.int64(0)
        for i in range(size):
            quotient = max(numbers[i], 0) >> rice
            bits += quotient + 1 + rice if quotient < _MAX_QUOTIENT else _MAX_QUOTIENT + _ESCAPE_BITS
        if bits < best_bits:
            best, best_bits = rice, bits

    at = _put(out, 0, best | (mantissa_bits << 3), _HEAD_BITS)
    for i in range(size):
        at = _put_rice(out, at, max(numbers[i], 0), best)
        if numbers[i] < 0:  # the length of a run of absent symbols, as an Elias gamma code
            length = 0
            while (-numbers[i]) >> (length + 1):
                length += 1
            at = _put(out, at, (1 << length) - 1, length + 1)
            at = _put(out, at, (-numbers[i]) & ((1 << length) - 1), length)
    return (at + 7) >> 3


@compiled
def read_weights(data: NDArray[np.uint8], weights: Weights) -> int:
    """Inverse of `write_weights`: fill *weights* from untrusted *data*.

    Returns:
        How many bytes were read; -1 where they are damaged.
    """
    end = data.size << 3
    if data.size == 0 or data[0] >> np.uint8(5):
        return -1
    rice, mantissa_bits = _get(data, 0, 3), _get(data, 3, 2)
    at = _HEAD_BITS
    symbol, level = 0, 0
    while symbol < weights.size:
        if at >= end:
            return -1
        at, number = _get_rice(data, at, rice)
        if number == 0:
            length = 0
            while length < 16 and _get(data, at, 1):
                length += 1
                at += 1
            run = (1 << length) | _get(data, at + 1, length)
            at += 1 + length
            if run > weights.size - symbol:
                return -1
            for _ in range(run):
                weights[symbol] = 0
                symbol += 1
            continue
        number -= 1
        level += -((number + 1) >> 1) if number & 1 else number >> 1
        if level < 1 or level > (_MAX_EXPONENT + 1) << mantissa_bits:
            return -1
        weights[symbol] = _weight(level, mantissa_bits)
        symbol += 1
    if at > end or _get(data, at, -at & 7):
        return -1
    return (at + 7) >> 3


@compiled
def normalise(weights: Weights, precision: int, frequencies: Frequencies) -> bool:
    """Turn *weights* into frequencies that sum to 2^precision, every weight above 0 getting at least 1.

    Integers only, so that every machine gets the same. False where that is impossible: no symbol, or more than
    2^precision of them.
    """
    total = np.uint64(0)
    used = 0
    for symbol in range(weights.size):
        total += weights[symbol]
        used += weights[symbol] > 0
    size = np.int64(1) << precision
    if used == 0 or used > size:
        return False
    rest: Any = size
    largest = 0
    half = total >> np.uint64(1)
    for symbol in range(weights.size):
        # Below 2^43 * 2^14, so nothing overflows.
        f: Any = np.int64((weights[symbol] * np.uint64(size) + half) // total)
        if weights[symbol] > 0 and f == 0:
            f = 1
        frequencies[symbol] = f
        rest -= f
        if f > frequencies[largest]:
            largest = symbol
    if rest >= -np.int64(frequencies[largest] >> 2):
        frequencies[largest] += rest
        return True
    while rest < 0:  # many rare symbols were rounded up to 1: the others pay in turn
        for symbol in range(weights.size):
            if rest < 0 and frequencies[symbol] > 1:
                frequencies[symbol] -= 1
                rest += 1
    return True
