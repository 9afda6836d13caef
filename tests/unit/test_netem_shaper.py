"""What links become in the words of `tc`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netem.link import LinkSpec
from netem.netlink import QueueState
from netem.shaper import FRAME_BYTES, burst_s, differences, shape, tc_lines

PLAIN = LinkSpec(10e6)
ROUGH = LinkSpec(10e6, delay_s=0.00105, jitter_s=0.0005, loss=0.005)


def test_a_new_link():
    rate = "class add dev h-0 parent 1: classid 1:1 htb rate 10000000bit ceil 10000000bit "
    assert list(tc_lines("h-0", shape(PLAIN))) == [
        "qdisc replace dev h-0 root handle 1: htb default 1",
        rate + "burst 1514b cburst 1514b quantum 60000",
        "qdisc add dev h-0 parent 1:1 handle 10: tbf rate 100gbit burst 1514b limit 250000b",
    ]


def test_a_new_link_with_everything():
    assert list(tc_lines("h-0", shape(ROUGH)))[-1] == (
        "qdisc add dev h-0 parent 10:1 handle 20: "
        "netem limit 250 delay 1050us 500us loss random 0.500000000% rate 100gbit"
    )


def test_reordering_is_left_to_netem_and_nothing_keeps_the_order():
    spec = LinkSpec(10e6, delay_s=0.01, jitter_s=0.001, reorder=0.25)
    assert list(tc_lines("h-0", shape(spec)))[-1].endswith("delay 10000us 1000us reorder 25.000000000%")


def test_a_new_rate_touches_the_class_only():
    old, new = shape(PLAIN), shape(replace(PLAIN, rate_bps=20e6))
    new = replace(new, queue_bytes=old.queue_bytes)
    (line,) = tc_lines("h-0", new, old)
    assert line == (
        "class change dev h-0 parent 1: classid 1:1 htb rate 20000000bit ceil 20000000bit "
        "burst 1514b cburst 1514b quantum 60000"
    )


def test_nothing_new_is_nothing_to_do():
    assert list(tc_lines("h-0", shape(ROUGH), shape(ROUGH))) == []


def test_netem_comes_changes_and_goes_in_place():
    plain, rough, rougher = shape(PLAIN), shape(ROUGH), shape(replace(ROUGH, loss=0.01))
    assert [line.split(" dev ")[0] for line in tc_lines("h-0", rough, plain)] == ["qdisc add"]
    assert [line.split(" dev ")[0] for line in tc_lines("h-0", rougher, rough)] == ["qdisc change"]
    assert [line.split(" dev ")[0] for line in tc_lines("h-0", plain, rough)] == ["qdisc del", "qdisc change"]


def test_dilation_keeps_the_bytes_of_the_queue():
    slow, fast = shape(PLAIN), shape(PLAIN, dilation=50)
    assert fast.rate_bytes_s == 50 * slow.rate_bytes_s
    assert fast.queue_bytes == slow.queue_bytes


@pytest.mark.parametrize(
    ("rate_bps", "segment_bytes"),
    [(10e6, FRAME_BYTES), (100e6, 6250), (500e6, 31_250), (600e6, 37_500), (2e9, 70_000), (5e9, 70_000)],
)
def test_packets_are_cut_where_they_would_block_the_link(rate_bps, segment_bytes):
    assert shape(LinkSpec(rate_bps)).segment_bytes == segment_bytes


def test_chance_falls_on_single_frames():
    assert shape(LinkSpec(5e9, loss=0.01)).segment_bytes == FRAME_BYTES
    assert shape(LinkSpec(5e9, delay_s=0.01)).segment_bytes == 70_000


def test_the_delay_queue_holds_all_that_is_under_way():
    far = shape(LinkSpec(1e9, delay_s=0.1))
    assert far.netem is not None
    assert far.netem.limit_packets * FRAME_BYTES > 1e9 / 8 * 0.1 + far.queue_bytes


@pytest.mark.parametrize(
    ("late_s", "bucket_s"), [(0.0, 0.000125), (20e-6, 0.000125), (0.0005, 0.0015), (0.1, 0.004)]
)
def test_buckets_bridge_the_lateness_of_timers(late_s, bucket_s):
    assert burst_s(late_s) == pytest.approx(bucket_s)


def kernel(kind: str, handle: int, **options: float) -> QueueState:
    return QueueState(1, kind, handle, 0, 0, 0, 0, 0, options)


AS_ASKED = [
    kernel("htb", 0x10000),
    kernel("htb", 0x10001, rate_bytes_s=1_250_000, burst_ns=1_211_200.0, quantum_bytes=60_000),
    kernel("tbf", 0x100000, rate_bytes_s=12.5e9, burst_bytes=1600.0, limit=250_000),
]


def test_a_link_read_back_as_asked_differs_in_nothing():
    assert list(differences(shape(PLAIN), AS_ASKED)) == []


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], ("an htb class", "none")),
        (AS_ASKED[:2], ("tbf rate 100gbit burst 1514b limit 250000b", "no tbf")),
        (
            [kernel("htb", 0x10001, rate_bytes_s=1_250_001, burst_ns=1_211_200.0), AS_ASKED[2]],
            ("rate 10000000 bit/s", "10000008 bit/s"),
        ),
        (
            [kernel("htb", 0x10001, rate_bytes_s=1_250_000, burst_ns=12_000_000.0), AS_ASKED[2]],
            ("burst 1514 B", "15000 B"),
        ),
        (
            [AS_ASKED[1], kernel("tbf", 0x100000, burst_bytes=1600.0, limit=1000)],
            ("queue 250000 B", "1000 B"),
        ),
    ],
)
def test_what_the_kernel_did_not_take_is_named(states, expected):
    assert list(differences(shape(PLAIN), states)) == [expected]
