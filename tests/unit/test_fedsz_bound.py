"""Error bounds: what they mean, and what is no bound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedsz import ErrorBound, InvalidBoundError


def test_absolute_bound_of_each_mode() -> None:
    assert ErrorBound("REL", 0.01).absolute(5.0) == 0.05
    assert ErrorBound("REL_STATE", 0.01).absolute(5.0) == 0.05
    assert ErrorBound("ABS", 0.01).absolute(5.0) == 0.01


def test_any_real_number_becomes_a_float() -> None:
    bound = ErrorBound("ABS", np.float32(0.5))  # type: ignore[arg-type]
    assert (type(bound.value), bound.value) == (float, 0.5)
    assert ErrorBound("ABS", 0) == ErrorBound("ABS", 0.0)


@pytest.mark.parametrize("value", [math.nan, -1e-3, math.inf, -math.inf])
def test_a_value_that_is_no_bound_is_refused(value: float) -> None:
    with pytest.raises(
        InvalidBoundError, match=f"^error bound: value is a finite number >= 0, got {value!r}$"
    ):
        ErrorBound("REL", value)


@pytest.mark.parametrize("value", ["tight", None, [1.0, 2.0]])
def test_a_value_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(InvalidBoundError, match="value is a number >= 0"):
        ErrorBound("REL", value)  # type: ignore[arg-type]


def test_modes_travel_as_names() -> None:
    with pytest.raises(InvalidBoundError, match=r"^error bound: mode is one of REL, ABS, REL_STATE, got 2$"):
        ErrorBound(2, 0.1)  # type: ignore[arg-type]
