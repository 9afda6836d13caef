"""An error bound in a scenario: mode and number together."""

from __future__ import annotations

from typing import Any

from fedsz.bound import MODES, ErrorBound
from testbed.schema import At, Choice, Kind, Number
from testbed.schema_record import Key, Record
from testbed.yaml_position import Scalar, Tree

_RECORD = Record(
    ErrorBound,
    [
        Key(
            "mode",
            Choice(*MODES),
            "REL: of each tensor's range; ABS: in its unit; REL_STATE: of the state's range",
        ),
        Key("value", Number(0, example="1e-2"), "how far a value may move; 0 is lossless"),
    ],
)


class Bound(Kind[ErrorBound]):
    """``{mode: REL, value: 1e-2}``, or ``REL 1e-2`` for lists of several."""

    meaning = "an error bound is {mode: REL, value: 1e-2}, or short 'REL 1e-2'"

    def read(self, tree: Tree, at: At) -> ErrorBound:
        if not isinstance(tree, Scalar):
            value: ErrorBound = _RECORD.read(tree, at)
            return value
        mode, _, number = tree.text.partition(" ")
        try:
            return ErrorBound(next(known for known in MODES if known == mode), float(number))
        except (StopIteration, ValueError) as error:
            raise self._wrong(tree, at) from error

    def write(self, value: ErrorBound) -> dict[str, Any]:
        return _RECORD.write(value)

    def show(self, value: ErrorBound) -> str:
        return f"{value.mode} {value.value:g}"

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, _RECORD.json_schema()]}
