"""Parts that scenarios share: ``include`` names files whose content stands beneath the file's own.

Mappings are merged key by key and fleets by their names; of anything else the file that includes has the last word, and
of several included files the later one. Paths are relative to the file that they stand in. What comes out is one tree
that knows of every value which file it was written in, and holds no ``include`` any more.
"""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path

from testbed.errors import ScenarioErrors, ScenarioProblem
from testbed.schema import ReportedError, shown
from testbed.yaml_position import Listing, Place, Scalar, Table, Tree, parse

INCLUDE = "include"
# Far above any use; files that include each other twice would be read twice as often with each level.
MAX_READS = 100


def parse_included(text: str, file: str) -> tuple[Tree, list[ScenarioProblem], list[str]]:
    """The tree of a scenario with all that it includes, what is wrong so far, and the files in the order of reading.

    Raises:
        ScenarioErrors: a file is not YAML, or what it includes cannot be read; with everything of that sort.
    """
    reader = _Reader()
    tree = reader.read(text, file, ())
    if reader.fatal:
        raise ScenarioErrors(file, reader.in_order([*reader.fatal, *reader.problems]))
    return tree, reader.problems, reader.files


def is_part(path: Path) -> bool:
    """Whether a file is a part for others to include: a mapping without a name, which every scenario has."""
    try:
        tree, _ = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, ScenarioErrors):
        return False
    return isinstance(tree, Table) and "name" not in tree.entries and INCLUDE not in tree.entries


class _Reader:
    def __init__(self) -> None:
        self.problems: list[ScenarioProblem] = []
        self.fatal: list[ScenarioProblem] = []
        self.files: list[str] = []
        self._read = 0

    def in_order(self, problems: list[ScenarioProblem]) -> list[ScenarioProblem]:
        return sorted(problems, key=lambda one: (self.files.index(one.file), one.line, one.column))

    def read(self, text: str, file: str, above: tuple[Path, ...]) -> Tree:
        """The merged tree of one file; *above* are the files that led here."""
        if file not in self.files:
            self.files.append(file)
        try:
            tree, problems = parse(text, file)
        except ScenarioErrors as errors:
            self.fatal += errors.errors
            return Table(Place(1, 1, file), {}, {})
        self.problems += [problem for problem in problems if problem not in self.problems]
        if not isinstance(tree, Table) or INCLUDE not in tree.entries:
            return tree
        own = _without(tree, INCLUDE)
        here = (*above, Path(file).resolve())
        below: Tree | None = None
        for name in self._names(tree.entries[INCLUDE]):
            with contextlib.suppress(ReportedError):
                part = self._part(name, here)
                below = part if below is None else merged(below, part)
        return own if below is None else merged(below, own)

    def _names(self, tree: Tree) -> list[Scalar]:
        items = tree.items if isinstance(tree, Listing) else (tree,)
        good = [
            item for item in items if isinstance(item, Scalar) and isinstance(item.value, str) and item.text
        ]
        for item in items:
            if item not in good:
                message = f"got {shown(item)}; the name of a file is expected, or a list of names"
                self._refuse(item.place, message)
        return good

    def _part(self, name: Scalar, above: tuple[Path, ...]) -> Table:
        path = Path(name.place.file).parent / name.text
        resolved = path.resolve()
        if resolved in above:
            chain = " includes ".join(file.name for file in (*above[above.index(resolved) :], resolved))
            raise self._refuse(name.place, f"goes round in a circle: {chain}")
        self._read += 1
        if self._read > MAX_READS:
            raise self._refuse(name.place, f"more than {MAX_READS} includes")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise self._refuse(name.place, f"{path} cannot be read: {why}{_nearest(path)}") from error
        tree = self.read(text, str(path), above)
        if not isinstance(tree, Table):
            raise self._refuse(
                tree.place, f"got {shown(tree)}; an included file is a mapping with keys of a scenario"
            )
        return tree

    def _refuse(self, place: Place, message: str) -> ReportedError:
        self.fatal.append(ScenarioProblem(place.file, place.line, place.column, INCLUDE, message))
        return ReportedError()


def _nearest(path: Path) -> str:
    try:
        names = {file.stem: file.name for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml")}
    except OSError:
        return ""
    close = difflib.get_close_matches(path.stem, names, n=1)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def merged(below: Tree, above: Tree) -> Tree:
    """*above* laid over *below*: mappings key by key, lists of named mappings by name, else *above* alone."""
    if isinstance(below, Table) and isinstance(above, Table):
        entries, places = dict(below.entries), dict(below.key_places)
        for key, value in above.entries.items():
            entries[key] = merged(entries[key], value) if key in entries else value
            places[key] = above.key_places[key]
        return Table(above.place, entries, places)
    if isinstance(below, Listing) and isinstance(above, Listing):
        names = [_name(item) for item in (*below.items, *above.items)]
        if None not in names:
            return Listing(above.place, _by_name(below.items, above.items))
    return above


def _by_name(below: tuple[Tree, ...], above: tuple[Tree, ...]) -> tuple[Tree, ...]:
    items = list(below)
    inherited = {_name(item): place for place, item in enumerate(below)}
    for item in above:
        name = _name(item)
        if name in inherited:
            place = inherited.pop(name)  # a name that stands twice in one file stays twice, and is refused
            items[place] = merged(items[place], item)
        else:
            items.append(item)
    return tuple(items)


def _name(tree: Tree) -> str | None:
    name = tree.entries.get("name") if isinstance(tree, Table) else None
    return name.text if isinstance(name, Scalar) and isinstance(name.value, str) else None


def _without(tree: Table, key: str) -> Table:
    entries = {name: value for name, value in tree.entries.items() if name != key}
    return Table(tree.place, entries, {name: tree.key_places[name] for name in entries})
