"""Delay, jitter, loss, reordering, rate with delay and rate over time on emulated links, where the kernel has netem."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from looks import seen
from scipy.stats import binom

from netem.agent import enter_namespace
from netem.flow import FlowRequest, FlowResult
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.model_backend import ModelNetwork
from netem.probe import probe_path
from netem.trace import Trace

pytestmark = pytest.mark.root

FAST = LinkSpec(1e9)
WIDE = AccessLink(FAST, FAST)
# Slow enough that a kernel which is one process on a busy machine keeps up.
NEAR, FAR, LOSSY = LinkSpec(2e6, 0.02), LinkSpec(2e6, 0.1), LinkSpec(4e6, 0.02, loss=0.01)


_CATCH_UP_S = 0.02


def topology(wire: LinkSpec = FAST) -> Topology:
    return Topology(WIDE, {"plain": WIDE, "wire": AccessLink(wire, FAST)})


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Iterator[MininetNetwork]:
    """One network for all tests, reshaped by each: to start one takes seconds here."""
    state = tmp_path_factory.mktemp("state")
    with MininetNetwork(topology(), state_dir=state) as up:
        yield up
    assert list(state.iterdir()) == []  # nothing is left to sweep


@contextmanager
def inside(pid: int) -> Iterator[None]:
    """This thread in another process's network namespace: sockets made here stay there."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        enter_namespace(there)
        yield
    finally:
        enter_namespace(home)
        os.close(home)
        os.close(there)


def ends(network: MininetNetwork, client: str) -> tuple[int, int]:
    """Process numbers that hold the client's and the server's namespace."""
    server, plain, wire = network.net.hosts
    return {"plain": plain, "wire": wire}[client].pid, server.pid


def address(pid: int) -> str:
    out = subprocess.run(
        ["mnexec", "-a", str(pid), "ip", "-4", "-o", "address"], capture_output=True, text=True
    )
    return re.search(r"inet (10\.[0-9.]+)/", out.stdout)[1]


