"""The uniform grid of `fedsz-q`: which step keeps a bound, and the passes between values and grid points.

A value is coded as its nearest multiple of one step: decoded = round(point * step) in the tensor's dtype, where the
product of the integer and the step is taken in float64. For float32 the step itself is a float32, so that the product
is exact and rounds once. 0 stays exactly 0 (pruned weights do).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedsz.compiled import compiled
from fedsz.errors import MalformedPayloadError
from fedsz.registry import CannotEncodeError, Floats
from fedsz.subtractive import NO_DITHER, Dither, dither
from fedsz.wire import Reader, write_varints

#: Below this distance from 0, grid points are found in the tensor's own dtype, 16 values an instruction.
NARROW = 1 << 15
#: Largest distance of a grid point from 0.
MAX_POINT = 1 << 31
# Tensors of a group have at most so many times as many grid points together as any alone.
_ALIKE = 4

Symbols = NDArray[Any]  # uint16 or uint32


class Grid(NamedTuple):
    """Grid points ``low`` to ``low + bins - 1`` in steps of ``step``; a symbol is a point minus ``low``.

    ``narrow``: the tensor's points can be found in its own dtype. It stays with the tensor where tensors are coded
    together on wider limits, because the two ways may choose different neighbours for a value half-way: what a tensor
    decodes to must not depend on its company.
    """

    step: float
    low: int
    bins: int
    narrow: bool = False

    def within(self, low: int, bins: int) -> Grid:
        """The same grid with wider limits."""
        return self._replace(low=low, bins=bins)


def choose_grid(low: float, high: float, bound: float, dtype: np.dtype[np.floating]) -> Grid:
    """The widest grid that is sure to keep *bound* for values of *dtype* between *low* and *high*.

    The step is a little below 2 * bound, by what the roundings of quantising and of the decoded value can add: with P
    the largest point and u = 2^-24 (float32), u P each for the inverse step, the product and the result.

    Raises: CannotEncodeError where the bound is not well above the spacing of the values.
    """
    digits = 24 if dtype.itemsize == 4 else 53
    largest = max(abs(low), abs(high))
    point = largest / (2 * bound)
    if not point < MAX_POINT / 2:
        raise CannotEncodeError
    slack = point * 2.0 ** (1 - digits) * (3 if point < NARROW - 2 or dtype.itemsize == 8 else 1)
    if slack > 0.25:
        raise CannotEncodeError
    step = 2 * bound / (1 + slack) * (1 - 2.0**-50)
    if dtype.itemsize == 4:
        rounded = np.float32(step)
        step = float(rounded if rounded <= step else np.nextafter(rounded, np.float32(0)))
    if step < np.finfo(dtype).smallest_normal:
        raise CannotEncodeError
    # Within 0.01 of halfway the outer point is counted in: the roundings of quantising (at most 2^15 * 2^-23 where it
    # is done in float32) never leave the grid. Always in float64 here: the float32 inverse can be off by 0.1 points.
    first, last = math.floor(low / step + 0.49), math.ceil(high / step - 0.49)
    return Grid(step, first, last - first + 1, max(-first, last) < NARROW)


def on_common_limits(grids: Sequence[Grid], largest_alphabet: int) -> list[Grid]:
    """Grids whose symbols share one alphabet; CannotEncodeError where one does not suit them."""
    low = min(grid.low for grid in grids)
    bins = max(grid.low + grid.bins for grid in grids) - low
    if bins > _ALIKE * min(grid.bins for grid in grids) and bins > largest_alphabet:
        raise CannotEncodeError  # the container then comes with each alone
    return [grid.within(low, bins) for grid in grids]


def write_grids(grids: Sequence[Grid], dtype: np.dtype[np.floating]) -> bytes:
    """Steps and common limits, as they stand on the wire."""
    low, bins = grids[0].low, grids[0].bins
    steps = np.array([grid.step for grid in grids], dtype.newbyteorder("<")).tobytes()
    return steps + write_varints([2 * low if low >= 0 else -2 * low - 1, bins])


def read_grids(reader: Reader, tensors: int, dtype: np.dtype[np.floating]) -> Iterator[Grid]:
    """Inverse of `write_grids`, from a stranger; MalformedPayloadError where a point could pass the dtype's range."""
    steps = np.frombuffer(reader.take(tensors * dtype.itemsize), dtype.newbyteorder("<")).tolist()
    number, bins = reader.varint(), reader.varint()
    low = -(number + 1 >> 1) if number & 1 else number >> 1
    largest = max(abs(low), abs(low + bins - 1))
    if not 1 <= bins <= MAX_POINT or largest > MAX_POINT:
        raise MalformedPayloadError("fedsz-q: impossible grid")
    finfo = np.finfo(dtype)
    # Half of the largest number, because a damaged symbol may lie up to one more grid beyond the last point.
    limit = float(finfo.max) / (2 * max(largest, 1))
    for step in steps:
        if not float(finfo.smallest_normal) <= step <= limit:
            raise MalformedPayloadError("fedsz-q: impossible step of the grid")
        yield Grid(step, low, bins)


