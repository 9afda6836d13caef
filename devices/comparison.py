"""``python -m devices.comparison DEVICE ...``: the same work under a quota and scaled, side by side.

The two modes differ in what they can get wrong. A quota stalls, so work shorter than a period is distorted, and a
stalled process finds its caches cold; scaling stretches pauses and disk waits too, and other processes' work. Where
they agree, either will do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from devices import kernels as builtin
from devices.catalogue import profile
from devices.errors import DeviceError, UnknownDeviceError
from devices.profile import Work
from devices.work import device_time, limits_for, run_as
from devices.worker import Worker


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of work to compare, run *times* times inside one measured call."""

    name: str
    work: Work
    function: Callable[..., object]
    args: tuple[Any, ...] = ()
    times: int = 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """Device seconds of one piece of work in both modes, every value in the order of measurement.

    Attributes:
        scale_s: from wall time; cpu_s: from CPU time, which other processes disturb less.
        quota_cpu_s: CPU time that the work took under the quota, multiplied as `cpu_s` is. More than `cpu_s` where the
            work suffers from its stalls (cold caches); less than `quota_s` where the quota gave less than its share.
    """

    device: str
    piece: str
    quota_s: tuple[float, ...]
    scale_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    quota_cpu_s: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median under the quota over median of the scaled CPU time: 1 where the modes agree."""
        return statistics.median(self.quota_s) / statistics.median(self.cpu_s)

    @property
    def cpu_ratio(self) -> float:
        """The same of the CPU time that the work took: what of `ratio` is the work's, not the quota's."""
        return statistics.median(self.quota_cpu_s) / statistics.median(self.cpu_s)


def pieces() -> tuple[Piece, ...]:
    """The built-in kernels, short (one run, down to 30 ms) and long (ten runs)."""
    single = (
        Piece("training step", "train", builtin.training_step),
        Piece("quantise and code", "compress", builtin.quantise_and_code),
        Piece("shuffle and deflate", "lossless", builtin.shuffle_and_deflate),
    )
    return tuple(
        replace(piece, name=f"{piece.name} x {times}", times=times) for piece in single for times in (1, 10)
    )


def compare(device: str, work: Sequence[Piece] | None = None, *, repeats: int = 5) -> list[Comparison]:
    """Both modes in turn (quota, scale, quota, ...), *repeats* times each. Needs root.

    Raises: LimitError where the device is faster than this host or the kernel cannot set a quota.
    """
    known = profile(device)
    found: list[Comparison] = []
    with Worker(limits_for(known, "quota")) as held, Worker() as free:
        for piece in pieces() if work is None else work:
            seconds: dict[str, list[float]] = {"quota": [], "scale": [], "cpu": [], "quota cpu": []}
            for worker in (held, free):
                worker.call(piece.function, *piece.args)  # imports and data
            for _ in range(repeats):
                call = (piece.function, piece.args, piece.times)
                _, slow = run_as(held, known, piece.work, piece.name, builtin.repeat, *call, mode="quota")
                _, scaled = run_as(free, known, piece.work, piece.name, builtin.repeat, *call, mode="scale")
                seconds["quota"].append(slow.seconds)
                seconds["scale"].append(scaled.seconds)
                seconds["cpu"].append(device_time(scaled.took, known, piece.work, clock="cpu").seconds)
                seconds["quota cpu"].append(device_time(slow.took, known, piece.work, clock="cpu").seconds)
            found.append(Comparison(device, piece.name, *(tuple(values) for values in seconds.values())))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print a Markdown table. Exit status 0; 2 unknown device; 3 this machine cannot."""
    parser = argparse.ArgumentParser(prog="python -m devices.comparison", description="quota against scale")
    parser.add_argument("devices", nargs="+")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    print(
        "| device | work | quota, s | scaled wall time, s | scaled CPU time, s | quota / scaled CPU time "
        "| CPU time, quota / scale |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    try:
        for device in options.devices:
            for row in compare(device, repeats=options.repeats):
                columns = (
                    f"{statistics.median(values):.3f}" for values in (row.quota_s, row.scale_s, row.cpu_s)
                )
                print(
                    f"| {device} | {row.piece} | {' | '.join(columns)} | {row.ratio:.3f} | {row.cpu_ratio:.3f} |"
                )
    except UnknownDeviceError as error:
        print(error, file=sys.stderr)
        return 2
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
