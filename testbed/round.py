"""One synchronous round as SimPy processes: downlink, train, compress, uplink, decompress, aggregate.

All work has been measured before the first packet flies (`testbed.work`), so the processes here only wait: for
time-outs of measured length and for flows of whichever engine the environment drives.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import simpy

from testbed.clock import FlowEnvironment, Transfer

Process = Generator[Any, Any, None]
Part = Literal["downlink", "train", "compress", "uplink", "decompress", "aggregate", "wait"]
PARTS: tuple[Part, ...] = ("downlink", "train", "compress", "uplink", "decompress", "aggregate", "wait")


@dataclass(frozen=True)
class ClientPlan:
    """What one client will do in the round.

    Attributes:
        downlink, uplink: bytes that cross the link, or over modelled links their number.
        train_s, compress_s: on the client's device, emulated seconds.
        decompress_s: on the server, emulated seconds.
        pack_s: the server compresses what it is about to send, emulated seconds; counts as compress.
        unpack_s: the client decompresses what it has received, on its device; counts as decompress.
        fails: reason why the client's work ends in failure (out of memory, say) after training and
            compressing for as long as the plan states; such a client sends nothing.
        silent_after_s: the client falls silent after so much of its training; the server notices at once, as a
            connection is lost. None: it does not.
    """

    client: str
    downlink: bytes | int
    uplink: bytes | int
    train_s: float
    compress_s: float
    decompress_s: float
    pack_s: float = 0.0
    unpack_s: float = 0.0
    fails: str = ""
    silent_after_s: float | None = None

    def sized(self) -> ClientPlan:
        """The plan with numbers of bytes for payloads."""
        return replace(self, downlink=_size(self.downlink), uplink=_size(self.uplink))


def _size(payload: bytes | int) -> int:
    return payload if isinstance(payload, int) else len(payload)


@dataclass
class ClientOutcome:
    """What became of one client in one round; times in emulated seconds since the round's first byte.

    Attributes:
        seconds: length of each part; they telescope, so their sum is the round's length.
        spans: (part, start, end) in order, for timelines.
        status: ``"ok"`` counted in the average, ``"dropped"`` missed the deadline or came after enough others,
            ``"failed"`` could not send what it was to send.
    """

    client: str
    seconds: dict[Part, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    spans: list[tuple[Part, float, float]] = field(default_factory=list)
    status: Literal["ok", "dropped", "failed"] = "dropped"
    reason: str = ""
    downlink: Transfer | None = None
    uplink: Transfer | None = None


@dataclass(frozen=True)
class RoundOutcome:
    """One round: its length and every client's outcome, in the order of the plans."""

    round_s: float
    clients: tuple[ClientOutcome, ...]


class _Split:
    """Stopwatch over the parts of one client's round: entering a part leaves the one before."""

    def __init__(self, env: simpy.Environment, outcome: ClientOutcome) -> None:
        self._env, self._outcome = env, outcome
        self._part: Part | None = None
        self._since_s = 0.0
        self._given_up = False

    def enter(self, part: Part) -> None:
        if not self._given_up:
            self._leave()
            self._part, self._since_s = part, self._env.now

    def give_up(self, reason: str) -> None:
        """The server waits no longer: from here on this client only waits, whatever its process still does."""
        if self._given_up:
            return
        self.enter("wait")
        self._given_up = True
        self._outcome.reason = self._outcome.reason or reason

    def end(self) -> None:
        """The round is over."""
        self._leave()
        self._part, self._given_up = None, True

    def _leave(self) -> None:
        if self._part is not None and self._env.now > self._since_s:
            self._outcome.seconds[self._part] += self._env.now - self._since_s
            self._outcome.spans.append((self._part, self._since_s, self._env.now))


