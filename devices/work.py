"""One piece of a device's work on this host: held back by the kernel, or measured at full speed and multiplied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from devices.errors import LimitError
from devices.limits import DEFAULT_PERIOD_S, Limits
from devices.profile import DeviceProfile, Work
from devices.took import Took
from devices.worker import Worker

R = TypeVar("R")
Mode = Literal["quota", "scale"]


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """How long a piece of work takes on a device.

    Attributes:
        seconds: on the device.
        low, high: the same at the ends of the factor's uncertainty.
        took: what was measured on the host.
        mode: ``quota``: *took* is the device's time; ``scale``: it was multiplied by *factor*.
    """

    seconds: float
    low: float
    high: float
    took: Took
    mode: Mode
    factor: float


def limits_for(
    profile: DeviceProfile,
    mode: Mode,
    *,
    cpus: tuple[int, ...] | None = None,
    memory_bytes: int | None = None,
    period_s: float = DEFAULT_PERIOD_S,
) -> Limits:
    """The limits with which a `Worker` stands in for *profile*.

    Args:
        mode: ``quota`` needs a CPU quota (set for each piece of work by `run_as`), ``scale`` none.
        cpus: host CPUs for it; one of its own keeps other clients' work out of its caches.
        memory_bytes: ceiling; None takes all of the device's memory. A device's system and other applications
            take their share too, which is for the caller to subtract.
    """
    return Limits(
        cpu_share=1.0 if mode == "quota" else None,
        cpus=cpus,
        memory_bytes=profile.memory_bytes if memory_bytes is None else memory_bytes,
        period_s=period_s,
    )


def run_as(
    worker: Worker,
    profile: DeviceProfile,
    work: Work,
    what: str,
    function: Callable[..., R],
    /,
    *args: Any,
    mode: Mode = "scale",
    **kwargs: Any,
) -> tuple[R, DeviceTime]:
    """Run ``function(*args, **kwargs)`` in *worker* as *profile* would; its result and the device's time.

    Args:
        worker: made with the limits of `limits_for`, same *mode*.
        what: words for an error, such as ``"training"``.
        mode: ``quota`` gives the worker ``1 / factor`` of a core for this call. The kernel then makes the work slow,
            caches and memory traffic included, but stretches only computing: a sleep stays as long as it is.

    Raises: LimitError where a quota would have to be above one core (the device is faster than this host);
        whatever `Worker.call` raises.
    """
    factor = profile.factor(work)
    if mode == "quota":
        if factor < 1:
            raise LimitError(
                "cpu_share",
                f"{profile.name} does {work} {1 / factor:.2f} times as fast as this host, which no quota can "
                "imitate; use mode: scale",
            )
        worker.reshape(replace(worker.limits, cpu_share=profile.cpu_share(work)))
    result, took = worker.call_as(what, function, *args, **kwargs)
    return result, device_time(took, profile, work, mode)


def device_time(
    took: Took,
    profile: DeviceProfile,
    work: Work,
    mode: Mode = "scale",
    *,
    clock: Literal["wall", "cpu"] = "wall",
) -> DeviceTime:
    """What *took* on the host means for the device.

    Args:
        clock: which of the host's times is scaled. ``cpu`` is right on a host that is not alone, for work of one thread
            that neither sleeps nor waits for a disk.
    """
    factor = profile.factor(work)
    host_s = took.wall_s if clock == "wall" else took.cpu_s
    seconds = took.wall_s if mode == "quota" else host_s * factor
    spread = profile.spread(work)
    return DeviceTime(seconds, seconds / spread, seconds * spread, took, mode, factor)
