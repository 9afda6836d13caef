"""The two engines behind one call: play a round over emulated links, or over modelled ones."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from netem.host_range import known_range
from netem.link import Topology
from netem.mininet_backend import MininetNetwork
from netem.model_backend import ModelNetwork
from netem.probe import ProbeRow
from netem.real_time import real_time
from netem.sampling import Strain
from netem.tcp import CONGESTION_CONTROLS, CongestionControl
from testbed.busy_period import expected_flows
from testbed.clock import EmulatedEnvironment, ModelledEnvironment
from testbed.dilation import RoundDilation, TruthfulRange, usable
from testbed.fidelity import TransferCheck
from testbed.gate import Gate, Leg
from testbed.judge import Judge, modelled_seconds
from testbed.round import ClientPlan, RoundOutcome, run_round
from testbed.scenario import Engine, Scenario


@dataclass(frozen=True)
class Played:
    """A round that was played.

    Attributes:
        dilation: smallest k, emulated seconds per wall second, of any upload; *because* says what limited it.
        transfer_wall_s: wall-clock seconds with at least one flow in flight.
        untrusted: client -> why its row must not be believed.
        checks: every emulated transfer beside the same one over modelled links.
        arrived: client -> SHA-256 of the update that arrived; None where no bytes travelled.
        probes: links that were looked at before the round, because no earlier round had used such.
        strain: what the host was up to while packets flew; None over modelled links.
    """

    outcome: RoundOutcome
    dilation: float
    because: str
    transfer_wall_s: float
    untrusted: Mapping[str, str]
    checks: Sequence[TransferCheck]
    arrived: Mapping[str, str] | None
    probes: Sequence[ProbeRow] = ()
    strain: Strain | None = None


class Carrier(Protocol):
    """One engine, set up for a scenario's clients."""

    engine: Engine

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def play(
        self,
        scenario: Scenario,
        plans: Sequence[ClientPlan],
        aggregate_s: float,
        started_s: float = 0.0,
    ) -> Played:
        """Play one round; *scenario* may differ from cell to cell in anything but its clients' names.

        Args:
            started_s: when the round begins in its cell, emulated; traces have run on until then.
        """
        ...


def open_carrier(scenario: Scenario, state_dir: Path) -> Carrier:
    """The engine that *scenario* asks for. Starts nothing until it is entered."""
    return MininetCarrier(scenario, state_dir) if scenario.network.engine == "mininet" else ModelCarrier()


class ModelCarrier:
    """Rounds over modelled links: no root, no packets, no waiting."""

    engine: Engine = "model"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def play(
        self,
        scenario: Scenario,
        plans: Sequence[ClientPlan],
        aggregate_s: float,
        started_s: float = 0.0,
    ) -> Played:
        """See `Carrier`."""
        with modelled_network(scenario, started_s) as network:
            outcome = _run(
                ModelledEnvironment(network), scenario, [plan.sized() for plan in plans], aggregate_s
            )
        return Played(outcome, 1.0, "modelled links need none", 0.0, {}, [], None)


class MininetCarrier:
    """Rounds over Mininet: real bytes on shaped links."""

    engine: Engine = "mininet"

    def __init__(
        self,
        scenario: Scenario,
        state_dir: Path,
        host: TruthfulRange | None = None,
        *,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host or usable(known_range(state_dir))
        self._wall = wall  # the clock of the network's instants; replaced in tests
        self._flow_ids = itertools.count()
        self.network = MininetNetwork(
            scenario.topology(),
            congestion_control=scenario.network.congestion_control,
            state_dir=state_dir,
            timeout_s=scenario.network.timeout_s,
            defer_digests=True,
            seed=scenario.seed,
        )
        self._gate: Gate | None = None

    def __enter__(self) -> Self:
        self.network.__enter__()
        self._gate = Gate(self.network)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.network.__exit__(kind, error, trace)

    def play(
        self,
        scenario: Scenario,
        plans: Sequence[ClientPlan],
        aggregate_s: float,
        started_s: float = 0.0,
    ) -> Played:
        """See `Carrier`."""
        topology = scenario.topology()
        asked = scenario.network.dilation
        dilation = RoundDilation(
            topology,
            expected_flows(topology, _foreseen(scenario, plans, started_s)),
            self._host,
            lambda k: self._shape(topology, k, started_s + env.now),
            fixed=None if asked == "auto" else asked,
            part=not any(plan.leaves_after_s is not None for plan in plans),
        )
        probes = [
            row
            for direction, k, clients in dilation.legs()
            if self._gate
            for row in self._gate.probe(topology, clients, [Leg(direction, k)])
        ]
        self.network.prepare(
            payload
            for plan in plans
            for payload in (plan.downlink, plan.uplink)
            if isinstance(payload, bytes)
        )
        env = EmulatedEnvironment(self.network, dilation=dilation, wall=self._wall, flow_ids=self._flow_ids)
        if self._gate:
            self._gate.begin()
        with real_time():  # or every event and every start waits for other work on this host
            outcome = _run(env, scenario, plans, aggregate_s)
        strain = self._gate.end() if self._gate else None
        digests = self.network.digests()
        expected = modelled_seconds(outcome, modelled_network(scenario, started_s))
        judge = Judge(
            topology, scenario.network.congestion_control, self._host, dilation.beside, self._gate, strain
        )
        untrusted, checks = judge.round(outcome, expected)
        arrived = {
            client.client: digests.get(client.uplink.flow.flow_id, "")
            for client in outcome.clients
            if client.uplink
        }
        uplink = dilation.uplink
        return Played(
            outcome, uplink.k, uplink.because, env.flows_wall_s, untrusted, checks, arrived, probes, strain
        )

    def _shape(self, topology: Topology, k: float, at_s: float) -> None:
        """Links at dilation *k*, with traces where they are at emulated instant *at_s* of the cell."""
        self.network.reshape(topology, k)
        if _traced(topology):  # again, because changing the links took time
            self.network.reshape(topology, k, trace_from_s=self._wall() - at_s / k)


def _foreseen(scenario: Scenario, plans: Sequence[ClientPlan], started_s: float) -> RoundOutcome:
    """The round over modelled links, with every upload that there may be: nobody is too late."""
    with modelled_network(scenario, started_s) as network:
        return run_round(ModelledEnvironment(network), [plan.sized() for plan in plans], aggregate_s=0.0)


def modelled_network(scenario: Scenario, started_s: float = 0.0) -> ModelNetwork:
    """The scenario's links, computed; traces have run on until *started_s* of the cell."""
    return ModelNetwork(
        scenario.topology(),
        congestion_control=_modelled(scenario.network.congestion_control),
        timeout_s=scenario.network.timeout_s,
        trace_from_s=-started_s,
    )


def _traced(topology: Topology) -> bool:
    """Whether the rate of any link changes."""
    links = (topology.server, *topology.clients.values())
    return any(link.uplink.trace or link.downlink.trace for link in links)


def _modelled(congestion_control: str) -> CongestionControl:
    """The model knows fewer algorithms than kernels do; they differ only where packets are lost."""
    known: dict[str, CongestionControl] = {name: name for name in CONGESTION_CONTROLS}
    return known.get(congestion_control, "cubic")


def _run(
    env: ModelledEnvironment | EmulatedEnvironment,
    scenario: Scenario,
    plans: Sequence[ClientPlan],
    aggregate_s: float,
) -> RoundOutcome:
    policy = scenario.rounds_policy
    return run_round(env, plans, aggregate_s=aggregate_s, deadline_s=policy.deadline_s, take=policy.take)
