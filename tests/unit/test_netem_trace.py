"""Bandwidth traces: what they mean, the five formats, and errors that name the line."""

from __future__ import annotations

import math
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netem.trace import OUTAGE_BPS, Trace, TraceError, read_trace, write_trace

ROOT = Path(__file__).parents[2]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_rate_holds_until_the_next_point_and_starts_again():
    trace = Trace((0, 2, 3), (10e6, 5e6, 1e6))
    assert trace.length_s == 4.0
    assert [trace.rate_at(t) for t in (0, 1.99, 2, 3, 3.99, 4, 6.5, 7.5)] == [
        10e6,
        10e6,
        5e6,
        1e6,
        1e6,
        10e6,
        5e6,
        1e6,
    ]
    assert list(trace.changes(7)) == [(0, 10e6), (2, 5e6), (3, 1e6), (4, 10e6), (6, 5e6)]
    assert trace.mean_bps == (20e6 + 5e6 + 1e6) / 4
    assert trace.peak_bps == 10e6


def test_the_last_rate_holds_for_ever_where_asked():
    trace = Trace((0, 2), (10e6, 5e6), end="hold")
    assert trace.rate_at(1e6) == 5e6
    assert trace.next_change(2) == math.inf
    assert trace.bits_until(102) == 20e6 + 500e6
    assert trace.instant_of(1, 60e6) == 12


def test_an_outage_carries_next_to_nothing_but_never_nothing():
    trace = Trace((0, 1), (1e6, 0))
    assert trace.rate_at(1.5) == OUTAGE_BPS
    assert trace.instant_of(0.5, 1e6) == pytest.approx(2.5, abs=1e-4)


def test_before_its_beginning_the_first_rate_holds():
    for end in ("repeat", "hold"):
        trace = Trace((0, 2), (10e6, 5e6), end=end)
        assert (trace.rate_at(-3), trace.next_change(-3)) == (10e6, 2)
        assert trace.instant_of(-3, 10e6) == -2
        assert trace.instant_of(-3, 50e6 + 5e6) == 3


def test_the_longest_outage_may_go_on_from_the_end_into_the_beginning():
    assert Trace((0, 1, 2), (0, 1e6, 0), length_s=4).longest_outage_s == 3
    assert Trace((0, 1, 2, 3), (0, 1e6, 0, 1e6)).longest_outage_s == 1
    assert Trace((0, 1), (1e6, 0), end="hold").longest_outage_s == math.inf
    assert Trace((0,), (0,)).longest_outage_s == math.inf
    assert Trace((0,), (1e6,)).longest_outage_s == 0


def test_dilation_scales_rates_and_instants():
    fast = Trace((0, 2), (10e6, 5e6)).scaled(10, 0.1)
    assert (fast.times_s, fast.rates_bps, fast.length_s) == ((0, 0.2), (100e6, 50e6), 0.4)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0.01, 5), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
    st.sampled_from(["repeat", "hold"]),
    st.floats(-10, 100),
    st.floats(1, 1e8),
)
def test_carried_bits_are_the_integral_and_their_inverse(steps, rng, end, from_s, bits):
    times = [sum(steps[:i]) for i in range(len(steps))]
    trace = Trace(tuple(times), tuple(rng.choice([1e5, 2e6, 3e7]) for _ in times), end, sum(steps))
    to_s = trace.instant_of(from_s, bits)
    integral, now = 0.0, from_s
    while now < to_s:
        later = min(trace.next_change(now), to_s)
        assert later > now
        integral += trace.rate_at(now) * (later - now)
        now = later
    assert integral == pytest.approx(bits, rel=1e-6, abs=1e-3)
    assert trace.bits_until(to_s) - trace.bits_until(from_s) == pytest.approx(bits, rel=1e-6, abs=1e-2)


