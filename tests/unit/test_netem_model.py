"""The modelled network against sums done by hand, and what it says of calls that make no sense."""

from __future__ import annotations

import hashlib
import math
import pickle
import sys

import pytest

from netem.flow import FlowRequest, FlowResult
from netem.link import AccessLink, LinkSpec, Topology
from netem.model_backend import ModelError, ModelNetwork
from netem.tcp import data_bytes, loss_phases
from netem.trace import Trace

FAST = LinkSpec(1e12)


def star(uplink: LinkSpec, *, clients: int = 6, server_bps: float = 1e12) -> Topology:
    access = AccessLink(uplink, FAST)
    names = [f"c{i}" for i in range(clients)]
    return Topology(AccessLink(LinkSpec(server_bps), LinkSpec(server_bps)), dict.fromkeys(names, access))


def up(flow_id: int, size: int | bytes, client: str = "c0") -> FlowRequest:
    return FlowRequest(flow_id, client, "uplink", size)


def ends(network: ModelNetwork) -> dict[int, float]:
    return {result.flow_id: result.finished_s for result in network.run()}


def one(topology: Topology, size: int | bytes, **options: object) -> FlowResult:
    network = ModelNetwork(topology, **options)
    network.start(up(0, size), 0.0)
    [result] = network.run()
    return result


def bits(size: int) -> float:
    """On the wire: 66 bytes of headers for every 1448 of payload."""
    return 8 * (size + 66 * math.ceil(size / 1448))


def test_a_lone_flow_takes_its_bytes_and_headers_at_the_rate():
    assert one(star(LinkSpec(10e6)), 1_000_000).duration_s == pytest.approx(bits(1_000_000) / 10e6, rel=1e-12)
    assert data_bytes(1448) == 1514
    assert data_bytes(1449) == 1515 + 66


def test_the_first_byte_needs_a_handshake_and_one_way():
    result = one(star(LinkSpec(10e6, delay_s=0.03)), 1448)
    assert result.duration_s == pytest.approx(0.03 + 0.03 + 1514 * 8 / 10e6, rel=1e-12)


def test_the_delay_of_the_way_back_counts_in_the_round_trip_only():
    access = AccessLink(LinkSpec(10e6, 0.01), LinkSpec(10e6, 0.02))
    server = AccessLink(LinkSpec(1e9, 0.04), LinkSpec(1e9, 0.08))
    network = ModelNetwork(Topology(server, {"c0": access}))
    network.start(up(0, 1448), 0.0)
    network.start(FlowRequest(1, "c0", "downlink", 1448), 0.0)
    got = ends(network)
    assert got[0] == pytest.approx(0.15 + 0.09 + 12112 / 10e6)
    assert got[1] == pytest.approx(0.15 + 0.06 + 12112 / 10e6)


def test_slow_start_waits_for_each_window_that_is_shorter_than_the_round_trip():
    rate, rtt = 10e6, 0.1
    # Windows of 10, 20, 40 packets take 12.1, 24.2, 48.4 ms; the fourth (80) fills 96.9 of 100 ms, the fifth more.
    waits = sum(rtt - n * 12112 / rate for n in (10, 20, 40, 80))
    result = one(star(LinkSpec(rate, delay_s=rtt)), 1448 * 1000)
    assert result.duration_s == pytest.approx(2 * rtt + waits + 1000 * 12112 / rate, rel=1e-12)
    # A flow that ends within a window does not wait for it.
    two_windows = one(star(LinkSpec(rate, delay_s=rtt)), 1448 * 30)
    assert two_windows.duration_s == pytest.approx(2 * rtt + rtt + 20 * 12112 / rate, rel=1e-12)


def test_six_flows_share_a_short_uplink_equally_and_what_is_left_goes_to_those_who_can_take_it():
    size = 1_448_000
    load = bits(size)
    network = ModelNetwork(star(LinkSpec(10e6), server_bps=20e6))
    for i in range(6):
        network.start(up(i, size, f"c{i}"), 0.0)
    assert list(ends(network).values()) == pytest.approx([6 * load / 20e6] * 6)

    slow, quick = AccessLink(LinkSpec(2e6), FAST), AccessLink(LinkSpec(50e6), FAST)
    server = AccessLink(FAST, LinkSpec(20e6))
    network = ModelNetwork(Topology(server, {"c0": slow, "c1": quick, "c2": quick}))
    for i in range(3):
        network.start(up(i, size, f"c{i}"), 0.0)
    got = ends(network)
    assert got[1] == got[2] == pytest.approx(load / 9e6)
    assert got[0] == pytest.approx(load / 2e6)


