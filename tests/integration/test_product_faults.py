"""Faults that a user meets: full and read-only disks, two sweeps at once. A clear word, nothing lost or left behind."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed.carrier import MininetCarrier
from testbed.cli import main
from testbed.clock import EmulatedEnvironment
from testbed.record import read_results

pytestmark = pytest.mark.usefixtures("kept_workers")

ROOT = Path(__file__).resolve().parents[2]
STRUCK = Path(__file__).with_name("product_struck.py")
SCENARIO = """
name: faults
seed: 3
learning: {model: cnn, data: digits, max_steps: 1, batch_size: 16, evaluate: false}
network: {engine: model}
fleets:
  - {name: pi, count: 3, device: raspberry-pi-4, uplink: 10 Mbit/s, downlink: 100 Mbit/s}
sweep:
  uplink.rate: 1, 100 Mbit/s
  codec: [none, zfp]
  repeats: 2
  work: drawn
"""
ROWS = 2 * 2 * 2 * 3


def command(*arguments: str | Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A small disk of our own, and how to change it (``size=8m``, ``ro``)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], check=True)

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)

    try:
        yield folder, remount
    finally:
        subprocess.run(["umount", folder], check=True)


def keys(folder: Path) -> list[tuple[int, int, str]]:
    return [(row.cell, row.round, row.client) for row in read_results(folder).rows]


@pytest.mark.root
@pytest.mark.beside
def test_a_disk_that_fills_up_keeps_what_is_done_and_the_run_goes_on_later(
    scenario: Path, disk: tuple[Path, Callable[[str], None]]
) -> None:
    folder, remount = disk
    out = folder / "out"
    remount("size=24k")
    status, _, err = command("sweep", scenario, "--out", out)
    assert status == 1
    assert f"testbed: {out}/" in err
    assert "No space left on device" in err
    assert f"testbed sweep --resume {out}" in err
    assert "Traceback" not in err
    before = keys(out)
    assert 0 < len(before) < ROWS
    assert not [path for path in out.iterdir() if path.name.startswith(".")]  # no half-written file

    status, _, err = command("sweep", "--resume", out)  # still full: said again, nothing harmed
    assert status == 1
    assert "No space left on device" in err
    assert keys(out) == before

    remount("size=32m")
    status, _, err = command("sweep", "--resume", out)
    assert status == 0, err
    assert keys(out)[: len(before)] == before
    assert len(set(keys(out))) == len(keys(out)) == ROWS


@pytest.mark.root
@pytest.mark.beside
def test_a_disk_that_is_full_from_the_start_leaves_no_folder(
    scenario: Path, disk: tuple[Path, Callable[[str], None]]
) -> None:
    folder, _ = disk
    (folder / "others").write_bytes(bytes(4096))
    status, _, err = command("sweep", scenario, "--out", folder / "out")
    assert status == 1
    assert f"testbed: {folder}/out/run.json: No space left on device\n" in err
    assert [path.name for path in folder.iterdir()] == ["others"]


@pytest.mark.root
@pytest.mark.beside
def test_a_read_only_disk_is_refused_before_anything_is_measured(
    scenario: Path, disk: tuple[Path, Callable[[str], None]]
) -> None:
    folder, remount = disk
    remount("ro")
    status, out, err = command("sweep", scenario, "--out", folder / "out")
    assert status == 1
    assert err.endswith(f"testbed: {folder}/out: Read-only file system\n")
    assert "cell" not in err
    assert out == ""


def test_a_folder_in_which_another_sweep_writes_is_refused(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    in_a_cell = [STRUCK, "testbed.record:RowWriter.end_cell", "2", "stop"]
    with one_sweep(tmp_path, "--out", str(out), start=in_a_cell) as first:
        wait_until_stopped(first)
        status, _, err = command("sweep", scenario, "--out", out)
        assert status == 2
        assert "exists already and results are never overwritten" in err
        status, _, err = command("sweep", "--resume", out)
        assert status == 1
        assert f"{out}: another sweep writes here at this moment" in err
        first.send_signal(signal.SIGCONT)
        _, err = first.communicate(timeout=240)
        assert first.returncode == 0, err
    assert not (out / "run-2.json").exists()
    assert len(set(keys(out))) == len(keys(out)) == ROWS


@pytest.mark.root
@pytest.mark.beside
def test_two_sweeps_over_real_links_do_not_disturb_each_other(tmp_path: Path) -> None:
    small = SCENARIO.replace("repeats: 2", "repeats: 1").replace("1, 100 Mbit/s", "50 Mbit/s")
    (tmp_path / "s.yaml").write_text(small.replace("engine: model", "engine: mininet"), encoding="utf-8")
    with one_sweep(tmp_path, "--out", "a") as first, one_sweep(tmp_path, "--out", "b") as second:
        for process in (first, second):
            _, err = process.communicate(timeout=240)
            assert process.returncode == 0, err
            assert "removed what a dead run left behind" not in err  # neither takes the other for dead
    runs = [read_results(tmp_path / name) for name in ("a", "b")]
    assert runs[0].manifest["run"] != runs[1].manifest["run"]
    for run in runs:
        assert [row.reason for row in run.rows if row.status != "ok"] == []
        assert len(run.rows) == ROWS // 4


@contextlib.contextmanager
def one_sweep(
    folder: Path, *arguments: str, start: Sequence[str | Path] = ("-m", "testbed")
) -> Iterator[subprocess.Popen[str]]:
    """A sweep in a process of its own, ended whatever happens."""
    process = subprocess.Popen(
        [sys.executable, *start, "sweep", "s.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    """Until *process* has stopped itself; it may not end before that."""
    seen = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert seen is not None
    if seen.si_code != os.CLD_STOPPED:
        raise AssertionError(process.communicate()[1])


@pytest.mark.root
@pytest.mark.beside
def test_a_network_that_somebody_removes_ends_the_run_with_a_word_and_it_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interface in a client's namespace goes while an update crosses it, as it does when the namespace is lost."""
    small = (
        SCENARIO.replace("1, 100 Mbit/s", "50 Mbit/s").replace("[none, zfp]", "[zfp]").replace("s: 2", "s: 3")
    )
    (tmp_path / "s.yaml").write_text(
        small.replace("engine: model", "engine: mininet, timeout: 2 s"), encoding="utf-8"
    )
    cell, rows = 3, 9
    out = tmp_path / "out"
    transfer, play, plays = EmulatedEnvironment.transfer, MininetCarrier.play, []

    def playing(self: MininetCarrier, *arguments: Any) -> Any:
        plays.append(self)
        return play(self, *arguments)

    def losing(
        self: EmulatedEnvironment, client: str, direction: Any, *arguments: Any, **options: Any
    ) -> Any:
        under_way = transfer(self, client, direction, *arguments, **options)
        if len(plays) == 2 and direction == "uplink":  # in the second cell
            network = plays.pop().network
            host = next(host for host in network.net.hosts if host.name.endswith("h2"))
            inside = ["nsenter", f"--net=/proc/{host.pid}/ns/net", "ip", "link", "del", f"{host.name}-0"]
            subprocess.run(inside, check=True)
            plays.clear()
        return under_way

    monkeypatch.setattr(MininetCarrier, "play", playing)
    monkeypatch.setattr(EmulatedEnvironment, "transfer", losing)
    status, _, err = command("sweep", tmp_path / "s.yaml", "--out", out)
    assert status == 1
    assert "testbed: an interface of this run's network is gone, removed from outside? " in err
    assert f"testbed sweep --resume {out}" in err
    assert "Traceback" not in err
    before = keys(out)
    # The update under way may end as a failed row first; the run ends when links are set next, which cannot be done.
    assert len(before) in (cell, 2 * cell)

    monkeypatch.undo()
    status, _, err = command("sweep", "--resume", out)
    assert status == 0, err
    assert keys(out)[: len(before)] == before
    assert len(set(keys(out))) == len(keys(out)) == rows
    for row in read_results(out).rows:
        assert row.status == "ok" or (row.cell, row.client) == (1, "pi-0"), row.reason
