"""kill -9 at any moment: what is left goes at the next start, and nothing of anyone else does.

``NETEM_KILLS=50 pytest tests/integration/test_netem_kill.py`` for a long look.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from netem.ledger import sweep

pytestmark = pytest.mark.root

KILLS = int(os.environ.get("NETEM_KILLS", "5"))
MARK = "NETEM_TEST_RUN"

# Builds a network, sends for a while, takes it down, and so on, so that a kill can fall into every phase.
RUN = """
import signal
import sys
from pathlib import Path
from netem.flow import FlowRequest
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
access = AccessLink(LinkSpec(50e6), LinkSpec(50e6))
number = 0
while True:
    with MininetNetwork(Topology(access, {"a": access, "b": access}), state_dir=Path(sys.argv[1])) as network:
        print("up", flush=True)
        for _ in range(int(sys.argv[2])):
            for client in "ab":
                number += 1
                network.start(FlowRequest(number, client, "uplink", bytes(100_000)))
            done = []
            while len(done) < 2:
                done += network.wait(5.0)
            assert all(result.status == "ok" for result in done), done
        print("through", flush=True)
"""


def spawn(state_dir: Path, mark: str, rounds: int = 3) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(state_dir), str(rounds)],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def marked(mark: str) -> set[int]:
    """Living processes that descend from a run: they inherit its environment."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def until(condition: Callable[[], bool], limit_s: float = 60.0) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def swept(state_dir: Path) -> bool:
    sweep(state_dir)
    return not list(state_dir.glob("*.ledger"))


def host_links() -> str:
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


def test_kills_at_random_moments_leave_nothing_after_the_next_start(tmp_path):
    links = host_links()
    moments = random.Random(4)
    # Somebody else's processes that look just like ours.
    with subprocess.Popen(["mnexec", "-n", "cat"], stdin=subprocess.PIPE) as bystander:
        for kill in range(KILLS):
            mark = uuid.uuid4().hex
            with spawn(tmp_path, mark) as run:
                time.sleep(moments.uniform(0.15, 1.6))
                run.kill()
            # A process that was started in the very moment of the kill ends by itself, a moment later; until it is what
            # it was to become, it holds the ledger as the run did.
            assert until(lambda: swept(tmp_path)), f"kill {kill}"
            assert until(lambda mark=mark: marked(mark) == set()), f"kill {kill}: {marked(mark)}"
        assert host_links() == links
        assert bystander.poll() is None
        bystander.kill()


def test_everything_ends_by_itself_when_the_run_is_killed(tmp_path):
    """No sweep is needed for processes and namespaces; the ledger is for what could not end by itself."""
    mark = uuid.uuid4().hex
    with spawn(tmp_path, mark) as run:
        assert run.stdout.readline() == "up\n"
        # The run; switch, server and two clients; shaper, sender, receiver and digester.
        assert len(marked(mark)) == 1 + 4 + 4
        run.kill()
    assert until(lambda: marked(mark) == set())


def test_the_sweep_ends_what_does_not_end_by_itself(tmp_path):
    mark = uuid.uuid4().hex
    with spawn(tmp_path, mark) as run:
        assert run.stdout.readline() == "up\n"
        stuck = marked(mark) - {run.pid}
        for pid in stuck:
            os.kill(pid, 19)  # SIGSTOP: they do not see that their owner is gone
        run.kill()
    assert len(stuck) == 8
    assert marked(mark) == stuck
    assert len(sweep(tmp_path)) == 8
    assert marked(mark) == set()


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path):
    marks = [uuid.uuid4().hex for _ in range(2)]
    with spawn(tmp_path, marks[0], rounds=1) as first, spawn(tmp_path, marks[1], rounds=1) as second:
        for _ in range(
            2
        ):  # each builds, sends and takes down twice while the other does, sweeping at every start
            for run in (first, second):
                assert run.stdout.readline() == "up\n"
                assert run.stdout.readline() == "through\n"
        first.kill()
        first.wait()
        assert marked(marks[1])
        for line in ("up\n", "through\n", "up\n", "through\n"):
            assert second.stdout.readline() == line
        second.kill()
    sweep(tmp_path)
    assert marked(marks[0]) | marked(marks[1]) == set()
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_the_terminal_is_the_owners_business(tmp_path):
    """Ctrl-C goes to the whole foreground group; the helpers must live until their owner has cleaned up."""
    mark = uuid.uuid4().hex
    with spawn(tmp_path, mark) as run:
        assert run.stdout.readline() == "up\n"
        groups = {os.getpgid(pid) for pid in marked(mark) - {run.pid}}
        assert os.getpgid(run.pid) not in groups
        os.killpg(run.pid, 2)
        assert run.wait(60) != 0
    assert until(lambda: marked(mark) == set())
    assert list(tmp_path.iterdir()) == []
