"""Queues as we set them, seen through `tc`: a second implementation that knows nothing of ours."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from netem.agent import enter_namespace
from netem.capabilities import netem
from netem.link import LinkSpec
from netem.netlink import NetlinkError
from netem.shaper import shape
from netem.traffic_control import TrafficControl

pytestmark = [pytest.mark.root, pytest.mark.beside]


@contextmanager
def namespace() -> Iterator[TrafficControl]:
    """A network namespace with a veth pair ``a`` and ``b`` (number 10), left and gone at the end."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    with subprocess.Popen(
        ["mnexec", "-n", "-p", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        there = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        try:
            enter_namespace(there)
            subprocess.run(
                ["ip", "link", "add", "name", "a", "index", "10", "type", "veth", "peer", "name", "b"],
                check=True,
            )
            with closing(TrafficControl()) as control:
                yield control
        finally:
            enter_namespace(home)
            os.close(home)
            os.close(there)
            holder.kill()


def tc(*words: str) -> str:
    return subprocess.run(["tc", "-d", *words], capture_output=True, text=True, check=True).stdout


def test_a_shape_reads_in_tc_as_it_was_set():
    with namespace() as control:
        control.shape(10, shape(LinkSpec(80e6)))
        assert "rate 80Mbit ceil 80Mbit" in tc("class", "show", "dev", "a")
        assert "quantum 60000" in tc("class", "show", "dev", "a")
        assert "burst 1240b" in tc("class", "show", "dev", "a")  # 1250, in whole ticks and then microseconds
        (cutter,) = (line for line in tc("qdisc", "show", "dev", "a").splitlines() if "tbf" in line)
        assert cutter.startswith("qdisc tbf 10: parent 1:1 rate 100Gbit ")
        assert "default 0x1" in tc("qdisc", "show", "dev", "a")


def test_what_tc_sets_reads_here_as_it_was_set():
    with namespace() as control:
        for words in (
            "qdisc add dev a root handle 1: htb default 1",
            "class add dev a parent 1: classid 1:1 htb rate 12345672bit burst 15000b quantum 60000",
            "qdisc add dev a parent 1:1 handle 10: tbf rate 1gbit burst 3000b limit 77000b",
        ):
            tc(*words.split())
        states = {state.kind: state.options for state in control.queues([10])[10] if state.options}
        assert states["htb"]["rate_bytes_s"] == 1_543_209
        assert states["htb"]["burst_ns"] == pytest.approx(15_000 / 1_543_209 * 1e9, abs=1_100)
        assert states["htb"]["quantum_bytes"] == 60_000
        assert states["tbf"] == pytest.approx(
            {"rate_bytes_s": 125e6, "burst_bytes": 3000, "limit": 77_000}, abs=8
        )


def test_a_rate_beyond_32_bits_is_taken_whole():
    with namespace() as control:
        control.shape(10, shape(LinkSpec(400e9)))
        assert "rate 400Gbit" in tc("class", "show", "dev", "a")


def test_a_refusal_is_told_in_the_kernels_words():
    with namespace() as control:
        with pytest.raises(NetlinkError, match=r"^setting htb on interface 99: No such device"):
            control.shape(99, shape(LinkSpec(1e6)))
        if not netem().ok:
            with pytest.raises(
                NetlinkError, match=r"^setting netem on interface 10: .*Specified qdisc kind is unknown"
            ):
                control.shape(10, shape(LinkSpec(1e6, delay_s=0.01)))


def test_the_longest_packet_of_a_stack_is_set():
    with namespace() as control:
        control.limit_super_packets(10, 3)
        seen = subprocess.run(
            ["ip", "-d", "link", "show", "a"], capture_output=True, text=True, check=True
        ).stdout
        assert "gso_max_segs 3 " in seen


def test_addresses_and_neighbours_read_in_ip_as_they_were_set():
    with namespace() as control:
        control.add_address(10, "10.0.0.9", 8)
        control.set_up(10)
        control.add_neighbour(10, "10.0.0.1", "02:00:0a:00:00:01")
        seen = subprocess.run(
            ["ip", "-4", "address", "show", "a"], capture_output=True, text=True, check=True
        ).stdout
        assert "inet 10.0.0.9/8" in seen
        seen = subprocess.run(["ip", "neighbour", "show"], capture_output=True, text=True, check=True).stdout
        assert "10.0.0.1 dev a lladdr 02:00:0a:00:00:01 PERMANENT" in seen
        control.set_up(10, up=False)
        assert "DOWN" in subprocess.run(["ip", "link", "show", "a"], capture_output=True, text=True).stdout


def test_sockets_stay_in_the_namespace_they_were_made_in():
    with namespace():
        inside = socket.socket()
        assert socket.if_nametoindex("a") == 10
    with inside, pytest.raises(OSError, match="unreachable"):
        inside.connect(("192.0.2.1", 9))
    with pytest.raises(OSError, match="no interface"):
        socket.if_nametoindex("a")
