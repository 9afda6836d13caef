"""When a fleet's clients are there, in a scenario: ``{period, duty}``, ``{intervals}`` or ``{trace}``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from testbed.availability import Availability, Interval
from testbed.schema import At, Choice, Kind, ListOf, Or, Text, duration, fraction
from testbed.schema_record import Key, Record
from testbed.yaml_position import Scalar, Tree

_HEADING = ["client", "from_s", "to_s"]


class IntervalKind(Kind[Interval]):
    """``[10 s, 2 min]``: from, to."""

    meaning = "two durations are expected, from and to, for example [10 s, 2 min]"

    def __init__(self) -> None:
        self._ends: ListOf = ListOf(duration())

    def read(self, tree: Tree, at: At) -> Interval:
        found = self._ends.read(tree, at)
        if len(found) != 2 or not found[0] < found[1]:
            raise at.refuse(tree.place, f"{self.meaning}; the second is later than the first")
        return found[0], found[1]

    def write(self, value: Interval) -> list[Any]:
        return self._ends.write(value)

    def json_schema(self) -> dict[str, Any]:
        return {**self._ends.json_schema(), "minItems": 2, "maxItems": 2}


class TraceOfClients(Kind[tuple[tuple[Interval, ...], ...]]):
    """A CSV file beside the scenario with the columns client (from 0), from_s and to_s; or the lists themselves.

    It is written back as lists, so that the saved scenario needs no file.
    """

    meaning = "the name of a CSV file is expected, or for each client a list of intervals"

    def __init__(self) -> None:
        self._name: Kind[str] = Text(r".+", "the name of a file is expected")
        self._lists = ListOf(ListOf(IntervalKind()))

    def read(self, tree: Tree, at: At) -> tuple[tuple[Interval, ...], ...]:
        if not isinstance(tree, Scalar):
            return self._lists.read(tree, at)
        path = Path(tree.place.file).parent / self._name.read(tree, at)
        try:
            return read_availability(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise at.refuse(tree.place, f"{path}: {reason}") from error

    def write(self, value: tuple[tuple[Interval, ...], ...]) -> list[Any]:
        return self._lists.write(value)

    def show(self, value: tuple[tuple[Interval, ...], ...]) -> str:
        return f"trace of {len(value)} clients"

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, self._lists.json_schema()]}


def read_availability(path: Path) -> tuple[tuple[Interval, ...], ...]:
    """The intervals of client 0, 1 and so on, each rising.

    Args:
        path: a CSV file with the heading ``client,from_s,to_s``; lines that begin with # are comments.
    Raises:
        ValueError: what is wrong, with its line.
        OSError: the file cannot be read.
    """
    found: dict[int, list[Interval]] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    rows = list(csv.reader(line for _, line in numbered))
    if not rows or [cell.strip() for cell in rows[0]] != _HEADING:
        raise ValueError(f"the first line is {','.join(_HEADING)}")
    for (number, line), row in zip(numbered[1:], rows[1:], strict=True):
        try:
            client, start_s, end_s = int(row[0]), float(row[1]), float(row[2])
        except (ValueError, IndexError):
            raise ValueError(f"line {number}: got {line!r}; a line is a client, from_s and to_s") from None
        if len(row) != 3 or client < 0 or not 0.0 <= start_s < end_s < float("inf"):
            raise ValueError(f"line {number}: got {line!r}; a client from 0, and 0 <= from_s < to_s")
        found.setdefault(client, []).append((start_s, end_s))
    if sorted(found) != list(range(len(found))) or not found:
        raise ValueError("clients are numbered from 0 without a gap, and each has at least one interval")
    schedules = tuple(tuple(sorted(found[client])) for client in range(len(found)))
    for client, schedule in enumerate(schedules):
        for problem in _overlaps(schedule):
            raise ValueError(f"client {client}: {problem}")
    return schedules


def _overlaps(intervals: tuple[Interval, ...]) -> Iterator[str]:
    for (_, end_s), (start_s, _) in pairwise(intervals):
        if start_s < end_s:
            yield f"an interval begins at {start_s:g} s, before the one before it ends at {end_s:g} s"


def _rules(value: Availability) -> Iterable[tuple[str, str]]:
    given = [
        name
        for name, it in (("period", value.period_s), ("intervals", value.intervals), ("trace", value.trace))
        if it
    ]
    if len(given) != 1:
        yield (
            given[-1] if given else "",
            "exactly one of 'period', 'intervals' and 'trace' says when clients are there",
        )
        return
    if value.every_s is not None and value.period_s is not None:
        yield "every", "belongs to 'intervals' and 'trace'; a period repeats by itself"
    if value.period_s is not None and value.phase != "drawn" and value.phase >= value.period_s:
        yield "phase", "is shorter than the period"
    schedules = value.trace or (value.intervals,)
    for schedule in schedules:
        for problem in _overlaps(schedule):
            yield given[0], problem
    last_s = max((end_s for schedule in schedules for _, end_s in schedule), default=0.0)
    if value.every_s is not None and last_s > value.every_s:
        yield "every", f"is not shorter than the last interval's end, {last_s:g} s"


AVAILABILITY = Record(
    Availability,
    [
        Key("period", Or(None, duration(above=True)), "there for a share of every period of this length", "period_s"),
        Key("duty", fraction(above=True), "the share of the period"),
        Key("phase", Or("drawn", duration()), "how far into the period a client begins; drawn: each its own"),
        Key("intervals", ListOf(IntervalKind()), "from, to: [[0 s, 60 s], [90 s, 2 min]], for all clients"),
        Key("trace", TraceOfClients(), "a CSV file: client, from_s, to_s; in turn for more clients than it has"),
        Key("every", Or(None, duration(above=True)), "intervals and trace repeat after; null: they do not", "every_s"),
        Key("leaving", Choice("drop", "finish"), "a client that goes away before it has sent all"),
    ],
    check=_rules,
)  # fmt: skip
