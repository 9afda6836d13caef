"""What can go wrong on the learning side; every error can be rebuilt from its ``args``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from testbed.errors import TestbedError


class LearningError(TestbedError):
    """Base of this package's errors."""


class UnknownDatasetError(LearningError):
    """No data set of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, tuple(known))
        self.name, self.known = name, tuple(known)

    def __str__(self) -> str:
        return f"unknown data set {self.name!r}; known: {', '.join(self.known)}"


class DatasetMissingError(LearningError):
    """The data set is known but its files are not on this machine.

    Attributes:
        looked: folders that were searched.
        command: the command that gets it.
    """

    def __init__(self, name: str, looked: Sequence[str], command: str) -> None:
        super().__init__(name, tuple(looked), command)
        self.name, self.looked, self.command = name, tuple(looked), command

    def __str__(self) -> str:
        return f"data set {self.name} is not in {' or '.join(self.looked)}; get it with: {self.command}"


class DatasetDamagedError(LearningError):
    """A file of the data set is not what was published."""

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(file, problem)
        self.file, self.problem = file, problem

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


class UnknownModelError(LearningError):
    """torchvision has no classification model of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, tuple(known))
        self.name, self.known = name, tuple(known)

    def __str__(self) -> str:
        close = difflib.get_close_matches(self.name, self.known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        return f"unknown model {self.name!r}; {hint}known are 'cnn' and torchvision's classification models"


class OwnModelError(LearningError):
    """A user's own model that cannot be built."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"model {self.name}: {self.problem}"


class TaskError(LearningError):
    """A training task that cannot be carried out as written."""


class AggregationError(LearningError):
    """Updates that cannot be averaged."""


class CheckpointError(LearningError):
    """A checkpoint that cannot be read or belongs to another run."""

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(file, problem)
        self.file, self.problem = file, problem

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"
