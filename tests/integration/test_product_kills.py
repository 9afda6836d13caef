"""kill -9, Ctrl-C and SIGTERM in every phase of a sweep over real links: nothing is left, and it goes on."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cli import main
from testbed.record import read_results

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.usefixtures("kept_workers")]

ROOT = Path(__file__).resolve().parents[2]
STRUCK = Path(__file__).with_name("product_struck.py")
MARK = "FEDSZ_TEST_RUN"
SCENARIO = """
name: struck
seed: 3
learning: {model: shufflenet_v2_x0_5, data: digits, max_steps: 1, batch_size: 16, test_samples: 50}
network: {engine: mininet}
fleets:
  - {name: pi, count: 2, device: raspberry-pi-4, memory: 4 GiB, uplink: 10 Mbit/s, downlink: 50 Mbit/s}
sweep:
  codec: [none, zfp]
  work: drawn
"""
ROWS = [(cell, client) for cell in range(2) for client in ("pi-0", "pi-1")]
# Phase -> the call in which the blow falls. What needs no training replays a recording: it starts sooner.
KILLS = {
    "writing the manifest": ("os:fchmod", 1, "kill"),
    "building the network": ("netem.star:Star._make_links", 1, "kill"),
    "sending": ("netem.transfers:Transfers.start", 3, "kill"),
    "closing a cell": ("testbed.record:_append", 3, "torn"),
    "writing a picture": ("os:fchmod", 4, "kill"),
}
STOPS = {
    "before the manifest": ("testbed.manifest:collect", 1, "int"),
    "sending": ("netem.transfers:Transfers.start", 3, "term"),
    "making the report": ("testbed.report:page", 1, "int"),
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work of the sweep, measured once over modelled links."""
    folder = tmp_path_factory.mktemp("recording")
    (folder / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    done = command(
        "sweep", folder / "s.yaml", "--engine", "model", "--keep-payloads", "--out", folder / "out"
    )
    assert done[0] == 0, done[1]
    return folder / "out"


@pytest.fixture(autouse=True)
def nothing_is_left_in_the_ledgers() -> Iterator[None]:
    yield
    assert dead_ledgers() == set()


def dead_ledgers() -> set[str]:
    """Each names what a dead run has not undone. Living runs hold theirs locked."""
    found = set()
    for path in Path("/run/fedsz-testbed").glob("*.ledger"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as ledger:
            fcntl.flock(ledger, fcntl.LOCK_SH | fcntl.LOCK_NB)
            found.add(path.name)
    return found


def struck(folder: Path, where: str, number: int, how: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and complaints of a command that is struck in a phase; and nothing of it lives on."""
    (folder / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    mark = uuid.uuid4().hex
    process = subprocess.run(
        [sys.executable, STRUCK, where, str(number), how, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), MARK: mark},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert f"struck: {where}" in process.stdout, process.stderr
    deadline = time.monotonic() + 60
    while marked(mark):
        assert time.monotonic() < deadline, f"still alive: {marked(mark)}"
        time.sleep(0.01)
    return process.returncode, process.stdout, process.stderr


def marked(mark: str) -> set[int]:
    """Living processes that descend from a run: they inherit its environment."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def command(*arguments: str | Path) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return status, err.getvalue()


def goes_on(folder: Path, *again: str | Path) -> None:
    """The sweep ends well; every row is there once, and no half-written file."""
    out = folder / "out"
    assert command("clean")[0] == 0
    kept = [(row.cell, row.client) for row in read_results(out).rows] if (out / "run.json").exists() else []
    status, err = command(*(again or ("sweep", "--resume", out, "--quiet")))
    assert status == 0, err
    rows = read_results(out).rows
    assert [(row.cell, row.client) for row in rows] == ROWS
    assert {row.status for row in rows} == {"ok"}
    assert [(row.cell, row.client) for row in rows][: len(kept)] == kept
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    assert (out / "report.html").exists()


@pytest.mark.parametrize("phase", KILLS)
def test_killed(tmp_path: Path, recording: Path, phase: str) -> None:
    arguments = ("sweep", "s.yaml", "--replay", str(recording), "--out", "out")
    status, _, _ = struck(tmp_path, *KILLS[phase], *arguments)
    assert status == -9
    if phase == "writing the manifest":  # no run is there to be resumed: it is begun again
        goes_on(
            tmp_path,
            "sweep",
            tmp_path / "s.yaml",
            "--replay",
            recording,
            "--out",
            tmp_path / "out",
            "--quiet",
        )
    elif phase == "writing a picture":
        goes_on(tmp_path, "report", tmp_path / "out")
    else:
        goes_on(tmp_path)


def test_killed_while_a_client_trains(tmp_path: Path) -> None:
    status, _, _ = struck(
        tmp_path, "testbed.work:Workbench.train", 2, "kill", "sweep", "s.yaml", "--out", "out"
    )
    assert status == -9
    goes_on(tmp_path)


@pytest.mark.parametrize("phase", STOPS)
def test_stopped(tmp_path: Path, recording: Path, phase: str) -> None:
    arguments = ("sweep", "s.yaml", "--replay", str(recording), "--out", "out")
    where, number, how = STOPS[phase]
    status, _, err = struck(tmp_path, where, number, how, *arguments)
    assert status == 1
    assert "Traceback" not in err
    assert dead_ledgers() == set()  # it has cleaned up by itself
    said = err[err.index("stopped") :]
    assert said.startswith("stopped by SIGTERM; " if how == "term" else "stopped; ")
    if phase == "before the manifest":
        assert said == "stopped; nothing was measured, and nothing is left\n"
        assert not (tmp_path / "out").exists()
    elif phase == "making the report":
        assert said == "stopped; every cell is kept in out\nfor the report: testbed report out\n"
        goes_on(tmp_path, "report", tmp_path / "out")
    else:
        assert said.endswith("; 0 complete cells kept in out\nto go on: testbed sweep --resume out\n")
        goes_on(tmp_path)


def test_control_c_while_a_client_trains_ends_the_workers_in_order(tmp_path: Path) -> None:
    status, _, err = struck(
        tmp_path, "testbed.work:Workbench.train", 2, "int", "sweep", "s.yaml", "--out", "out"
    )
    assert (status, dead_ledgers()) == (1, set())
    assert err.endswith("stopped; 0 complete cells kept in out\nto go on: testbed sweep --resume out\n")
    assert "Traceback" not in err
