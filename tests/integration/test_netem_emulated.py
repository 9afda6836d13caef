"""Real namespaces, real queues, real TCP: what was asked is what is there, and what arrives is what was sent."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from looks import seen

from netem.capabilities import netem
from netem.errors import CapabilityError, LinkSpecError, ShapingError, TransferError
from netem.flow import FlowRequest, FlowResult
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork

pytestmark = pytest.mark.root

PAYLOAD_SHARE = 1448 / 1514  # of a full frame with TCP timestamps


def access(uplink_bps: float, downlink_bps: float | None = None) -> AccessLink:
    return AccessLink(LinkSpec(uplink_bps), LinkSpec(downlink_bps or uplink_bps))


WIDE = access(10e9)


def star(*rates_bps: float, server: AccessLink = WIDE) -> Topology:
    return Topology(server, {f"c{number}": access(rate) for number, rate in enumerate(rates_bps)})


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Iterator[MininetNetwork]:
    """Eight clients that tests bring into the shape they need."""
    with MininetNetwork(
        star(*[100e6] * 8), state_dir=tmp_path_factory.mktemp("state"), keep_received=True, timeout_s=2.0
    ) as up:
        yield up


def finish(network: MininetNetwork, count: int = 1, limit_s: float = 30.0) -> list[FlowResult]:
    """The next *count* results, in order of their numbers."""
    done: list[FlowResult] = []
    deadline = time.monotonic() + limit_s
    while len(done) < count:
        assert time.monotonic() < deadline, f"{len(done)} of {count} flows ended"
        done += network.wait(1.0)
    return sorted(done, key=lambda result: result.flow_id)


def send(network: MininetNetwork, client: str, direction: str, size: int) -> FlowResult:
    network.start(FlowRequest(0, client, direction, os.urandom(size)))
    (result,) = finish(network)
    network.received(0)
    return result


def wait_for_bytes(network: MininetNetwork, client: str, count: int = 100_000) -> None:
    """Until *count* more bytes of an upload are through the client's link; some of them may not have arrived yet."""

    def through() -> int:
        return max(state.wire_bytes for state in network.queues()[f"{client}.uplink"])

    wanted = through() + count
    deadline = time.monotonic() + 60
    while through() < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
@pytest.mark.parametrize("size", [0, 1, 1448, 1_000_003])
def test_what_arrives_is_what_was_sent(network, direction, size):
    network.reshape(star(*[1e9] * 8))
    payload = os.urandom(size)
    before_s = time.monotonic()
    network.start(FlowRequest(7, "c3", direction, payload))
    (result,) = finish(network)
    assert (result.flow_id, result.client, result.direction, result.status) == (7, "c3", direction, "ok")
    assert result.payload_bytes == size
    assert result.digest == hashlib.sha256(payload).hexdigest()
    assert network.received(7) == payload
    assert before_s <= result.started_s <= result.finished_s <= time.monotonic()
    with pytest.raises(TransferError, match=r"^nothing is kept of flow 7: "):
        network.received(7)


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
@pytest.mark.parametrize(("rate_bps", "size"), [(10e6, 100_000), (100e6, 2_000_000), (1e9, 20_000_000)])
def test_goodput_is_the_rate_less_headers(network, direction, rate_bps, size):
    """The best of up to eight: other work on the machine can only make a transfer slower, and a link that gives
    anything away would show in every one."""
    network.reshape(star(*[rate_bps] * 8))
    theory_s = 8 * size / (rate_bps * PAYLOAD_SHARE)
    gift = 1514 * 8 / rate_bps + network.burst_s
    errors: list[float] = []
    while len(errors) < 8:
        errors.append(send(network, "c1", direction, size).duration_s / theory_s - 1)
        assert errors[-1] > -0.01 - gift / theory_s
        if errors[-1] < 0.01 + gift / theory_s:
            return
    pytest.fail(f"always slower than the rate allows: {errors}")


def test_wire_bytes_are_those_of_the_frames(network):
    network.reshape(star(*[100e6] * 8))
    size = 1448 * 500
    result = send(network, "c0", "uplink", size)
    handshake = 2 * 66 + 74  # SYN, ACK and maybe a FIN
    assert 500 * 1514 <= result.wire_bytes <= 500 * 1514 * 1.01 + handshake


