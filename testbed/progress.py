"""Progress while the testbed works: bars with time left on a terminal, few lines in a log, JSON for programs.

The sweep drives it with a few calls and need not know where the output goes:

    with Progress(total=160, unit="cell") as progress:
        progress.phase("train", total=4)      # what is being done now, in how many steps
        progress.advance()                    # one of them is done
        progress.rounds(lines)                # what the cell's rounds came to
        progress.step("10 Mbit/s, sz2")       # one of the 160 is done
"""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import IO, Any, Literal, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from testbed.round_line import SHOWN, RoundLine, live_table

Mode = Literal["auto", "bars", "lines", "json", "quiet"]

# A log gets a line when this much time has passed or this share of the work is done, whichever comes later.
LINE_EVERY_S = 10.0
LINE_EVERY_SHARE = 0.02


def time_text(seconds: float) -> str:
    """``1 h 05 min``, ``3 min 20 s``, ``12 s``."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


class _View(ABC):
    """One way to show progress."""

    def open(self) -> None:  # noqa: B027  nothing to open for most
        pass

    def close(self) -> None:  # noqa: B027
        pass

    @abstractmethod
    def phase(self, state: Progress) -> None: ...

    @abstractmethod
    def advance(self, state: Progress) -> None: ...

    @abstractmethod
    def step(self, state: Progress) -> None: ...

    def rounds(self, lines: Sequence[RoundLine]) -> None:  # noqa: B027  logs and scripts have `rounds.jsonl`
        pass

    @abstractmethod
    def note(self, text: str) -> None: ...


class Progress:
    """What is done, what is being done, and how long the rest will take.

    Args:
        total: amount of all work, in steps or in any unit that `step` is given amounts of; cells that take longer than
            others should weigh more, or the time left lies.
        steps: how many steps there are, where they are not what *total* counts.
        unit: what one step is called.
        mode: ``auto`` draws bars on a terminal and writes lines elsewhere.
        stream: standard error unless given; results go to standard output.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        total: float,
        *,
        steps: int | None = None,
        unit: str = "cell",
        mode: Mode = "auto",
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.unit, self._clock = total, unit, clock
        self.all_steps = round(total) if steps is None else steps
        self.done = 0.0
        self.steps = 0
        self.label = ""
        self.phase_name = ""
        self.phase_total: float | None = None
        self.phase_done = 0.0
        self._skipped = 0.0
        self._began = self._phase_began = clock()
        stream = stream if stream is not None else sys.stderr
        if mode == "auto":
            mode = "bars" if stream.isatty() else "lines"
        views: dict[str, Callable[[], _View]] = {
            "bars": lambda: _BarView(stream),
            "lines": lambda: _LineView(stream),
            "json": lambda: _JsonView(stream),
            "quiet": lambda: _QuietView(stream),
        }
        self._view = views[mode]()

    def __enter__(self) -> Self:
        self._began = self._clock()
        self._view.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._view.close()

    def begin(self) -> None:
        """Set-up is over: the pace counts from here."""
        self._began = self._clock()

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began

    @property
    def left_s(self) -> float | None:
        """Estimate from the work done so far in this process; None before the first step."""
        worked = self.done - self._skipped
        if worked <= 0.0:
            return None
        return self.elapsed_s * max(0.0, self.total - self.done) / worked

    @property
    def phase_left_s(self) -> float | None:
        """The same for the phase; None where its length is unknown or nothing of it is done."""
        if self.phase_total is None or self.phase_done <= 0.0:
            return None
        spent = self._clock() - self._phase_began
        return spent * max(0.0, self.phase_total - self.phase_done) / self.phase_done

    def skip(self, amount: float = 1.0, *, steps: int = 1) -> None:
        """Work that an earlier run did; it counts as done and not into the pace."""
        self.done += amount
        self.steps += steps
        self._skipped += amount

    def phase(self, name: str, total: float | None = None) -> None:
        """Begin a phase; *total* None where its length is unknown."""
        self.phase_name, self.phase_total, self.phase_done = name, total, 0.0
        self._phase_began = self._clock()
        self._view.phase(self)

    def advance(self, amount: float = 1.0) -> None:
        """Part of the phase is done."""
        self.phase_done += amount
        self._view.advance(self)

    def step(self, label: str = "", amount: float = 1.0) -> None:
        """One step of the whole is done; *label* says which."""
        self.done += amount
        self.steps += 1
        self.label = label
        self._view.step(self)

    def rounds(self, lines: Sequence[RoundLine]) -> None:
        """What the rounds of the cell that is ending came to."""
        self._view.rounds(lines)

    def note(self, text: str) -> None:
        """A line for the reader that stays (a warning, a file written)."""
        self._view.note(text)


