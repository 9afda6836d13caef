"""The doctor: it says what is missing, and of links how true they are or why nobody knows."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from netem.capabilities import Capability
from netem.host_range import HostRange
from netem.probe import ProbeRow
from testbed import link_check
from testbed.cli import main
from testbed.dilation import TruthfulRange, usable
from testbed.link_check import check_links, table, verdict

ROW = ProbeRow(
    "probe-0", "uplink", 1, 3, 1e9, 18_000_000, 0.1506, 0.1509, 0.1507, 0.0004, 0.01, 2e-6, 1.3e-4, 1.2e-4
)
UNTRUE = replace(ROW, rate_bps=10e9, payload_bytes=180_000_000, measured_s=0.2, band=0.05)
ALL = replace(ROW, flows=8, rate_bps=0.5e9, payload_bytes=72_000_000)
FOUND = HostRange(5e9, 4e9, 0.01, 0.3, 0.000125, (ROW, UNTRUE), (ALL,), (ROW,))


def text_of(found: HostRange) -> str:
    out = Console(file=io.StringIO(), width=160, color_system=None)
    out.print(table(found))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("│")[1:-1]]


def test_the_table_has_a_row_for_every_look() -> None:
    rows = [cells(line) for line in text_of(FOUND).splitlines() if line.startswith("│")]
    assert rows[0] == [
        "1 Gbit/s uplink", "150 ms", "956.2 Mbit/s", "954.3 Mbit/s", "+0.20%", "1%", "0.13 ms", "true"
    ]  # fmt: skip
    assert rows[1][-1] == "not true"
    assert rows[2][0] == "4 Gbit/s uplinks together (8 at once)"
    assert rows[2][-2:] == ["-", "true"]
    assert rows[3][0] == "short: 1 Gbit/s uplink"


def test_the_verdict_says_what_follows() -> None:
    first, second = verdict(FOUND)
    assert first == (
        "Links are true up to 5 Gbit/s, 8 at once up to 4 Gbit/s together; transfers from 10 ms on are within 1 %. "
        "Load before: 0.3."
    )
    assert second == (
        "Runs choose their dilation so that links stay within 2 Gbit/s, 1.6 Gbit/s together, and transfers above 25 ms."
    )
    weak = replace(FOUND, link_bps=1e9, total_bps=0.0, shortest_s=None)
    first, second = verdict(weak)
    assert "8 at once not even at 4 Gbit/s together; no short transfer is within 1 %" in first
    assert verdict(replace(FOUND, link_bps=1e9))[1].endswith(
        "which is less than usual: is other work running?"
    )
    (only,) = verdict(replace(FOUND, link_bps=0.0))
    assert only.startswith("Not even 1 Gbit/s is true on this machine now (load before: 0.3).")


def test_runs_rely_on_no_more_than_was_measured_and_no_more_than_is_usual() -> None:
    assert usable(None) == usable(FOUND) == TruthfulRange()
    assert usable(replace(FOUND, link_bps=0.0)) == TruthfulRange()  # nothing to choose a dilation by
    weak = usable(replace(FOUND, link_bps=1e9, total_bps=0.5e9, shortest_s=0.05))
    assert (weak.link_bps, weak.total_bps, weak.shortest_s) == (1e9, 0.5e9, 0.05)
    assert usable(replace(FOUND, shortest_s=None)).shortest_s == 0.1  # twice the longest that was tried


def test_where_links_cannot_be_measured_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Capability("root", ok=False, costs_you="emulated networks", fix="run it with sudo")
    monkeypatch.setattr("netem.capabilities.root", lambda: missing)
    monkeypatch.setattr(link_check, "truthful_range", None)  # must not be called
    out = Console(file=io.StringIO(), width=200)
    check_links(tmp_path, out)
    assert isinstance(out.file, io.StringIO)
    said = out.file.getvalue()
    assert said.startswith("Links were not measured: ")
    assert "root" in said
    assert "run it with sudo" in said


def test_a_quick_check_measures_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_check, "truthful_range", None)
    assert main(["check", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "What this machine can do" in out
    assert "Links were not measured (--quick)." in out


@pytest.mark.root
def test_links_are_measured_where_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("netem.host_range.RATES_BPS", (10e6,))
    monkeypatch.setattr("netem.host_range.TOTALS_BPS", (80e6,))
    monkeypatch.setattr("netem.host_range.DURATIONS_S", (0.05,))
    monkeypatch.setattr("netem.host_range.band", lambda rate: 0.5)
    monkeypatch.setattr("testbed.check.state_dir", lambda: tmp_path)
    assert main(["check"]) == 0
    told = capsys.readouterr()
    assert "Links are true up to 10 Mbit/s, 8 at once up to 80 Mbit/s together" in " ".join(told.out.split())
    assert told.err.startswith("measuring links, about 15 s\n")
    assert (tmp_path / "host-range.json").exists()
