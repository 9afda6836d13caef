"""Delay, jitter, loss, reordering, rate with delay and rate over time on emulated links, where the kernel has netem."""

from __future__ import annotations

import os
import re
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netem.agent import enter_namespace
from netem.flow import FlowRequest, FlowResult
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.model_backend import ModelNetwork
from netem.trace import Trace

pytestmark = pytest.mark.root

FAST = LinkSpec(1e9)
WIDE = AccessLink(FAST, FAST)
DELAYS_MS = (1, 5, 20, 100, 200)
LOSSES = (0.001, 0.01, 0.05)


def clients(**uplinks: LinkSpec) -> Topology:
    return Topology(WIDE, {name: AccessLink(spec, FAST) for name, spec in uplinks.items()})


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Iterator[MininetNetwork]:
    """One network for all that only sends packets: a client for each kind of link."""
    topology = clients(
        **{f"delay-{ms}": LinkSpec(1e9, delay_s=ms / 1e3) for ms in DELAYS_MS},
        **{f"loss-{loss}": LinkSpec(1e9, loss=loss) for loss in LOSSES},
        jitter=LinkSpec(1e9, delay_s=0.05, jitter_s=0.02),
        reorder=LinkSpec(1e9, delay_s=0.02, reorder=0.1),
        plain=FAST,
    )
    with MininetNetwork(topology, state_dir=tmp_path_factory.mktemp("state")) as up:
        yield up


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
    hosts = network.net.hosts
    return hosts[1 + list(network._topology.clients).index(client)].pid, hosts[0].pid


def address(pid: int) -> str:
    out = subprocess.run(
        ["mnexec", "-a", str(pid), "ip", "-4", "-o", "address"], capture_output=True, text=True
    )
    return re.search(r"inet (10\.[0-9.]+)/", out.stdout)[1]


def round_trips_ms(network: MininetNetwork, client: str, count: int, every_s: float) -> list[float]:
    near, far = ends(network, client)
    out = subprocess.run(
        ["mnexec", "-a", str(near), "ping", "-q", "-c", "1", "-W", "2", address(far)], check=True, stdout=-3
    )
    out = subprocess.run(
        ["mnexec", "-a", str(near), "ping", "-c", str(count), "-i", str(every_s), "-W", "2", address(far)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(ms) for ms in re.findall(r"time=([0-9.]+) ms", out.stdout)]


def datagrams(network: MininetNetwork, client: str, count: int) -> list[int]:
    """Send numbered datagrams from client to server; the numbers that arrived, in order of arrival."""
    near, far = ends(network, client)
    with inside(far):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(near):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: nothing may be lost here
        receiver.bind((address(far), 0))
        receiver.settimeout(0.6)
        sender.connect(receiver.getsockname())
        arrived = []
        for number in range(count):
            sender.send(struct.pack("!I", number))
        while True:
            try:
                arrived.append(struct.unpack("!I", receiver.recv(16))[0])
            except TimeoutError:
                return arrived


@pytest.mark.parametrize("delay_ms", DELAYS_MS)
def test_a_delay_is_kept_to_within_a_twentieth(network, delay_ms):
    floor = statistics.median(round_trips_ms(network, "plain", 10, 0.02))
    got = statistics.median(round_trips_ms(network, f"delay-{delay_ms}", 8, 0.05)) - floor
    assert got == pytest.approx(delay_ms, rel=0.05, abs=0.5)


def test_jitter_spreads_the_delay_evenly_over_its_range(network):
    got = round_trips_ms(network, "jitter", 150, 0.01)
    assert len(got) == 150
    assert 29.5 <= min(got) < 36
    assert 64 < max(got) <= 72
    assert statistics.mean(got) == pytest.approx(50, abs=4)
    assert statistics.stdev(got) == pytest.approx(40 / 12**0.5, rel=0.2)


def test_jitter_keeps_packets_in_their_order(network):
    arrived = datagrams(network, "jitter", 500)
    assert len(arrived) == 500
    assert arrived == sorted(arrived)


@pytest.mark.parametrize(("loss", "count"), [(0.001, 20_000), (0.01, 10_000), (0.05, 5_000)])
def test_losses_lie_within_their_binomial_interval(network, loss, count):
    lost = count - len(datagrams(network, f"loss-{loss}", count))
    spread = (count * loss * (1 - loss)) ** 0.5
    assert abs(lost - count * loss) <= 3.9 * spread  # once in ten thousand runs by chance


def test_a_link_without_loss_loses_nothing(network):
    assert datagrams(network, "plain", 5_000) == list(range(5_000))


def test_reordering_lets_about_so_many_overtake(network):
    arrived = datagrams(network, "reorder", 2_000)
    assert len(arrived) == 2_000
    overtook = sum(1 for a, b in zip(arrived, arrived[1:], strict=False) if b < a)
    assert overtook > 0
    assert arrived != sorted(arrived)


def transfer(network: MininetNetwork, client: str, size: int, limit_s: float = 30.0) -> FlowResult:
    network.start(FlowRequest(1, client, "uplink", os.urandom(size)))
    return finish(network, limit_s)


def finish(network: MininetNetwork, limit_s: float = 30.0) -> FlowResult:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        for result in network.wait(1.0):
            return result
    raise AssertionError("no result")


def test_a_fast_long_link_is_filled_and_drops_nothing(tmp_path):
    """netem holds 1000 packets unless told otherwise; this link has 1650 on the way."""
    topology = clients(far=LinkSpec(200e6, delay_s=0.1))
    size = 12_000_000
    model = ModelNetwork(topology)
    model.start(FlowRequest(1, "far", "uplink", size), 0.0)
    expected_s = model.run()[0].duration_s
    with MininetNetwork(topology, state_dir=tmp_path) as network:
        got = transfer(network, "far", size)
    assert got.status == "ok"
    assert got.duration_s == pytest.approx(expected_s, rel=0.1)


def test_a_rate_over_time_is_replayed_by_changing_it_in_place(tmp_path):
    trace = Trace((0.0, 0.5, 1.0, 2.0), (16e6, 2e6, 8e6, 32e6), end="hold")
    size = 2_500_000
    plan = [(at, rate) for at, rate in trace.changes(2.5)]
    model = ModelNetwork(clients(phone=LinkSpec(16e6, trace=trace)))
    model.start(FlowRequest(1, "phone", "uplink", size), 0.0)
    expected_s = model.run()[0].duration_s
    with MininetNetwork(clients(phone=LinkSpec(16e6)), state_dir=tmp_path) as network:
        began = time.monotonic()
        network.start(FlowRequest(1, "phone", "uplink", os.urandom(size)))
        for at, rate in plan[1:]:
            time.sleep(max(began + at - time.monotonic(), 0))
            network.reshape(clients(phone=LinkSpec(rate)))
        got = finish(network)
    assert got.status == "ok"
    assert got.duration_s == pytest.approx(expected_s, rel=0.05)


def test_nothing_is_left_in_the_state_folder(tmp_path):
    state = Path(tmp_path)
    with MininetNetwork(clients(one=LinkSpec(10e6, delay_s=0.01)), state_dir=state) as network:
        assert transfer(network, "one", 50_000).status == "ok"
    assert list(state.iterdir()) == []
