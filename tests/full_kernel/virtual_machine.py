"""Boot a distribution's own kernel in a virtual machine of two processors, and run pytest in it.

A kernel run as a process (`full_kernel_boot`) has one processor, and so no cpusets. QEMU emulates the machine without
help from the host's processor, so that it runs wherever QEMU does. The whole system is one archive in memory: the
interpreter, what it loads, pytest, and of the project what needs the standard library only. Nothing of it is installed,
and no disk is touched.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path

from full_kernel_boot import Boot, run

PROCESSORS = 2
QEMU = "qemu-system-x86_64"
# Unpacked by scripts/setup.sh: installing the package would change what the user's machine boots next.
KERNEL = Path(__file__).resolve().parents[2] / ".venv" / "full-kernel" / "vmlinuz"
LIMIT_S = 300.0  # a machine that hangs; it takes a fifth of this
MEMORY = "1G"
# tests/conftest.py imports Hypothesis; requirements that only other systems or extras have are left out.
DISTRIBUTIONS = ("pytest", "hypothesis")
# The part of the project that runs without a single package.
SOURCES = (
    "pyproject.toml",
    "devices",
    "tests/conftest.py",
    "tests/full_kernel",
    "tests/integration/looks.py",
)
_NOT_LOADED = (
    "test",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
    "turtledemo",
    "site-packages",
    "__pycache__",
)

_INIT = """\
#!{python} -ISB
# The first process, run by the kernel; there is no shell.
import ctypes, os, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)
for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("cgroup2", "/sys/fs/cgroup")):
    os.makedirs(place, exist_ok=True)
    if libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None) != 0:
        print("cannot mount", kind, os.strerror(ctypes.get_errno()))
console = os.open("/dev/ttyS0", os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(console, stream)
os.makedirs("/out")
os.makedirs("/tmp", exist_ok=True)
os.symlink("/dev/ttyS1", "/out/reports.jsonl")  # the host reads this port as a file
os.chdir({root!r})
environment = dict(PATH="/usr/bin:/bin", HOME="/tmp", TMPDIR="/tmp", PYTHONPATH={path!r}, FULL_KERNEL="/out")
arguments = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "--tb=short"]
status = subprocess.run([*arguments, *{names!r}], env=environment).returncode
print("pytest ended with status", status, flush=True)
os.sync()
libc.reboot(0x4321FEDC)  # RB_POWER_OFF
"""


def excuse() -> str:
    """Why this machine need not run these tests; empty where it should."""
    if platform.machine() != "x86_64":
        return f"the virtual machine is for x86-64, this is {platform.machine()}"
    if shutil.which("apt-get") is None:
        return "its kernel is unpacked from a Debian package, and there is no apt-get here"
    if os.geteuid() != 0 and missing():  # whoever is root has them from `make setup-tests`
        return missing()
    return ""


def missing() -> str:
    """What is to be installed first; empty where all is there."""
    packages = {"qemu-system-x86": shutil.which(QEMU), "cpio": shutil.which("cpio")}
    absent = [name for name, there in packages.items() if there is None]
    lines = []
    if absent:
        lines.append(f"not installed: {', '.join(absent)}; fix: apt-get install {' '.join(absent)}")
    if not KERNEL.is_file():
        lines.append(f"no kernel at {KERNEL}; fix: make setup-tests")
    return "; ".join(lines)


def boot(folder: Path, root: Path, names: Sequence[str], limit_s: float = LIMIT_S) -> Boot:
    """Run ``pytest *names*`` on the project in *root* inside the machine; *folder* takes the results."""
    archive = folder / "system.cpio"
    _pack(folder / "system", archive, root, names)
    reports = folder / "reports.jsonl"
    reports.touch()
    console = folder / "console.txt"
    command = [
        QEMU, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(PROCESSORS), "-m", MEMORY, "-nodefaults",
        "-no-user-config", "-display", "none", "-no-reboot", "-kernel", str(KERNEL), "-initrd", str(archive),
        "-append", "console=ttyS0 quiet panic=-1 rdinit=/init",
        "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
        "-chardev", f"file,id=reports,path={reports}", "-serial", "chardev:reports",
    ]  # fmt: skip
    late = run(command, dict(os.environ), folder / "qemu.txt", limit_s)
    archive.unlink()  # pytest keeps the folders of its last runs
    text = console.read_bytes().decode("utf-8", "replace") if console.exists() else ""
    said = (folder / "qemu.txt").read_text(errors="replace")
    return Boot((said + text + late).replace("\r", ""), reports.read_text().splitlines())


def _pack(system: Path, archive: Path, root: Path, names: Sequence[str]) -> None:
    """Everything under its own path, so that the interpreter finds what it would find here."""
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_paths()["stdlib"])
    packages = Path(sysconfig.get_paths()["purelib"])
    for place in (library, *(root / source for source in SOURCES)):
        if place.is_dir():
            shutil.copytree(place, _inside(system, place), ignore=shutil.ignore_patterns(*_NOT_LOADED))
        else:
            _copy(system, place)
    binaries = [python, *(library / "lib-dynload").glob("*.so")]
    for name in _required(DISTRIBUTIONS):
        for file in distribution(name).files or ():
            if file.suffix != ".pyc" and ".." not in file.parts:
                place = Path(str(file.locate()))
                _copy(system, place)
                if file.suffix == ".so":
                    binaries.append(place)
    _copy(system, python)
    for shared in _libraries(binaries):
        _copy(system, shared)
    init = system / "init"
    init.write_text(_INIT.format(python=python, root=str(root), path=f"{packages}:{root}", names=list(names)))
    init.chmod(0o755)
    command = f"find . | cpio --quiet -o -H newc > {shlex.quote(str(archive))}"
    subprocess.run(command, shell=True, check=True, cwd=system)
    shutil.rmtree(system)


def _copy(system: Path, file: Path) -> None:
    target = _inside(system, file)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, target)


def _inside(system: Path, place: Path) -> Path:
    return system / place.absolute().relative_to("/")


def _required(names: Iterable[str]) -> Iterator[str]:
    """*names* and what they need on this system, without extras."""
    done: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        yield name
        needed = [line for line in distribution(name).requires or () if ";" not in line]
        waiting += [re.split(r"[\s<>=!~\[(]", line, maxsplit=1)[0] for line in needed]


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    """The shared libraries and the loader that *binaries* name, by `ldd`; one that is nowhere cannot be copied."""
    found: set[Path] = set()
    for binary in binaries:
        told = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
        found |= {Path(place) for place in re.findall(r"(/\S+) \(0x", told)}
    return found
