"""Progress on a terminal, in a log, for programs and for nobody."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import pytest
from rich.console import Console

from testbed.progress import Progress, time_text
from testbed.round_line import SHOWN, RoundLine, live_table


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress, clock: Clock, cells: int, seconds: float) -> None:
    for cell in range(cells):
        progress.phase("training", total=2)
        progress.advance()
        progress.advance()
        clock.now += seconds
        progress.step(f"cell {cell}")


def test_a_log_gets_few_lines_and_the_last_one():
    stream, clock = io.StringIO(), Clock()
    with Progress(1000, stream=stream, clock=clock) as progress:
        work(progress, clock, 1000, 1.0)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 50
    assert lines[0] == "20 cells done, 2 %, 20 s gone, 16 min 20 s left (cell 19)"
    assert lines[-1] == "1000 cells done, 100 %, 16 min 40 s gone (cell 999)"
    assert "\x1b" not in stream.getvalue()


def test_a_short_run_in_a_log_is_two_lines():
    stream, clock = io.StringIO(), Clock()
    with Progress(3, stream=stream, clock=clock) as progress:
        work(progress, clock, 3, 0.1)
    assert stream.getvalue().splitlines() == [
        "1 cell done, 33 %, 0 s gone, 0 s left (cell 0)",
        "3 cells done, 100 %, 0 s gone (cell 2)",
    ]


def test_json_is_one_object_a_line():
    stream, clock = io.StringIO(), Clock()
    with Progress(2, mode="json", stream=stream, clock=clock) as progress:
        work(progress, clock, 2, 2.0)
        progress.note("written")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["phase", "step", "phase", "step", "note"]
    assert events[0] == {"event": "phase", "phase": "training", "total": 2}
    step = {
        "steps": 1,
        "all_steps": 2,
        "done": 1.0,
        "total": 2,
        "label": "cell 0",
        "elapsed_s": 2.0,
        "left_s": 2.0,
    }
    assert events[1] == {"event": "step", **step}
    assert events[-1] == {"event": "note", "text": "written"}


def test_quiet_says_only_what_must_be_said():
    stream, clock = io.StringIO(), Clock()
    with Progress(2, mode="quiet", stream=stream, clock=clock) as progress:
        work(progress, clock, 2, 1.0)
        progress.note("disk nearly full")
    assert stream.getvalue() == "disk nearly full\n"


def test_bars_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = Terminal(), Clock()
    with Progress(4, stream=stream, clock=clock) as progress:
        work(progress, clock, 2, 30.0)
        progress.note("a line [that] stays")
        progress._view._bars.refresh()  # the bar library draws ten times a second; we cannot wait for it
    shown = stream.getvalue()
    assert "training" in shown
    assert "2/4" in shown
    assert "1 min 00 s left" in shown
    assert "a line [that] stays" in shown


def test_what_an_earlier_run_did_does_not_count_into_the_pace():
    clock = Clock()
    with Progress(10, mode="quiet", stream=io.StringIO(), clock=clock) as progress:
        progress.skip(5, steps=5)
        assert progress.left_s is None
        clock.now += 10.0
        progress.step()
        assert progress.left_s == pytest.approx(40.0)
        assert (progress.steps, progress.done) == (6, 6.0)


def test_heavier_steps_weigh_more():
    clock = Clock()
    with Progress(10.0, mode="quiet", stream=io.StringIO(), clock=clock) as progress:
        clock.now += 8.0
        progress.step("10 Mbit/s", amount=8.0)
        assert progress.left_s == pytest.approx(2.0)


def test_an_error_inside_passes_through_and_the_terminal_is_left_alone():
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(2, stream=stream, mode="bars"):
        raise KeyboardInterrupt
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h")  # the cursor is back


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (-1, "0 s"),
    ],
)
def test_time_text(seconds, text):
    assert time_text(seconds) == text


ROUND = RoundLine(
    3, {"uplink.rate": "10 Mbit/s", "codec": "sz2"}, 0, 4, 3, 2, 5.25, 2.5, 0.3, 1.4, 0.08, 5.4375, 0.41
)


def test_rounds_are_objects_for_programs_and_a_table_for_people(monkeypatch):
    stream = io.StringIO()
    with Progress(1, mode="json", stream=stream) as progress:
        progress.rounds([ROUND])
    event = json.loads(stream.getvalue())
    assert event == {"event": "round", **asdict(ROUND)}
    shown = io.StringIO()
    Console(file=shown, width=80).print(live_table([ROUND] * 20))
    lines = shown.getvalue().splitlines()
    assert len(lines) == 1 + SHOWN
    assert max(len(line.rstrip()) for line in lines) <= 80
    for figure in (
        "3.0",
        "10 Mbit/s, sz2",
        "2.50",
        "0.3000",
        "1.40",
        "0.0800",
        "5.25",
        "5.44",
        "41 %",
        "1 not ok",
    ):
        assert figure in lines[1], figure


def test_a_phase_tells_its_own_time_left():
    clock = Clock()
    progress = Progress(10, mode="quiet", stream=io.StringIO(), clock=clock)
    progress.phase("clients at work", 4)
    assert progress.phase_left_s is None
    clock.now += 3
    progress.advance()
    assert progress.phase_left_s == pytest.approx(9)
    progress.phase("sending")
    clock.now += 3
    progress.advance()
    assert progress.phase_left_s is None  # nobody knows how long it is


def test_set_up_is_no_part_of_the_pace():
    clock = Clock()
    progress = Progress(4, mode="quiet", stream=io.StringIO(), clock=clock)
    clock.now += 100
    progress.begin()
    clock.now += 2
    progress.step()
    assert progress.left_s == pytest.approx(6)
