"""The clock over real links: contention as modelled, and a host that is slow on purpose is told."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from looks import seen

from netem.flow import FlowRequest
from testbed.carrier import MininetCarrier, ModelCarrier
from testbed.participant import ClientOutcome
from testbed.round import ClientPlan
from testbed.scenario import loads

pytestmark = pytest.mark.root

SCENARIO = loads("""
name: contended
network: {engine: mininet, dilation: 1, server: {uplink: 200 Mbit/s, downlink: 12 Mbit/s}}
fleets: [{name: edge, count: 3, device: cloud-vm, uplink: 8 Mbit/s, downlink: 40 Mbit/s}]
""")
# All three uploads of 300 kB meet at the server's 12 Mbit/s, a tenth of a second after one another.
PLANS = [
    ClientPlan(name, b"d" * 100_000, bytes([index]) * 300_000, 0.1 * index, 0.01, 0.01)
    for index, name in enumerate(SCENARIO.client_names)
]


class SlowStart:
    """A network whose host has every sender start late."""

    def __init__(self, network: Any, lag_s: float) -> None:
        self._network, self._lag_s = network, lag_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def start(self, request: FlowRequest) -> None:
        time.sleep(self._lag_s)
        self._network.start(request)


def test_contending_uploads_take_what_the_model_says(tmp_path: Path) -> None:
    model = ModelCarrier().play(SCENARIO, PLANS, 0.01).outcome
    sent = {plan.client: hashlib.sha256(plan.uplink).hexdigest() for plan in PLANS}
    # An upload alone takes 0.31 s. None of them does: each had company, in both.
    assert all(client.seconds["uplink"] > 0.4 for client in model.clients)

    def last_s(clients: Sequence[ClientOutcome]) -> float:
        return max(end for client in clients for part, _, end in client.spans if part == "uplink")

    def look() -> Sequence[ClientOutcome]:
        played = carrier.play(SCENARIO, PLANS, 0.01)
        assert played.arrived == sent
        assert [client.status for client in played.outcome.clients] == ["ok"] * 3
        return played.outcome.clients

    def like_the_model(clients: Sequence[ClientOutcome]) -> bool:
        # When all are through is a matter of the shared link alone; how it is split among young flows also depends on
        # TCP's luck.
        return last_s(clients) == pytest.approx(last_s(model.clients), rel=0.1) and all(
            0.35 < client.seconds["uplink"] < 1.4 * like.seconds["uplink"]
            for client, like in zip(clients, model.clients, strict=True)
        )

    with MininetCarrier(SCENARIO, tmp_path) as carrier:
        seen(look, like_the_model)


def test_a_host_that_starts_senders_late_is_not_believed(tmp_path: Path) -> None:
    with MininetCarrier(SCENARIO, tmp_path) as carrier:
        network: Any = SlowStart(carrier.network, 0.15)
        carrier.network = network
        played = carrier.play(SCENARIO, PLANS, 0.01)
    # The first sender's lag moves nobody: the clock starts with it. Every other one comes 0.15 s late or more.
    assert set(played.untrusted) >= {"edge-1", "edge-2"}
    assert (
        "behind the clock" in played.untrusted["edge-2"] or "the model expects" in played.untrusted["edge-2"]
    )


def test_a_crash_and_a_departure_cut_the_flow_and_the_round_goes_on(tmp_path: Path) -> None:
    """One client dies after a third of its upload, one goes away in the middle of its own; the third arrives whole."""
    mishaps = [
        replace(PLANS[0], crash_after_bytes=100_000),
        replace(PLANS[1], leaves_after_s=0.4),
        PLANS[2],
    ]
    with MininetCarrier(SCENARIO, tmp_path) as carrier:
        struck = carrier.play(SCENARIO, mishaps, 0.01)
        again = carrier.play(SCENARIO, PLANS, 0.01)
    crashed, left, whole = struck.outcome.clients
    assert (crashed.status, crashed.reason) == (
        "failed",
        "uplink: connection lost after 100000 of 300000 bytes",
    )
    assert crashed.uplink is not None
    assert (crashed.uplink.flow.payload_bytes, crashed.uplink.flow.digest) == (100_000, "")
    assert (left.status, left.reason) == ("dropped", "left while it was at: uplink")
    assert left.seconds["uplink"] == pytest.approx(0.4 - sum(
        left.seconds[part] for part in ("downlink", "train", "compress")), abs=1e-6)  # fmt: skip
    assert (whole.status, struck.arrived and struck.arrived["edge-2"]) == (
        "ok",
        hashlib.sha256(PLANS[2].uplink).hexdigest(),
    )
    for client in struck.outcome.clients:
        assert sum(client.seconds.values()) == pytest.approx(struck.outcome.round_s)
    # Whoever crashed or left is back in the next round: its cable is plugged in again.
    assert [client.status for client in again.outcome.clients] == ["ok"] * 3
