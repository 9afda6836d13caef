"""Devices in whole runs: a ceiling that kills costs one row, a quota is checked first, a calibrated profile is used."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from testbed.cli import main
from testbed.record import read_results

SMALL = """
name: ceilings
seed: 5
learning: {model: mobilenet_v2, data: digits, rounds: 1, max_steps: 1, batch_size: 16, test_samples: 50}
network: {engine: model}
fleets:
  - {name: small, count: 1, device: raspberry-pi-4, limits: quota, memory: 340 MB, uplink: 10 Mbit/s,
     downlink: 50 Mbit/s}
  - {name: large, count: 2, device: raspberry-pi-4, uplink: 10 Mbit/s, downlink: 50 Mbit/s}
sweep: {codec: [none, zfp], repeats: 1, work: drawn}
"""


def run(folder: Path, scenario: str, command: str = "run") -> tuple[int, str]:
    (folder / "s.yaml").write_text(scenario, encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([command, str(folder / "s.yaml"), "--out", str(folder / "out"), "--quiet"])
    return status, out.getvalue() + err.getvalue()


@pytest.mark.root
def test_a_client_that_exceeds_its_memory_fails_and_the_others_are_averaged(tmp_path: Path) -> None:
    status, said = run(tmp_path, SMALL, "sweep")
    assert status == 0, said
    results = read_results(tmp_path / "out")
    assert len(results.rows) == 2 * 3
    for row in results.rows:
        if row.fleet == "small":
            assert (row.status, row.payload_bytes) == ("failed", 0)
            # PyTorch and our own code fit; the model's activations and gradients do not.
            assert row.reason == "out of memory at 340 MB while training"
            assert row.train_s == row.uplink_s == row.decompress_s == row.aggregate_s == 0
            assert row.wait_s > 0
        else:
            assert row.status == "ok", row.reason
    for cell in results.cells:
        for note in cell.notes["work"]:
            assert note["averaged"] == ["large-0", "large-1"]
    (checked,) = results.manifest["devices"]["quota_checks"]
    assert checked["device"] == "raspberry-pi-4"
    shares = {round(probe["asked"], 3) for probe in checked["probes"]}
    assert len(shares) == 3  # one for each kind of work
    if not checked["doubt"]:  # nothing but other work on this machine explains one
        assert all(
            abs(probe["found"] / probe["asked"] - 1) < 0.1 for probe in checked["probes"] if probe["ok"]
        )