def test_flows_at_once_share_the_servers_link(network):
    """Eight clients of 50 Mbit/s behind 100 Mbit/s: together they get no more than the server has, each its share."""
    network.reshape(star(*[50e6] * 8, server=AccessLink(LinkSpec(10e9), LinkSpec(100e6))))
    size = 250_000
    theory_s = 8 * 8 * size / (100e6 * PAYLOAD_SHARE)

    def look() -> tuple[float, float]:
        """From the first start to the last end, and the median of the flows."""
        for number in range(8):
            network.start(FlowRequest(number, f"c{number}", "uplink", os.urandom(size)))
        done = finish(network, 8)
        for number in range(8):
            network.received(number)
        assert [result.status for result in done] == ["ok"] * 8
        span_s = max(result.finished_s for result in done) - min(result.started_s for result in done)
        assert span_s >= theory_s * 0.97
        return span_s, statistics.median(result.duration_s for result in done)

    seen(look, lambda found: found[0] <= theory_s * 1.25 and found[1] > theory_s / 2)


def test_directions_have_rates_of_their_own(network):
    clients = {name: access(20e6, 200e6) for name in star(*[1e6] * 8).clients}
    network.reshape(Topology(WIDE, clients))
    seen(
        lambda: [send(network, "c2", way, 400_000).duration_s for way in ("uplink", "downlink")],
        lambda found: 6 < found[0] / found[1] < 12,
    )


def test_dilation_runs_the_links_faster(network):
    slow, size = star(*[10e6] * 8), 200_000

    def emulated_s(dilation: float) -> float:
        network.reshape(slow, dilation=dilation)
        return send(network, "c4", "uplink", size).duration_s * dilation

    seen(
        lambda: (emulated_s(1.0), emulated_s(10.0)),
        lambda found: found[1] == pytest.approx(found[0], rel=0.15),
    )


def test_a_new_rate_is_taken_in_place_while_bytes_flow(network):
    size = 1_000_000  # 0.84 s at the first rate

    def look() -> float:
        network.reshape(star(*[10e6] * 8))
        network.start(FlowRequest(0, "c0", "uplink", os.urandom(size)))
        time.sleep(0.2)
        network.reshape(star(*[100e6] * 8))
        (result,) = finish(network)
        network.received(0)
        assert result.status == "ok"
        return result.duration_s

    seen(look, lambda took_s: 0.25 < took_s < 0.6)


def test_reshaping_keeps_the_clients(network):
    with pytest.raises(LinkSpecError, match=r"^clients: got \['c0'\]; a network keeps the clients"):
        network.reshape(star(1e6))


def test_a_setting_that_the_kernel_did_not_take_ends_the_run(network, monkeypatch):
    tell = network.links._ask

    def unheard(*args: object, **message: object) -> object:
        return {} if message["do"] == "shape" else tell(*args, **message)

    monkeypatch.setattr(network.links, "_ask", unheard)
    with pytest.raises(
        ShapingError,
        match=r"^server\.uplink \(.*asked for htb rate_bytes_s 1249999988, the kernel has 1250000000$",
    ):
        network.reshape(star(*[3e6] * 8, server=access(9.9999999e9)))
    monkeypatch.undo()
    network.reshape(star(*[5e6] * 8))


def test_a_cut_link_gives_a_failed_row_not_a_hang(network):
    network.reshape(star(*[10e6] * 8))
    network.start(FlowRequest(1, "c5", "uplink", os.urandom(3_000_000)))
    network.start(FlowRequest(2, "c6", "uplink", os.urandom(300_000)))
    wait_for_bytes(network, "c5")
    network.cut("c5")
    spared, failed = sorted(finish(network, 2), key=lambda result: result.status == "failed")
    assert (spared.flow_id, spared.status) == (2, "ok")
    assert (failed.flow_id, failed.status, failed.digest) == (1, "failed", "")
    assert 0 < failed.payload_bytes < 3_000_000
    assert failed.error.startswith("receiver: no byte for 2 s; ")
    network.mend("c5")
    network.received(2)
    assert send(network, "c5", "uplink", 10_000).status == "ok"


def test_a_flow_is_cut_at_its_byte_and_its_cable_pulled_until_the_next_round(network):
    network.reshape(star(*[10e6] * 8))
    network.start(FlowRequest(1, "c5", "uplink", os.urandom(1_000_000), cut_after_bytes=123_456))
    (cut,) = finish(network)
    assert (cut.status, cut.payload_bytes, cut.digest) == ("failed", 123_456, "")
    assert cut.error == "connection lost after 123456 of 1000000 bytes"
    assert cut.duration_s >= 8 * 123_456 / 10e6
    network.start(FlowRequest(2, "c5", "downlink", b"x" * 1000))
    (unreachable,) = finish(network)
    assert unreachable.status == "failed"
    network.prepare([])
    assert send(network, "c5", "uplink", 10_000).status == "ok"