@given(st.integers(0, 10**6))
def test_the_rate_at_a_change_is_the_new_one_however_instants_round(lap):
    trace = Trace((0, 0.1, 0.3), (1e6, 2e6, 3e6), length_s=0.7)
    now = lap * 0.7
    for _ in range(7):
        later = trace.next_change(now)
        assert later > now
        before, after = trace.rate_at(math.nextafter(later, 0)), trace.rate_at(later)
        assert (before, after) in {(1e6, 2e6), (2e6, 3e6), (3e6, 1e6)}
        now = later


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((), ()), "a trace has one rate a time; got 0 times, 0 rates"),
        (((1.0,), (1e6,)), "a trace starts at 0 s, not at 1 s"),
        (((0.0, 1.0, 1.0), (1e6,) * 3), "the times of a trace rise"),
        (((0.0,), (-1.0,)), "the rates of a trace are from 0 to 1 Tbit/s"),
        (((0.0,), (math.nan,)), "the rates of a trace are from 0 to 1 Tbit/s"),
        (((0.0,), (1.0,), "loop"), "a trace ends with 'repeat' or 'hold', not 'loop'"),
        (((0.0, 5.0), (1.0, 1.0), "hold", 4.0), "a trace ends after its last point (5 s), not at 4 s"),
    ],
)
def test_an_impossible_trace_is_refused(arguments, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Trace(*arguments)


HSDPA = """\
1289406399 549692 59.851754 10.781778 248069 1008
1289406400 550772 59.851864 10.781833 191698 1080
1289406401 551773 59.851964 10.781901 280579 1001
"""
UCC = """\
Timestamp,Longitude,Latitude,Speed,NetworkMode,DL_bitrate,UL_bitrate,State,PINGAVG
2019.11.28_07.27.58,-8.5,51.8,0,5G,9999,7,I,-
2019.11.28_07.27.59,-8.5,51.8,0,5G,20000,150,D,-
2019.11.28_07.27.59,-8.5,51.8,0,5G,21000,160,D,-
2019.11.28_07.28.01,-8.5,51.8,0,5G,35000,200,D,-
2019.11.28_07.28.02,-8.5,51.8,0,5G,-,-,D,-
2019.11.28_07.28.04,-8.5,51.8,0,5G,100,90,D,-
"""


@pytest.mark.parametrize(
    ("text", "times_s", "rates_bps", "length_s"),
    [
        ("0,12.5\n1.5,8\n", (0, 1.5), (12.5e6, 8e6), 3.0),
        ("# made by hand\nseconds,Mbit/s\n10,1\n\n11,2\n", (0, 1), (1e6, 2e6), 2.0),
        ("\ufeff0,1\r\n1,2\r\n", (0, 1), (1e6, 2e6), 2.0),
        ("0 1200\n500 800\n", (0, 0.5), (1.2e6, 0.8e6), 1.0),
        (
            HSDPA,
            (0, 1.008, 2.088),
            (8e3 * 248069 / 1008, 8e3 * 191698 / 1080, 8e3 * 280579 / 1001),
            3.089,
        ),
        (UCC, (0, 2, 5), (20e6, 35e6, 0.1e6), 8.0),
        # Packets at 1, 100 and 101 ms: two in the first tenth of a second, one in the 50 ms after it.
        ("1\n100\n101\n150\n", (0, 0.1), (2 * 12112 / 0.1, 2 * 12112 / 0.05), 0.15),
    ],
)
def test_each_format_is_found_and_read(tmp_path, text, times_s, rates_bps, length_s):
    trace = read_trace(write(tmp_path, text))
    assert trace.times_s == pytest.approx(times_s)
    assert trace.rates_bps == pytest.approx(rates_bps)
    assert trace.length_s == pytest.approx(length_s)


def test_a_mahimahi_trace_carries_as_many_full_packets_as_it_has_lines(tmp_path):
    rng = random.Random(3)
    lines = sorted(rng.randrange(1, 2000) for _ in range(500))
    trace = read_trace(write(tmp_path, "\n".join(map(str, lines))))
    assert trace.bits_until(trace.length_s) == pytest.approx(500 * 8 * 1514, rel=1e-3)


def test_the_uplink_of_a_ucc_file_is_its_other_column(tmp_path):
    trace = read_trace(write(tmp_path, UCC), direction="uplink", end="hold")
    assert trace.rates_bps == (150e3, 200e3, 90e3)
    assert trace.end == "hold"


@pytest.mark.parametrize(
    ("text", "format_", "line", "what"),
    [
        ("", None, 0, "no data; a trace has at least one line"),
        ("0,1\n1,fast\n", None, 2, "got 'fast'; Mbit/s is a number, 0 or above"),
        ("0,1\n1,-3\n", None, 2, "got '-3'; Mbit/s is a number, 0 or above"),
        ("0,1\n1,nan\n", None, 2, "got 'nan'; Mbit/s is a number, 0 or above"),
        ("0,1\n2,1\n\n2,3\n", None, 4, "time goes from 2 s to 2 s; each line is later"),
        ("0,1\n1,2,3\n", None, 2, "got 3 columns in '1,2,3'; a line is 'seconds,Mbit/s'"),
        ("0 1 2\n", "ms-kbit", 1, "got 3 columns in '0 1 2'; a line is 'milliseconds kbit/s'"),
        ("1 2 3 4 5 0\n", None, 1, "no time elapsed; a line covers more than 0 ms"),
        ("5\n3\n", None, 2, "time goes from 5 ms to 3 ms; it never goes back"),
        ("1.5\n", None, 1, "got '1.5'; a line is one whole number of milliseconds"),
        ("0\n0\n", None, 2, "the last packet leaves at 0 ms; its time is the length of the trace"),
        ("Timestamp,DL_bitrate\nnoon,5\n", None, 2, "got 'noon'; a time is written 2019.11.28_07.27.30"),
        ("Timestamp,UL_bitrate\n", None, 1, "no column DL_bitrate in the header"),
        ("Timestamp,DL_bitrate\n1\n", None, 2, "got 1 columns; the header has 2"),
        ("Timestamp,DL_bitrate\n2019.11.28_07.27.58,-\n", None, 2, "no usable line"),
        ("0,2000000\n", None, 0, "the rates of a trace are from 0 to 1 Tbit/s"),
        ("0,1\n", "pcap", 0, "no format 'pcap'; known: csv, ms-kbit, hsdpa, ucc, mahimahi"),
    ],
)
def test_an_error_names_the_file_the_line_and_what_belongs_there(tmp_path, text, format_, line, what):
    path = write(tmp_path, text)
    with pytest.raises(TraceError) as error:
        read_trace(path, format=format_)
    place = f"{path}:{line}" if line else str(path)
    assert str(error.value) == f"{place}: {what}"
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_an_unknown_format_shows_the_known_ones(tmp_path):
    with pytest.raises(
        TraceError, match=r"trace\.txt:1: cannot tell the format from 'a b c'; known: 'seconds,"
    ):
        read_trace(write(tmp_path, "a b c\n"))


def test_a_missing_file_and_a_picture_are_refused(tmp_path):
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "none.csv")
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(TraceError, match="not a text file"):
        read_trace(picture)


@given(st.lists(st.tuples(st.floats(0.001, 100), st.floats(0, 1e5)), min_size=1, max_size=10))
def test_what_is_written_is_read_back(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("trace") / "t.csv"
    times = [0.0]
    for seconds, _ in steps[1:]:
        times.append(times[-1] + seconds)
    write_trace(path, Trace(tuple(times), tuple(mbit * 1e6 for _, mbit in steps)), "two\nlines")
    again = read_trace(path)
    assert again.times_s == tuple(times)
    assert again.rates_bps == pytest.approx(tuple(mbit * 1e6 for _, mbit in steps), rel=1e-15)


def test_the_shipped_traces_are_what_their_script_makes(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "make_traces.py"), str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    shipped = ROOT / "scenarios" / "traces"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in shipped.iterdir())
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (shipped / made.name).read_bytes(), made.name
        assert read_trace(made).length_s >= 300
