"""Crossovers of made-up rows whose truth is known, and what must keep a crossover from being claimed."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from testbed_rows import CODECS, EFFICIENCY, RATES, sweep_rows, true_crossover_bps

from testbed.crossover import Crossover, crossovers, read_crossovers, sentence, write_crossovers
from testbed.estimate import Estimate, interval, median, zero_crossing
from testbed.row import CodecUsed

OUTSIDE = "the crossover is not within the swept range"


def by_name(found):
    return {(item.fleet, item.codec.id): item for item in found}


def test_without_noise_the_crossover_is_exact():
    found = by_name(crossovers(sweep_rows()))
    assert len(found) == 2 * 3
    inside = 0
    for (fleet, codec), item in found.items():
        truth = true_crossover_bps(fleet, codec)
        if truth < RATES[-1]:
            inside += 1
            assert item.measured.where == "within"
            assert item.measured.value_bps == pytest.approx(truth, rel=1e-9)
            assert item.measured.low_bps == pytest.approx(truth, rel=1e-9)
        else:
            assert item.measured.where == "above"
            assert item.measured.value_bps is None
    assert inside >= 2


def test_the_net_closed_form_is_the_measured_one_less_the_headers():
    for item in crossovers(sweep_rows()):
        truth = true_crossover_bps(item.fleet, item.codec.id) * EFFICIENCY
        assert item.closed_form_net.value_bps == pytest.approx(truth, rel=1e-9)


def test_the_closed_form_is_the_one_of_the_literature():
    item = by_name(crossovers(sweep_rows()))["pi", "sz2"]
    assert item.closed_form.value_bps == pytest.approx(
        8 * (9_000_400 - 1_380_000) / (3 * 0.1 + 0.08), rel=1e-9
    )
    assert (item.compress_s, item.decompress_s) == pytest.approx((0.3, 0.08))  # the same numbers as beside it


def test_the_interval_holds_the_truth_under_noise():
    held = 0
    for seed in range(20):
        found = by_name(crossovers(sweep_rows(repeats=8, noise=0.05, seed=seed, codecs=("none", "sz2"))))
        estimate = found["pi", "sz2"].measured
        assert estimate.low_bps < estimate.value_bps < estimate.high_bps
        held += estimate.low_bps <= true_crossover_bps("pi", "sz2") <= estimate.high_bps
    assert (
        held >= 16
    )  # 95 % intervals; a percentile bootstrap over eight repeats is known to be a little short


def test_untrusted_rounds_are_left_out_and_counted():
    rows = sweep_rows()
    spoilt = [
        dataclasses.replace(
            row, trusted=False, untrusted_because="late", uplink_s=0.0, wait_s=row.wait_s + row.uplink_s
        )
        if row.repeat == 2 and row.codec.id == "sz2"
        else row
        for row in rows
    ]
    item = by_name(crossovers(spoilt))["pi", "sz2"]
    assert item.untrusted == len(RATES) * 2
    assert item.pairs == len(RATES) * 2 * 4
    assert item.measured.value_bps == pytest.approx(true_crossover_bps("pi", "sz2"), rel=1e-9)
    assert item.measured.repeats == 4


def test_an_untrusted_raw_partner_spoils_the_pair_too():
    rows = [
        dataclasses.replace(row, trusted=False, untrusted_because="late") if row.codec.id == "none" else row
        for row in sweep_rows()
    ]
    for item in crossovers(rows):
        assert (item.pairs, item.untrusted) == (0, len(RATES) * 2 * 5)
        assert item.measured == Estimate("unknown", note="no usable pair (80 untrusted, 0 unfinished)")


def test_failed_rows_are_counted_apart():
    rows = [
        dataclasses.replace(row, status="failed", reason="out of memory") if row.cell == 1 else row
        for row in sweep_rows()
    ]
    assert {item.failed for item in crossovers(rows)} == {0, 2}


@pytest.mark.parametrize(
    ("rates", "where", "text"),
    [
        (
            (10e6, 20e6),
            "above",
            "compressing pays all the way to 20 Mbit/s, the highest rate of the sweep; " + OUTSIDE,
        ),
        (
            (1e9, 2e9),
            "below",
            "compressing does not pay even at 1 Gbit/s, the lowest rate of the sweep; " + OUTSIDE,
        ),
        ((100e6,), "unknown", "pays at 100 Mbit/s: 0.273 s less a round"),
    ],
)
def test_outside_of_the_sweep_is_said_plainly(rates, where, text):
    item = by_name(crossovers(sweep_rows(rates=rates)))["pi", "sz2"]
    assert item.measured.where == where
    assert item.measured.value_bps is None
    assert item.sentence == text
    assert item.closed_form.where == "within"  # the formula needs no sweep


def test_no_raw_rounds_no_crossover():
    for item in crossovers(sweep_rows(codecs=("sz2",))):
        assert item.alone == len(RATES) * 2 * 5
        assert item.sentence == (
            "unknown: no round without compression to compare with; add the codec 'none' to the sweep"
        )


def test_few_repeats_are_named():
    item = crossovers(sweep_rows(repeats=1))[0]
    assert (item.measured.low_bps, item.measured.high_bps) == (None, None)
    assert item.measured.note == "one repeat: no interval"
    assert not item.measured.has_interval
    five = crossovers(sweep_rows(repeats=5))[0]
    assert five.measured.note == "5 repeats: the interval covers less than 95 %, which takes 6"
    assert crossovers(sweep_rows(repeats=6))[0].measured.note == ""


def test_a_sweep_over_bounds_gives_one_crossover_each_with_the_nearest_raw_partner():
    rows = []
    for number, bound in enumerate((1e-2, 1e-3)):
        for row in sweep_rows(repeats=2):
            codec = row.codec if row.codec.id == "none" else CodecUsed(row.codec.id, "REL", bound)
            values = {**row.values, "bound": f"REL {bound:g}"}
            rows.append(dataclasses.replace(row, codec=codec, values=values, cell=row.cell + 1000 * number))
    found = crossovers(rows)
    assert len(found) == 2 * 3 * 2
    assert {item.setting == {} for item in found} == {True}
    assert {item.pairs for item in found} == {len(RATES) * 2 * 2}


def test_other_axes_separate():
    rows = [
        dataclasses.replace(row, values={**row.values, "lr": lr}, cell=row.cell + shift)
        for lr, shift in (("0.1", 0), ("0.01", 1000))
        for row in sweep_rows(repeats=1)
    ]
    assert [item.setting for item in crossovers(rows)][:2] == [{"lr": "0.1"}, {"lr": "0.1"}]
    assert len(crossovers(rows)) == 12


def test_the_file_gives_back_what_was_written(tmp_path):
    found = crossovers(sweep_rows(repeats=3, noise=0.02))
    write_crossovers(tmp_path, found)
    assert read_crossovers(tmp_path) == found
    write_crossovers(tmp_path, found[:1])
    assert read_crossovers(tmp_path) == found[:1]


def test_zero_crossing_pools_noise_that_runs_backwards():
    rates = np.array([10.0, 20.0, 40.0, 80.0])
    # By 1/rate: -4 at 0.1, then +1 and -1, which pool to 0, then 2.
    assert zero_crossing(rates, np.array([-4.0, 1.0, -1.0, 2.0])) == pytest.approx(20.0)
    assert zero_crossing(rates, np.array([1.0, 1.0, 1.0, 1.0])) == 0.0
    assert zero_crossing(rates, np.array([-1.0, -1.0, -1.0, -1.0])) == math.inf
    assert zero_crossing(np.array([10.0, 30.0]), np.array([-1.0, 1.0])) == pytest.approx(
        15.0
    )  # half way in 1/rate


def test_median_passes_over_what_is_missing():
    nan = math.nan
    values = np.array([[3.0, 1.0, 2.0], [4.0, nan, 2.0], [nan, 7.0, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(median(values), [2.0, 3.0, 7.0, nan])


def test_interval_ends_outside_of_the_range_are_open():
    values = [5.0, 50.0, 60.0, math.inf, 0.0, 55.0]
    low, high = interval(6, lambda chosen, _: np.median(np.array(values)[chosen], axis=1), 10.0, 100.0)
    assert low is None
    assert high is None
    assert interval(1, lambda chosen, _: np.ones(len(chosen)), 0.5, 2.0) == (None, None)


def test_sentence_with_an_interval():
    estimate = Estimate("within", 182.4e6, 170e6, 195e6, repeats=6)
    assert sentence(estimate, [1e6, 1e9]) == "compressing pays below 182 Mbit/s [170, 195]"
    opened = Estimate("within", 182.4e6, 170e6, None, repeats=6)
    assert sentence(opened, [1e6, 1e9]) == "compressing pays below 182 Mbit/s [170, above the range]"


def test_what_the_codec_was_set_to_is_not_pooled_and_raw_rounds_serve_all_of_it():
    """Coding against the reference is another way to code; raw values know no reference."""
    plain = sweep_rows(codecs=("none", "sz2"))
    given = [
        dataclasses.replace(row, values={**row.values, "compression.reference": "True"})
        for row in plain
        if row.codec.id != "none"
    ]
    marked = [
        dataclasses.replace(row, values={**row.values, "compression.reference": "False"}) for row in plain
    ]
    found = [item for item in crossovers([*marked, *given]) if item.fleet == "pi"]
    assert [item.setting for item in found] == [
        {"compression.reference": "False"},
        {"compression.reference": "True"},
    ]
    alone = next(item for item in crossovers(plain) if item.fleet == "pi")
    for item in found:
        assert (item.pairs, item.alone) == (alone.pairs, 0)
        assert item.measured == alone.measured


def test_the_doubt_of_a_device_widens_the_interval_as_the_formula_says() -> None:
    """Without noise, and with nothing but the doubt, the ends are the crossings at the ends of the factor's range."""
    rows = sweep_rows(repeats=1)
    spreads = {"raspberry-pi-4": {"train": 2.0, "compress": 1.5, "lossless": 1.0}}
    plain = {(item.fleet, item.codec.id): item for item in crossovers(rows)}
    doubted = {(item.fleet, item.codec.id): item for item in crossovers(rows, spreads)}
    pi = doubted["pi", "sz2"]
    assert pi.measured.value_bps == plain["pi", "sz2"].measured.value_bps
    assert pi.measured.note == "one repeat: the interval is the device's doubt alone"
    compress, decompress, payload = CODECS["sz2"]
    raw_compress, raw_decompress, raw_payload = CODECS["none"]
    for end, factor in ((pi.measured.low_bps, 1.5), (pi.measured.high_bps, 1 / 1.5)):
        extra_s = 3.0 * (compress * factor - raw_compress) + decompress - raw_decompress
        assert end == pytest.approx(8 * (raw_payload - payload) / EFFICIENCY / extra_s, rel=0.04)
    for end, factor in ((pi.closed_form.low_bps, 1.5), (pi.closed_form.high_bps, 1 / 1.5)):
        expected = 8 * (raw_payload - payload) / (3.0 * compress * factor + decompress)
        assert end == pytest.approx(expected, rel=0.04)
    # A device that nobody doubts is as it was.
    assert doubted["phone", "sz2"] == plain["phone", "sz2"]
    assert not plain["pi", "sz2"].measured.has_interval
    with_repeats = {
        (item.fleet, item.codec.id): item for item in crossovers(sweep_rows(6, noise=0.05), spreads)
    }
    alone = {(item.fleet, item.codec.id): item for item in crossovers(sweep_rows(6, noise=0.05))}
    assert width(with_repeats["pi", "sz2"]) > 2 * width(alone["pi", "sz2"])
    assert with_repeats["phone", "sz2"] == alone["phone", "sz2"]


