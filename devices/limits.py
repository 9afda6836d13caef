"""Limits that the kernel enforces: share of a CPU, which CPUs, how much memory (cgroup v1 and v2).

Needs the standard library only. Facts used here, each with a test: a quota over a short period slows evenly
instead of in bursts of 100 ms; page cache counts against a memory ceiling but is given back under pressure, so reading
a large file kills nobody; tmpfs and shared memory count too and are not given back.
"""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from devices.errors import LimitError

DEFAULT_PERIOD_S = 0.010
_SHORTEST_QUOTA_US = 1_000  # the kernel refuses less (kernel/sched/core.c, min_cfs_quota_period)
_LONGEST_PERIOD_US = 1_000_000


class Notebook(Protocol):
    """Where kernel objects are written down by name before they are made, so that a crash leaves a trace."""

    @property
    def run_id(self) -> str: ...
    def note(self, kind: str, name: str) -> None: ...
    def gone(self, kind: str, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may use. None means: not limited.

    Attributes:
        cpu_share: CPU seconds per second, over all its threads; 0.25 is a quarter of one core, 2.0 two cores.
            At least 0.001.
        cpus: numbers of the CPUs it may run on.
        memory_bytes: ceiling of its memory, page cache included; exceeding it kills it. At least 4 MiB.
        period_s: over which the CPU quota is counted, 1 ms to 1 s. Stretched where the share is so small
            that the kernel's shortest quota (1 ms) would not fit.
    """

    cpu_share: float | None = None
    cpus: tuple[int, ...] | None = None
    memory_bytes: int | None = None
    period_s: float = DEFAULT_PERIOD_S

    def __post_init__(self) -> None:
        if self.cpu_share is not None and not 0.001 <= self.cpu_share <= 1024:
            raise LimitError("cpu_share", f"got {self.cpu_share!r}; a share is 0.001 to 1024 cores")
        if self.cpus is not None and (not self.cpus or min(self.cpus) < 0):
            raise LimitError("cpus", f"got {self.cpus!r}; name at least one CPU, counted from 0")
        if self.memory_bytes is not None and self.memory_bytes < 4 << 20:
            raise LimitError("memory_bytes", f"got {self.memory_bytes!r}; no process runs in less than 4 MiB")
        if not 0.001 <= self.period_s <= 1:
            raise LimitError("period_s", f"got {self.period_s!r}; a period is 0.001 to 1 s")

    def any(self) -> bool:
        """Whether the kernel has anything to enforce."""
        return self.cpu_share is not None or self.cpus is not None or self.memory_bytes is not None

    def quota_us(self) -> tuple[int, int]:
        """Quota and period in microseconds for `cpu_share` (which must be set)."""
        assert self.cpu_share is not None
        period = max(round(self.period_s * 1e6), round(_SHORTEST_QUOTA_US / self.cpu_share))
        period = min(period, _LONGEST_PERIOD_US)
        return max(round(self.cpu_share * period), _SHORTEST_QUOTA_US), period


@dataclass(frozen=True, slots=True)
class Controller:
    """Where one controller of this kernel (cpu, cpuset or memory) is mounted."""

    name: str
    version: Literal[1, 2]
    mount: Path


def controllers(mountinfo: Path = Path("/proc/self/mountinfo")) -> dict[str, Controller]:
    """The controllers for CPU, CPU sets and memory, each where this kernel has it: v1, v2 or a mixture of both."""
    found: dict[str, Controller] = {}
    unified: Path | None = None
    for line in mountinfo.read_text().splitlines():
        left, _, right = line.partition(" - ")
        mount = Path(left.split()[4])
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup":
            super_options = options.split(",")
            for name in ("cpu", "cpuset", "memory"):
                if name in super_options:
                    found[name] = Controller(name, 1, mount)
        elif kind == "cgroup2" and unified is None:
            unified = mount
    if unified is not None:
        offered = (unified / "cgroup.controllers").read_text().split()
        for name in ("cpu", "cpuset", "memory"):
            if name in offered and name not in found:
                found[name] = Controller(name, 2, unified)
    return found


def new_name(label: str, ledger: Notebook | None = None) -> str:
    """A control group's name: recognisable, and unique on this machine."""
    return f"fz{ledger.run_id if ledger else uuid.uuid4().hex[:6]}-{label}-{uuid.uuid4().hex[:6]}"


class ControlGroup:
    """One control group with limits, made on entry, removed on exit.

    Raises (on entry and by `apply`): LimitError where a controller is missing, may not be written or took
    another value than asked. Nothing is left behind then.
    """

    def __init__(
        self,
        name: str,
        limits: Limits,
        *,
        ledger: Notebook | None = None,
        mounted: dict[str, Controller] | None = None,
    ) -> None:
        self.name, self.limits = name, limits
        self._ledger = ledger
        self._mounted = controllers() if mounted is None else mounted
        self._folders: dict[str, Path] = {}  # controller -> folder; under v2 all share one
        self._kills_seen = 0

    def __enter__(self) -> Self:
        try:
            for name, asked in self._asked(self.limits).items():
                if asked:
                    self._make(name)
            self.apply(self.limits)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, pid: int) -> None:
        """Move a process in; what it allocates and starts from now on counts."""
        for folder in dict.fromkeys(self._folders.values()):
            _write(folder / "cgroup.procs", str(pid), "process")

    def apply(self, limits: Limits) -> None:
        """Set the values of the limits this group was made for, and read them back."""
        for name, asked in self._asked(limits).items():
            if asked and name not in self._folders:
                raise LimitError(name, "the control group was made without it")
        if limits.cpu_share is not None:
            self._apply_cpu(limits)  # refuse now what the kernel would refuse later
        if limits.cpus is not None:
            self._apply_cpus(limits.cpus)
        if limits.memory_bytes is not None:
            self._apply_memory(limits.memory_bytes)
        self.limits = limits

    def hold_back(self) -> None:
        """Put the CPU quota in force; nothing where the group has none."""
        if self.limits.cpu_share is not None:
            self._apply_cpu(self.limits)

    def let_run(self) -> None:
        """Lift the CPU quota until `hold_back`; the other limits stay."""
        if "cpu" in self._folders:
            folder = self._folders["cpu"]
            if self._mounted["cpu"].version == 2:
                _write(folder / "cpu.max", "max", "cpu_share")
            else:
                _write(folder / "cpu.cfs_quota_us", "-1", "cpu_share")

    def memory_kills(self) -> int:
        """How many processes of this group the kernel killed for want of memory, since it was made."""
        folder = self._folders.get("memory")
        if folder is None:
            return 0
        version = self._mounted["memory"].version
        return _field(folder / ("memory.oom_control" if version == 1 else "memory.events"), "oom_kill")

    def new_memory_kills(self) -> int:
        """`memory_kills` since the last time this was asked."""
        total = self.memory_kills()
        new, self._kills_seen = total - self._kills_seen, total
        return new

    def throttled_s(self) -> float:
        """Seconds for which the CPU quota has held this group's threads back, summed over CPUs."""
        folder = self._folders.get("cpu")
        if folder is None:
            return 0.0
        if self._mounted["cpu"].version == 1:
            return _field(folder / "cpu.stat", "throttled_time") / 1e9
        return _field(folder / "cpu.stat", "throttled_usec") / 1e6

    def close(self) -> None:
        """Remove the group; its processes must have ended. Harmless when repeated."""
        for folder in dict.fromkeys(reversed(self._folders.values())):
            _remove(folder)
            if self._ledger is not None:
                self._ledger.gone("cgroup", str(folder))
        self._folders = {}

    @staticmethod
    def _asked(limits: Limits) -> dict[str, bool]:
        return {
            "cpu": limits.cpu_share is not None,
            "cpuset": limits.cpus is not None,
            "memory": limits.memory_bytes is not None,
        }

    def _make(self, name: str) -> None:
        controller = self._mounted.get(name)
        if controller is None:
            raise LimitError(name, "this kernel offers no such control group controller (v1 or v2)")
        folder = controller.mount / self.name
        if controller.version == 2:
            enabled = (controller.mount / "cgroup.subtree_control").read_text().split()
            if name not in enabled:
                _write(controller.mount / "cgroup.subtree_control", f"+{name}", name)
        if folder not in self._folders.values():
            if self._ledger is not None:
                self._ledger.note("cgroup", str(folder))
            try:
                folder.mkdir()
            except OSError as error:
                if self._ledger is not None:
                    self._ledger.gone("cgroup", str(folder))
                raise LimitError(
                    name, f"cannot make {folder}: {error.strerror}; control groups need root"
                ) from error
        self._folders[name] = folder
        if name == "cpuset" and controller.version == 1:
            # A v1 cpuset starts empty, and a process cannot enter it before both files are filled.
            for file in ("cpuset.mems", "cpuset.cpus"):
                _write(folder / file, (controller.mount / file).read_text().strip(), name)

    def _apply_cpu(self, limits: Limits) -> None:
        folder = self._folders["cpu"]
        quota, period = limits.quota_us()
        if self._mounted["cpu"].version == 2:
            _write_checked(folder / "cpu.max", f"{quota} {period}", "cpu_share")
            return
        self.let_run()  # the kernel refuses a pair that is impossible halfway
        _write_checked(folder / "cpu.cfs_period_us", str(period), "cpu_share")
        _write_checked(folder / "cpu.cfs_quota_us", str(quota), "cpu_share")

    def _apply_cpus(self, cpus: tuple[int, ...]) -> None:
        file = self._folders["cpuset"] / "cpuset.cpus"
        _write(file, ",".join(map(str, cpus)), "cpus")
        got = parse_cpu_list(file.read_text())
        if got != tuple(sorted(set(cpus))):
            raise LimitError("cpus", f"asked for {cpus}, the kernel took {got}")

    def _apply_memory(self, ceiling: int) -> None:
        folder = self._folders["memory"]
        page = os.sysconf("SC_PAGE_SIZE")
        if self._mounted["memory"].version == 2:
            _write(folder / "memory.max", str(ceiling), "memory_bytes")
            got = int((folder / "memory.max").read_text())
            swap, off = folder / "memory.swap.max", "0"
        else:
            swap, off = folder / "memory.memsw.limit_in_bytes", str(ceiling)
            if swap.exists():
                _write(swap, "-1", "memory_bytes")  # memory plus swap may never be below memory alone
            _write(folder / "memory.limit_in_bytes", str(ceiling), "memory_bytes")
            got = int((folder / "memory.limit_in_bytes").read_text())
        if not ceiling - page < got <= ceiling + page:  # the kernel rounds to pages
            raise LimitError("memory_bytes", f"asked for {ceiling}, the kernel took {got}")
        if swap.exists():  # absent where the kernel has no swap accounting, and then mostly no swap
            _write(swap, off, "memory_bytes")


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's ``0-2,5`` as numbers."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)


def _write(file: Path, value: str, limit: str) -> None:
    try:
        file.write_text(value)
    except OSError as error:
        raise LimitError(limit, f"the kernel refused {value!r} for {file}: {error.strerror}") from error


def _write_checked(file: Path, value: str, limit: str) -> None:
    _write(file, value, limit)
    got = file.read_text().strip()
    if got != value:
        raise LimitError(limit, f"asked {file} for {value!r}, the kernel took {got!r}")


def _field(file: Path, key: str) -> int:
    for line in file.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    raise LimitError(key, f"{file} has no such line")


def _remove(folder: Path, patience_s: float = 5.0) -> None:
    """rmdir, waiting for the kernel to let go of processes that have just ended."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise LimitError("cgroup", f"cannot remove {folder}: {error.strerror}") from error
            time.sleep(0.01)
        else:
            return
