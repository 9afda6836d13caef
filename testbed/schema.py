"""Kinds of values in a scenario: each reads a positioned YAML tree, writes plain data back and describes itself.

A reader never stops at the first mistake: it notes the problem in the shared list and raises `ReportedError`, which the
nearest `Record` or `ListOf` catches to go on with its other parts.
"""

from __future__ import annotations

import difflib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from netem.units import (
    UnitError,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_fraction,
    parse_rate,
    parse_size,
)
from testbed.errors import ScenarioProblem
from testbed.yaml_position import Listing, Place, Scalar, Tree

T = TypeVar("T")

# Longer lists of names help nobody; then we name the nearest.
SHOWN_NAMES = 24


class ReportedError(Exception):
    """The value cannot be built, and the list of problems says why already."""


@dataclass(frozen=True)
class At:
    """Where in a scenario a reader is: path and label for messages, and the list that collects problems."""

    problems: list[ScenarioProblem] = field(default_factory=list)
    path: str = ""
    label: str = ""

    def key(self, name: str) -> At:
        return At(self.problems, f"{self.path}.{name}" if self.path else name, self.label)

    def item(self, index: int) -> At:
        return At(self.problems, f"{self.path}[{index}]", self.label)

    def named(self, label: str) -> At:
        return At(self.problems, self.path, label)

    def refuse(self, place: Place, message: str) -> ReportedError:
        """Note a problem; to be used as ``raise at.refuse(...)``."""
        self.problems.append(
            ScenarioProblem(place.file, place.line, place.column, self.path, message, self.label)
        )
        return ReportedError()


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """``"; did you mean 'sz2'?"`` or nothing; never a far-fetched guess."""
    by_small = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given.lower(), by_small, n=1, cutoff=0.6)
    return f"; did you mean {by_small[close[0]]!r}?" if close else ""


def shown(tree: Tree) -> str:
    """What came, for a message."""
    if isinstance(tree, Scalar):
        return "nothing" if tree.value is None else repr(tree.text)
    return "an empty list" if isinstance(tree, Listing) and not tree.items else tree.what


class Kind(ABC, Generic[T]):
    """One kind of value."""

    #: What is allowed, as the second half of a message: "a whole number from 1".
    meaning: str = ""

    @abstractmethod
    def read(self, tree: Tree, at: At) -> T:
        """The value; raises ReportedError after noting each problem."""

    @abstractmethod
    def write(self, value: T) -> Any:
        """Plain data (None, bool, int, float, str, list, dict) that `read` takes back to an equal value."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of what `read` takes."""

    def show(self, value: T) -> str:
        """Short text for tables and labels."""
        return str(self.write(value))

    def _wrong(self, tree: Tree, at: At) -> ReportedError:
        return at.refuse(tree.place, f"got {shown(tree)}; {self.meaning}")


class Text(Kind[str]):
    """Text, optionally of one form."""

    def __init__(self, pattern: str = r"(?s).*", meaning: str = "text is expected") -> None:
        self._pattern = re.compile(pattern)
        self.meaning = meaning

    def read(self, tree: Tree, at: At) -> str:
        if not isinstance(tree, Scalar) or not isinstance(tree.value, str):
            raise self._wrong(tree, at)
        if not self._pattern.fullmatch(tree.value):
            raise self._wrong(tree, at)
        return tree.value

    def write(self, value: str) -> str:
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string"}


