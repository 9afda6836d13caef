"""The crossing of two straight lines in 1/rate is found exactly, wherever it lies between the swept rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.estimate import median, zero_crossing

rate_lists = st.lists(st.floats(1e3, 1e11), min_size=2, max_size=12, unique=True).map(sorted)


@given(rate_lists, st.floats(1e-6, 1e3), st.floats(0.001, 0.999))
def test_a_line_crosses_where_it_crosses(rates, added_s, share):
    rates = np.array(rates)
    if np.diff(np.log(rates)).min() < 1e-6:
        return  # rates that rounding cannot tell apart
    truth = math.exp(math.log(rates[0]) + share * math.log(rates[-1] / rates[0]))
    saved_bits = added_s * truth
    found = float(zero_crossing(rates, added_s - saved_bits / rates))
    assert found == pytest.approx(truth, rel=1e-6)


@given(rate_lists, st.floats(1e-6, 1e3), st.floats(1.01, 1e3))
def test_a_crossing_outside_is_not_made_up(rates, added_s, beyond):
    rates = np.array(rates)
    assert zero_crossing(rates, added_s - added_s * rates[0] / beyond / rates) == 0.0
    assert zero_crossing(rates, added_s - added_s * rates[-1] * beyond / rates) == math.inf


@given(rate_lists, st.data())
def test_any_numbers_give_one_rate_in_the_range_or_none(rates, data):
    values = data.draw(st.lists(st.floats(-1e3, 1e3), min_size=len(rates), max_size=len(rates)))
    found = float(zero_crossing(np.array(rates), np.array(values)))
    assert found in (0.0, math.inf) or rates[0] * (1 - 1e-9) <= found <= rates[-1] * (1 + 1e-9)


@settings(max_examples=50)
@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=5, max_size=5), min_size=1, max_size=6
    )
)
def test_the_median_is_numpys(values):
    table = np.array(values)
    for row, found in zip(table, median(table), strict=True):
        there = row[~np.isnan(row)]
        if there.size:
            assert found == pytest.approx(np.median(there), rel=1e-12, abs=1e-12)
        else:
            assert math.isnan(found)
