"""Quantities with units: what is read, what is refused and what is said about it."""

from __future__ import annotations

import pickle
import re

import pytest

from netem import errors
from netem.units import (
    UnitError,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_fraction,
    parse_rate,
    parse_size,
)

RATE = "a rate is a number and bit/s, kbit/s, Mbit/s or Gbit/s, for example '10 Mbit/s'"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10 Mbit/s", 1e7),
        ("10Mbit/s", 1e7),
        ("0.5 Gbit/s", 5e8),
        ("8 bit/s", 8.0),
        ("64 kbit/s", 64e3),
        ("1e2 kbit/s", 1e5),
    ],
)
def test_rates_are_decimal(text, value):
    assert parse_rate(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("20 ms", 0.02), ("1.5 s", 1.5), ("250 us", 0.00025), ("2 min", 120.0), ("1 h", 3600.0), ("0 s", 0.0)],
)
def test_durations(text, value):
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("512 MB", 512_000_000), ("512 MiB", 536_870_912), ("1.5 kB", 1500), ("7 B", 7)]
)
def test_sizes(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize(
    ("given", "value"), [("1 %", 0.01), ("0.1%", 0.001), (0.25, 0.25), (0, 0.0), ("100 %", 1.0)]
)
def test_fractions(given, value):
    assert parse_fraction(given) == value


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("10 Mbs", "10 Mbit/s"),
        ("10 Mbps", "10 Mbit/s"),
        ("10 mbit/s", "10 Mbit/s"),
        ("1 G", "1 Gbit/s"),
        ("64 Kbit/s", "64 kbit/s"),
        ("9600 bps", "9600 bit/s"),
    ],
)
def test_a_slip_of_the_pen_is_refused_with_what_was_meant(text, hint):
    expected = f"got {text!r}; {RATE}; did you mean {hint!r}?"
    with pytest.raises(UnitError, match=f"^{re.escape(expected)}$"):
        parse_rate(text)


@pytest.mark.parametrize(
    "given",
    ["10 MB/s", "10", 10, 10.0, None, "", "Mbit/s", "-1 Mbit/s", "1,5 Mbit/s", "nan Mbit/s", "٣ Mbit/s"],
)
def test_what_could_mean_two_things_is_refused_without_a_guess(given):
    expected = (
        f"got {given!r}; a rate is a number and bit/s, kbit/s, Mbit/s or Gbit/s, for example '10 Mbit/s'"
    )
    with pytest.raises(UnitError, match=f"^{re.escape(expected)}$"):
        parse_rate(given)


def test_a_rate_of_zero_is_a_cut_link():
    with pytest.raises(UnitError, match=r"and above zero$"):
        parse_rate("0 Mbit/s")


def test_part_of_a_byte_is_refused():
    with pytest.raises(UnitError, match=r"and a whole number of bytes$"):
        parse_size("0.5 B")


@pytest.mark.parametrize("given", ["101 %", -0.1, 1.1, True, "0.5", float("nan")])
def test_fractions_out_of_range_are_refused(given):
    with pytest.raises(UnitError, match="a fraction is a number from 0 to 100 and %"):
        parse_fraction(given)


def test_formats_use_the_largest_fitting_unit():
    assert format_rate(10e6) == "10 Mbit/s"
    assert format_rate(1.25e9) == "1.25 Gbit/s"
    assert format_rate(957_123_456.0, digits=3) == "957 Mbit/s"
    assert format_duration(0.02) == "20 ms"
    assert format_duration(90.0) == "90 s"
    assert format_size(228_200_000) == "228.2 MB"
    assert format_size(0) == "0 B"


@pytest.mark.parametrize(
    "error",
    [
        UnitError("10 Mbs", "a rate", "10 Mbit/s"),
        errors.LinkSpecError("delay_s", -1, "a delay is from 0 to 60 s"),
        errors.CapabilityError("netem", "delay", "modprobe sch_netem"),
        errors.CommandError(["tc"], 1, "no"),
        errors.ShapingError("h0", "10", "11"),
        errors.TransferError("gone"),
        errors.LedgerError("/x", "damaged"),
    ],
)
def test_errors_are_rebuilt_from_their_arguments(error):
    for copy in (pickle.loads(pickle.dumps(error)), type(error)(*error.args)):
        assert str(copy) == str(error)
        assert copy.__dict__ == error.__dict__
