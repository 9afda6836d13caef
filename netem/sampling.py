"""What the host was up to while packets flew: the things that make an emulated link a lie without a word.

Two looks, one before and one after; nothing runs in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netem.traffic_control import QueueState

# Beyond these, links can have been served late. A hypervisor that takes the processor away does so for whole
# time slices; the transfer processes are scheduled in real time, so other work on this machine matters less.
LARGEST_STEAL = 0.02
LARGEST_BUSY = 0.98


@dataclass(frozen=True, slots=True)
class HostSample:
    """Counters since boot, as the kernel has them now.

    Attributes:
        cpu_s: processor time of all cores by kind: user, nice, system, idle, iowait, irq, softirq, steal.
        softnet_dropped: packets that no queue of ours dropped: the kernel's own input queue was full.
        throttled_s: how long this process's control group was held back by its quota.
        load: runnable processes, averaged over a minute.
    """

    at_s: float
    cpu_s: Mapping[str, float]
    softnet_dropped: int
    throttled_s: float
    load: float


@dataclass(frozen=True, slots=True)
class Strain:
    """What lies between two samples. Shares are of all cores together, 0 to 1.

    Attributes:
        reasons: why transfers in between should not be believed; empty where nothing speaks against them.
        drops: packets dropped by link (``"client.uplink"``). Not a fault: a full queue is how TCP finds the rate.
    """

    seconds: float
    busy: float
    softirq: float
    steal: float
    softnet_dropped: int
    throttled_s: float
    load: float
    drops: Mapping[str, int]
    reasons: tuple[str, ...]


_KINDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def sample(proc: Path = Path("/proc")) -> HostSample:
    """Look at the host now; costs well under a millisecond."""
    ticks_s = os.sysconf("SC_CLK_TCK")
    first = (proc / "stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    softnet = (proc / "net" / "softnet_stat").read_text(encoding="ascii").splitlines()
    return HostSample(
        at_s=time.monotonic(),
        cpu_s={kind: int(value) / ticks_s for kind, value in zip(_KINDS, first, strict=False)},
        softnet_dropped=sum(int(line.split()[1], 16) for line in softnet),
        throttled_s=_throttled_s(proc),
        load=float((proc / "loadavg").read_text(encoding="ascii").split()[0]),
    )


def strain(
    before: HostSample,
    after: HostSample,
    queues_before: Mapping[str, Sequence[QueueState]] | None = None,
    queues_after: Mapping[str, Sequence[QueueState]] | None = None,
) -> Strain:
    """What happened in between. The queues are those of `MininetNetwork.queues` at the same two moments."""
    spent = {kind: after.cpu_s[kind] - before.cpu_s.get(kind, 0.0) for kind in after.cpu_s}
    total = sum(spent.values()) or 1.0
    busy = 1.0 - (spent["idle"] + spent.get("iowait", 0.0)) / total
    steal, softirq = spent.get("steal", 0.0) / total, spent["softirq"] / total
    dropped = after.softnet_dropped - before.softnet_dropped
    throttled_s = after.throttled_s - before.throttled_s
    drops = {
        label: lost
        for label, states in (queues_after or {}).items()
        if (lost := _drops(states) - _drops((queues_before or {}).get(label, ())))
    }
    reasons = _reasons(busy, steal, dropped, throttled_s)
    return Strain(
        after.at_s - before.at_s,
        busy,
        softirq,
        steal,
        dropped,
        throttled_s,
        after.load,
        drops,
        tuple(reasons),
    )


def _reasons(busy: float, steal: float, dropped: int, throttled_s: float) -> Iterator[str]:
    if busy > LARGEST_BUSY:
        yield f"the processor was busy {busy:.0%} of the time"
    if steal > LARGEST_STEAL:
        yield f"the hypervisor took the processor away for {steal:.1%} of the time"
    if dropped:
        yield f"the kernel dropped {dropped} packets before any link saw them (net.core.netdev_max_backlog)"
    if throttled_s:
        yield f"this process's control group was held back for {throttled_s:.3g} s"


def _drops(states: Sequence[QueueState]) -> int:
    """Packets that the innermost queues dropped; their parents count the same ones again."""
    inner = [state for state in states if state.kind == "netem"] or [
        state for state in states if state.kind == "tbf"
    ]
    return sum(state.drops for state in inner)


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
