"""What ran and on what: the content of ``run.json``."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from testbed.scenario import Scenario

# Everything whose version can change a figure. Distribution names; "mininet" has a module version as well.
DISTRIBUTIONS = (
    "fedsz-testbed",
    "numpy",
    "numba",
    "torch",
    "torchvision",
    "pysz",
    "hdf5plugin",
    "h5py",
    "zfpy",
    "blosc2",
    "zstandard",
    "simpy",
    "mininet",
    "scipy",
)


def collect(
    scenario: Scenario,
    run: str,
    *,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of a run that starts now.

    Args:
        scenario: filled in; saved as `loads` reads it.
        run: id of the run.
        extra: what the engine adds (data set really used, dilation and why, congestion control), plain data.
    """
    return {
        "run": run,
        "name": scenario.name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": scenario.seed,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "source": source(),
        "versions": versions(),
        "machine": machine(),
        **(extra or {}),
        "scenario": scenario.to_dict(),
    }


def source() -> dict[str, Any]:
    """Commit that the running code was checked out from and whether it was changed since; None where unknown."""
    root = Path(__file__).resolve().parent
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        # An installed package may lie inside somebody else's checkout; only our own says what ran.
        if Path(top) != root.parent:
            return {"commit": None, "dirty": None}
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        return {"commit": _git(root, "rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def versions() -> dict[str, str | None]:
    """Python's and each library's version; None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, Any]:
    """Kernel, processor, cores that we may use, memory and load."""
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or "unknown"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True, timeout=10
    )
    return done.stdout.strip()
