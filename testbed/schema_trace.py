"""A link whose rate changes over time, in a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from netem.link import LinkSpec
from netem.trace import Trace, TraceError, TraceFormat, read_trace
from testbed.schema import At, Choice, Kind, ListOf, Number, Or, ReportedError, Text, did_you_mean
from testbed.schema_record import REQUIRED, Key, Record
from testbed.yaml_position import Scalar, Table, Tree

_INLINE = Record(
    Trace,
    [
        Key("times_s", ListOf(Number(0), shortest=1), "when each rate begins, from 0"),
        Key("rates_bps", ListOf(Number(0, 1e12), shortest=1), "bits per second; 0 is an outage"),
        Key("end", Choice("repeat", "hold"), "what follows the last point"),
        Key("length_s", Number(0), "when the last rate ends"),
    ],
)
_FILE_KEYS: dict[str, Kind[Any]] = {
    "file": Text(r".+", "the name of a file is expected"),
    "format": Or(None, Choice(*get_args(TraceFormat))),
    "direction": Choice("downlink", "uplink"),
    "end": Choice("repeat", "hold"),
}


class TraceKind(Kind[Trace]):
    """A file beside the scenario (``traces/walk.csv`` or ``{file: ..., end: hold}``), or the points themselves.

    It is written back as points, so that the saved scenario needs no file.
    """

    meaning = "a trace is the name of a file, {file: NAME, format, direction, end}, or {times_s, rates_bps}"

    def read(self, tree: Tree, at: At) -> Trace:
        if isinstance(tree, Scalar) and isinstance(tree.value, str):
            tree = Table(tree.place, {"file": tree}, {"file": tree.place})
        if not isinstance(tree, Table):
            raise self._wrong(tree, at)
        if "file" not in tree.entries:
            trace: Trace = _INLINE.read(tree, at)
            return trace
        for name in tree.entries.keys() - _FILE_KEYS.keys():
            hint = did_you_mean(name, _FILE_KEYS) or ";"
            allowed = ", ".join(sorted(_FILE_KEYS))
            at.refuse(tree.key_places[name], f"unknown key {name!r}{hint} allowed: {allowed}")
        given = {
            name: kind.read(tree.entries[name], at.key(name))
            for name, kind in _FILE_KEYS.items()
            if name in tree.entries
        }
        if tree.entries.keys() - _FILE_KEYS.keys():
            raise ReportedError
        path = Path(tree.entries["file"].place.file).parent / given.pop("file")
        try:
            return read_trace(path, **given)
        except TraceError as error:
            raise at.refuse(tree.entries["file"].place, str(error)) from error

    def write(self, value: Trace) -> dict[str, Any]:
        return _INLINE.write(value)

    def show(self, value: Trace) -> str:
        return f"trace of {len(value.times_s)} points, mean {value.mean_bps / 1e6:.3g} Mbit/s"

    def json_schema(self) -> dict[str, Any]:
        file = {
            "type": "object",
            "properties": {name: kind.json_schema() for name, kind in _FILE_KEYS.items()},
            "required": ["file"],
            "additionalProperties": False,
        }
        return {"anyOf": [{"type": "string"}, file, _INLINE.json_schema()]}


class LinkKind(Record):
    """A `LinkSpec`; the rate of a link with a trace need not be said and is then the trace's mean."""

    def _built(self, tree: Table, at: At, values: dict[str, Any]) -> LinkSpec:
        if values["rate_bps"] is None and values["trace"] is not None:
            values["rate_bps"] = values["trace"].mean_bps
        if values["rate_bps"] is None:
            raise at.refuse(tree.place, "missing key 'rate', for example rate: 10 Mbit/s")
        link: LinkSpec = super()._built(tree, at, values)
        return link

    def json_schema(self) -> dict[str, Any]:
        schema = super().json_schema()
        assert self.defaults["rate"] is not REQUIRED
        schema["anyOf"][1]["properties"]["rate"].pop("default")
        return schema