class Flag(Kind[bool]):
    meaning = "true or false is expected"

    def read(self, tree: Tree, at: At) -> bool:
        if isinstance(tree, Scalar) and isinstance(tree.value, bool):
            return tree.value
        if isinstance(tree, Scalar) and tree.text.lower() in ("yes", "no", "on", "off"):
            better = "true" if tree.text.lower() in ("yes", "on") else "false"
            raise at.refuse(tree.place, f"got {tree.text!r}; {self.meaning}; did you mean '{better}'?")
        raise self._wrong(tree, at)

    def write(self, value: bool) -> bool:
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Integer(Kind[int]):
    def __init__(self, low: int, high: int | None = None) -> None:
        self._low, self._high = low, high
        upto = f" to {high}" if high is not None else ""
        self.meaning = f"a whole number from {low}{upto} is expected"

    def read(self, tree: Tree, at: At) -> int:
        value = tree.value if isinstance(tree, Scalar) else None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(tree, at)
        if value < self._low or (self._high is not None and value > self._high):
            raise self._wrong(tree, at)
        return value

    def write(self, value: int) -> int:
        return value

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "integer", "minimum": self._low}
        return schema if self._high is None else {**schema, "maximum": self._high}


class Number(Kind[float]):
    """A finite number; *low* and *high* belong to the range unless *above* says that *low* does not."""

    def __init__(self, low: float, high: float = math.inf, *, above: bool = False, example: str = "") -> None:
        self._low, self._high, self._above = low, high, above
        upto = f" up to {high:.12g}" if high < math.inf else ""
        self.meaning = f"a number {'above' if above else 'from'} {low:.12g}{upto} is expected"
        if example:
            self.meaning += f", for example {example}"

    def read(self, tree: Tree, at: At) -> float:
        value = tree.value if isinstance(tree, Scalar) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._wrong(tree, at)
        if value < self._low or value > self._high or (self._above and value == self._low):
            raise self._wrong(tree, at)
        return float(value)

    def write(self, value: float) -> float:
        return value

    def show(self, value: float) -> str:
        return f"{value:g}"

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "number",
            "exclusiveMinimum" if self._above else "minimum": self._low,
        }
        return schema if self._high == math.inf else {**schema, "maximum": self._high}


