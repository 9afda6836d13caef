"""Traces on emulated links: rates change in place, at the instant they should, outages included."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from looks import seen

from netem.flow import FlowRequest, FlowResult
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.model_backend import ModelNetwork
from netem.trace import Trace

pytestmark = pytest.mark.root

WIDE = AccessLink(LinkSpec(1e9), LinkSpec(1e9))
STEPS = Trace((0.0, 0.2, 0.4, 0.7), (16e6, 2e6, 8e6, 32e6), end="hold")
OUTAGE = Trace((0.0, 0.15, 0.65), (16e6, 0.0, 16e6), end="hold")
REPEATING = Trace((0.0, 0.05), (4e6, 20e6), length_s=0.1)


def star(trace: Trace | None) -> Topology:
    return Topology(WIDE, {"phone": AccessLink(LinkSpec(10e6, trace=trace), WIDE.downlink)})


def send(network: MininetNetwork, size: int) -> FlowResult:
    network.start(FlowRequest(0, "phone", "uplink", os.urandom(size)))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for result in network.wait(1.0):
            assert result.status == "ok", result.error
            return result
    raise AssertionError("no result")


def expected_s(trace: Trace, size: int, dilation: float = 1.0, late_s: float = 0.0) -> float:
    """What the modelled network takes for the same; *late_s* after the trace began (wall)."""
    with ModelNetwork(star(trace), dilation=dilation) as model:
        model.start(FlowRequest(0, "phone", "uplink", size), late_s)
        return model.run()[0].duration_s


def played(network: MininetNetwork, trace: Trace, size: int, dilation: float = 1.0) -> tuple[float, float]:
    """Duration of a transfer over a link whose trace begins now, and the model's for it."""
    began_s = time.monotonic()
    network.reshape(star(trace), dilation, trace_from_s=began_s)
    result = send(network, size)
    return result.duration_s, expected_s(trace, size, dilation, result.started_s - began_s)


@pytest.mark.parametrize(
    ("trace", "size"),
    [(STEPS, 1_500_000), (OUTAGE, 600_000), (REPEATING, 1_500_000)],
    ids=["steps", "outage", "repeating"],
)
def test_a_transfer_takes_as_long_as_the_trace_says(tmp_path: Path, trace: Trace, size: int) -> None:
    with MininetNetwork(star(trace), state_dir=tmp_path) as network:
        seen(
            lambda: played(network, trace, size),
            lambda times: times[0] == pytest.approx(times[1], rel=0.03, abs=0.005),
        )


def test_dilation_plays_traces_faster(tmp_path: Path) -> None:
    size = 1_500_000
    with MininetNetwork(star(STEPS), state_dir=tmp_path, dilation=5.0) as network:
        seen(
            lambda: played(network, STEPS, size, 5.0),
            lambda times: times[0] == pytest.approx(times[1], rel=0.05, abs=0.005),
        )


def test_a_new_shape_ends_the_trace(tmp_path: Path) -> None:
    with MininetNetwork(star(OUTAGE), state_dir=tmp_path) as network:
        network.reshape(star(REPEATING), trace_from_s=time.monotonic())
        network.reshape(star(None))
        time.sleep(0.15)  # several changes of the trace
        seen(lambda: send(network, 250_000).duration_s, lambda s: s == pytest.approx(0.21, rel=0.05))