def extent(values: Floats, chunk: int) -> tuple[float, float]:
    """Smallest and largest value; by chunks, so that the second look finds them in the cache."""
    parts = [values[first : first + chunk] for first in range(0, values.size, chunk)]
    ends = [(float(part.min()), float(part.max())) for part in parts]
    return min(low for low, _ in ends), max(high for _, high in ends)


def inverse_of(step: float, dtype: np.dtype[np.floating]) -> float:
    """1 / step as quantising uses it."""
    return float(np.float32(1 / step)) if dtype.itemsize == 4 else 1 / step


@compiled
def _quantise_narrow(values: Any, inverse: Any, step: Any, low: Any, limit: Any, symbols: Any) -> bool:
    outside = False
    for i in range(values.size):
        value = values[i]
        point = np.rint(value * inverse)
        symbols[i] = np.uint32(np.int32(point) - low)
        outside |= not (abs(point * step - value) < limit)
    return not outside


@compiled
def _quantise_wide(
    values: Any, inverse: float, step: float, low: int, bound: float, seed: Any, at: Any, symbols: Any
) -> bool:
    outside = False
    for i in range(values.size):
        value = np.float64(values[i])
        moved = dither(seed, at + np.uint64(i))
        point = np.rint(value * inverse + moved)
        symbols[i] = np.int64(point) - low
        decoded = values.dtype.type((point - moved) * step)
        outside |= not (abs(np.float64(decoded) - value) <= bound)
    return not outside


def quantise(values: Floats, grid: Grid, bound: float, symbols: Symbols, moved: Dither = NO_DITHER) -> None:
    """Write the symbol of every value to *symbols*, proven to decode within *bound*.

    Args:
        values: between the *low* and *high* from which *grid* was chosen.
        symbols: as many, uint16 or uint32, of `symbol_dtype`.
        moved: how the grid is.

    Raises: CannotEncodeError where some value would not decode within the bound.
    """
    if grid.narrow and moved.seed is None:
        real = values.dtype.type
        limit = real(bound)
        if limit > bound:
            limit = np.nextafter(limit, real(0))
        # A difference rounds to a number below the limit only if it is below it: the test may refuse, never lie.
        inverse = real(inverse_of(grid.step, values.dtype))
        if _quantise_narrow(values, inverse, real(grid.step), np.int32(grid.low), limit, symbols):
            return
    if not _quantise_wide(values, 1 / grid.step, grid.step, grid.low, bound, *moved, symbols):
        raise CannotEncodeError


def symbol_dtype(bins: int) -> type[np.uint16 | np.uint32]:
    """The dtype that symbols below *bins* are held in."""
    return np.uint16 if bins <= 1 << 16 else np.uint32


@compiled
def _dequantise(symbols: Any, low: int, step: float, seed: Any, at: Any, values: Any) -> None:
    for i in range(symbols.size):
        point = np.float64(np.int64(symbols[i]) + low)
        values[i] = (point - dither(seed, at + np.uint64(i))) * step


def dequantise(symbols: Symbols, grid: Grid, values: Floats, moved: Dither = NO_DITHER) -> None:
    """Fill *values* from as many *symbols*; *moved*: how their grid is."""
    _dequantise(symbols, grid.low, grid.step, *moved, values)


@compiled
def _dequantise_all(symbols: Any, counts: Any, low: int, steps: Any, values: Any) -> None:
    start = 0
    for tensor in range(counts.size):
        end = start + counts[tensor]
        _dequantise(symbols[start:end], low, steps[tensor], None, np.uint64(0), values[start:end])
        start = end


def dequantise_all(symbols: Symbols, counts: Sequence[int], grids: Sequence[Grid], values: Floats) -> None:
    """Fill *values* of several small tensors, one after the other, from as many *symbols*: one call for all."""
    steps = np.array([grid.step for grid in grids])
    _dequantise_all(symbols, np.array(counts), grids[0].low, steps, values)