def run_round(
    env: FlowEnvironment,
    plans: Sequence[ClientPlan],
    *,
    aggregate_s: float,
    deadline_s: float | None = None,
    take: int | None = None,
) -> RoundOutcome:
    """Play one round on a fresh environment and return how long each part took.

    The server handles arrivals one at a time in order of arrival and averages once nothing more is awaited. A client
    that is late gives up at that moment; whatever it still had in flight is let out of the links before this returns
    and touches no figure, as nobody else is awaited any more.

    Args:
        env: at time 0, nothing in flight.
        plans: one a client.
        aggregate_s: time to average all updates that arrived.
        deadline_s: the server stops waiting for arrivals at this time.
        take: the server stops waiting after this many arrivals (over-selection).
    """
    outcomes = [ClientOutcome(plan.client) for plan in plans]
    splits = [_Split(env, outcome) for outcome in outcomes]
    server = _Server(env, splits, aggregate_s, len(plans) if take is None else take)
    for plan, outcome, split in zip(plans, outcomes, splits, strict=True):
        env.process(_client(env, plan, outcome, split, server))
    if deadline_s is not None:
        env.process(server.deadline(deadline_s))
    env.run(until=env.process(server.run()))
    round_s = env.now
    for split in splits:
        split.end()
    while env.in_flight:
        env.step()
    return RoundOutcome(round_s, tuple(outcomes))


@dataclass
class _Arrival:
    plan: ClientPlan
    outcome: ClientOutcome
    split: _Split


class _Server:
    def __init__(self, env: FlowEnvironment, splits: Sequence[_Split], aggregate_s: float, take: int) -> None:
        self._env = env
        self._splits = splits
        self._aggregate_s = aggregate_s
        self._awaited, self._take = len(splits), take
        self._inbox: simpy.Store = simpy.Store(env)
        self.closed = False

    def arrived(self, arrival: _Arrival) -> None:
        self._inbox.put(arrival)

    def lost(self) -> None:
        """One client fewer to wait for."""
        self._inbox.put(None)

    def deadline(self, at_s: float) -> Process:
        """Stop waiting at *at_s*; what has arrived by then still counts."""
        yield self._env.timeout(at_s)
        self._inbox.put(f"missed the deadline of {at_s:g} s")

    def run(self) -> Process:
        """Decompress arrivals in order, then average."""
        taken: list[_Arrival] = []
        reason = f"came after the first {self._take}"
        while self._awaited > 0 and len(taken) < self._take:
            item = yield self._inbox.get()
            if isinstance(item, str):
                reason = item
                break
            self._awaited -= 1
            if item is None:
                continue
            item.split.enter("decompress")
            yield self._env.timeout(item.plan.decompress_s)
            item.split.enter("wait")
            item.outcome.status = "ok"
            taken.append(item)
        self.closed = True
        counted = [item.split for item in taken]
        for split in self._splits:
            if split in counted:
                split.enter("aggregate")
            else:
                split.give_up(reason)
        if taken:
            yield self._env.timeout(self._aggregate_s)


def _client(
    env: FlowEnvironment, plan: ClientPlan, outcome: ClientOutcome, split: _Split, server: _Server
) -> Process:
    split.enter("compress")
    yield env.timeout(plan.pack_s)
    split.enter("downlink")
    outcome.downlink = yield env.transfer(plan.client, "downlink", plan.downlink)
    if not outcome.downlink.ok:
        _fail(outcome, split, server, f"downlink: {outcome.downlink.flow.error}")
        return
    split.enter("decompress")
    yield env.timeout(plan.unpack_s)
    split.enter("train")
    if plan.silent_after_s is not None:
        yield env.timeout(min(plan.silent_after_s, plan.train_s))
        split.give_up("fell silent while training")
        server.lost()
        return
    yield env.timeout(plan.train_s)
    split.enter("compress")
    yield env.timeout(plan.compress_s)
    if plan.fails:
        _fail(outcome, split, server, plan.fails)
        return
    if server.closed:
        return
    split.enter("uplink")
    outcome.uplink = yield env.transfer(plan.client, "uplink", plan.uplink)
    if server.closed:
        return
    if not outcome.uplink.ok:
        _fail(outcome, split, server, f"uplink: {outcome.uplink.flow.error}")
        return
    split.enter("wait")
    server.arrived(_Arrival(plan, outcome, split))


def _fail(outcome: ClientOutcome, split: _Split, server: _Server, reason: str) -> None:
    outcome.status, outcome.reason = "failed", reason
    split.enter("wait")
    server.lost()
