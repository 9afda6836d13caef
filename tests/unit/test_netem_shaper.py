"""What links become in the kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netem.link import LinkSpec
from netem.shaper import (
    FRAME_BYTES,
    NetemSettings,
    Shape,
    burst_s,
    cutter_arguments,
    differences,
    netem_arguments,
    shape,
)
from netem.traffic_control import QueueState

PLAIN = LinkSpec(10e6)
ROUGH = LinkSpec(10e6, delay_s=0.00105, jitter_s=0.0005, loss=0.005)


def test_a_plain_link_is_a_rate_a_small_bucket_and_a_queue():
    assert shape(PLAIN) == Shape(
        rate_bytes_s=1_250_000, burst_bytes=156, segment_bytes=1514, queue_bytes=250_000, netem=None
    )


def test_a_rough_link_has_a_delay_queue_below():
    assert shape(ROUGH, seed=7).netem == NetemSettings(
        delay_ns=1_050_000,
        jitter_ns=500_000,
        loss=0.005,
        reorder=0.0,
        limit_packets=250,
        keep_order=True,
        seed=7,
    )


def test_reordering_is_left_to_netem_and_nothing_keeps_the_order():
    netem = shape(LinkSpec(10e6, delay_s=0.01, jitter_s=0.001, reorder=0.25)).netem
    assert netem is not None
    assert not netem.keep_order


def test_an_odd_rate_is_the_nearest_that_the_kernel_can_count():
    assert shape(LinkSpec(12_345_678.0)).rate_bytes_s == 1_543_210


def test_delays_are_kept_to_the_nanosecond_under_dilation():
    assert shape(ROUGH, dilation=3).netem.delay_ns == 350_000


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
    kernel("htb", 0x10001, rate_bytes_s=1_250_000, burst_ns=124_800.0, quantum_bytes=60_000),
    kernel("tbf", 0x100000, rate_bytes_s=12_500_000_000, burst_bytes=1600.0, limit=250_000),
]
NETEM = kernel(
    "netem",
    0x200000,
    delay_ns=1_050_000,
    jitter_ns=500_000,
    loss=0.005,
    reorder=0,
    limit=250,
    rate_bytes_s=12.5e9,
)


def changed(state: QueueState, **options: float) -> QueueState:
    return replace(state, options={**state.options, **options})


def test_a_link_read_back_as_asked_differs_in_nothing():
    assert list(differences(shape(PLAIN), AS_ASKED)) == []
    assert list(differences(shape(ROUGH), [*AS_ASKED, NETEM])) == []


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], ("a queue of kind htb", "none")),
        (AS_ASKED[:2], ("a queue of kind tbf", "none")),
        (
            [changed(AS_ASKED[1], rate_bytes_s=1_250_001), AS_ASKED[2]],
            ("htb rate_bytes_s 1250000", "1250001"),
        ),
        ([changed(AS_ASKED[1], burst_ns=12e6), AS_ASKED[2]], ("htb burst_ns 124800", "12000000")),
        ([AS_ASKED[1], changed(AS_ASKED[2], limit=1000)], ("tbf limit 250000", "1000")),
        ([*AS_ASKED, NETEM], ("no netem", "netem")),
    ],
)
def test_what_the_kernel_did_not_take_is_named(states, expected):
    assert expected in list(differences(shape(PLAIN), states))


@pytest.mark.parametrize("name", ["delay_ns", "jitter_ns", "loss", "reorder", "limit", "rate_bytes_s"])
def test_everything_of_netem_is_read_back(name):
    states = [*AS_ASKED, changed(NETEM, **{name: NETEM.options[name] * 1.01 + 0.01})]
    assert [asked.split()[1] for asked, _ in differences(shape(ROUGH), states)] == [name]


def test_the_words_of_tc_name_what_is_zero_too():
    assert cutter_arguments(shape(PLAIN)) == "tbf rate 100000000000bit burst 1514b limit 250000b"
    assert netem_arguments(shape(LinkSpec(10e6, delay_s=0.00105)).netem) == (
        "netem limit 249 delay 1050us 0us loss random 0.000000000% reorder 0.000000000% rate 0bit"
    )
