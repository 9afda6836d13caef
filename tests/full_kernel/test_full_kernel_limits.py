"""Device limits under cgroup v2, as a full kernel has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from looks import seen

from devices.errors import LimitError, WorkerDiedError
from devices.limits import ControlGroup, Limits, controllers, new_name
from devices.worker import Worker

pytestmark = pytest.mark.root

# Each waits for a line, so that the work begins inside the control group.
BURN = """
import sys, time
sys.stdin.readline()
wall, cpu = time.monotonic(), time.process_time()
while time.process_time() - cpu < 0.3:
    pass
print(time.monotonic() - wall)
"""
GRAB = """
import sys
sys.stdin.readline()
block = bytearray(int(sys.argv[1]))
block[::4096] = b"x" * len(block[::4096])
print(len(block))
"""
READ = """
import sys
sys.stdin.readline()
with open(sys.argv[1], "rb") as data:
    print(sum(len(block) for block in iter(lambda: data.read(1 << 20), b"")))
"""
WRITE = """
import sys
sys.stdin.readline()
with open(sys.argv[1], "wb") as data:
    for _ in range(int(sys.argv[2])):
        data.write(bytes(1 << 20))
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def left_behind() -> list[str]:
    """Names of our control groups that there still are."""
    return [path.name for path in controllers()["cpu"].mount.iterdir() if path.name.startswith("fz")]


def in_group(limits: Limits, program: str, *arguments: str) -> tuple[str, int, int, float]:
    """Output, exit status, kills for memory and throttled seconds of *program* under *limits*."""
    with ControlGroup(new_name("test"), limits) as group:
        child = start(program, *arguments)
        group.add(child.pid)
        output, _ = child.communicate("go\n", timeout=60)
        return output, child.returncode, group.memory_kills(), group.throttled_s()


def test_this_kernel_has_the_second_version_only():
    found = controllers()
    assert {found["cpu"].version, found["memory"].version} == {2}


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_cpu_share_stretches_work_to_within_a_tenth(share):
    def look() -> float:
        output, status, _, throttled_s = in_group(Limits(cpu_share=share), BURN)
        assert status == 0
        assert throttled_s > 0
        return float(output)

    seen(look, lambda took_s: took_s == pytest.approx(0.3 / share, rel=0.1))


def test_lifting_the_share_lets_work_run_and_holding_back_slows_it_again():
    def look() -> list[float]:
        walls = []
        with ControlGroup(new_name("test"), Limits(cpu_share=0.25)) as group:
            for lift in (True, False):
                (group.let_run if lift else group.hold_back)()
                child = start(BURN)
                group.add(child.pid)
                walls.append(float(child.communicate("go\n", timeout=60)[0]))
        return walls

    seen(look, lambda walls: walls[1] == pytest.approx(1.2, rel=0.1) and walls[1] > 2.5 * walls[0])


def test_a_memory_ceiling_kills_and_says_so():
    _, status, kills, _ = in_group(Limits(memory_bytes=48 << 20), GRAB, str(128 << 20))
    assert status == -9
    assert kills == 1


def test_below_the_ceiling_nobody_is_killed():
    output, status, kills, _ = in_group(Limits(memory_bytes=96 << 20), GRAB, str(32 << 20))
    assert (output.strip(), status, kills) == (str(32 << 20), 0, 0)


def test_page_cache_counts_but_kills_nobody():
    """Reading twice the ceiling from a disk; the cache is given back under pressure."""
    large = Path(os.environ["FULL_KERNEL"]) / "large"
    large.write_bytes(bytes(64 << 20))
    try:
        output, status, kills, _ = in_group(Limits(memory_bytes=32 << 20), READ, str(large))
    finally:
        large.unlink()
    assert (output.strip(), status, kills) == (str(64 << 20), 0, 0)


def test_files_in_memory_count_and_kill(tmp_path):
    shared = tmp_path / "shared"  # on tmpfs, see full_kernel_boot
    _, status, kills, _ = in_group(Limits(memory_bytes=48 << 20), WRITE, str(shared), "96")
    shared.unlink()
    assert (status, kills) == (-9, 1)


def test_a_client_over_its_ceiling_says_so_and_the_next_call_gets_a_new_process():
    with Worker(Limits(cpu_share=0.5, memory_bytes=64_000_000)) as worker:
        for _ in range(2):
            with pytest.raises(WorkerDiedError, match=r"^out of memory at 64 MB while compressing$"):
                worker.call_as("compressing", os.urandom, 192 << 20)
        assert len(worker.call(os.urandom, 1000)[0]) == 1000


def test_a_controller_that_is_absent_is_an_error_and_leaves_nothing():
    assert "cpuset" not in controllers()  # a kernel of one processor has none
    with (
        pytest.raises(LimitError, match="offers no such control group controller"),
        ControlGroup(new_name("test"), Limits(cpus=(0,), memory_bytes=64 << 20)),
    ):
        pass
    assert left_behind() == []
