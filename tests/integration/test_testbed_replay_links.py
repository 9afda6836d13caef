"""A recorded run over real links: the bytes that were kept cross them, and nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_testbed_cli import command

pytestmark = pytest.mark.root

RECORDED = """
name: recorded
learning: {model: shufflenet_v2_x0_5, data: digits, max_steps: 1, batch_size: 8, test_samples: 20}
network: {engine: model}
fleets: [{name: pi, count: 2, device: raspberry-pi-4, uplink: 20 Mbit/s, downlink: 100 Mbit/s}]
"""


def test_kept_payloads_cross_real_links(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(RECORDED, encoding="utf-8")
    done = command("run", "s.yaml", "--out", "out", "--keep-payloads", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command(
        "run", "s.yaml", "--engine", "mininet", "--replay", "out", "--out", "links", "--quiet", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    was, seen = (
        [json.loads(line) for line in (tmp_path / name / "rounds.jsonl").read_text().splitlines()]
        for name in ("out", "links")
    )
    for before, row in zip(was, seen, strict=True):
        assert row["status"] == "ok", row["reason"]  # the digest of what arrived is the recorded one
        assert (row["engine"], row["source"]["uplink"], row["source"]["train"]) == (
            "mininet",
            "measured",
            "replayed",
        )
        assert row["payload_bytes"] == before["payload_bytes"]
        assert row["link_bytes"] > row["payload_bytes"]
        assert row["train_s"] == pytest.approx(before["train_s"])