def width(item: Crossover) -> float:
    low, high = item.measured.low_bps, item.measured.high_bps
    assert low is not None
    assert high is not None
    return high - low


@pytest.mark.parametrize(
    ("doubted", "note"),
    [
        ((200e6,), "the crossover lies between 100 Mbit/s and 500 Mbit/s; no round at 200 Mbit/s is trusted"),
        (
            (200e6, 500e6, 1e9, 2e9),
            "compressing pays up to 100 Mbit/s; no round at 200 Mbit/s, 500 Mbit/s, 1 Gbit/s, 2 Gbit/s is trusted",
        ),
        (
            (10e6, 20e6, 50e6, 100e6),
            (
                "compressing does not pay from 200 Mbit/s on; no round at 10 Mbit/s, 20 Mbit/s, "
                "50 Mbit/s, 100 Mbit/s is trusted"
            ),
        ),
        ((10e6, 20e6, 1e9, 2e9), ""),
    ],
)
def test_no_crossover_is_drawn_through_rates_at_which_nothing_is_trusted(doubted, note):
    rows = [
        dataclasses.replace(row, trusted=False, untrusted_because="the host was busy")
        if row.uplink_rate_bps in doubted
        else row
        for row in sweep_rows(codecs=("none", "sz2"))
    ]
    (found,) = (item for item in crossovers(rows) if item.fleet == "pi")
    if not note:
        whole = next(item for item in crossovers(sweep_rows(codecs=("none", "sz2"))) if item.fleet == "pi")
        assert found.measured.value_bps == whole.measured.value_bps
        return
    assert (found.measured.where, found.measured.value_bps, found.measured.note) == ("unknown", None, note)
    assert found.sentence == f"unknown: {note}"
