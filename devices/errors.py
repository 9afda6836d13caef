"""Everything that can go wrong with a device; every error can be rebuilt from its ``args``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class DeviceError(Exception):
    """Base of all errors of this package."""


class UnknownDeviceError(DeviceError):
    """No profile of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, tuple(known))
        self.name, self.known = name, tuple(known)

    def __str__(self) -> str:
        close = difflib.get_close_matches(self.name, self.known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"unknown device {self.name!r}; {hint}known: {', '.join(self.known)}"


class ProfileError(DeviceError):
    """A profile file or profile value that makes no sense."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where, self.problem = where, problem

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


class LimitError(DeviceError):
    """A limit that makes no sense, or that this kernel cannot or did not enforce."""

    def __init__(self, limit: str, problem: str) -> None:
        super().__init__(limit, problem)
        self.limit, self.problem = limit, problem

    def __str__(self) -> str:
        return f"limit {self.limit}: {self.problem}"


class NotImportableError(DeviceError):
    """Work that a fresh process cannot find again by module and name."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return (
            f"{self.what} cannot run in a worker: it must be a function at the top level of an importable module "
            "(not a lambda, not a nested function, not one defined in the script being run)"
        )


class WorkerCallError(DeviceError):
    """The work raised something that could not be brought back as itself."""

    def __init__(self, what: str, kind: str, text: str, traceback: str) -> None:
        super().__init__(what, kind, text, traceback)
        self.what, self.kind, self.text, self.traceback = what, kind, text, traceback

    def __str__(self) -> str:
        return f"{self.what} raised {self.kind}: {self.text}\n{self.traceback}"


class WorkerTimeoutError(DeviceError):
    """The work ran longer than allowed; its process was ended."""

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(what, timeout_s)
        self.what, self.timeout_s = what, timeout_s

    def __str__(self) -> str:
        return f"no answer within {self.timeout_s:g} s while {self.what}"


class WorkerDiedError(DeviceError):
    """The worker's process ended in the middle of its work.

    Attributes:
        what: what it was doing, a verb in -ing or the function's name.
        exit: exit status, negative for a signal (``-9``: killed).
        out_of_memory: the kernel killed it because it exceeded its memory ceiling.
        limit_bytes: that ceiling, None where there was none.
    """

    def __init__(
        self, what: str, exit: int, out_of_memory: bool = False, limit_bytes: int | None = None
    ) -> None:
        super().__init__(what, exit, out_of_memory, limit_bytes)
        self.what, self.exit, self.out_of_memory, self.limit_bytes = what, exit, out_of_memory, limit_bytes

    def __str__(self) -> str:
        if self.out_of_memory and self.limit_bytes is not None:
            return f"out of memory at {format_bytes(self.limit_bytes)} while {self.what}"
        how = f"signal {-self.exit}" if self.exit < 0 else f"exit status {self.exit}"
        return f"worker died ({how}) while {self.what}"


def format_bytes(count: int) -> str:
    """Bytes as people write them: ``512 MB``, or ``512 MiB`` where that is the round number."""
    for binary, decimal, power in (("GiB", "GB", 3), ("MiB", "MB", 2), ("KiB", "kB", 1)):
        if count and count % 1024**power == 0 and count % 1000**power:
            return f"{count // 1024**power} {binary}"
        if count and count % 1000**power == 0:
            return f"{count // 1000**power} {decimal}"
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count} bytes"
