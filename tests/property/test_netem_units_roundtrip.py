"""What is written for people can be read back without loss."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from netem.units import (
    UnitError,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)


@given(st.floats(min_value=1e-3, max_value=1e15, allow_nan=False))
def test_rates_survive_formatting(rate_bps):
    assert parse_rate(format_rate(rate_bps)) == rate_bps


@given(st.floats(min_value=0, max_value=1e9, allow_nan=False))
def test_durations_survive_formatting(duration_s):
    assert parse_duration(format_duration(duration_s)) == duration_s


@given(st.integers(min_value=0, max_value=1 << 62))
def test_sizes_survive_formatting_up_to_the_precision_of_a_float(size):
    assert parse_size(format_size(size)) == size


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text):
    for parse in (parse_rate, parse_duration, parse_size):
        with contextlib.suppress(UnitError):
            assert parse(text) >= 0