def test_flows_that_start_one_after_the_other_share_as_they_come_and_go():
    """Two flows on 10 Mbit/s, the second a second later: alone, shared, alone."""
    network = ModelNetwork(star(LinkSpec(100e6), server_bps=10e6))
    size = 1448 * 1000
    network.start(up(0, size, "c0"), 0.0)
    network.start(up(1, size, "c1"), 1.0)
    load = bits(size)  # 12.112 Mbit
    first = 1.0 + 2 * (load - 10e6) / 10e6
    assert ends(network) == {0: pytest.approx(first), 1: pytest.approx(2 * load / 10e6)}


def test_two_flows_of_one_client_share_its_link():
    network = ModelNetwork(star(LinkSpec(10e6)))
    network.start(up(0, 1_448_000), 0.0)
    network.start(up(1, 1_448_000), 0.0)
    network.start(FlowRequest(2, "c0", "downlink", 1_448_000), 0.0)
    got = ends(network)
    assert got[0] == got[1] == pytest.approx(2 * bits(1_448_000) / 10e6)
    assert got[2] == pytest.approx(bits(1_448_000) / 1e12)


def test_a_trace_sets_the_rate_and_counts_from_where_it_is_told():
    trace = Trace((0, 1), (8e6, 2e6), end="hold")
    topology = star(LinkSpec(1e6, trace=trace))
    load = bits(1_448_000)
    assert one(topology, 1_448_000).duration_s == pytest.approx(1 + (load - 8e6) / 2e6)
    assert one(topology, 1_448_000, trace_from_s=-5).duration_s == pytest.approx(load / 2e6)


def test_a_trace_on_the_servers_link_moves_all_who_share_it():
    trace = Trace((0, 1), (10e6, 1e6), end="hold")
    server = AccessLink(FAST, LinkSpec(10e6, trace=trace))
    network = ModelNetwork(Topology(server, {"c0": AccessLink(FAST, FAST), "c1": AccessLink(FAST, FAST)}))
    network.start(up(0, 1448 * 500, "c0"), 0.0)
    network.start(up(1, 1448 * 1000, "c1"), 0.0)
    got = ends(network)
    assert got[0] == pytest.approx(1 + (2 * 500 * 12112 - 10e6) / 1e6)
    assert got[1] == pytest.approx(1 + (1500 * 12112 - 10e6) / 1e6)


def test_loss_lengthens_transfers_and_bbr_least():
    def seconds(loss: float, control: str) -> float:
        return one(star(LinkSpec(20e6, 0.04, loss=loss)), 5_000_000, congestion_control=control).duration_s

    for control in ("cubic", "reno"):
        took = [seconds(loss, control) for loss in (0.0, 0.0001, 0.001, 0.01, 0.05)]
        assert took == sorted(took)
        assert took[-1] > 5 * took[0]
    assert seconds(0.01, "cubic") <= seconds(0.01, "reno")
    assert seconds(0.05, "bbr") == seconds(0.0, "bbr")


def test_loss_sets_mathis_rate_in_the_long_run():
    last = loss_phases("reno", 0.1, 0.01, 1e6, 1e5)[-1]
    assert last == (math.inf, pytest.approx(math.sqrt(1.5 / 0.01) / 0.1))
    cubic = loss_phases("cubic", 0.1, 0.0001, 1e6, 1e5)[-1][1]
    assert cubic == pytest.approx(1.054 * (0.1 / 0.0001) ** 0.75 / 0.1)
    assert loss_phases("reno", 0.1, 0.01, 1e6, 50) == [(math.inf, math.inf)]


def test_what_arrives_is_digested_and_counted():
    payload = b"update" * 1000
    result = one(star(LinkSpec(10e6)), payload)
    assert (result.status, result.payload_bytes, result.error) == ("ok", 6000, "")
    assert result.digest == hashlib.sha256(payload).hexdigest()
    # SYN (74), ACK and FIN (66 each) around five packets.
    assert result.wire_bytes == 6000 + 5 * 66 + 74 + 2 * 66
    assert one(star(LinkSpec(10e6)), 6000).digest == ""
    lossy = one(star(LinkSpec(10e6, loss=0.5)), 6000)
    assert lossy.wire_bytes == 2 * (6000 + 5 * 66) + 74 + 2 * 66


def test_a_cut_client_fails_after_the_time_out_and_nobody_else():
    network = ModelNetwork(star(LinkSpec(8e6)), timeout_s=5.0)
    for i in range(2):
        network.start(up(i, 1_448_000, f"c{i}"), 0.0)
    assert network.advance(0.5) == []
    network.cut("c0")
    network.start(FlowRequest(2, "c0", "downlink", 1000), 0.5)
    results = {result.flow_id: result for result in network.run()}
    assert results[1].status == "ok"
    assert results[1].finished_s == pytest.approx(bits(1_448_000) / 8e6)
    assert [results[i].status for i in (0, 2)] == ["failed", "failed"]
    assert [results[i].finished_s for i in (0, 2)] == [5.5, 5.5]
    assert results[0].payload_bytes == pytest.approx(500_000 * 1448 / 1514, rel=1e-4)
    assert results[0].error == f"no byte for 5 s; {results[0].payload_bytes} of 1448000 had arrived"
    assert (results[0].digest, results[0].wire_bytes) == ("", None)


