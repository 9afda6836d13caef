"""What can go wrong on the data side of the testbed; every error says where, what came and what is allowed.

All of them can be rebuilt from their ``args``: SimPy and pickle do exactly that.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass


class TestbedError(Exception):
    """Base of this package's errors."""

    __test__ = False  # the name starts like a test class and pytest looks at names


@dataclass(frozen=True)
class ScenarioProblem:
    """One thing wrong in a scenario file.

    Attributes:
        file: name of the file as the user gave it.
        line, column: from 1; the place of the key when the key is wrong, else of the value.
        path: ``fleets[1].uplink.rate``; empty for the whole file.
        label: what the user calls the nearest thing with a name (``pi``); empty if none.
        message: what came and what is allowed.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    label: str = ""

    def __str__(self) -> str:
        where = f"{self.path} ({self.label})" if self.label else self.path
        text = f"{self.file}:{self.line}:{self.column}: " + (f"{where}: " if where else "") + self.message
        return "\n".join(
            textwrap.wrap(text, 112, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        )


class ScenarioErrors(TestbedError):
    """Everything that is wrong with one scenario, in the order of the file."""

    def __init__(self, file: str, errors: Sequence[ScenarioProblem]) -> None:
        super().__init__(file, errors)
        self.file = file
        self.errors = list(errors)

    def __str__(self) -> str:
        count = len(self.errors)
        total = f"{count} error{'s' if count != 1 else ''} in {self.file}; nothing was started"
        return "\n".join([*(str(error) for error in self.errors), total])


class RecordError(TestbedError):
    """A result row or file that must not be written or cannot be believed."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.where, self.why = where, why

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


class NewerSchemaError(RecordError):
    """A file written by a later version of this program."""

    def __init__(self, where: str, found: int, read: int) -> None:
        TestbedError.__init__(self, where, found, read)
        self.where, self.found, self.read = where, found, read
        self.why = f"schema {found}; this build reads schema {read} and older"


class NoRunError(RecordError):
    """A folder that was named as a run's results and holds no run."""

    def __init__(self, folder: str, why: str) -> None:
        super().__init__(folder, why)

    def __str__(self) -> str:
        return f"{self.where} is no result folder: {self.why}"


class ResultsExistError(TestbedError):
    """Results are never overwritten, and neither is a *single* file that a command was to write."""

    def __init__(self, path: str, single: bool = False) -> None:
        super().__init__(path, single)
        self.path, self.single = path, single

    def __str__(self) -> str:
        if self.single:
            return f"{self.path} exists already and is not overwritten; choose another name"
        return f"{self.path} exists already and results are never overwritten; choose another folder or resume it"


class NobodyAvailableError(TestbedError):
    """A round cannot begin, as no client will ever be there again."""

    def __init__(self, at_s: float) -> None:
        super().__init__(at_s)
        self.at_s = at_s

    def __str__(self) -> str:
        return (
            f"no client is available from {self.at_s:.6g} s of the cell on, and rounds are left; let the fleets' "
            "'availability' repeat ('every'), reach further, or ask for fewer rounds"
        )


class NothingArrivesError(TestbedError):
    """Asynchronous training in which clients are asked again and again, and no update ever comes of it."""

    def __init__(self, made: int, wanted: int, reason: str) -> None:
        super().__init__(made, wanted, reason)
        self.made, self.wanted, self.reason = made, wanted, reason

    def __str__(self) -> str:
        return (
            f"only {self.made} of {self.wanted} models could be made: every client's updates are lost, again and "
            f"again; the last one: {self.reason}"
        )
