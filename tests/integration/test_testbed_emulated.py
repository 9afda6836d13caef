"""A whole sweep over real links. (`test_product_kills` strikes it in every phase.)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """
name: emulated
seed: 3
learning: {model: shufflenet_v2_x0_5, data: digits, rounds: 1, max_steps: 1, batch_size: 16, test_samples: 50}
network: {engine: mininet}
fleets:
  - {name: pi, count: 2, device: raspberry-pi-4, uplink: 10 Mbit/s, downlink: 50 Mbit/s}
  - {name: phone, count: 1, device: pixel-6, uplink: 10 Mbit/s, downlink: 50 Mbit/s}
sweep:
  uplink.rate: 10, 100 Mbit/s
  codec: [none, sz2]
  repeats: 1
  work: drawn
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "testbed", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def leftovers(known: set[str]) -> set[str]:
    """Ledgers that were not there before: each names what its run has not undone. Others' runs have theirs."""
    return {path.name for path in Path("/run/fedsz-testbed").glob("*.ledger")} - known


def ledgers() -> set[str]:
    return leftovers(set())


def test_bytes_cross_real_links_and_arrive_whole(tmp_path: Path) -> None:
    before = ledgers()
    process = start(tmp_path, "sweep", "s.yaml", "--out", "out")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "packets in flight" in out
    rows = [json.loads(line) for line in (tmp_path / "out" / "rounds.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 * 3
    for row in rows:
        assert row["status"] == "ok", row["reason"]  # the server found the SHA-256 of what was sent
        assert row["engine"] == "mininet"
        # Ethernet, IP and TCP headers around every 1448 bytes, a handshake, and no more than a few retransmissions.
        assert 1.04 < row["link_bytes"] / row["payload_bytes"] < 1.10
        # However loaded the host is, a shaped link cannot be faster than its rate.
        assert row["uplink_s"] > 0.97 * 8 * row["payload_bytes"] / row["uplink_rate_bps"]
    _gated(json.loads((tmp_path / "out" / "fidelity.json").read_text()), rows)
    assert not leftovers(before)


def _gated(fidelity: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Links were probed before they were used, and the host was watched in every round."""
    probed = {(row["direction"], row["flows"]) for row in fidelity["probes"]}
    # All download at once; how many uploads may meet hangs on how long this host takes for the clients' work.
    assert {("downlink", 1), ("downlink", 3), ("uplink", 1)} <= probed
    assert probed <= {(direction, flows) for direction in ("downlink", "uplink") for flows in (1, 2, 3)}
    for row in fidelity["probes"]:
        assert row["measured_s"] > 0.95 * row["expected_s"]
        asked = round(row["rate_bps"] / 8)
        assert any(line.startswith(f"htb rate_bytes_s={asked} ") for line in row["kernel"])
    rounds = fidelity["rounds"]
    assert [(item["cell"], item["round"]) for item in rounds] == [(cell, 0) for cell in range(4)]
    assert all(item["seconds"] > 0.0 and 0.0 <= item["busy"] <= 1.0 for item in rounds)
    assert len(fidelity["transfers"]) == 2 * len(rows)
    assert fidelity["verdict"]["untrusted_rows"] == sum(not row["trusted"] for row in rows)
    assert all(row["untrusted_because"] for row in rows if not row["trusted"])
