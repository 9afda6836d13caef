"""Asynchronous training as SimPy processes: clients that wait for nobody, and a server that averages by the bufferful.

Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation (AISTATS 2022).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import simpy

from testbed.clock import FlowEnvironment
from testbed.participant import Arrival, ClientOutcome, ClientPlan, Process, Split, start_client

# After so many updates lost in a row for every client, nothing is going to arrive any more.
HOPELESS = 10


@dataclass(eq=False)
class Update:
    """One client's way from being asked to the model that holds what it learned.

    Attributes:
        number: how many this client was asked for before.
        version: of the model that it trains on: how many buffers had been averaged by then.
        started_s: when it was asked.
        staleness: versions that the model has gone on by the time the update enters it; None until then.
        entered: the version of the model that it entered, or would have, next; for rows.
        round_s: its length, in the end.
    """

    client: str
    number: int
    version: int
    started_s: float
    outcome: ClientOutcome
    split: Split
    plan: ClientPlan | None = None
    staleness: int | None = None
    entered: int = 0
    round_s: float = 0.0


class Labour(Protocol):
    """The real work behind the clock; each call is at the emulated instant at which it matters."""

    def pick(self, idle: Sequence[str], at_s: float) -> str | None:
        """Which of *idle* to ask; None where none of them is there."""
        ...

    def returns_s(self, idle: Sequence[str], at_s: float) -> float:
        """When the first of *idle* is there; inf where none ever is."""
        ...

    def begin(self, update: Update) -> ClientPlan:
        """Do the work of a client that is asked now, from the newest model."""
        ...

    def refused(self, update: Update) -> str:
        """Why an update whose bytes are there cannot be used; empty where it can."""
        ...

    def merge(self, updates: Sequence[Update]) -> float:
        """Make the next model of a full buffer; emulated seconds that it takes."""
        ...

    def publish(self) -> None:
        """From now on clients are given the model that `merge` has made."""
        ...

    def ended(self, update: Update) -> None:
        """An update has come to its end, good or bad."""
        ...


@dataclass
class _Line:
    """One update's line to the server; a `testbed.participant.Server`."""

    server: BufferServer
    update: Update

    @property
    def closed(self) -> bool:
        return self.server.closed

    def arrived(self, arrival: Arrival) -> None:
        self.server.arrived(self.update)

    def lost(self) -> None:
        self.server.lost(self.update)


class BufferServer:
    """Keeps *concurrency* clients at work and averages whenever *buffer* updates have arrived.

    One thing at a time, as in the paper's algorithm: updates are decompressed in order of arrival; the one that fills
    the buffer has the next model made; and a client whose update has been taken in is free to be asked again, from the
    newest model. So one client may stand in a buffer more than once.

    Args:
        env: at time 0, nothing in flight.
        clients: all names.
        versions: how many models to make.
    """

    def __init__(
        self,
        env: FlowEnvironment,
        labour: Labour,
        clients: Sequence[str],
        *,
        buffer: int,
        concurrency: int,
        versions: int,
    ) -> None:
        self._env, self._labour, self._clients = env, labour, clients
        self._buffer, self._concurrency, self._versions = buffer, concurrency, versions
        self.version = 0
        self.closed = False
        self._inbox: simpy.Store = simpy.Store(env)
        self._busy: set[str] = set()  # clients that are not to be asked
        self._open: list[Update] = []  # updates that have not come to their end
        self._asked: dict[str, int] = {}
        self._lost_in_a_row = 0
        self._alarm_s: float | None = None

    def play(self) -> float:
        """Play it all; emulated seconds until the last model was made. Fewer are made where no client is left."""
        self._env.run(until=self._env.process(self._run()))
        ended_s = self._env.now
        self.closed = True
        for update in self._open[:]:
            update.outcome.status = "dropped"
            update.split.give_up("was not in any model when the last one was made")
            self._end(update)
        while self._env.in_flight:
            self._env.step()
        return ended_s

    def _run(self) -> Process:
        self._fill()
        while self.version < self._versions:
            full: list[Update] = []
            while len(full) < self._buffer:
                update = yield self._inbox.get()
                if update is None:
                    return
                if (yield from self._take_in(update)):
                    full.append(update)
                    if len(full) < self._buffer:
                        self._free(update)
            for update in full:
                update.staleness = self.version - update.version
                update.outcome.status = "ok"
                update.split.enter("aggregate")
            yield self._env.timeout(self._labour.merge(full))
            for update in full:
                self._end(update)
            self.version += 1
            self._labour.publish()
            if self.version < self._versions:
                self._free(full[-1])

    def _take_in(self, update: Update) -> Generator[Any, Any, bool]:
        """Decompress; whether it can be used."""
        assert update.plan is not None
        update.split.enter("decompress")
        yield self._env.timeout(update.plan.decompress_s)
        update.split.enter("wait")
        why = self._labour.refused(update)
        if why:
            update.outcome.status, update.outcome.reason = "failed", why
            self._lose(update)
        else:
            self._lost_in_a_row = 0
        return not why

    def _fill(self) -> None:
        """Ask clients until enough are at work."""
        while not self.closed and len(self._busy) < self._concurrency:
            idle = [name for name in self._clients if name not in self._busy]
            client = self._labour.pick(idle, self._env.now)
            if client is None:
                self._look_again(self._labour.returns_s(idle, self._env.now))
                return
            number = self._asked.get(client, 0)
            self._asked[client] = number + 1
            outcome = ClientOutcome(client)
            split = Split(self._env, outcome)
            update = Update(client, number, self.version, self._env.now, outcome, split)
            self._busy.add(client)
            self._open.append(update)
            update.plan = self._labour.begin(update)
            start_client(self._env, update.plan, outcome, split, _Line(self, update))

    def _look_again(self, at_s: float) -> None:
        if math.isinf(at_s):
            if not self._busy:
                self._inbox.put(None)
        elif self._alarm_s is None or at_s < self._alarm_s:
            self._alarm_s = at_s
            self._env.process(self._alarm(at_s))

    def _alarm(self, at_s: float) -> Process:
        yield self._env.timeout(at_s - self._env.now)
        if self._alarm_s == at_s:
            self._alarm_s = None
        self._fill()

    def arrived(self, update: Update) -> None:
        """All bytes of an update are there."""
        self._inbox.put(update)

    def lost(self, update: Update) -> None:
        """An update will never come."""
        if not self.closed:
            self._lose(update)

    def _lose(self, update: Update) -> None:
        self._end(update)
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= HOPELESS * len(self._clients):
            self._inbox.put(None)
        else:
            self._free(update)

    def _free(self, update: Update) -> None:
        """The client of *update* may be asked again."""
        self._busy.remove(update.client)
        self._fill()

    def _end(self, update: Update) -> None:
        self._open.remove(update)
        update.split.end()
        update.entered = min(self.version, self._versions - 1)
        update.round_s = update.split.seconds
        self._labour.ended(update)


def play_buffered(
    env: FlowEnvironment,
    labour: Labour,
    clients: Sequence[str],
    *,
    buffer: int,
    concurrency: int | None,
    versions: int,
) -> tuple[int, float]:
    """How many models were made, and in how many emulated seconds; see `BufferServer`."""
    at_work = len(clients) if concurrency is None else concurrency
    server = BufferServer(env, labour, clients, buffer=buffer, concurrency=at_work, versions=versions)
    ended_s = server.play()
    return server.version, ended_s
