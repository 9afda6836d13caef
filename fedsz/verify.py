"""The bound as a promise: scan what goes in, compare what comes out, patch what broke.

The comparison is one compiled pass: a NumPy expression over float64 temporaries costs several times the memory traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsz.arrays import Array, codec_values
from fedsz.compiled import compiled
from fedsz.errors import MalformedPayloadError
from fedsz.lossless import zstd_compress, zstd_decompress_into
from fedsz.registry import Floats
from fedsz.wire import Reader, write_varints


@compiled
def _count_offenders(values: Any, decoded: Any, bound: float) -> int:
    offenders = 0
    for i in range(values.size):
        offenders += not (abs(np.float64(decoded[i]) - np.float64(values[i])) <= bound)
    return offenders


def finite_range(values: Floats) -> tuple[float, float, NDArray[np.bool_] | None]:
    """Smallest and largest finite value, and the mask of non-finite values (None where there are none).

    Both are NaN where nothing is finite.
    """
    low, high = float(values.min()), float(values.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high, None
    mask = ~np.isfinite(values)
    rest = values[~mask]
    if not rest.size:
        return np.nan, np.nan, mask
    return float(rest.min()), float(rest.max()), mask


def range_over(arrays: Iterable[Array]) -> float:
    """Largest less smallest finite value of all *arrays* together, of dtypes that may go lossy; 0.0 without any."""
    low, high = math.inf, -math.inf
    for array in arrays:
        this_low, this_high, _ = finite_range(codec_values(array))
        if not math.isnan(this_low):
            low, high = min(low, this_low), max(high, this_high)
    return max(high - low, 0.0)


def offenders(values: Array, decoded: Array, bound: float) -> NDArray[np.intp]:
    """Positions where *decoded* is not within *bound* of *values*, in float64; a NaN on either side offends."""
    if decoded.dtype.itemsize < 4:
        values, decoded = values.astype(np.float32), decoded.astype(np.float32)
    if _count_offenders(values, decoded, bound) == 0:
        return np.empty(0, np.intp)
    with np.errstate(invalid="ignore"):  # infinity minus itself is a NaN, which offends as it should
        difference = np.abs(decoded.astype(np.float64) - values.astype(np.float64))
    return np.flatnonzero(~(difference <= bound))


def pack_patch(positions: NDArray[np.intp], values: Array) -> bytes:
    """Exact values at sorted *positions*: count, then a zstd frame of position gaps (uint64) and the values' bits."""
    gaps = np.diff(positions, prepend=0).astype("<u8")
    planes = np.ascontiguousarray(gaps.view(np.uint8).reshape(-1, 8).T).tobytes()
    return write_varints([len(positions)]) + zstd_compress(planes + values[positions].tobytes(), 3)


def apply_patch(blob: memoryview, decoded: Array) -> None:
    """Write the exact values of a patch into *decoded* (1-D, native, of the tensor's own dtype)."""
    reader = Reader(blob, "patch")
    count = reader.varint()
    if not 0 < count <= decoded.size:
        raise MalformedPayloadError(f"patch of {count} values for a tensor of {decoded.size}")
    data = np.empty(count * (8 + decoded.itemsize), np.uint8)
    zstd_decompress_into(reader.take(reader.remaining()), data.data)
    gaps = np.ascontiguousarray(data[: 8 * count].reshape(8, -1).T).view("<u8").reshape(-1)
    if int(gaps.max()) >= decoded.size or (count > 1 and int(gaps[1:].min()) == 0):
        raise MalformedPayloadError("patch positions do not ascend within the tensor")
    positions = np.cumsum(gaps, dtype=np.uint64)
    if int(positions.max()) >= decoded.size:
        raise MalformedPayloadError("patch positions do not ascend within the tensor")
    decoded[positions.astype(np.intp)] = data[8 * count :].view(decoded.dtype)
