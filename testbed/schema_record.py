"""A mapping with known keys as one kind of value: reads into a dataclass, refuses what it does not know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.schema import At, Kind, ListOf, ReportedError, did_you_mean
from testbed.yaml_position import Scalar, Table, Tree

REQUIRED: Any = object()
_FROM_CLASS: Any = object()


@dataclass(frozen=True)
class Key:
    """One key of a mapping.

    Attributes:
        name: as written in YAML.
        kind: of its value.
        doc: one sentence for the reference and the JSON Schema.
        attr: attribute of the dataclass, if it is not called *name* (``rate`` is ``rate_bps``).
        default: value when the key is absent; the dataclass's own default unless given.
    """

    name: str
    kind: Kind[Any]
    doc: str
    attr: str = ""
    default: Any = _FROM_CLASS

    @property
    def attribute(self) -> str:
        return self.attr or self.name


class Record(Kind[Any]):
    """A dataclass written as a mapping.

    Args:
        build: the dataclass.
        keys: what the mapping may hold, in the order in which it is written back.
        shorthand: key to which a bare scalar is assigned (a link written as just its rate).
        label: key whose text names this record in messages.
        check: rules that tie several keys together: yields (key, message) for each that is broken.
        beside: keys that were read and taken out before; a misspelling of them is told like any other.
    """

    def __init__(
        self,
        build: Callable[..., Any],
        keys: Sequence[Key],
        *,
        shorthand: str = "",
        label: str = "",
        check: Callable[[Any], Iterable[tuple[str, str]]] | None = None,
        beside: Sequence[str] = (),
    ) -> None:
        self.build = build
        self.keys = {key.name: key for key in keys}
        self._shorthand, self._label, self._check = shorthand, label, check
        self._allowed = sorted((*self.keys, *beside))
        self.meaning = f"a mapping is expected; allowed: {', '.join(self._allowed)}"
        fields = {field.name: field for field in dataclasses.fields(build)}  # type: ignore[arg-type]
        self.defaults = {key.name: self._default(key, fields) for key in keys}

    @staticmethod
    def _default(key: Key, fields: dict[str, dataclasses.Field[Any]]) -> Any:
        if key.default is not _FROM_CLASS:
            return key.default
        field = fields[key.attribute]
        if field.default is not dataclasses.MISSING:
            return field.default
        if field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
        return REQUIRED

    def read(self, tree: Tree, at: At) -> Any:
        if isinstance(tree, Scalar) and self._shorthand and tree.value is not None:
            key_place = {self._shorthand: tree.place}
            tree = Table(tree.place, {self._shorthand: tree}, key_place)
        if not isinstance(tree, Table):
            raise self._wrong(tree, at)
        name = tree.entries.get(self._label)
        if isinstance(name, Scalar) and name.text:
            at = at.named(name.text)
        failed = self._unknown(tree, at)
        values: dict[str, Any] = {}
        for key in self.keys.values():
            if key.name in tree.entries:
                try:
                    values[key.attribute] = key.kind.read(tree.entries[key.name], at.key(key.name))
                except ReportedError:
                    failed = True
            elif self.defaults[key.name] is REQUIRED:
                at.refuse(tree.place, f"missing key {key.name!r}: {key.doc}")
                failed = True
            else:
                values[key.attribute] = self.defaults[key.name]
        if failed:
            raise ReportedError
        return self._built(tree, at, values)

    def broken(self, value: Any) -> list[tuple[str, str]]:
        """(key, message) of each rule that *value* breaks."""
        return list(self._check(value)) if self._check else []

    def _unknown(self, tree: Table, at: At) -> bool:
        unknown = [name for name in tree.entries if name not in self.keys]
        for name in unknown:
            hint = did_you_mean(name, self._allowed) or ";"
            allowed = ", ".join(self._allowed)
            at.refuse(tree.key_places[name], f"unknown key {name!r}{hint} allowed: {allowed}")
        return bool(unknown)

    def _built(self, tree: Table, at: At, values: dict[str, Any]) -> Any:
        try:
            value = self.build(**values)
        except ValueError as error:  # a class of another package that checks itself
            field = getattr(error, "field", "")
            key = next((key.name for key in self.keys.values() if key.attribute == field), "")
            message = str(error).removeprefix(f"{field}: ")
            raise self._refusal(tree, at, key, message) from error
        broken = self.broken(value)
        for key, message in broken:
            self._refusal(tree, at, key, message)
        if broken:
            raise ReportedError
        return value

    def _refusal(self, tree: Table, at: At, key: str, message: str) -> ReportedError:
        place = tree.entries[key].place if key in tree.entries else tree.place
        return (at.key(key) if key else at).refuse(place, message)

    def write(self, value: Any) -> dict[str, Any]:
        return {key.name: key.kind.write(getattr(value, key.attribute)) for key in self.keys.values()}

    def show(self, value: Any) -> str:
        if self._shorthand:
            key = self.keys[self._shorthand]
            rest = {
                name: text
                for name, text in self.write(value).items()
                if name != self._shorthand
                and getattr(value, self.keys[name].attribute) != self.defaults[name]
            }
            head = key.kind.show(getattr(value, key.attribute))
            return " ".join([head, *(f"{name} {text}" for name, text in rest.items())])
        return str(self.write(value))

    def json_schema(self) -> dict[str, Any]:
        properties = {}
        for key in self.keys.values():
            entry = {**key.kind.json_schema(), "description": key.doc}
            default = self.defaults[key.name]
            if default is not REQUIRED:
                entry["default"] = None if default is None else key.kind.write(default)
            properties[key.name] = entry
        schema: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "required": [name for name in self.keys if self.defaults[name] is REQUIRED],
            "additionalProperties": False,
        }
        if self._shorthand:
            return {"anyOf": [properties[self._shorthand], schema]}
        return schema


def broken_rules(kind: Kind[Any], value: Any) -> list[tuple[str, str]]:
    """(path, message) of every rule broken in *value* and everything in it."""
    if isinstance(kind, ListOf):
        return [found for item in value for found in broken_rules(kind.kind, item)]
    if not isinstance(kind, Record):
        return []
    found = kind.broken(value)
    for name, key in kind.keys.items():
        inner = broken_rules(key.kind, getattr(value, key.attribute))
        found += [(f"{name}.{path}", message) for path, message in inner]
    return found


def find(kind: Kind[Any], parts: Sequence[str]) -> Kind[Any] | None:
    """Kind of the value at a path of keys; a list is entered by an element's name or ``*``. None if there is none."""
    if not parts:
        return kind
    if isinstance(kind, Record) and parts[0] in kind.keys:
        return find(kind.keys[parts[0]].kind, parts[1:])
    if isinstance(kind, ListOf):
        return find(kind.kind, parts[1:])
    return None


def assign(kind: Kind[Any], whole: Any, parts: Sequence[str], value: Any) -> Any:
    """*whole* with the value at a path replaced; ``find`` has found the path. ValueError as the classes raise it."""
    if not parts:
        return value
    if isinstance(kind, Record):
        key = kind.keys[parts[0]]
        inner = assign(key.kind, getattr(whole, key.attribute), parts[1:], value)
        return dataclasses.replace(whole, **{key.attribute: inner})
    assert isinstance(kind, ListOf)
    return tuple(
        assign(kind.kind, item, parts[1:], value) if parts[0] in ("*", item.name) else item for item in whole
    )


def paths(kind: Kind[Any], names: Iterable[str] = ("*",)) -> list[str]:
    """Every path that `find` finds, dotted, for suggestions."""
    if isinstance(kind, Record):
        inner = {name: paths(key.kind, names) for name, key in kind.keys.items()}
        return [p for name, rest in inner.items() for p in (name, *(f"{name}.{r}" for r in rest))]
    if isinstance(kind, ListOf) and isinstance(kind.kind, Record):
        rest = paths(kind.kind, names)
        return [f"{name}.{path}" for name in names for path in rest]
    return []
