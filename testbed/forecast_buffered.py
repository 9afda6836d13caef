"""How asynchronous training would go if all work took as long as an estimate says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from testbed.buffer_server import Update, play_buffered
from testbed.carrier import modelled_network
from testbed.clock import ModelledEnvironment
from testbed.participant import ClientPlan
from testbed.scenario import Scenario


class _Estimated:
    """A `testbed.buffer_server.Labour` in which every update of a client takes what its plan says."""

    def __init__(self, plans: Mapping[str, ClientPlan]) -> None:
        self._plans = plans
        self._choice = np.random.default_rng(0)
        self.begun: list[tuple[str, int]] = []

    def pick(self, idle: Sequence[str], at_s: float) -> str | None:
        return idle[int(self._choice.integers(len(idle)))] if idle else None

    def returns_s(self, idle: Sequence[str], at_s: float) -> float:
        return at_s

    def begin(self, update: Update) -> ClientPlan:
        self.begun.append((update.client, update.number))
        return self._plans[update.client]

    def refused(self, update: Update) -> str:
        return ""

    def merge(self, updates: Sequence[Update]) -> float:
        return 0.0

    def publish(self) -> None:
        pass

    def ended(self, update: Update) -> None:
        pass


def play_estimated(scenario: Scenario, plans: Sequence[ClientPlan]) -> tuple[list[tuple[str, int]], float]:
    """(client, how many it had before) of every update that will be begun, and the emulated seconds of it all."""
    labour = _Estimated({plan.client: plan for plan in plans})
    policy = scenario.rounds_policy
    with modelled_network(scenario) as network:
        _, ended_s = play_buffered(
            ModelledEnvironment(network),
            labour,
            scenario.client_names,
            buffer=policy.buffer,
            concurrency=policy.concurrency,
            versions=scenario.learning.rounds,
        )
    return labour.begun, ended_s
