"""The doctor: what this machine can and cannot do, what that costs, and the command that fixes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
from rich.table import Table
from rich.text import Text

import fedsz
from devices.limits import controllers
from netem.capabilities import capabilities
from testbed.learning.data import DATASETS, load_dataset
from testbed.learning.errors import DatasetMissingError, LearningError
from testbed.link_check import check_links
from testbed.sweep import state_dir
from testbed.tables import console

# A worker with PyTorch and a small model, twice (client and server), and the emulation around it.
COMFORTABLE_MEMORY_BYTES = 4 << 30


@dataclass(frozen=True)
class Finding:
    """One capability: whether it is there, what lacking it costs, how to get it."""

    name: str
    ok: bool
    costs_you: str
    fix: str
    detail: str = ""


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in the order in which it is shown."""
    for item in capabilities():
        yield Finding(item.name, item.ok, item.costs_you, item.fix, item.detail)
    mounted = controllers()
    for name in ("cpu", "cpuset", "memory"):
        found = mounted.get(name)
        writable = found is not None and os.access(found.mount, os.W_OK)
        version = f"cgroup v{found.version} at {found.mount}" if found else "not mounted"
        yield Finding(
            f"limit: {name}",
            writable,
            "fleets with `limits: quota` (kernel limits); `limits: scale` works",
            "run as root" if found else "mount -t cgroup2 none /sys/fs/cgroup",
            version,
        )
    for codec_id, info in fedsz.codecs().items():
        yield Finding(f"codec: {codec_id}", info.available, "this codec", info.install, info.why)
    for name in DATASETS:
        yield _data(name)
    memory = psutil.virtual_memory().total
    yield Finding(
        "memory",
        memory >= COMFORTABLE_MEMORY_BYTES,
        "models like AlexNet",
        "close other programs, or use a smaller model",
        f"{memory / 2**30:.1f} GiB",
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding(
        "cores",
        cores >= 2,
        "truthful links while two ends of a flow share one core",
        "use two or more",
        str(cores),
    )


def _data(name: str) -> Finding:
    costs = "scenarios that train on it (they name the data set that they fall back to)"
    try:
        return Finding(f"data: {name}", True, costs, "", load_dataset(name).source)
    except DatasetMissingError as missing:
        return Finding(f"data: {name}", False, costs, str(missing).rsplit(": ", 1)[-1], "not on this machine")
    except LearningError as damaged:
        return Finding(f"data: {name}", False, costs, str(damaged))


def check(*, quick: bool = False) -> int:
    """Print every finding; 0 whatever they are, as a machine without root is no failure.

    Args:
        quick: leave out what takes more than a second, the measured links.
    """
    table = Table(title="What this machine can do", title_justify="left", show_lines=False)
    for heading in ("", "capability", "found", "what its absence costs", "fix"):
        table.add_column(heading, overflow="fold")
    missing = 0
    for item in findings():
        mark = Text("ok", style="green") if item.ok else Text("missing", style="bold red")
        missing += not item.ok
        table.add_row(mark, item.name, item.detail, *(("", "") if item.ok else (item.costs_you, item.fix)))
    out = console()
    out.print(table)
    if missing:
        out.print(f"{missing} missing; everything else works without them", highlight=False)
    if quick:
        out.print("Links were not measured (--quick).", highlight=False)
    else:
        check_links(state_dir(), out)
    return 0
