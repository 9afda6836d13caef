"""Measure this machine and write its profile: on a real Raspberry Pi this gives a real Raspberry Pi."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from devices import kernels as builtin
from devices.catalogue import CATALOGUE
from devices.errors import ProfileError
from devices.profile import WORKS, DeviceProfile, Work
from devices.profile_file import read_yaml
from devices.worker import Worker

KernelWork = Work | Literal["train_one", "copy"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One piece of work to be timed.

    Attributes:
        name: for the profile's sources.
        work: which factor it counts for; ``train_one`` is training with one thread; ``copy`` is reported only.
        function: importable (it runs in a `Worker`), called with *args*; its result is dropped.
        reference_s: median seconds on the reference host, one thread.
    """

    name: str
    work: KernelWork
    function: Callable[..., object]
    reference_s: float
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """What one kernel took here: every value, in the order of measurement, in seconds."""

    kernel: Kernel
    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def factor(self) -> float:
        """Time here per time on the reference host."""
        return self.median_s / self.kernel.reference_s

    @property
    def scatter(self) -> float:
        """Upper over lower quartile: 1 on a quiet machine."""
        lower, _, upper = statistics.quantiles(self.seconds, n=4)
        return upper / lower


def builtin_kernels() -> tuple[Kernel, ...]:
    """The kernels that need nothing but NumPy, with their reference times from the catalogue."""
    reference: dict[str, float] = read_yaml(CATALOGUE)["reference"]["kernels_s"]
    works: dict[str, KernelWork] = {
        "training_step": "train",
        "quantise_and_code": "compress",
        "shuffle_and_deflate": "lossless",
        "copy_memory": "copy",
    }
    return tuple(Kernel(name, work, getattr(builtin, name), reference[name]) for name, work in works.items())


def kernels_for(real: Sequence[Kernel] = ()) -> tuple[Kernel, ...]:
    """*real* kernels, the built-in ones for the kinds of work that have none, and training once more on one thread."""
    covered = {kernel.work for kernel in real}
    chosen = (*real, *(kernel for kernel in builtin_kernels() if kernel.work not in covered))
    single = (
        replace(kernel, name=f"{kernel.name}, one thread", work="train_one")
        for kernel in chosen
        if kernel.work == "train"
    )
    return (*chosen, *single)


def measure(
    kernels: Sequence[Kernel], *, repeats: int = 9, threads: int | None = None, on_cpu_time: bool = False
) -> list[Timing]:
    """Time every kernel *repeats* times, in turn (A B C A B C), so that a slow spell hits all of them.

    Args:
        repeats: at least 3.
        threads: of the training kernels; None: all CPUs that this process may use. The others get one.
        on_cpu_time: count CPU seconds, not wall seconds, of all that runs on one thread; for a machine that is not
            alone.
    """
    if repeats < 3:
        raise ProfileError("calibration", f"repeats {repeats}; at least 3 are needed for a scatter")
    cores = _cores(threads)
    seconds: list[list[float]] = [[] for _ in kernels]
    with Worker(threads=1) as single, Worker(threads=cores) as parallel:
        for turn in range(repeats + 1):
            for kernel, values in zip(kernels, seconds, strict=True):
                alone = kernel.work != "train" or cores == 1
                _, took = (single if alone else parallel).call(kernel.function, *kernel.args)
                if turn:  # the first pass loads libraries, data and clocks
                    values.append(took.cpu_s if on_cpu_time and alone else took.wall_s)
    return [Timing(kernel, tuple(values)) for kernel, values in zip(kernels, seconds, strict=True)]


def calibrate(
    name: str = "this-machine",
    kernels: Sequence[Kernel] = (),
    *,
    repeats: int = 9,
    threads: int | None = None,
    idle_w: float | None = None,
    busy_w: float | None = None,
) -> DeviceProfile:
    """Measure this machine; takes some seconds.

    Args:
        kernels: real ones (a training step, SZ2, ...) beside the built-in ones; where a kind of work has real ones,
            they alone make its factor.
        idle_w, busy_w: from a power meter, where there is one.
    """
    timings = measure(kernels_for(kernels), repeats=repeats, threads=threads)
    return profile_of(timings, name, threads=threads, idle_w=idle_w, busy_w=busy_w)


def profile_of(
    timings: Sequence[Timing],
    name: str = "this-machine",
    *,
    threads: int | None = None,
    idle_w: float | None = None,
    busy_w: float | None = None,
) -> DeviceProfile:
    """This machine's profile from what `measure` found for `kernels_for`; same *threads*."""
    factors = {work: combined([timing for timing in timings if timing.kernel.work == work]) for work in WORKS}
    single = [timing for timing in timings if timing.kernel.work == "train_one"]
    return DeviceProfile(
        name=name,
        description=f"{platform.machine()} {_cpu_model()}, calibrated",
        cores=_cores(threads),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        train_factor=factors["train"][0],
        compress_factor=factors["compress"][0],
        lossless_factor=factors["lossless"][0],
        train_spread=factors["train"][1],
        compress_spread=factors["compress"][1],
        lossless_spread=factors["lossless"][1],
        idle_w=idle_w,
        busy_w=busy_w,
        core_speed=1 / factors["lossless"][0],
        copy_speed=next((1 / timing.factor for timing in timings if timing.kernel.work == "copy"), None),
        single_train_factor=combined(single)[0] if single else None,
        sources=tuple(
            f"{timing.kernel.name} ({timing.kernel.work}): median {timing.median_s * 1e3:.3g} ms of "
            f"{len(timing.seconds)}, {timing.factor:.3g} x the reference host, scatter {timing.scatter:.3g}"
            for timing in timings
        ),
    )


def _cores(threads: int | None) -> int:
    return len(os.sched_getaffinity(0)) if threads is None else threads


def combined(timings: Sequence[Timing]) -> tuple[float, float]:
    """One factor from several kernels: geometric mean, and a spread that covers each of them and its scatter."""
    logs = [math.log(timing.factor) for timing in timings]
    mean = statistics.fmean(logs)
    apart = max(abs(value - mean) for value in logs)
    noise = max(math.log(timing.scatter) for timing in timings)
    return math.exp(mean), math.exp(math.hypot(apart, noise))


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "Hardware"):
                return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown CPU"
