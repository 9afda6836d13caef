"""YAML 1.2 as a tree in which every key and value knows its line and column.

ruamel.yaml parses and resolves the scalars (1.2: ``yes`` is text, ``1e-2`` a number); we build the tree from its nodes,
because its mappings stop at the first duplicate key and its scalars carry no position.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from testbed.errors import ScenarioErrors, ScenarioProblem

Plain = None | bool | int | float | str

# Far above any scenario, far below Python's recursion limit and what aliases of aliases can blow up to.
MAX_DEPTH = 40
MAX_NODES = 200_000
MAX_CHARACTERS = 4_000_000  # read in some seconds


@dataclass(frozen=True)
class Place:
    """Line and column, both from 1, and the file, which is not the scenario's own where a part was included."""

    line: int
    column: int
    file: str


@dataclass(frozen=True)
class Scalar:
    place: Place
    value: Plain
    text: str  # as written, for messages

    what = "a value"


@dataclass(frozen=True)
class Listing:
    place: Place
    items: tuple[Tree, ...]

    what = "a list"


@dataclass(frozen=True)
class Table:
    """A mapping. Every key is text; of a duplicate key the first entry is kept and the second reported."""

    place: Place
    entries: dict[str, Tree]
    key_places: dict[str, Place]

    what = "a mapping"


Tree = Scalar | Listing | Table


def parse(text: str, file: str) -> tuple[Tree, list[ScenarioProblem]]:
    """The tree of a document and what is wrong with it that did not keep it from being built.

    Raises:
        ScenarioErrors: not YAML, empty, far too large, or more than one document.
    """
    if len(text) > MAX_CHARACTERS:
        message = (
            f"{len(text) / 1e6:.1f} million characters; a scenario has at most {MAX_CHARACTERS // 1_000_000}"
        )
        raise ScenarioErrors(file, [_problem(Place(1, 1, file), message)])
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1, file) if mark else Place(1, 1, file)
        raise ScenarioErrors(file, [_problem(place, _syntax_message(error, text, place))]) from error
    except YAMLError as error:
        raise ScenarioErrors(file, [_problem(Place(1, 1, file), f"not YAML: {error}")]) from error
    if node is None:
        raise ScenarioErrors(file, [_problem(Place(1, 1, file), "the file is empty")])
    builder = _Builder(file)
    try:
        tree = builder.tree(node, "", 0)
    except _TooDeepError as error:
        raise ScenarioErrors(file, [_problem(error.place, error.why)]) from error
    return tree, builder.problems


def walk(tree: Tree) -> Iterator[Tree]:
    """The tree itself and everything in it."""
    yield tree
    if isinstance(tree, Listing):
        for item in tree.items:
            yield from walk(item)
    elif isinstance(tree, Table):
        for value in tree.entries.values():
            yield from walk(value)


def _problem(place: Place, message: str, path: str = "") -> ScenarioProblem:
    return ScenarioProblem(place.file, place.line, place.column, path, message)


def _syntax_message(error: MarkedYAMLError, text: str, place: Place) -> str:
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    message = " ".join(str(error.problem or error.context or error).split())
    message = f"not YAML: {message}"
    if line[: place.column - 1].rstrip().endswith("]"):
        message += "; for several values with one unit write them as text, '10, 20, 50 Mbit/s'"
    elif "\t" in line[: place.column]:
        message += "; YAML indents with spaces, not tabs"
    return message


class _TooDeepError(Exception):
    def __init__(self, place: Place, why: str) -> None:
        super().__init__(place, why)
        self.place, self.why = place, why


class _Builder:
    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0
        self.problems: list[ScenarioProblem] = []

    def tree(self, node: Node, path: str, depth: int) -> Tree:
        place = Place(node.start_mark.line + 1, node.start_mark.column + 1, self._file)
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_NODES:
            raise _TooDeepError(place, "nested too deeply or too large once aliases are followed")
        if isinstance(node, SequenceNode):
            return Listing(
                place,
                tuple(self.tree(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value)),
            )
        if isinstance(node, MappingNode):
            return self._table(node, place, path, depth)
        assert isinstance(node, ScalarNode)
        return Scalar(place, self._scalar(node, place, path), str(node.value))

    def _table(self, node: MappingNode, place: Place, path: str, depth: int) -> Table:
        entries: dict[str, Tree] = {}
        key_places: dict[str, Place] = {}
        for key_node, value_node in node.value:
            key_place = Place(key_node.start_mark.line + 1, key_node.start_mark.column + 1, self._file)
            if not isinstance(key_node, ScalarNode):
                self.problems.append(_problem(key_place, "a key is a word", path))
                continue
            key = str(key_node.value)
            value = self.tree(value_node, f"{path}.{key}" if path else key, depth + 1)
            if key in entries:
                first = key_places[key]
                message = f"duplicate key {key!r}; it stands in line {first.line} already"
                self.problems.append(_problem(key_place, message, path))
                continue
            entries[key], key_places[key] = value, key_place
        return Table(place, entries, key_places)

    def _scalar(self, node: ScalarNode, place: Place, path: str) -> Plain:
        text = str(node.value)
        tag = str(node.tag).rpartition(":")[2]
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        try:
            if tag == "int":
                return _integer(text)
            if tag == "float":
                return _float(text)
        except ValueError:
            return text
        if any("\ud800" <= character <= "\udfff" for character in text):
            # JSON writes characters beyond 16 bits as two escapes; YAML, which reads JSON, leaves them apart.
            try:
                return text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                self.problems.append(_problem(place, "half of a surrogate pair is no text", path))
                return "?"
        if tag not in ("str", "timestamp"):
            self.problems.append(_problem(place, f"tag {str(node.tag)!r}; plain YAML only", path))
        return text


def _integer(text: str) -> int:
    return int(text, 0) if text.lstrip("+-")[:2].lower() in ("0x", "0o") else int(text)


def _float(text: str) -> float:
    word = text.lower().lstrip("+-")
    if word in (".inf", ".nan"):
        return -math.inf if text.startswith("-") else math.inf if word == ".inf" else math.nan
    return float(text)
