"""Tables for the terminal, read as text."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console
from testbed_rows import EFFICIENCY, sweep_rows, true_crossover_bps

from testbed.crossover import crossovers, rate_text
from testbed.row import CodecUsed
from testbed.split import codec_names, summarise
from testbed.tables import FILE_WIDTH, console, crossover_table, print_results, seconds_text, split_tables

ROWS = sweep_rows()


def text_of(*things) -> str:
    stream = io.StringIO()
    to = Console(file=stream, width=FILE_WIDTH)
    for thing in things:
        to.print(thing)
    return stream.getvalue()


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("│")[1:-1]]


def test_the_split_adds_up_on_paper():
    (pi, phone) = split_tables(ROWS)
    text = text_of(pi)
    assert text.splitlines()[0].strip() == "Where the time of a round goes: pi (raspberry-pi-4)"
    lines = [cells_of(line) for line in text.splitlines() if "│" in line]
    assert len(lines) == 8 * 4
    first = lines[0]
    assert first[:2] == ["10 Mbit/s", "none"]
    assert sum(float(value) for value in first[2:9]) == pytest.approx(float(first[9]), rel=0.01)
    share = (float(first[4]) + float(first[6])) / float(first[9])
    assert first[10:] == [f"{100 * share:.2g} %", "1.00", "10"]
    assert [line[1] for line in lines[:4]] == ["none", "sz2", "sz3", "fedsz-q"]
    assert "phone (pixel-6)" in text_of(phone)


def test_what_was_left_out_is_said():
    rows = [
        dataclasses.replace(row, trusted=False, untrusted_because="late") if row.cell == 0 else row
        for row in ROWS
    ]
    assert "8 (-2)" in text_of(split_tables(rows)[0])
    failed = [
        dataclasses.replace(row, status="failed", reason="oom") if row.cell == 0 else row for row in ROWS
    ]
    assert "8 (-2)" in text_of(split_tables(failed)[0])
    assert "78 (-2)" in text_of(crossover_table(crossovers(failed)))


def test_a_point_without_a_usable_row_has_no_numbers():
    rows = [dataclasses.replace(row, status="failed", reason="oom") for row in ROWS if row.cell == 0]
    (item, _) = summarise(rows)
    assert (item.used, item.failed, item.compression_ratio) == (0, 2, None)
    assert "nan" not in text_of(*split_tables(rows))


def test_the_answer():
    lines = [
        cells_of(line) for line in text_of(crossover_table(crossovers(ROWS))).splitlines() if "│" in line
    ]
    assert lines[0] == [
        "pi (raspberry-pi-4)", "sz2 REL 0.01", "6.52", "0.3000", "0.0800",
        "175 Mbit/s [175, 175]", "160 Mbit/s", rate_text(true_crossover_bps("pi", "sz2") * EFFICIENCY), "80",
    ]  # fmt: skip
    assert lines[2][0] == ""
    assert lines[2][1:] == [
        "fedsz-q REL 0.01", "7.32", "0.0240", "0.0040", "above 2 Gbit/s", "2.22 Gbit/s",
        rate_text(true_crossover_bps("pi", "fedsz-q") * EFFICIENCY), "80",
    ]  # fmt: skip
    assert lines[3][0] == "phone (pixel-6)"


def test_everything_in_a_pipe_is_plain_and_wide_enough():
    stream = io.StringIO()
    print_results(ROWS, crossovers(ROWS), console(stream))
    lines = stream.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 132
    assert "…" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert lines[-1].startswith("5 repeats: the interval covers less than 95 %")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(183.4, "183"), (45.67, "45.7"), (3.214, "3.21"), (0.00412, "0.0041"), (0.0, "0"), (float("nan"), "-")],
)
def test_seconds_text(seconds, text):
    assert seconds_text(seconds) == text


def test_bounds_are_named_where_there_are_several():
    none, one, two = CodecUsed("none"), CodecUsed("sz2", "REL", 0.01), CodecUsed("sz2", "REL", 0.001)
    assert codec_names([none, one]) == {none: "none", one: "sz2"}
    assert codec_names([none, one, two]) == {none: "none", one: "sz2 REL 0.01", two: "sz2 REL 0.001"}


@pytest.mark.parametrize("width", [80, 100, 120])
def test_on_a_narrow_terminal_nothing_is_cut(width):
    stream = io.StringIO()
    print_results(ROWS, crossovers(ROWS), Console(file=stream, width=width))
    lines = stream.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "…" not in stream.getvalue()
    (pi, *_) = (place for place, line in enumerate(lines) if line.strip() == "pi (raspberry-pi-4)")
    assert lines[pi + 1].split() == [
        "sz2",
        "REL",
        "0.01",
        "175",
        "Mbit/s",
        "[175,",
        "175]",
        "160",
        "Mbit/s",
        "6.52",
        "80",
    ]


def test_a_run_with_one_codec_has_no_answer_and_says_so():
    stream = io.StringIO()
    print_results([row for row in ROWS if row.codec.id == "none"], [], console(stream))
    assert "No crossover: no codec but 'none' was used" in stream.getvalue()
