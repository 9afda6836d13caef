"""The ledger: notes before creation, a lock for life, a sweep that removes exactly what stands in it."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netem import ledger as module
from netem.errors import LedgerError
from netem.ledger import Ledger, process_name, sweep


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def abandon(state_dir: Path, *names: str) -> Path:
    """A ledger as a killed run leaves it: its notes, no lock."""
    ledger = Ledger(state_dir).__enter__()
    for name in names:
        ledger.note("process", name)
    ledger._release()
    return state_dir / f"{ledger.run_id}.ledger"


def test_a_clean_run_leaves_no_file(tmp_path, sleeper):
    with Ledger(tmp_path) as ledger:
        name = process_name(sleeper.pid)
        ledger.note("process", name)
        assert re.fullmatch("[0-9a-f]{5}", ledger.run_id)
        assert [path.name for path in tmp_path.iterdir()] == [f"{ledger.run_id}.ledger"]
        ledger.gone("process", name)
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_removed_stays_written_down_for_the_sweep(tmp_path, sleeper):
    name = process_name(sleeper.pid)
    with Ledger(tmp_path) as ledger:
        ledger.note("process", name)
    assert sweep(tmp_path) == [f"process {name}"]
    assert sleeper.wait(5) == -9
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_leaves_living_runs_alone(tmp_path, sleeper):
    with Ledger(tmp_path) as ledger:
        name = process_name(sleeper.pid)
        ledger.note("process", name)
        assert sweep(tmp_path) == []
        assert sleeper.poll() is None
        ledger.gone("process", name)


def test_the_newest_goes_first(tmp_path, monkeypatch):
    order: list[str] = []
    monkeypatch.setitem(module._REMOVERS, "process", (False, lambda name: order.append(name) or True))
    abandon(tmp_path, "1:1", "2:2", "3:3")
    assert sweep(tmp_path) == ["process 3:3", "process 2:2", "process 1:1"]
    assert order == ["3:3", "2:2", "1:1"]


def test_a_number_that_belongs_to_another_process_by_now_is_let_live(tmp_path, sleeper):
    pid, start = process_name(sleeper.pid).split(":")
    abandon(tmp_path, f"{pid}:{int(start) - 1}")
    assert sweep(tmp_path) == []
    assert sleeper.poll() is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_gone_already_is_fine(tmp_path, sleeper):
    path = abandon(tmp_path, process_name(sleeper.pid))
    sleeper.kill()
    sleeper.wait()
    assert sweep(tmp_path) == []
    assert not path.exists()


def test_a_line_cut_short_by_the_kill_was_never_acted_upon(tmp_path):
    path = abandon(tmp_path)
    with path.open("a") as file:
        file.write('{"note": ["proc')
    assert sweep(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_ledger_is_an_error_and_stays(tmp_path):
    path = abandon(tmp_path)
    with path.open("a") as file:
        file.write("not json\n")
    with pytest.raises(LedgerError, match=f"^{re.escape(str(path))}: line 2 is damaged: 'not json'$"):
        sweep(tmp_path)
    assert path.exists()


def test_a_newer_ledger_is_refused(tmp_path):
    path = tmp_path / "12345.ledger"
    path.write_text(json.dumps({"ledger": 2}) + "\n")
    with pytest.raises(LedgerError, match=r"ledger version 2; this build reads version 1$"):
        sweep(tmp_path)


def test_a_failed_removal_is_an_error_and_the_ledger_stays(tmp_path, monkeypatch):
    def refuse(_name: str) -> bool:
        raise PermissionError("no")

    monkeypatch.setitem(module._REMOVERS, "process", (False, refuse))
    path = abandon(tmp_path, "1:1")
    with pytest.raises(LedgerError, match=r"process 1:1 could not be removed: no$"):
        sweep(tmp_path)
    assert path.exists()


def test_a_reboot_took_the_processes_with_it(tmp_path, sleeper, monkeypatch):
    abandon(tmp_path, process_name(sleeper.pid))
    monkeypatch.setattr(module, "_boot_id", lambda: "another boot")
    assert sweep(tmp_path) == []
    assert sleeper.poll() is None
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_of_another_container_is_left_alone(tmp_path, sleeper, monkeypatch):
    path = abandon(tmp_path, process_name(sleeper.pid))
    monkeypatch.setattr(module, "_pid_namespace", lambda: 1)
    assert sweep(tmp_path) == []
    assert sleeper.poll() is None
    assert path.exists()


def test_an_unknown_kind_is_refused_before_anything_exists(tmp_path):
    with (
        Ledger(tmp_path) as ledger,
        pytest.raises(LedgerError, match=r"no way to remove a 'unicorn' is known$"),
    ):
        ledger.note("unicorn", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """Data loaders fork. One that outlives its killed parent must not make the dead run look alive."""
    started, finish = multiprocessing.Pipe()
    ledger = Ledger(tmp_path).__enter__()
    pid = os.fork()
    if pid == 0:
        started.send("up")
        started.poll(30)
        os._exit(0)
    try:
        assert finish.recv() == "up"
        ledger._release()  # what the kernel does for a killed process
        assert sweep(tmp_path) == []
        assert list(tmp_path.iterdir()) == []
    finally:
        finish.send("go")
        os.waitpid(pid, 0)


def test_no_sweep_can_see_a_new_ledger_unlocked(tmp_path):
    """Ledgers come and go while others sweep; none may be swept while its run holds it."""
    script = (
        "import sys; from pathlib import Path; from netem.ledger import sweep\n"
        "while True: sweep(Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) as sweeper:
        try:
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                with Ledger(tmp_path) as ledger:
                    path = tmp_path / f"{ledger.run_id}.ledger"
                    assert path.exists()
                    with path.open() as file, pytest.raises(BlockingIOError):
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert sweeper.poll() is None
        finally:
            sweeper.kill()


def test_a_draft_left_by_a_kill_goes_once_it_is_old(tmp_path):
    old, new = tmp_path / ".draft-1-a", tmp_path / ".draft-2-b"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    assert sweep(tmp_path) == []
    assert list(tmp_path.iterdir()) == [new]


def test_sweeping_nowhere_is_no_error(tmp_path):
    assert sweep(tmp_path / "never made") == []
