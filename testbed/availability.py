"""When clients are there to be asked: on a schedule, over and over, or as a trace says; emulated seconds of a cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal

import numpy as np

from testbed.errors import NobodyAvailableError

if TYPE_CHECKING:
    from testbed.scenario import Scenario

Interval = tuple[float, float]
# Instants nearer to each other than this are one: they come from sums of rounds and from products of periods.
_SAME_S = 1e-9


@dataclass(frozen=True)
class Availability:
    """When the clients of a fleet are there. Exactly one of *period_s*, *intervals* and *trace* says it.

    Attributes:
        period_s, duty: there for the first *duty* (share, 0 to 1) of every period.
        phase: how far into its period a client is when the cell begins; ``drawn`` for each client anew. Only
            with *period_s*.
        intervals: (from, to) when all clients of the fleet are there, rising, apart from each other.
        trace: the same for one client after the other; a fleet with more clients begins again with the first.
        every_s: *intervals* and *trace* repeat after so long; None: nobody is there after the last.
        leaving: what a client does that is asked and goes away before it has sent all: ``drop``, its connection is
            lost at that moment; ``finish``, it goes on to the end.
    """

    period_s: float | None = None
    duty: float = 0.5
    phase: Literal["drawn"] | float = "drawn"
    intervals: tuple[Interval, ...] = ()
    trace: tuple[tuple[Interval, ...], ...] = ()
    every_s: float | None = None
    leaving: Literal["drop", "finish"] = "drop"

    def of(self, index: int, draw: float) -> Schedule:
        """The schedule of the fleet's client number *index*; *draw* from [0, 1) decides what is drawn."""
        if self.period_s is not None:
            share = draw if self.phase == "drawn" else self.phase / self.period_s
            return Schedule(((0.0, self.duty * self.period_s),), self.period_s, share * self.period_s)
        return Schedule(self.trace[index % len(self.trace)] if self.trace else self.intervals, self.every_s)


@dataclass(frozen=True)
class Schedule:
    """One client's intervals (from, to), repeated every *every_s* seconds or not, seen from *offset_s* on."""

    intervals: tuple[Interval, ...]
    every_s: float | None = None
    offset_s: float = 0.0

    def there(self, at_s: float) -> bool:
        """Whether the client is there at *at_s*."""
        return self.returns_s(at_s) <= at_s

    def returns_s(self, at_s: float) -> float:
        """The first instant from *at_s* on at which the client is there; inf where there is none."""
        for start_s, end_s in self._from(at_s):
            if end_s > at_s + _SAME_S:
                return at_s if start_s <= at_s + _SAME_S else start_s
        return math.inf

    def leaves_s(self, at_s: float) -> float:
        """Until when a client that is there at *at_s* stays; inf where it never leaves."""
        until_s = at_s
        for start_s, end_s in self._from(at_s):
            if start_s > until_s + _SAME_S:
                break
            if self.every_s is not None and end_s > at_s + 2 * self.every_s:
                return math.inf  # one repetition begins where the other ends
            until_s = max(until_s, end_s)
        return until_s

    def _from(self, at_s: float) -> Iterator[Interval]:
        if self.every_s is None or not self.intervals:
            yield from self.intervals
            return
        for turn in count(math.floor((at_s + self.offset_s) / self.every_s) - 1):
            begin_s = turn * self.every_s - self.offset_s
            for start_s, end_s in self.intervals:
                yield begin_s + start_s, begin_s + end_s


class Presence:
    """Who of a scenario's clients is there when.

    Args:
        seed: of the repeat; decides what is drawn.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._names = scenario.client_names
        self._schedules: dict[str, Schedule] = {}
        self._stay: set[str] = set()  # go on to the end once they have begun
        positions = {name: position for position, name in enumerate(self._names)}
        for fleet in scenario.fleets:
            if fleet.availability is None:
                continue
            for index, name in enumerate(fleet.client_names):
                draw = np.random.default_rng(np.random.SeedSequence([seed, 5, positions[name]])).random()
                self._schedules[name] = fleet.availability.of(index, float(draw))
                if fleet.availability.leaving == "finish":
                    self._stay.add(name)

    def there(self, at_s: float) -> list[str]:
        """The clients that are there, in the scenario's order."""
        if not self._schedules:
            return self._names
        return [name for name in self._names if self.is_there(name, at_s)]

    def is_there(self, client: str, at_s: float) -> bool:
        """Whether one client is there."""
        return client not in self._schedules or self._schedules[client].there(at_s)

    def returns_s(self, clients: Sequence[str], at_s: float) -> float:
        """When the first of *clients* is there, from *at_s* on; inf where none ever is."""
        return min(
            (self._schedules[name].returns_s(at_s) if name in self._schedules else at_s for name in clients),
            default=math.inf,
        )

    def somebody_s(self, at_s: float) -> float:
        """When the next round can begin: the first instant from *at_s* on at which anybody is there.

        Raises: NobodyAvailableError where that is never.
        """
        found = self.returns_s(self._names, at_s) if self._schedules else at_s
        if math.isinf(found):
            raise NobodyAvailableError(at_s)
        return found

    def leaves_after_s(self, client: str, at_s: float) -> float | None:
        """How long after *at_s*, when it is asked, the client's connection is lost; None where it is not."""
        if client not in self._schedules or client in self._stay:
            return None
        leaves_s = self._schedules[client].leaves_s(at_s)
        return None if math.isinf(leaves_s) else leaves_s - at_s
