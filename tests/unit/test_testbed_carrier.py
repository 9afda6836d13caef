"""Rounds on both clocks over the same computed links: contention included they are the same; slowness is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from testbed_links import VirtualLinks

from testbed.carrier import MininetCarrier, ModelCarrier, Played
from testbed.round import ClientPlan
from testbed.scenario import Scenario, loads

# Four clients compete for the server's 30 Mbit/s; each comes into the others' transfers at a moment of its own.
CONTENDED = """
name: contended
network: {{engine: mininet, dilation: {dilation}, server: {{uplink: 1 Gbit/s, downlink: 30 Mbit/s}}}}
fleets:
  - {{name: near, count: 2, device: cloud-vm, uplink: {{rate: 20 Mbit/s, delay: 5 ms}}, downlink: 100 Mbit/s}}
  - {{name: far, count: 2, device: cloud-vm, uplink: {{rate: 8 Mbit/s, delay: 40 ms}}, downlink: 50 Mbit/s}}
rounds_policy: {{deadline: {deadline}}}
"""


def contended(dilation: str = "auto", deadline: str = "null") -> Scenario:
    return loads(CONTENDED.format(dilation=dilation, deadline=deadline))


def plans(scenario: Scenario) -> list[ClientPlan]:
    return [
        ClientPlan(name, b"d" * 200_000, b"u" * (400_000 + 50_000 * index), 0.1 * index, 0.02, 0.01)
        for index, name in enumerate(scenario.client_names)
    ]


def play(scenario: Scenario, folder: Path, **lags: float) -> Played:
    links = VirtualLinks(scenario.topology(), **lags)
    carrier = MininetCarrier(scenario, folder, wall=links.now)
    network: Any = links
    carrier.network = network
    return carrier.play(scenario, plans(scenario), 0.05)


@pytest.mark.parametrize("dilation", ["1", "0.5", "10", "auto"])
@pytest.mark.parametrize("deadline", ["null", "700 ms"])
def test_following_the_wall_clock_gives_what_the_model_computes(
    dilation: str, deadline: str, tmp_path: Path
) -> None:
    scenario = contended(dilation, deadline)
    followed = play(scenario, tmp_path).outcome
    computed = ModelCarrier().play(scenario, plans(scenario), 0.05).outcome
    assert followed.round_s == pytest.approx(computed.round_s, rel=1e-6)
    for seen, model in zip(followed.clients, computed.clients, strict=True):
        assert (seen.status, seen.reason) == (model.status, model.reason)
        assert seen.seconds == pytest.approx(model.seconds, rel=1e-6, abs=1e-6)


# Fast uploads begin while slow downloads are under way, and have no link in common with them.
OVERLAPPING = loads("""
name: overlapping
network: {engine: mininet, server: {uplink: 40 Gbit/s, downlink: 40 Gbit/s}}
fleets:
  - {name: slow, count: 2, device: cloud-vm, uplink: {rate: 500 Mbit/s, delay: 1 ms}, downlink: 1 Mbit/s}
  - {name: fast, count: 2, device: cloud-vm, uplink: 5 Gbit/s, downlink: 10 Mbit/s}
