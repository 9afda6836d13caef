"""Every error that `netem` raises on purpose; each can be rebuilt from its `args`, as SimPy and pickle do."""

from __future__ import annotations

from collections.abc import Sequence


class NetemError(Exception):
    """Base of all errors of this package."""


class UnitError(NetemError, ValueError):
    """A quantity that was not written as a number and a unit we know."""

    def __init__(self, given: object, meaning: str, hint: str = "") -> None:
        super().__init__(given, meaning, hint)
        self.given, self.meaning, self.hint = given, meaning, hint

    def __str__(self) -> str:
        text = f"got {self.given!r}; {self.meaning}"
        return f"{text}; did you mean {self.hint!r}?" if self.hint else text


class LinkSpecError(NetemError, ValueError):
    """A link or topology that cannot exist: negative delay, a rate of zero, no clients."""

    def __init__(self, field: str, given: object, allowed: str) -> None:
        super().__init__(field, given, allowed)
        self.field, self.given, self.allowed = field, given, allowed

    def __str__(self) -> str:
        return f"{self.field}: got {self.given!r}; {self.allowed}"


class CapabilityError(NetemError):
    """This machine cannot do what was asked; nothing was started."""

    def __init__(self, missing: str, needed_for: str, fix: str) -> None:
        super().__init__(missing, needed_for, fix)
        self.missing, self.needed_for, self.fix = missing, needed_for, fix

    def __str__(self) -> str:
        return f"this machine lacks {self.missing}, needed for {self.needed_for}; {self.fix}"


class CommandError(NetemError):
    """A program that we need ended with an error."""

    def __init__(self, argv: Sequence[str], exit_status: int, stderr: str) -> None:
        super().__init__(argv, exit_status, stderr)
        self.argv, self.exit_status, self.stderr = tuple(argv), exit_status, stderr

    def __str__(self) -> str:
        return f"`{' '.join(self.argv)}` ended with status {self.exit_status}: {self.stderr.strip()}"


class ShapingError(NetemError):
    """The kernel did not take a link's settings; the measurement would be of another link."""

    def __init__(self, interface: str, asked: str, got: str) -> None:
        super().__init__(interface, asked, got)
        self.interface, self.asked, self.got = interface, asked, got

    def __str__(self) -> str:
        return f"{self.interface}: asked for {self.asked}, the kernel has {self.got}"


class TransferError(NetemError):
    """The machinery of transfers broke (not one transfer: that is a result with ``status="failed"``)."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return self.what


class LedgerError(NetemError):
    """A ledger that cannot be read, or a resource that the sweep could not remove."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path, self.what = path, what

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"
