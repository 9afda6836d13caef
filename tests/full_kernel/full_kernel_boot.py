"""Boot a kernel that has every module, as a process on the host's own files, and run pytest in it.

The kernel is Debian's `user-mode-linux`: netem, Open vSwitch and cgroup v2 whatever the running kernel has. It mounts
the host's root read-only, so that the checkout and its virtual environment are there; it writes to one folder only.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KERNEL = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
LIMIT_S = 500.0  # a kernel that hangs; it takes a fifth of this
# What the kernel cannot save of a processor's registers by itself, and the remedy.
WIDE_REGISTERS = "amx_tile"
REMEDY = Path(__file__).with_name("whole_xstate.c")
# One processor, and Python about three times slower than outside, but a kernel that swaps for nobody.
MEMORY = "1G"

_INIT = """\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/tmp /run/out /run/modules/lib/modules
mount -t hostfs -o {out} none /run/out
mount -t cgroup2 none /sys/fs/cgroup
ln -s {modules}/$(uname -r) /run/modules/lib/modules/$(uname -r)
for module in veth bridge sch_htb sch_tbf sch_netem sch_ingress openvswitch cls_bpf tcp_bbr; do
    modprobe -d /run/modules $module || echo "no module $module"
done
ip link set lo up
cd {root}
export TMPDIR=/run/tmp HOME=/run/tmp PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 FULL_KERNEL=/run/out
{python} -m pytest -p no:cacheprovider --color=no --tb=short @/run/out/arguments
echo "pytest ended with status $?"
halt -f -p
"""


@dataclass(frozen=True)
class Boot:
    """What came of it: the console, and the lines of `reports.jsonl`, one for each phase of each test that ran."""

    console: str
    reports: list[str]


def excuse() -> str:
    """Why this machine need not run these tests; empty where it should."""
    if platform.machine() != "x86_64":
        return f"user-mode-linux is for x86-64, this is {platform.machine()}"
    if shutil.which("apt-get") is None:
        return "user-mode-linux is a Debian package, and there is no apt-get here"
    if os.geteuid() != 0:
        return "needs root: inside, the tests are root with the rights on files of whoever boots the kernel"
    return ""


def missing() -> str:
    """What is to be installed first; empty where all is there."""
    packages = {
        "user-mode-linux": shutil.which(KERNEL) is not None and MODULES.is_dir(),
        "kmod": shutil.which("modprobe") is not None,
        "mininet": shutil.which("mnexec") is not None,
        "iproute2": shutil.which("tc") is not None,
        "iputils-ping": shutil.which("ping") is not None,
    }
    if has_wide_registers():
        packages["gcc libc6-dev"] = shutil.which("gcc") is not None and Path("/usr/include/dlfcn.h").exists()
    absent = [name for name, there in packages.items() if not there]
    return f"not installed: {', '.join(absent)}; fix: apt-get install {' '.join(absent)}" if absent else ""


def has_wide_registers() -> bool:
    """Whether this processor has more registers than Debian's linux.uml can restore; see `whole_xstate.c`."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return flags is not None and WIDE_REGISTERS in flags[1].split()


def _environment(folder: Path) -> dict[str, str]:
    """The kernel's own environment; nothing of it reaches what runs inside."""
    if not has_wide_registers():
        return dict(os.environ)
    library = folder / "whole_xstate.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, REMEDY, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


def boot(folder: Path, root: Path, arguments: Sequence[str], limit_s: float = LIMIT_S) -> Boot:
    """Run ``pytest *arguments`` in *root* inside the kernel; *folder*, a path without spaces, takes the results."""
    init = folder / "init.sh"
    init.write_text(
        _INIT.format(
            out=shlex.quote(str(folder)),
            modules=shlex.quote(str(MODULES)),
            root=shlex.quote(str(root)),
            python=shlex.quote(sys.executable),
        )
    )
    init.chmod(0o755)
    (folder / "arguments").write_text("\n".join(arguments))
    reports = folder / "reports.jsonl"
    reports.touch()
    command = [
        KERNEL,
        f"mem={MEMORY}",
        f"uml_dir={folder}/",
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        f"init={init}",
        "con=null",
        "con0=null,fd:1",
        "quiet",
    ]
    console = folder / "console.txt"
    late = run(command, _environment(folder), console, limit_s)
    text = console.read_bytes().decode("utf-8", "replace").replace("\r", "")
    return Boot(text + late, reports.read_text().splitlines())


def run(command: Sequence[str], environment: dict[str, str], output: Path, limit_s: float) -> str:
    """Run a kernel until it halts, what it prints into *output*; a line where it had to be ended."""
    with output.open("wb") as stream:
        kernel = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # it is many processes; they end together
        )
        try:
            kernel.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"\nended by us after {limit_s:g} s"
        finally:
            if kernel.poll() is None:
                os.killpg(kernel.pid, signal.SIGKILL)
                kernel.wait()
    return ""
