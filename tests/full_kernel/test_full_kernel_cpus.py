"""Which processors a client may use, under cgroup v2, as a kernel with two of them enforces it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from test_full_kernel_limits import left_behind, start

from devices.errors import LimitError
from devices.limits import ControlGroup, Limits, controllers, new_name
from devices.worker import Worker

pytestmark = [pytest.mark.processors, pytest.mark.beside]

# Waits for a line, so that the work begins inside the control group.
BURN = """
import sys, time
sys.stdin.readline()
while time.process_time() < 1:
    pass
"""


def all_ended(children: list[subprocess.Popen[str]]) -> list[int]:
    """Let all begin, wait for all; their exit statuses."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
    return [child.returncode for child in children]


def test_this_kernel_has_cpusets_of_the_second_version_and_two_processors():
    assert controllers()["cpuset"].version == 2
    assert os.sched_getaffinity(0) == {0, 1}


@pytest.mark.parametrize("cpus", [(0,), (1,), (0, 1)])
def test_a_worker_runs_on_the_processors_it_was_given(cpus):
    with Worker(Limits(cpus=cpus)) as worker:
        assert worker.call(os.sched_getaffinity, 0)[0] == set(cpus)
    assert left_behind() == []


def test_all_three_controllers_share_one_group():
    with Worker(Limits(cpu_share=0.5, cpus=(1,), memory_bytes=256 << 20)) as worker:
        assert worker.call(os.sched_getaffinity, 0)[0] == {1}
        (name,) = left_behind()
        folder = controllers()["cpuset"].mount / name
        assert worker.call(Path.read_text, folder / "cpu.max")[0] == "5000 10000\n"  # in force during calls
        assert (folder / "memory.max").read_text() == f"{256 << 20}\n"
        assert (folder / "cpuset.cpus.effective").read_text() == "1\n"


def test_two_processes_on_one_processor_take_turns():
    """Two seconds of work cannot be done by one processor in less, whatever else the machine does."""
    with ControlGroup(new_name("test"), Limits(cpus=(0,))) as group:
        pair = [start(BURN), start(BURN)]
        for child in pair:
            group.add(child.pid)
        begun = time.monotonic()
        assert all_ended(pair) == [0, 0]
        assert time.monotonic() - begun > 1.9
    assert left_behind() == []


def test_a_change_reaches_who_runs_already():
    with ControlGroup(new_name("test"), Limits(cpus=(0, 1))) as group:
        child = start(BURN)
        group.add(child.pid)
        assert os.sched_getaffinity(child.pid) == {0, 1}
        group.apply(Limits(cpus=(1,)))
        assert os.sched_getaffinity(child.pid) == {1}
        assert all_ended([child]) == [0]


def test_a_processor_that_is_not_there_is_refused_and_leaves_nothing():
    with (
        pytest.raises(LimitError, match=r"cpus: .*7"),
        ControlGroup(new_name("test"), Limits(cpus=(7,))),
    ):
        pass
    assert left_behind() == []
