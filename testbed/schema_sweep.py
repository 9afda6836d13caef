"""The sweep of a scenario: reserved keys, and every other key an axis over some field of the scenario."""

from __future__ import annotations

import re
from typing import Any

from testbed.scenario import Sweep
from testbed.schema import At, Choice, Integer, Kind, ReportedError, did_you_mean, shown
from testbed.schema_record import Key, Record, find, paths
from testbed.yaml_position import Listing, Place, Scalar, Table, Tree

# Whose keys may be named without saying whose they are: "uplink.rate", "codec", "lr".
_SECTIONS = (("fleets", "*"), ("compression",), ("learning",), ("network",), ("rounds_policy",))
# A sweep over these would be a sweep over sweeps, or over what holds the results together.
_NOT_SWEPT = ("name", "description", "sweep", "fleets", "devices")

FIXED = Record(
    Sweep,
    [
        Key("repeats", Integer(1, 10_000), "how often each variant is measured"),
        Key("work", Choice("measured", "drawn"), "measured for every client, or drawn from one measurement"),
        Key("combine", Choice("grid", "list"), "every combination of the axes, or walk them side by side"),
    ],
)


def axis_path(axis: str) -> tuple[tuple[str, ...], Kind[Any]] | None:
    """Full path of keys and kind of value that an axis varies; None if there is no such field."""
    from testbed.scenario_schema import SCENARIO  # which holds a SweepKind

    parts = tuple(axis.split("."))
    if parts[0] in _NOT_SWEPT and len(parts) < 3:
        return None
    for section in ((), *_SECTIONS):
        kind = find(SCENARIO, (*section, *parts))
        if kind is not None:
            return (*section, *parts), kind
    return None


def axis_names() -> list[str]:
    """Short names of everything that can be an axis, for suggestions."""
    from testbed.scenario_schema import SCENARIO

    names = ["seed"]
    for section in _SECTIONS:
        kind = find(SCENARIO, section)
        assert kind is not None
        names += paths(kind)
    return names


class SweepKind(Kind[Sweep]):
    fixed = FIXED
    meaning = "a mapping is expected: axes with their values, and repeats, work, combine"

    def read(self, tree: Tree, at: At) -> Sweep:
        if not isinstance(tree, Table):
            raise self._wrong(tree, at)
        fixed_keys = {name: value for name, value in tree.entries.items() if name in FIXED.keys}
        fixed: Sweep | None = None
        axes: dict[str, tuple[Any, ...]] = {}
        failed = False
        try:
            fixed = FIXED.read(Table(tree.place, fixed_keys, tree.key_places), at)
        except ReportedError:
            failed = True
        for name, value in tree.entries.items():
            if name in fixed_keys:
                continue
            try:
                twice = fixed is not None and fixed.combine == "list"
                axes[name] = self._axis(name, tree.key_places[name], value, at, twice=twice)
            except ReportedError:
                failed = True
        if failed or fixed is None:
            raise ReportedError
        lengths = {name: len(values) for name, values in axes.items()}
        if fixed.combine == "list" and len(set(lengths.values())) > 1:
            text = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise at.refuse(tree.place, f"axes that are walked side by side have equally many values; {text}")
        if fixed.combine == "list" and axes:
            rows = [repr(row) for row in zip(*axes.values(), strict=True)]
            again = next((number for number, row in enumerate(rows) if row in rows[:number]), None)
            if again is not None:
                message = f"variant {again} is the same as variant {rows.index(rows[again])}; 'repeats' measures again"
                raise at.refuse(tree.place, message)
        return Sweep(axes, fixed.repeats, fixed.work, fixed.combine)

    def _axis(self, name: str, place: Place, tree: Tree, at: At, *, twice: bool) -> tuple[Any, ...]:
        """The values of one axis; *twice*: one may come again, as another axis differs there."""
        found = axis_path(name)
        if found is None:
            hint = did_you_mean(name, [*axis_names(), *FIXED.keys])
            message = f"unknown axis {name!r}{hint or ';'} an axis is a field of the scenario, for example uplink.rate"
            raise at.refuse(place, message)
        kind = found[1]
        values, seen, failed = [], set(), False
        for index, item in enumerate(_items(tree)):
            try:
                value = kind.read(item, at.key(name).item(index))
            except ReportedError:
                failed = True
                continue
            if repr(value) in seen and not twice:
                at.key(name).item(index).refuse(item.place, f"{shown(item)} stands in this axis already")
                failed = True
            seen.add(repr(value))
            values.append(value)
        if failed:
            raise ReportedError
        if not values:
            raise at.key(name).refuse(tree.place, "an axis has at least one value")
        return tuple(values)

    def write(self, value: Sweep) -> dict[str, Any]:
        axes = {}
        for name, values in value.axes.items():
            found = axis_path(name)
            assert found is not None, name
            axes[name] = [found[1].write(item) for item in values]
        return {**axes, **FIXED.write(value)}

    def json_schema(self) -> dict[str, Any]:
        schema = FIXED.json_schema()
        axis = {
            "anyOf": [{"type": "array", "minItems": 1}, {"type": ["string", "number", "boolean", "null"]}]
        }
        schema["properties"].update(dict.fromkeys(axis_names(), axis))
        schema["patternProperties"] = {r"^(fleets|learning|compression|network|rounds_policy)\.": axis}
        return schema


def _items(tree: Tree) -> list[Tree]:
    """The values of an axis: a list, one value, or ``10, 20, 50 Mbit/s`` with the unit said once."""
    if isinstance(tree, Listing):
        return list(tree.items)
    if isinstance(tree, Scalar) and isinstance(tree.value, str) and "," in tree.text:
        words = [word.strip() for word in tree.text.split(",")]
        last = re.fullmatch(r"(\S+)\s+(\S+)", words[-1])
        unit = last[2] if last else ""
        bare = [re.fullmatch(r"[0-9.eE+-]+", word) is not None for word in words]
        return [
            _scalar(tree.place, f"{word} {unit}" if is_bare and unit else word)
            for word, is_bare in zip(words, bare, strict=True)
        ]
    return [tree]


def _scalar(place: Place, text: str) -> Scalar:
    for number in (int, float):
        try:
            return Scalar(place, number(text), text)
        except ValueError:
            continue
    return Scalar(place, text, text)