class Quantity(Kind[float]):
    """A number with a unit; *parse* raises `UnitError` with the whole message."""

    def __init__(
        self,
        noun: str,
        parse: Callable[[object], float],
        write: Callable[[float], Any],
        *,
        low: float = 0.0,
        high: float = math.inf,
        above: bool = False,
    ) -> None:
        self._noun, self._parse, self._write = noun, parse, write
        self._low, self._high, self._above = low, high, above

    def read(self, tree: Tree, at: At) -> float:
        given = tree.value if isinstance(tree, Scalar) else shown(tree)
        try:
            value = self._parse(given)
        except UnitError as error:
            raise at.refuse(tree.place, str(error)) from error
        if value < self._low or value > self._high or (self._above and value == self._low):
            allowed = (
                f"from {self._write(self._low)}" if not self._above else f"above {self._write(self._low)}"
            )
            if self._high < math.inf:
                allowed += f" to {self._write(self._high)}"
            raise at.refuse(tree.place, f"got {given!r}; a {self._noun} here is {allowed}")
        return value

    def write(self, value: float) -> Any:
        return self._write(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": ["string", "number"] if self._noun == "fraction" else "string"}


def rate(low: float = 8.0, high: float = 1e12) -> Quantity:
    return Quantity("rate", parse_rate, format_rate, low=low, high=high)


def duration(high: float = math.inf, *, above: bool = False) -> Quantity:
    return Quantity("duration", parse_duration, format_duration, high=high, above=above)


def fraction(*, low: float = 0.0, high: float = 1.0, above: bool = False) -> Quantity:
    return Quantity("fraction", parse_fraction, float, low=low, high=high, above=above)


def size(low: int = 0) -> Quantity:
    return Quantity("size", parse_size, lambda value: format_size(int(value)), low=low)


class Choice(Kind[str]):
    """One of a few fixed words."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self.meaning = f"allowed: {', '.join(words)}"

    def read(self, tree: Tree, at: At) -> str:
        if isinstance(tree, Scalar) and tree.text in self._words:
            return tree.text
        hint = did_you_mean(tree.text, self._words) if isinstance(tree, Scalar) else ""
        raise at.refuse(tree.place, f"got {shown(tree)}{hint or ';'} {self.meaning}")

    def write(self, value: str) -> str:
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"enum": list(self._words)}


class Known(Kind[str]):
    """A name that another package knows; asked lazily, so that a missing library is a line, not a crash.

    Args:
        noun: "codec", "device".
        names: returns name -> why it cannot be used here (empty when it can). May raise ImportError.
        ours: names of which nobody needs to be asked, as that may load a library of seconds.
    """

    def __init__(self, noun: str, names: Callable[[], Mapping[str, str]], ours: tuple[str, ...] = ()) -> None:
        self._noun, self._names, self._ours = noun, names, ours
        self.meaning = f"the name of a {noun} is expected"

    def read(self, tree: Tree, at: At) -> str:
        if not isinstance(tree, Scalar) or not isinstance(tree.value, str):
            raise self._wrong(tree, at)
        name = tree.value
        if name in self._ours:
            return name
        try:
            known = self._names()
        except ImportError as error:
            raise at.refuse(tree.place, f"{self._noun} {name!r} cannot be checked: {error}") from error
        if name not in known:
            raise at.refuse(
                tree.place,
                f"unknown {self._noun} {name!r}{did_you_mean(name, known) or ';'} allowed: {_some(name, known)}",
            )
        if known[name]:
            raise at.refuse(tree.place, f"{self._noun} {name!r} cannot be used here: {known[name]}")
        return name

    def write(self, value: str) -> str:
        return value

    def json_schema(self) -> dict[str, Any]:
        try:
            return {"enum": sorted(self._names())}
        except ImportError:
            return {"type": "string"}


def _some(name: str, known: Iterable[str]) -> str:
    """All names, or of many those that look most like *name*."""
    names = sorted(known)
    if len(names) <= SHOWN_NAMES:
        return ", ".join(names)
    close = difflib.get_close_matches(name, names, n=5, cutoff=0.0)
    return f"{', '.join(close)} and {len(names) - len(close)} more"


class Or(Kind[Any]):
    """A fixed word (or nothing, written ``null``) that stands for itself, else another kind."""

    def __init__(self, word: str | None, kind: Kind[Any]) -> None:
        self._word, self._kind = word, kind
        self.meaning = f"{kind.meaning}, or {word if word is not None else 'null'}"

    def read(self, tree: Tree, at: At) -> Any:
        if isinstance(tree, Scalar) and tree.value == self._word:
            return self._word
        inner = replace(at, problems=[])
        try:
            return self._kind.read(tree, inner)
        except ReportedError:
            for problem in inner.problems:
                here = problem.path == at.path and self._word is not None
                at.problems.append(
                    replace(problem, message=f"{problem.message}, or {self._word}") if here else problem
                )
            raise

    def write(self, value: Any) -> Any:
        return self._word if value == self._word else self._kind.write(value)

    def show(self, value: Any) -> str:
        return str(self._word) if value == self._word else self._kind.show(value)

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"const": self._word}, self._kind.json_schema()]}


class ListOf(Kind[tuple[Any, ...]]):
    def __init__(self, kind: Kind[Any], *, shortest: int = 0) -> None:
        self.kind, self._shortest = kind, shortest
        self.meaning = "a list is expected" + (f" with at least {shortest} entry" if shortest else "")

    def read(self, tree: Tree, at: At) -> tuple[Any, ...]:
        items: Sequence[Tree] | None = getattr(tree, "items", None) if tree.what == "a list" else None
        if items is None or len(items) < self._shortest:
            raise self._wrong(tree, at)
        values, failed = [], False
        for index, item in enumerate(items):
            try:
                values.append(self.kind.read(item, at.item(index)))
            except ReportedError:
                failed = True
        if failed:
            raise ReportedError
        return tuple(values)

    def write(self, value: tuple[Any, ...]) -> list[Any]:
        return [self.kind.write(item) for item in value]

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.kind.json_schema(), "minItems": self._shortest}
