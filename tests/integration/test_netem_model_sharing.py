"""A link shared in turns: packets reach their member's queue, and changes in place keep everything that stands."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from netem.agent import enter_namespace
from netem.link import LinkSpec
from netem.shaper import shape
from netem.sharing import SharedTrafficControl, cutter_handle, member_shape, netem_handle

pytestmark = pytest.mark.root

MEMBERS = [2, 3, 0x0107]
ADDRESSES = {2: "10.0.0.2", 3: "10.0.0.3", 0x0107: "10.0.1.7"}


@pytest.fixture
def wire() -> Iterator[tuple[SharedTrafficControl, int]]:
    """A veth pair in a namespace of its own, entered by this thread; the interface to shape."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; cat"], stdin=-1, stdout=-1)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    control = None
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        there = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        enter_namespace(there)
        os.close(there)
        lines = [
            "link add near index 10 type veth peer name far index 11",
            # IPv6 would say hello over either end whenever it likes, and be counted.
            "link set near addrgenmode none",
            "link set far addrgenmode none",
            "link set near up",
            "link set far up",
            "address add 10.0.0.1/8 dev near",
            *(
                f"neighbour add {address} lladdr 02:00:00:00:00:01 dev near nud permanent"
                for address in (*ADDRESSES.values(), "10.0.9.9")
            ),
        ]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
        control = SharedTrafficControl()
        yield control, 10
    finally:
        enter_namespace(home)
        os.close(home)
        if control is not None:
            control.close()
        holder.communicate()


def packets(control: SharedTrafficControl, ifindex: int) -> dict[int, int]:
    """Packets that left through each member's queue, by member; waits until none is on its way through."""
    for _ in range(500):
        states = [state for state in control.queues([ifindex])[ifindex] if state.kind == "tbf"]
        if not any(state.backlog_packets for state in states):
            break
        time.sleep(0.01)
    sent = {state.handle: state.packets for state in states}
    return {member: sent[cutter_handle(member)] for member in MEMBERS}


def send(address: str, count: int, source: str = "10.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        for _ in range(count):
            sender.sendto(b"x", (address, 9))


def test_each_packet_goes_into_its_members_queue(wire):
    control, ifindex = wire
    control.share(ifindex, MEMBERS, "destination", shape(LinkSpec(1e9)))
    before = packets(control, ifindex)
    for position, address in enumerate(ADDRESSES.values(), start=1):
        send(address, position)
    send("10.0.9.9", 5)  # no member: it goes with the first
    after = packets(control, ifindex)
    assert {member: after[member] - before[member] for member in MEMBERS} == {2: 6, 3: 2, 0x0107: 3}


def test_the_way_in_is_sorted_by_who_sent(wire):
    control, ifindex = wire
    subprocess.run(["ip", "address", "add", "10.0.1.7/8", "dev", "near"], check=True)
    control.share(ifindex, MEMBERS, "source", shape(LinkSpec(1e9)))
    before = packets(control, ifindex)
    send("10.0.0.2", 4, source="10.0.1.7")
    after = packets(control, ifindex)
    assert {member: after[member] - before[member] for member in MEMBERS} == {2: 0, 3: 0, 0x0107: 4}


def test_a_change_in_place_reaches_every_queue_and_keeps_their_counters(wire):
    control, ifindex = wire
    slow, quick = shape(LinkSpec(2e6)), shape(LinkSpec(3e9))
    control.share(ifindex, MEMBERS, "destination", slow)
    send("10.0.0.3", 2)
    before = packets(control, ifindex)
    control.share(ifindex, MEMBERS, "destination", quick, slow)
    assert packets(control, ifindex) == before
    states = {(state.kind, state.handle): state.options for state in control.queues([ifindex])[ifindex]}
    assert states["htb", 0x1_0001]["rate_bytes_s"] == 3e9 / 8
    for member in MEMBERS:
        wanted = member_shape(quick, member, len(MEMBERS))
        assert states["tbf", cutter_handle(member)]["limit"] == wanted.queue_bytes
        assert states["htb", 0x1_0000 | member]["quantum_bytes"] == quick.segment_bytes


def test_members_have_queues_of_their_own_length_and_seeds_of_their_own():
    whole = shape(LinkSpec(100e6, delay_s=0.01, loss=0.01), seed=2**64 - 1)
    assert member_shape(whole, 2, 1).queue_bytes == whole.queue_bytes
    assert member_shape(whole, 2, 2).queue_bytes == whole.queue_bytes // 2
    assert member_shape(whole, 2, 200).queue_bytes == whole.queue_bytes // 4
    seeds = {member: member_shape(whole, member, 3).netem.seed for member in MEMBERS}
    assert seeds == {2: 1, 3: 2, 0x0107: 0x0106}
    assert (
        len({netem_handle(member) for member in MEMBERS} | {cutter_handle(member) for member in MEMBERS}) == 6
    )