class _LeftColumn(TextColumn):
    """Time left as `Progress` estimates it; the bar library's own forgets what was skipped."""

    def __init__(self) -> None:
        super().__init__("{task.fields[left]}", justify="right")


class _BarsBelowRounds(Bars):
    """The bars, and above them the last rounds."""

    lines: tuple[RoundLine, ...] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.lines:
            yield live_table(self.lines)
        yield from super().get_renderables()


class _BarView(_View):
    def __init__(self, stream: IO[str]) -> None:
        self._console = Console(file=stream)
        self._bars = _BarsBelowRounds(
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", justify="right"),
            TimeElapsedColumn(),
            _LeftColumn(),
            console=self._console,
            transient=True,
        )
        self._whole: TaskID | None = None
        self._phase: TaskID | None = None

    def open(self) -> None:
        self._bars.start()

    def close(self) -> None:
        self._bars.stop()

    def phase(self, state: Progress) -> None:
        self._ready(state)
        if self._phase is not None:
            self._bars.remove_task(self._phase)
        self._phase = self._bars.add_task(
            f"  {state.phase_name}", total=state.phase_total, left="", count=self._phase_count(state)
        )

    def advance(self, state: Progress) -> None:
        if self._phase is not None:
            self._bars.update(
                self._phase,
                completed=state.phase_done,
                left=_left(state.phase_left_s),
                count=self._phase_count(state),
            )

    def step(self, state: Progress) -> None:
        self._bars.update(
            self._ready(state), completed=state.done, left=_left(state.left_s), count=self._count(state)
        )

    def rounds(self, lines: Sequence[RoundLine]) -> None:
        self._bars.lines = (*self._bars.lines, *lines)[-SHOWN:]

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    @staticmethod
    def _count(state: Progress) -> str:
        return f"{state.steps}/{state.all_steps}"

    @staticmethod
    def _phase_count(state: Progress) -> str:
        return "" if state.phase_total is None else f"{state.phase_done:g}/{state.phase_total:g}"

    def _ready(self, state: Progress) -> TaskID:
        if self._whole is None:
            self._whole = self._bars.add_task(
                f"{state.unit}s", total=state.total, left="", count=self._count(state)
            )
        return self._whole


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{time_text(seconds)} left"


class _LineView(_View):
    """For logs: a line now and then, one at the end."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._last_s = -LINE_EVERY_S
        self._last_done = 0.0

    def phase(self, state: Progress) -> None:
        pass

    def advance(self, state: Progress) -> None:
        pass

    def step(self, state: Progress) -> None:
        enough = state.done - self._last_done >= LINE_EVERY_SHARE * state.total
        if state.done < state.total and not (enough and state.elapsed_s - self._last_s >= LINE_EVERY_S):
            return
        self._last_s, self._last_done = state.elapsed_s, state.done
        share = 100.0 * state.done / state.total if state.total else 100.0
        noun = state.unit if state.steps == 1 else f"{state.unit}s"
        text = f"{state.steps} {noun} done, {share:.0f} %, {time_text(state.elapsed_s)} gone"
        if state.left_s is not None and state.done < state.total:
            text += f", {time_text(state.left_s)} left"
        self.note(f"{text} ({state.label})" if state.label else text)

    def note(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class _JsonView(_View):
    """One JSON object a line: phases begun, steps done, notes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def phase(self, state: Progress) -> None:
        self._write({"event": "phase", "phase": state.phase_name, "total": state.phase_total})

    def advance(self, state: Progress) -> None:
        pass

    def step(self, state: Progress) -> None:
        left = state.left_s
        self._write(
            {
                "event": "step",
                "steps": state.steps,
                "all_steps": state.all_steps,
                "done": state.done,
                "total": state.total,
                "label": state.label,
                "elapsed_s": round(state.elapsed_s, 3),
                "left_s": None if left is None else round(left, 3),
            }
        )

    def rounds(self, lines: Sequence[RoundLine]) -> None:
        for line in lines:
            self._write({"event": "round", **asdict(line)})

    def note(self, text: str) -> None:
        self._write({"event": "note", "text": text})

    def _write(self, data: dict[str, Any]) -> None:
        self._stream.write(json.dumps(data, ensure_ascii=False) + "\n")
        self._stream.flush()


class _QuietView(_View):
    """Only notes: a warning is not progress."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def phase(self, state: Progress) -> None:
        pass

    def advance(self, state: Progress) -> None:
        pass

    def step(self, state: Progress) -> None:
        pass

    def note(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