def round_trips_ms(network: MininetNetwork, client: str, count: int, every_s: float) -> list[float]:
    near, far = ends(network, client)
    out = subprocess.run(
        ["mnexec", "-a", str(near), "ping", "-c", str(count), "-i", str(every_s), "-W", "2", address(far)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(ms) for ms in re.findall(r"time=([0-9.]+) ms", out.stdout)]


def datagrams(
    network: MininetNetwork, client: str, count: int, size: int = 4, every_s: float = 0.0
) -> list[int]:
    """Send numbered datagrams of *size* from client to server; the numbers that arrived, in order of arrival."""
    near, far = ends(network, client)
    with inside(far):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(near):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: nothing may be lost here
        receiver.bind((address(far), 0))
        receiver.settimeout(2.0)
        sender.connect(receiver.getsockname())
        arrived = []
        due_s = time.monotonic()
        for number in range(count):
            if (early_s := due_s - time.monotonic()) > 0:
                time.sleep(early_s)
            sender.send(struct.pack("!I", number).ljust(size))
            # A sender that was held up a while does not send all that is overdue at once: no queue would hold it.
            due_s = max(due_s, time.monotonic() - _CATCH_UP_S) + every_s
        while len(arrived) < count:
            try:
                arrived.append(struct.unpack("!I", receiver.recv(2048)[:4])[0])
            except TimeoutError:
                break
        return arrived


@pytest.mark.parametrize("delay_ms", [1, 5, 20, 100, 200])
def test_a_delay_is_kept_to_within_a_twentieth(network, delay_ms):
    network.reshape(topology(LinkSpec(1e9, delay_s=delay_ms / 1e3)))

    def look() -> float:
        floor = statistics.median(round_trips_ms(network, "plain", 10, 0.02))
        return statistics.median(round_trips_ms(network, "wire", 8, 0.05)) - floor

    # A busy host can only add to a round trip: looked at again, a true delay is seen.
    seen(look, lambda found_ms: found_ms == pytest.approx(delay_ms, rel=0.05, abs=0.5))


def test_jitter_spreads_the_delay_over_its_range(network):
    network.reshape(topology(LinkSpec(1e9, delay_s=0.05, jitter_s=0.02)))

    def look() -> list[float]:
        """The twentieths of the round trips in order, from the first to the last but one."""
        # Further apart than they can be delayed: none waits for another.
        got = round_trips_ms(network, "wire", 60, 0.05)
        assert len(got) == 60
        assert min(got) >= 29.5
        return statistics.quantiles(got, n=20)

    # Chance puts a look in a hundred outside, a busy host some more.
    seen(look, lambda found: abs(found[0] - 32) < 4 and abs(found[9] - 50) < 8 and abs(found[18] - 68) < 4)


def test_jitter_keeps_packets_in_their_order(network):
    network.reshape(topology(LinkSpec(1e9, delay_s=0.05, jitter_s=0.02)))
    assert datagrams(network, "wire", 300) == list(range(300))


@pytest.mark.parametrize(("loss", "count"), [(0.001, 8_000), (0.01, 4_000), (0.05, 2_000)])
def test_losses_lie_within_their_binomial_interval(network, loss, count):
    network.reshape(topology(LinkSpec(1e9, loss=loss)))
    lost = count - len(datagrams(network, "wire", count))
    chance = binom(count, loss)
    assert chance.ppf(1e-5) <= lost <= chance.ppf(1 - 1e-5)


def test_a_link_without_loss_loses_nothing(network):
    assert datagrams(network, "plain", 2_000) == list(range(2_000))


def finish(network: MininetNetwork) -> FlowResult:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        for result in network.wait(1.0):
            return result
    raise AssertionError("no result within 30 s")


def sent_s(network: MininetNetwork, payload: bytes) -> float:
    """Duration of an upload over the wire, which arrives whole."""
    network.start(FlowRequest(1, "wire", "uplink", payload))
    got = finish(network)
    assert (got.status, got.digest) == ("ok", hashlib.sha256(payload).hexdigest())
    return got.duration_s


def modelled_s(uplink: LinkSpec, size: int) -> float:
    with ModelNetwork(topology(uplink)) as model:
        model.start(FlowRequest(1, "wire", "uplink", size), 0.0)
        return model.run()[0].duration_s


def test_a_long_fast_link_holds_all_that_is_under_way(network):
    """netem holds 1000 packets unless told otherwise; on this link 2000 are under way."""
    network.reshape(topology(LinkSpec(20e6, delay_s=1.2)))
    count = 2_600
    arrived = datagrams(network, "wire", count, size=1472, every_s=8 * 1514 / 20e6 / 0.95)
    assert len(arrived) == count


@pytest.mark.parametrize(("link", "size"), [(NEAR, 300_000), (FAR, 300_000)])
def test_rate_and_delay_together_carry_tcp_as_modelled(network, link, size):
    network.reshape(topology(link))
    expected_s = modelled_s(link, size)
    seen(  # a busy host can only slow a transfer down
        lambda: sent_s(network, os.urandom(size)), lambda took_s: took_s == pytest.approx(expected_s, rel=0.1)
    )


def test_what_is_lost_is_sent_again_and_arrives_whole(network):
    network.reshape(topology(LOSSY))
    payload = os.urandom(600_000)

    def look() -> float:
        took_s = sent_s(network, payload)
        assert took_s > 8 * 600_000 / LOSSY.rate_bps
        return took_s

    # Chance decides how often the window is cut; the model gives the mean of many such transfers.
    expected_s = modelled_s(LOSSY, 600_000)
    seen(look, lambda took_s: took_s < 3 * expected_s)


def test_a_rate_over_time_is_replayed_by_changing_it_in_place(network):
    size, trace = 300_000, Trace((0.0, 0.5, 1.2, 2.0), (1e6, 0.25e6, 0.5e6, 2e6), end="hold")
    link = LinkSpec(trace.rates_bps[0], trace=trace)

    def look() -> tuple[float, float]:
        """Duration on the link and in the model."""
        began_s = time.monotonic()
        network.reshape(topology(link), trace_from_s=began_s)
        network.start(FlowRequest(1, "wire", "uplink", os.urandom(size)))
        got = finish(network)
        assert got.status == "ok"
        with ModelNetwork(topology(link), trace_from_s=began_s - got.started_s) as model:
            model.start(FlowRequest(1, "wire", "uplink", size), 0.0)
            expected_s = model.run()[0].duration_s
        assert expected_s > 2.0  # past the last change
        return got.duration_s, expected_s

    seen(look, lambda found: found[0] == pytest.approx(found[1], rel=0.05))


def test_a_probe_expects_delay_and_rate_as_they_are(network):
    """How late this kernel, one process on a busy machine, is with it does not matter here."""
    network.reshape(topology(LinkSpec(6e6, delay_s=0.05)))
    row = probe_path(network, ["wire"], "uplink", looks=2)
    assert row.band == 0.1
    assert row.expected_rtt_s == pytest.approx(0.05, abs=0.002)
    assert 0.95 * 0.05 < row.fastest_rtt_s < 0.15
    assert row.error > -row.band


def test_a_probe_does_not_judge_what_chance_decides(network):
    network.reshape(topology(LOSSY))
    row = probe_path(network, ["wire"], "uplink", looks=2)
    assert (row.band, row.fault) == (None, "")
    assert row.fastest_s > 0.9 * 8 * row.payload_bytes / LOSSY.rate_bps
    assert any(line.startswith("netem ") and " loss=0.01" in f" {line}" for line in row.kernel)


def test_reordering_lets_some_overtake_and_loses_none(network):
    network.reshape(topology(LinkSpec(1e9, delay_s=0.02, reorder=0.1)))
    arrived = datagrams(network, "wire", 500)
    assert len(arrived) == 500
    assert any(later < earlier for earlier, later in pairwise(arrived))


def test_reordering_is_taken_off_in_place(network):
    network.reshape(topology(LinkSpec(1e9, delay_s=0.02, reorder=0.1)))
    network.reshape(topology(LinkSpec(1e9, delay_s=0.02)))
    assert datagrams(network, "wire", 300) == list(range(300))
