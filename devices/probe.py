"""Does the CPU quota hold? Burn CPU under it and compare."""

from __future__ import annotations

import time
from dataclasses import dataclass

from devices.limits import DEFAULT_PERIOD_S, Limits, Notebook
from devices.worker import Worker

TOLERANCE = 0.10


@dataclass(frozen=True, slots=True)
class CpuProbe:
    """One quota, asked for and found.

    Attributes:
        asked: CPU seconds per second.
        found: CPU seconds of the busy loop per second of wall time; below *asked* also when the host is busy.
        stall_s: longest time for which the loop stood still: the grain at which short work is distorted.
    """

    asked: float
    found: float
    stall_s: float

    @property
    def error(self) -> float:
        """Relative; negative: less CPU than asked."""
        return self.found / self.asked - 1

    @property
    def ok(self) -> bool:
        """Within 10 %."""
        return abs(self.error) <= TOLERANCE


def burn(cpu_s: float) -> float:
    """Use *cpu_s* seconds of CPU; the longest stall seen, in seconds."""
    end = time.process_time() + cpu_s
    longest, last = 0.0, time.perf_counter()
    while time.process_time() < end:
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


def probe_cpu(
    share: float, *, period_s: float = DEFAULT_PERIOD_S, wall_s: float = 1.0, ledger: Notebook | None = None
) -> CpuProbe:
    """Measure one quota for about *wall_s* seconds. Needs root.

    Raises: LimitError where the kernel cannot set it.
    """
    with Worker(Limits(cpu_share=share, period_s=period_s), ledger=ledger) as worker:
        worker.call(burn, 0.0)  # imports
        stall_s, took = worker.call(burn, share * wall_s)
    return CpuProbe(share, took.cpu_s / took.wall_s, stall_s)