""")


def test_uploads_carried_after_the_downloads_that_they_overlap_change_nothing(tmp_path: Path) -> None:
    links = VirtualLinks(OVERLAPPING.topology())
    carrier = MininetCarrier(OVERLAPPING, tmp_path, wall=links.now)
    network: Any = links
    carrier.network = network
    followed = carrier.play(OVERLAPPING, plans(OVERLAPPING), 0.05)
    computed = ModelCarrier().play(OVERLAPPING, plans(OVERLAPPING), 0.05).outcome
    assert followed.untrusted == {}
    for seen, model in zip(followed.outcome.clients, computed.clients, strict=True):
        assert seen.seconds == pytest.approx(model.seconds, rel=1e-6, abs=1e-6)
    fast, slow = followed.outcome.clients[-1], followed.outcome.clients[0]
    assert fast.uplink is not None
    assert slow.downlink is not None
    assert fast.uplink.finished_s < slow.downlink.finished_s
    assert slow.downlink.dilation > 10 * fast.uplink.dilation
    assert followed.transfer_wall_s < 0.5 * followed.outcome.round_s


def test_uploads_really_meet(tmp_path: Path) -> None:
    """Or the comparison above would say nothing about contention."""
    scenario = contended("1")
    alone = {
        plan.client: ModelCarrier().play(scenario, [plan], 0.05).outcome.clients[0].seconds["uplink"]
        for plan in plans(scenario)
    }
    together = play(scenario, tmp_path).outcome.clients
    slowed = [client.client for client in together if client.seconds["uplink"] > 1.1 * alone[client.client]]
    assert slowed == ["near-0", "near-1"]


def test_a_host_that_keeps_up_is_trusted(tmp_path: Path) -> None:
    assert play(contended("1"), tmp_path).untrusted == {}


def test_senders_that_start_late_make_the_round_untrusted(tmp_path: Path) -> None:
    untrusted = play(contended("1"), tmp_path, start_lag_s=0.06).untrusted
    assert set(untrusted) == {"near-0", "near-1", "far-0", "far-1"}
    assert all("behind the clock" in why or "the model expects" in why for why in untrusted.values())


def test_a_lag_counts_as_much_as_the_dilation_makes_of_it(tmp_path: Path) -> None:
    """3 ms of lag are nothing at k = 1; at k = 20 they are 60 ms of emulated time."""
    assert play(contended("1"), tmp_path, start_lag_s=0.0003).untrusted == {}
    assert play(contended("20"), tmp_path, start_lag_s=0.003).untrusted != {}


def test_completions_that_are_told_late_make_the_round_untrusted_not_shorter(tmp_path: Path) -> None:
    scenario = contended("1")
    played = play(scenario, tmp_path, notice_s=0.5)
    prompt = play(scenario, tmp_path).outcome
    for seen, model in zip(played.outcome.clients, prompt.clients, strict=True):
        assert seen.downlink is not None
        assert model.downlink is not None
        assert seen.downlink.seconds >= model.downlink.seconds - 1e-9
    assert played.untrusted


TRACED = loads("""
name: traced
network: {engine: mininet, server: {uplink: 1 Gbit/s, downlink: 1 Gbit/s}}
fleets:
  - name: bus
    count: 2
    device: cloud-vm
    uplink: {trace: {times_s: [0, 1, 2], rates_bps: [4.0e+6, 1.0e+6, 9.0e+6]}}
    downlink: 100 Mbit/s
""")


@pytest.mark.parametrize("started_s", [0.0, 1.5, 1000.25])
@pytest.mark.parametrize("dilation", ["auto", 1.0, 4.0])
def test_traces_run_on_between_silences_and_rounds(started_s: float, dilation: Any, tmp_path: Path) -> None:
    scenario = replace(TRACED, network=replace(TRACED.network, dilation=dilation))
    links = VirtualLinks(scenario.topology())
    carrier = MininetCarrier(scenario, tmp_path, wall=links.now)
    network: Any = links
    carrier.network = network
    followed = carrier.play(scenario, plans(scenario), 0.05, started_s)
    computed = ModelCarrier().play(scenario, plans(scenario), 0.05, started_s)
    for seen, model in zip(followed.outcome.clients, computed.outcome.clients, strict=True):
        assert seen.seconds == pytest.approx(model.seconds, rel=1e-6, abs=1e-6)
    assert followed.untrusted == {}
    # A second of the trace stays longer than the shortest time that this host keeps.
    assert followed.dilation <= (40.0 if dilation == "auto" else dilation)


def test_where_in_its_trace_a_round_begins_matters() -> None:
    ends = {
        ModelCarrier().play(TRACED, plans(TRACED), 0.05, at_s).outcome.round_s for at_s in (0.0, 1.0, 2.0)
    }
    assert len(ends) == 3