def test_a_flow_that_is_cut_ends_with_its_bytes_and_leaves_its_share_to_the_others():
    network = ModelNetwork(star(LinkSpec(100e6), server_bps=8e6))
    network.start(FlowRequest(0, "c0", "uplink", 1_448_000, cut_after_bytes=144_800), 0.0)
    network.start(up(1, 1_448_000, "c1"), 0.0)
    cut, spared = network.run()
    assert (cut.flow_id, cut.status, cut.payload_bytes) == (0, "failed", 144_800)
    assert cut.error == "connection lost after 144800 of 1448000 bytes"
    assert (cut.digest, cut.wire_bytes) == ("", None)
    assert cut.finished_s == pytest.approx(2 * bits(144_800) / 8e6)
    assert spared.finished_s == pytest.approx(bits(144_800 + 1_448_000) / 8e6)


@pytest.mark.parametrize("after", [-1, 0, 1000, 2000])
def test_a_flow_is_cut_between_its_first_and_its_last_byte(after: int):
    network = ModelNetwork(star(LinkSpec(8e6)))
    with pytest.raises(
        ModelError, match=f"^flow 0: a flow of 1000 bytes is cut after 1 to 999, not {after}$"
    ):
        network.start(FlowRequest(0, "c0", "uplink", 1000, cut_after_bytes=after), 0.0)


@pytest.mark.parametrize("server_bps", [1e12, 8e6], ids=["folded", "shared"])
@pytest.mark.parametrize("delay_s", [0.0, 0.05])
def test_an_aborted_flow_ends_then_with_what_has_arrived(server_bps: float, delay_s: float):
    network = ModelNetwork(star(LinkSpec(8e6, delay_s=delay_s), server_bps=server_bps))
    requests = [up(i, 1_448_000, f"c{i}") for i in range(2)]
    for request in requests:
        network.start(request, 0.0)
    network.abort(requests[0], 1.0, "gone")
    [gone] = network.advance(1.0)
    assert (gone.flow_id, gone.status, gone.finished_s) == (0, "failed", 1.0)
    assert gone.error == f"gone; {gone.payload_bytes} of 1448000 had arrived"
    rate_bps = min(8e6, server_bps / 2)
    if not delay_s:
        assert gone.payload_bytes == pytest.approx(1448 / 1514 * rate_bps / 8, rel=1e-4)
    assert 0 < gone.payload_bytes <= 1448 / 1514 * rate_bps / 8
    [spared] = network.run()
    network.abort(requests[1], spared.finished_s, "too late")
    assert network.in_flight == 0
    if not delay_s:
        left = bits(1_448_000) - rate_bps
        assert spared.finished_s == pytest.approx(1.0 + left / 8e6, rel=1e-6)


def test_a_flow_that_is_aborted_before_its_first_byte_has_brought_nothing():
    network = ModelNetwork(star(LinkSpec(8e6, delay_s=0.5)))
    network.start(up(0, 1000), 0.0)
    network.abort(up(0, 1000), 0.25, "gone")
    [gone] = network.run()
    assert (gone.finished_s, gone.payload_bytes, gone.status) == (0.25, 0, "failed")


def test_a_mended_client_goes_on_where_it_was():
    network = ModelNetwork(star(LinkSpec(8e6)), timeout_s=5.0)
    network.start(up(0, 1_448_000), 0.0)
    network.advance(0.5)
    network.cut("c0")
    assert network.advance(4.5) == []
    network.mend("c0")
    assert ends(network)[0] == pytest.approx(4.0 + bits(1_448_000) / 8e6, rel=1e-4)


def test_an_outage_longer_than_the_time_out_fails_and_a_shorter_one_delays():
    trace = Trace((0, 1, 4), (8e6, 0, 8e6), end="hold")
    topology = star(LinkSpec(8e6, trace=trace))
    assert one(topology, 1_448_000).duration_s == pytest.approx(3 + bits(1_448_000) / 8e6, rel=1e-5)
    failed = one(topology, 1_448_000, timeout_s=2.0)
    assert (failed.status, failed.finished_s) == ("failed", 3.0)
    dark = one(star(LinkSpec(8e6, trace=Trace((0, 1), (8e6, 0), end="hold"))), 1_448_000)
    assert (dark.status, dark.finished_s) == ("failed", 31.0)


