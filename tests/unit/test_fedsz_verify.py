"""Scan, compare, patch."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fedsz.errors import MalformedPayloadError
from fedsz.verify import apply_patch, finite_range, offenders, pack_patch

RNG = np.random.default_rng(0)


def test_range_of_finite_values() -> None:
    values = np.float32([3, -1, 2])
    assert finite_range(values) == (-1.0, 3.0, None)
    low, high, mask = finite_range(np.float64([np.nan, -1, np.inf, 2, -np.inf]))
    assert (low, high) == (-1.0, 2.0)
    assert mask is not None
    assert mask.tolist() == [True, False, True, False, True]
    low, high, mask = finite_range(np.float32([np.nan, np.inf]))
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", ml_dtypes.bfloat16])
def test_offenders_in_every_dtype(dtype: object) -> None:
    before = np.array([0, 0, 1, np.nan, 1, np.inf, 5], dtype)  # type: ignore[call-overload]
    after = np.array([0.5, 0.25, np.nan, 1, np.inf, np.inf, 5], dtype)  # type: ignore[call-overload]
    assert offenders(before, after, 0.25).tolist() == [0, 2, 3, 4, 5]
    assert offenders(before[:2], after[:2], 0.5).tolist() == []


def test_the_comparison_is_exact_in_float64() -> None:
    before, after = np.float32([1.0]), np.nextafter(np.float32([1.0]), np.float32(2))
    spacing = float(after[0]) - 1.0
    assert offenders(before, after, spacing).size == 0
    assert offenders(before, after, np.nextafter(spacing, 0)).size == 1


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_a_patch_puts_back_exactly_what_was_there(dtype: str, count: int) -> None:
    exact = RNG.normal(size=5000).astype(dtype)
    exact[7] = np.nan
    positions = np.sort(RNG.choice(5000, count, replace=False))
    decoded = np.zeros_like(exact)
    apply_patch(memoryview(pack_patch(positions, exact)), decoded)
    expected = np.zeros_like(exact)
    expected[positions] = exact[positions]
    assert decoded.tobytes() == expected.tobytes()


def test_a_cut_patch_is_refused() -> None:
    patch = pack_patch(np.array([1, 2, 3]), np.arange(10.0))
    for end in range(len(patch)):
        with pytest.raises(MalformedPayloadError):
            apply_patch(memoryview(patch[:end]), np.zeros(10))
    with pytest.raises(MalformedPayloadError):
        apply_patch(memoryview(patch), np.zeros(10, "f4"))
