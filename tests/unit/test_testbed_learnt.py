"""What sweeps say about the learning that coding takes away."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from testbed_rows import sweep_rows

import fedsz
from testbed.cli import main
from testbed.coding import compare
from testbed.learnt import learnt, warnings
from testbed.report_learnt import learning
from testbed.row import CodecUsed, Row
from testbed.summary import summarise

pytestmark = pytest.mark.usefixtures("kept_workers")

# Steps of a tenth of a bound: nothing that a client learns from the second round on survives a quantiser.
SMALL_STEPS = """
name: fading
seed: 5
learning: {model: cnn, data: digits, rounds: 3, max_steps: 2, batch_size: 16, optimizer: adam, lr: 1e-4}
network: {engine: model}
fleets:
  - {name: pi, count: 1, device: raspberry-pi-4, uplink: 10 Mbit/s, downlink: 100 Mbit/s}
sweep:
  codec: [none, fedsz-q, fedsz-q-dither]
  work: drawn
"""


def rows_with(codec: str, arrived: list[float], lost: float = 0.0, **more: object) -> list[Row]:
    """One row a round."""
    like = next(row for row in sweep_rows(repeats=1) if row.codec.id == "sz2")
    used = CodecUsed(codec, "REL", 0.01)
    return [
        replace(
            like, codec=used, round=number, delta_over_bound=0.2, delta_arrived=share, delta_lost=lost, **more
        )
        for number, share in enumerate(arrived)
    ]


def test_the_first_round_stands_apart():
    (found,) = learnt(rows_with("sz2", [1.0, 0.4, 0.2, 0.3], lost=0.5))
    assert (found.first, found.later, found.lost, found.over_bound, found.rows) == (1.0, 0.3, 0.5, 0.2, 4)
    assert found.fades
    assert found.sentence == (
        "Learning is lost through sz2 REL 0.01: from the second round on 30 % of what a round teaches the median "
        "tensor arrives, and 50 % of the tensors lose more than half, as a round moves weights by 0.2 bounds"
    )


@pytest.mark.parametrize(
    ("arrived", "lost", "fades"),
    [
        ([1.0, 0.95], 0.1, False),
        ([1.0, 0.95], 0.3, True),  # the median tensor hides the others
        ([1.0, 0.45], 0.0, True),
        ([0.2], 1.0, False),  # of one round nothing is known
    ],
)
def test_when_we_warn(arrived, lost, fades):
    rows = rows_with("sz2", arrived, lost)
    assert learnt(rows)[0].fades is fades
    assert bool(warnings(rows)) is fades


def test_asynchronous_updates_go_by_the_model_that_they_began_from():
    rows = rows_with("sz2", [1.0, 1.0], model_version=0) + rows_with("sz2", [0.3, 0.3], model_version=2)
    (found,) = learnt(rows)
    assert (found.first, found.later) == (1.0, 0.3)


def test_raw_rows_and_old_ones_have_no_part_in_it():
    assert learnt(sweep_rows(repeats=1)) == []
    assert warnings(sweep_rows(repeats=1)) == []
    assert learning(sweep_rows(repeats=1)) == []


def test_the_report_warns_or_says_that_one_round_shows_nothing():
    page = "".join(learning(rows_with("sz2", [1.0, 0.2]) + rows_with("zfp", [1.0, 0.99])))
    assert page.count("Learning is lost through") == page.count("A finer bound") == 1
    assert "20 %" in page
    assert "99 %" in page
    assert "more rounds will tell" in "".join(learning(rows_with("sz2", [1.0])))


def test_a_sweep_says_which_codecs_take_the_learning_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(SMALL_STEPS, encoding="utf-8")
    assert main(["sweep", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "\nLearning is lost through fedsz-q REL 0.01: " in out
    assert "lost through fedsz-q-dither" not in out
    assert "\nA finer bound, longer rounds or fedsz-q-dither keep what was learnt" in out
    found = {}
    for line in (tmp_path / "out" / "rounds.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[row["codec"]["id"], row["round"]] = (
            row["delta_over_bound"],
            row["delta_arrived"],
            row["delta_lost"],
        )
    assert {found["none", number] for number in range(3)} == {(None, None, None)}
    for codec in ("fedsz-q", "fedsz-q-dither"):
        assert all(0.02 < found[codec, number][0] < 0.3 for number in range(3))
        assert found[codec, 0][1:] == (pytest.approx(1.0, abs=0.15), 0.0)
    assert found["fedsz-q", 2][1] < 0.3
    assert found["fedsz-q", 2][2] > 0.5
    assert found["fedsz-q-dither", 2][1] == pytest.approx(1.0, abs=0.15)

    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert '<a href="#learnt">What rounds teach is lost through fedsz-q REL 0.01.</a>' in page
    assert '<h2 id="learnt">' in page

    summarise(tmp_path / "out", json_lines=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert {item["codec"]["id"]: item["fades"] for item in json.loads(line)["learnt"]} == {
        "fedsz-q": True,
        "fedsz-q-dither": False,
    }


def test_the_bound_of_a_whole_state_counts_lossy_tensors_alone() -> None:
    """A running mean of hundreds would hide a weight that broke the bound."""
    rng = np.random.default_rng(1)
    sent = {"a.weight": rng.normal(0, 1, 5000).astype("f4"), "a.running_mean": np.array([0, 900.0], "f4")}
    bound = fedsz.ErrorBound("REL_STATE", 1e-2)
    decoded = {**sent, "a.weight": sent["a.weight"] + np.float32(0.02 * np.ptp(sent["a.weight"]))}
    assert compare(sent, decoded, bound).max_error_over_bound == pytest.approx(2.0, rel=1e-3)
    decoded = {**sent, "a.running_mean": sent["a.running_mean"] + np.float32(0.5)}
    assert compare(sent, decoded, bound).max_error_over_bound == float("inf")
