"""Before a run with ``limits: quota``: can a quota stand for these devices at all, and does this kernel keep it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from devices.errors import LimitError
from devices.limits import Notebook
from devices.probe import TOLERANCE, CpuProbe, probe_cpu
from devices.profile import WORKS, DeviceProfile
from testbed.scenario import Scenario

ATTEMPTS = 4
PROBE_S = 0.4


@dataclass(frozen=True)
class QuotaCheck:
    """What the probes of one device's shares found.

    Attributes:
        probes: every one, in the order of making; several of a share where the first did not hold.
        doubt: why work under the quota is not to be trusted; empty where every share held within 10 % once.
    """

    device: str
    probes: tuple[CpuProbe, ...]
    doubt: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``run.json``."""
        probes = [{**asdict(probe), "ok": probe.ok} for probe in self.probes]
        return {"device": self.device, "doubt": self.doubt, "probes": probes}


def held_devices(scenario: Scenario) -> Iterator[DeviceProfile]:
    """Each device that a quota stands for in any cell, once, seen from this machine."""
    seen: set[str] = set()
    for cell in scenario.cells():
        for fleet in cell.scenario.fleets:
            if fleet.limits == "quota" and fleet.device_name not in seen:
                seen.add(fleet.device_name)
                yield cell.scenario.profile_of(fleet)


def require(scenario: Scenario) -> None:
    """Raise LimitError where a device is faster than this machine: no quota makes work faster."""
    for device in held_devices(scenario):
        for work in WORKS:
            if device.factor(work) < 1:
                raise LimitError(
                    "cpu_share",
                    f"{device.name} does {work} {1 / device.factor(work):.2f} times as fast as this host, which no "
                    "quota can imitate; give its fleet `limits: scale`",
                )


def check(
    scenario: Scenario, ledger: Notebook | None, probe: Callable[..., CpuProbe] = probe_cpu
) -> list[QuotaCheck]:
    """Burn CPU under every share that the run will set, until it held once; takes half a second a share.

    Raises: LimitError where a share lets work have more than asked for, which other work on the host cannot explain,
        and where the kernel cannot set it.
    """
    return [_check(device, ledger, probe) for device in held_devices(scenario)]


def _check(device: DeviceProfile, ledger: Notebook | None, probe: Callable[..., CpuProbe]) -> QuotaCheck:
    probes: list[CpuProbe] = []
    doubts: list[str] = []
    for share in sorted({min(device.cpu_share(work), 1.0) for work in WORKS}):
        tries: list[CpuProbe] = []
        while len(tries) < ATTEMPTS and not (tries and tries[-1].ok):
            tries.append(probe(share, wall_s=PROBE_S, ledger=ledger))
        probes += tries
        best = max(tries, key=lambda one: one.ok)
        if best.ok:
            continue
        if min(one.error for one in tries) > TOLERANCE:
            found = min(one.found for one in tries)
            raise LimitError(
                "cpu_share",
                f"asked for {share:.3f} of a core, and work gets {found:.3f}; the kernel does not keep it",
            )
        found = max(one.found for one in tries)
        doubts.append(f"asked for {share:.3f} of a core, work got {found:.3f} at best of {len(tries)} probes")
    doubt = f"CPU quota of {device.name}: {'; '.join(doubts)}; the host is too busy" if doubts else ""
    return QuotaCheck(device.name, tuple(probes), doubt)
