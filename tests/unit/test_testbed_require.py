"""What a machine lacks is said before anything starts, also where only some cells of a sweep need it."""

from __future__ import annotations

from pathlib import Path

import pytest

from netem.capabilities import Capability
from testbed import sweep
from testbed.cli import main

SCENARIO = """
name: far
learning: {model: shufflenet_v2_x0_5, data: digits, max_steps: 1}
network: {engine: mininet}
fleets: [{name: pi, count: 2, device: cloud-vm, uplink: 10 Mbit/s, downlink: 50 Mbit/s}]
sweep: {SWEEP}
"""


def capability(name: str, *, ok: bool) -> Capability:
    return Capability(name, ok, costs_you="emulated networks", fix=f"`modprobe {name}`")


@pytest.mark.parametrize(
    ("axis", "lacks", "needed_for"),
    [
        (
            "uplink.delay: [0 ms, 20 ms]",
            "sch_netem",
            "delay, jitter, loss or reordering on pi-0.uplink and 1 more",
        ),
        (
            "downlink.loss: [0, 1 %]",
            "sch_netem",
            "delay, jitter, loss or reordering on pi-0.downlink and 1 more",
        ),
        ("network.congestion_control: [cubic, reno]", "tcp_reno", "an emulated network"),
    ],
)
def test_a_sweep_that_needs_it_in_one_cell_starts_nothing(
    axis: str,
    lacks: str,
    needed_for: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("root", "namespaces", "mnexec", "mininet", "iproute2", "htb", "tbf", "cls_bpf", "bridge"):
        monkeypatch.setattr(f"netem.capabilities.{name}", lambda: capability("there", ok=True))
    monkeypatch.setattr("netem.capabilities.netem", lambda: capability("sch_netem", ok=False))
    monkeypatch.setattr(
        "netem.capabilities.congestion_control", lambda name: capability(f"tcp_{name}", ok=name == "cubic")
    )
    monkeypatch.setattr(sweep, "_player", None)  # nothing may start
    file, folder = tmp_path / "far.yaml", tmp_path / "out"
    file.write_text(SCENARIO.replace("SWEEP", axis), encoding="utf-8")
    assert main(["sweep", str(file), "--out", str(folder)]) == 3
    assert capsys.readouterr().err == (
        f"testbed: this machine lacks {lacks}, needed for {needed_for}; `modprobe {lacks}`\n"
    )
    assert not folder.exists()
