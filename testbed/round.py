"""One synchronous round as SimPy processes: every client's part (`testbed.participant`), then the average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import simpy

from testbed.clock import FlowEnvironment
from testbed.participant import (
    PARTS,
    Arrival,
    ClientOutcome,
    ClientPlan,
    Part,
    Process,
    Split,
    start_client,
)

__all__ = ["PARTS", "ClientOutcome", "ClientPlan", "Part", "RoundOutcome", "run_round"]


@dataclass(frozen=True)
class RoundOutcome:
    """One round: its length and every client's outcome, in the order of the plans."""

    round_s: float
    clients: tuple[ClientOutcome, ...]


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
    splits = [Split(env, outcome) for outcome in outcomes]
    server = _Server(env, splits, aggregate_s, len(plans) if take is None else take)
    for plan, outcome, split in zip(plans, outcomes, splits, strict=True):
        start_client(env, plan, outcome, split, server)
    if deadline_s is not None:
        env.process(server.deadline(deadline_s))
    env.run(until=env.process(server.run()))
    round_s = env.now
    for split in splits:
        split.end()
    while env.in_flight:
        env.step()
    return RoundOutcome(round_s, tuple(outcomes))


class _Server:
    def __init__(self, env: FlowEnvironment, splits: Sequence[Split], aggregate_s: float, take: int) -> None:
        self._env = env
        self._splits = splits
        self._aggregate_s = aggregate_s
        self._awaited, self._take = len(splits), take
        self._inbox: simpy.Store = simpy.Store(env)
        self.closed = False

    def arrived(self, arrival: Arrival) -> None:
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
        taken: list[Arrival] = []
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
