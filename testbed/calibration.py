"""``testbed calibrate``: measure this machine with real work and write a profile that a scenario can name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table

from devices.calibrate import Timing, combined, kernels_for, measure, profile_of
from devices.catalogue import reference
from devices.profile import WORKS, DeviceProfile
from devices.profile_file import write_profile
from netem.units import format_size
from testbed.errors import ResultsExistError
from testbed.learning.kernels import real_kernels
from testbed.tables import console

REPEATS, QUICK_REPEATS = 9, 3
# Quartiles further apart than this: the machine was doing something else as well.
QUIET_SCATTER = 1.2

_MEANING = {
    "train": "training, all cores",
    "train_one": "training, one thread",
    "compress": "lossy compression",
    "lossless": "lossless coding",
    "copy": "memory copies",
}


def calibrate(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    repeats = QUICK_REPEATS if options.quick else REPEATS
    file: Path = options.out
    if file.exists():
        raise ResultsExistError(str(file), single=True)
    kernels = kernels_for(real_kernels())
    print(
        f"{len(kernels)} kernels, {repeats} times in turn, on {_cores()} core(s); leave the machine alone meanwhile",
        file=sys.stderr,
    )
    timings = measure(kernels, repeats=repeats, on_cpu_time=options.cpu_time)
    profile = profile_of(timings, options.name or file.stem, idle_w=options.idle_w, busy_w=options.busy_w)
    write_profile(profile, file)
    out = console()
    out.print(tables(timings, profile))
    for line in _conclusion(timings, file):
        out.print(line, highlight=False, soft_wrap=True)
    return 0


def tables(timings: Sequence[Timing], profile: DeviceProfile) -> Group:
    """The kernels as measured, and the factors that come of them."""
    each = Table(
        title=f"{profile.name}: {profile.description}",
        caption=f"reference host: {reference()}",
        title_justify="left",
        caption_justify="left",
    )
    each.add_column("kernel")
    each.add_column("stands for")
    for heading in ("median (ms)", "lowest", "highest", "n", "scatter", "x reference"):
        each.add_column(heading, justify="right")
    for timing in timings:
        each.add_row(
            timing.kernel.name,
            _MEANING[timing.kernel.work],
            *(f"{1e3 * value:.1f}" for value in (timing.median_s, min(timing.seconds), max(timing.seconds))),
            str(len(timing.seconds)),
            f"{timing.scatter:.2f}",
            f"{timing.factor:.2f}",
        )
    factors = Table(
        title="Factors: seconds here for a second of one core of the reference host",
        title_justify="left",
    )
    factors.add_column("work")
    factors.add_column("factor", justify="right")
    factors.add_column("doubt", justify="right")
    factors.add_column("in words")
    for work in WORKS:
        factors.add_row(
            _MEANING[work],
            f"{profile.factor(work):.2f}",
            f"x/÷ {profile.spread(work):.2f}",
            in_words(profile.factor(work)),
        )
    single = profile.single_train_factor
    if single is not None:
        spread = combined([timing for timing in timings if timing.kernel.work == "train_one"])[1]
        factors.add_row(_MEANING["train_one"], f"{single:.2f}", f"x/÷ {spread:.2f}", in_words(single))
    if profile.copy_speed is not None:
        factors.add_row(
            _MEANING["copy"], f"{1 / profile.copy_speed:.2f}", "", in_words(1 / profile.copy_speed)
        )
    factors.caption = f"{profile.cores} cores, {format_size(profile.memory_bytes, 3)} of memory"
    factors.caption_justify = "left"
    return Group(each, factors)


def in_words(factor: float) -> str:
    """``3.2 times as long`` or ``1.5 times as fast``."""
    if 1 / 1.05 < factor < 1.05:
        return "as fast as the reference host"
    if factor >= 1:
        return f"takes {factor:.2g} times as long"
    return f"{1 / factor:.2g} times as fast"


def _conclusion(timings: Sequence[Timing], file: Path) -> list[str]:
    lines = []
    noisy = [timing.kernel.name for timing in timings if timing.scatter > QUIET_SCATTER]
    if noisy:
        lines.append(
            f"Not a quiet machine: the quartiles of {', '.join(noisy)} lie more than {QUIET_SCATTER:g} apart, which is "
            "part of the doubt; repeat it when nothing else runs, or with --cpu-time."
        )
    name = file.name if len(file.parts) == 1 else str(file)
    shown = name if file.is_absolute() else f"./{name}"
    lines.append(
        f"wrote {file}; in a scenario beside it: `device: {shown}` makes a fleet of such machines, "
        f"`devices: {{host: {shown}}}` converts work measured on this machine"
    )
    return lines


def _cores() -> int:
    return len(os.sched_getaffinity(0))