def test_reshaping_takes_flows_in_flight_along():
    network = ModelNetwork(star(LinkSpec(8e6)))
    network.start(up(0, 1448 * 1000), 0.0)
    network.advance(0.5)
    network.reshape(star(LinkSpec(16e6)))
    load = bits(1448 * 1000)
    network.advance(0.75)
    network.reshape(star(LinkSpec(8e6)), dilation=0.5)
    assert ends(network)[0] == pytest.approx(0.75 + (load - 4e6 - 4e6) / 4e6)


def test_results_are_handed_out_once_and_not_before_they_are_due():
    network = ModelNetwork(star(LinkSpec(12.112e6)))
    for i in range(3):
        network.start(up(i, 1448 * 1000 * (i + 1), f"c{i}"), 0.0)
    assert network.next_completion_s() == pytest.approx(1.0)
    assert network.advance(0.5) == []
    assert [result.flow_id for result in network.advance(2.5)] == [0, 1]
    assert (network.in_flight, network.advance(2.5)) == (1, [])
    network.start(up(9, 1, "c0"), 3.5)  # the third ended at 3.0, before this instant
    assert network.next_completion_s() == pytest.approx(3.0)
    assert [result.flow_id for result in network.advance(3.5)] == [2]
    assert [result.flow_id for result in network.run()] == [9]
    assert network.next_completion_s() == math.inf


def test_with_nothing_in_flight_time_may_start_again():
    network = ModelNetwork(star(LinkSpec(10e6), server_bps=20e6))
    rounds = []
    for _ in range(2):
        for i in range(6):
            network.start(up(i, 100_000, f"c{i}"), 0.1 * i)
        rounds.append(network.run())
    assert rounds[0] == rounds[1]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda n: n.start(up(1, 5, "nobody"), 0.0), "no client 'nobody' in this network"),
        (lambda n: n.cut("nobody"), "no client 'nobody' in this network"),
        (lambda n: n.start(up(1, 0), 0.0), "flow 1: a transfer has at least 1 byte, not 0"),
        (lambda n: n.start(up(1, b""), 0.0), "flow 1: a transfer has at least 1 byte, not 0"),
        (lambda n: n.start(up(1, 5), math.nan), "nan is no instant"),
        (
            lambda n: n.reshape(star(FAST, clients=2)),
            "a network is reshaped with the clients that it was made with",
        ),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_whole(call, text):
    network = ModelNetwork(star(LinkSpec(10e6)))
    network.start(up(0, 1448), 0.0)
    with pytest.raises(ModelError) as error:
        call(network)
    assert str(error.value) == text
    assert str(pickle.loads(pickle.dumps(error.value))) == text
    assert list(ends(network)) == [0]


def test_an_instant_that_has_passed_is_refused_while_flows_are_in_flight():
    network = ModelNetwork(star(LinkSpec(10e6)))
    network.start(up(0, 10**7), 0.0)
    network.advance(1.0)
    with pytest.raises(ModelError, match=r"^0\.5 s has passed; flows are in flight at 1\.0 s$"):
        network.start(up(1, 5, "c1"), 0.5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"congestion_control": "vegas"}, "no model of congestion control 'vegas'; known: cubic, reno, bbr"),
        ({"mss": 0}, "a packet carries at least 1 byte, not 0"),
        ({"timeout_s": math.nan}, "a time-out is above 0 s, not nan"),
    ],
)
def test_an_impossible_network_is_refused(options, text):
    with pytest.raises(ModelError) as error:
        ModelNetwork(star(FAST), **options)
    assert str(error.value) == text


def calls_a_flow(network: ModelNetwork, clients: int) -> float:
    """Python calls that a transfer of each client costs: a measure that no other work on the machine touches."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        for i in range(clients):
            network.start(up(i, 100_000 + 37 * i % 5000, f"c{i}"), network.now_s)
        network.run()
    finally:
        sys.setprofile(None)
    return count / clients


def test_an_event_costs_the_same_however_many_flows_are_elsewhere():
    few, many = (
        calls_a_flow(ModelNetwork(star(LinkSpec(10e6), clients=clients, server_bps=clients * 5e6)), clients)
        for clients in (200, 2000)
    )
    assert many < 1.3 * few


def test_flows_that_meet_nobody_cost_little_again_after_others_have_met():
    network = ModelNetwork(star(LinkSpec(10e6), clients=200, server_bps=1e9))
    meeting = calls_a_flow(network, 200)
    alone = calls_a_flow(network, 50)
    assert alone < meeting / 2
    assert alone < 1.1 * calls_a_flow(ModelNetwork(star(LinkSpec(10e6), clients=50)), 50)