def test_an_aborted_flow_ends_at_once_with_what_has_arrived(network):
    network.reshape(star(*[10e6] * 8))
    request = FlowRequest(1, "c6", "uplink", os.urandom(3_000_000))
    network.start(request)
    wait_for_bytes(network, "c6")
    asked_s = time.monotonic()
    network.abort(request, "went away")
    (gone,) = finish(network)
    assert gone.status == "failed"
    assert asked_s <= gone.finished_s  # and not because it was silent for too long, as what it says shows
    assert 0 < gone.payload_bytes < 3_000_000
    assert gone.error == f"receiver: went away; {gone.payload_bytes} of 3000000 had arrived"
    network.prepare([])
    assert send(network, "c6", "uplink", 10_000).status == "ok"


def test_a_client_that_cannot_be_reached_fails(network):
    network.cut("c7")
    network.start(FlowRequest(3, "c7", "downlink", b"hello"))
    (result,) = finish(network)
    network.mend("c7")
    assert result.status == "failed"
    assert result.error == "receiver: no connection within 2 s"
    assert send(network, "c7", "downlink", 10_000).status == "ok"


def test_digests_can_wait(tmp_path):
    payload = os.urandom(10_000)
    with MininetNetwork(star(1e9), state_dir=tmp_path, defer_digests=True) as network:
        network.prepare([payload])
        for number in range(3):
            network.start(FlowRequest(number, "c0", "uplink", payload))
        assert [result.digest for result in finish(network, 3)] == [""] * 3
        assert network.digests() == dict.fromkeys(range(3), hashlib.sha256(payload).hexdigest())
        assert network.digests() == {}


@pytest.mark.parametrize("algorithm", ["cubic", "reno", "bbr"])
def test_every_connection_uses_the_congestion_control_that_was_named(tmp_path, algorithm):
    with MininetNetwork(star(1e6), state_dir=tmp_path, congestion_control=algorithm) as network:
        network.start(FlowRequest(0, "c0", "uplink", os.urandom(500_000)))  # under way until it has been seen
        told = ""
        deadline = time.monotonic() + 60  # the sender connects as soon as its process is scheduled
        while f" {algorithm} " not in told:
            assert time.monotonic() < deadline, told
            told = network.net.hosts[1].cmd("ss", "-tin")
        network.reshape(star(1e9))
        assert finish(network)[0].status == "ok"


def test_a_dead_transfer_process_is_an_error_not_a_wait_for_ever(tmp_path):
    with MininetNetwork(star(1e6), state_dir=tmp_path) as network:
        network.start(FlowRequest(0, "c0", "uplink", os.urandom(500_000)))
        os.kill(network.transfers.pids["receiver"], 9)
        with pytest.raises(TransferError, match=r"^the receiver process is gone \(status -9\)$"):
            finish(network)


def test_what_this_kernel_lacks_is_said_before_anything_starts(tmp_path):
    if netem().ok:
        pytest.skip("this kernel has netem; tests/full_kernel looks at what it does")
    far = AccessLink(LinkSpec(1e6, delay_s=0.01), LinkSpec(1e6))
    state = tmp_path / "state"
    with pytest.raises(CapabilityError, match=r"lacks netem .* on c0\.uplink; `modprobe sch_netem`"):
        MininetNetwork(Topology(WIDE, {"c0": far}), state_dir=state).__enter__()
    assert not state.exists()


def test_nodes_are_mininets(network):
    host = network.net.hosts[1]
    assert host.IP() == "10.0.0.2"
    assert network.net[host.name] is host
    assert "1 received" in host.cmd("ping", "-c1", "-W10", network.net.hosts[0].IP())


def test_the_host_is_left_as_it_was(tmp_path: Path):
    def look() -> str:
        seen = [subprocess.run(argv, capture_output=True, text=True, check=True).stdout for argv in LOOKS]
        return "\n".join(seen)

    before = look()
    with MininetNetwork(star(1e6), state_dir=tmp_path):
        assert look() == before
    assert look() == before


LOOKS = (
    ["ip", "-o", "link"],
    ["ip", "-o", "address"],
    ["ip", "netns", "list"],
    [
        "sysctl",
        "net.core.rmem_max",
        "net.core.netdev_max_backlog",
        "net.ipv4.tcp_rmem",
        "net.ipv4.ip_local_port_range",
    ],
)
