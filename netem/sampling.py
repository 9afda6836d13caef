"""What the host was up to while packets flew: the things that make an emulated link a lie without a word.

Two looks, one before and one after; nothing runs in between.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from netem.shaper import FRAME_BYTES
from netem.traffic_control import QueueState

# Beyond these, links can have been served late. A hypervisor that takes the processor away does so for whole
# time slices; the transfer processes are scheduled in real time, so other work on this machine matters less.
LARGEST_STEAL = 0.02
LARGEST_BUSY = 0.9
# A share of the time in between; half the band of a transfer.
LARGEST_WAIT = 0.025
# The kernel counts processor time in whole ticks: so much of a difference may be rounding.
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class HostSample:
    """Counters since boot, as the kernel has them now.

    Attributes:
        cpu_s: processor time of all cores by kind: user, nice, system, idle, iowait, irq, softirq, steal.
        softnet_dropped: packets that no queue of ours dropped: the kernel's own input queue was full.
        throttled_s: how long this process's control group was held back by its quota.
        packets_waited_s: how long the kernel's threads for deferred packets (``ksoftirqd``), ordinary processes that
            every link may have to wait for, stood in line for a processor; 0 where they cannot be seen.
        load: runnable processes, averaged over a minute.
    """

    at_s: float
    cpu_s: Mapping[str, float]
    softnet_dropped: int
    throttled_s: float
    load: float
    packets_waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Strain:
    """What lies between two samples. Shares are of all cores together, 0 to 1.

    Attributes:
        drops: packets dropped by link (``"client.uplink"``). Not a fault: a full queue is how TCP finds the rate.
        standing_bytes: what stood in the queues of which link at the first look, from whatever came before.
        fullest_bytes: the most that looks in between found there.
        reasons: why transfers in between should not be believed; empty where nothing speaks against them.
        remarks: what may explain a transfer that is not what it should be, and is no reason for doubt by itself.
        packets_waited_s: see `HostSample`.
    """

    seconds: float
    busy: float
    softirq: float
    steal: float
    softnet_dropped: int
    throttled_s: float
    load: float
    drops: Mapping[str, int]
    standing_bytes: Mapping[str, int]
    fullest_bytes: Mapping[str, int]
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    packets_waited_s: float = 0.0

    @property
    def held_up(self) -> str:
        """Why some transfer in between may have been held up, in words; whether one was is another question."""
        if self.packets_waited_s <= LARGEST_WAIT * self.seconds:
            return ""
        return f"the kernel's threads for packets waited {self.packets_waited_s * 1e3:.3g} ms for a processor"


class QueueWatch:
    """Looks into queues now and then while somebody waits anyway, and keeps how full each was at most.

    Args:
        queues: reads them; it takes a few milliseconds, so a look is only worth a wait of `LEAST_WAIT_S` and more.
    """

    EVERY_S, LEAST_WAIT_S = 0.5, 0.2

    def __init__(self, queues: Callable[[], Mapping[str, Sequence[QueueState]]]) -> None:
        self._queues = queues
        self._looked_s = 0.0
        self.fullest_bytes: dict[str, int] = {}

    def begin(self) -> None:
        """Forget what was seen; the next look is due after `EVERY_S`."""
        self.fullest_bytes = {}
        self._looked_s = time.monotonic()

    def waits(self, wait_s: float) -> None:
        """Nothing is due for *wait_s*: have a look if it is time for one."""
        now_s = time.monotonic()
        if wait_s < self.LEAST_WAIT_S or now_s - self._looked_s < self.EVERY_S:
            return
        self._looked_s = now_s
        for label, size in backlog(self._queues()).items():
            self.fullest_bytes[label] = max(size, self.fullest_bytes.get(label, 0))


_KINDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def sample(proc: Path = Path("/proc")) -> HostSample:
    """Look at the host now; costs well under a millisecond."""
    first = (proc / "stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    softnet = (proc / "net" / "softnet_stat").read_text(encoding="ascii").splitlines()
    return HostSample(
        at_s=time.monotonic(),
        cpu_s={kind: int(value) * _TICK_S for kind, value in zip(_KINDS, first, strict=False)},
        softnet_dropped=sum(int(line.split()[1], 16) for line in softnet),
        throttled_s=_throttled_s(proc),
        load=float((proc / "loadavg").read_text(encoding="ascii").split()[0]),
        packets_waited_s=_packets_waited_s(proc),
    )


def strain(
    before: HostSample,
    after: HostSample,
    queues_before: Mapping[str, Sequence[QueueState]] | None = None,
    queues_after: Mapping[str, Sequence[QueueState]] | None = None,
    fullest_bytes: Mapping[str, int] | None = None,
) -> Strain:
    """What happened in between. The queues are those of `MininetNetwork.queues` at the same two moments."""
    queues_before, queues_after = queues_before or {}, queues_after or {}
    spent = {kind: after.cpu_s[kind] - before.cpu_s.get(kind, 0.0) for kind in after.cpu_s}
    total = sum(spent.values()) or 1.0
    idle_s = spent["idle"] + spent.get("iowait", 0.0)
    steal_s = spent.get("steal", 0.0)
    dropped = after.softnet_dropped - before.softnet_dropped
    throttled_s = after.throttled_s - before.throttled_s
    standing = backlog(queues_before)
    return Strain(
        seconds=after.at_s - before.at_s,
        busy=1.0 - idle_s / total,
        softirq=spent["softirq"] / total,
        steal=steal_s / total,
        softnet_dropped=dropped,
        throttled_s=throttled_s,
        load=after.load,
        drops={
            label: lost
            for label, states in queues_after.items()
            if (lost := _drops(states) - _drops(queues_before.get(label, ()))) > 0
        },
        standing_bytes=standing,
        fullest_bytes=dict(fullest_bytes or {}),
        reasons=tuple(_reasons(steal_s, total, dropped, throttled_s, standing)),
        remarks=tuple(_remarks(total - idle_s, total)),
        packets_waited_s=after.packets_waited_s - before.packets_waited_s,
    )


def _reasons(
    steal_s: float, total_s: float, dropped: int, throttled_s: float, standing: Mapping[str, int]
) -> Iterator[str]:
    if steal_s - _TICK_S > LARGEST_STEAL * total_s:
        yield f"the hypervisor took the processor away for {steal_s / total_s:.1%} of the time"
    if dropped:
        yield f"the kernel dropped {dropped} packets before any link saw them (net.core.netdev_max_backlog)"
    if throttled_s:
        yield f"this process's control group was held back for {throttled_s:.3g} s"
    for label, size in standing.items():
        if size > FRAME_BYTES:  # less is the end of a connection
            yield f"{size} bytes stood in the queue of {label} before the first transfer"
            break


def _remarks(busy_s: float, total_s: float) -> Iterator[str]:
    if busy_s - _TICK_S > LARGEST_BUSY * total_s:
        yield f"the processor was busy {busy_s / total_s:.0%} of the time"


def backlog(queues: Mapping[str, Sequence[QueueState]]) -> dict[str, int]:
    """Bytes that stand in the queues of each link; links with empty ones are left out."""
    found = {
        label: sum(state.backlog_bytes for state in _innermost(states)) for label, states in queues.items()
    }
    return {label: size for label, size in found.items() if size}


def _drops(states: Sequence[QueueState]) -> int:
    return sum(state.drops for state in _innermost(states))


def _innermost(states: Sequence[QueueState]) -> list[QueueState]:
    """The queues that hold and drop packets; their parents count the same ones again."""
    return [state for state in states if state.kind == "netem"] or [
        state for state in states if state.kind == "tbf"
    ]


@cache
def _packet_threads(proc: Path) -> tuple[Path, ...]:
    """Where the kernel tells of its threads for deferred packets; they live as long as it does."""
    found = []
    for comm in proc.glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if comm.read_text(encoding="utf-8", errors="replace").startswith("ksoftirqd/"):
                found.append(comm.parent / "schedstat")
    return tuple(found)


def _packets_waited_s(proc: Path) -> float:
    try:
        return sum(int(path.read_text(encoding="ascii").split()[1]) for path in _packet_threads(proc)) * 1e-9
    except OSError:  # a kernel without schedstat
        return 0.0


def _throttled_s(proc: Path) -> float:
    """Held-back time of this process's control group, 0 where it has no quota or none can be read."""
    for line in (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            stat, word, unit_s = (
                Path("/sys/fs/cgroup") / path.lstrip("/") / "cpu.stat",
                "throttled_usec",
                1e-6,
            )
        elif "cpu" in controllers.split(","):
            stat, word, unit_s = (
                Path("/sys/fs/cgroup/cpu") / path.lstrip("/") / "cpu.stat",
                "throttled_time",
                1e-9,
            )
        else:
            continue
        try:
            counters = dict(entry.split() for entry in stat.read_text(encoding="ascii").splitlines())
        except OSError:  # not mounted here, or the root group, which has no such file
            continue
        if word in counters:
            return int(counters[word]) * unit_s
    return 0.0
