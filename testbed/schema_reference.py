"""The reference of the scenario language as Markdown, made from the tables that read it."""

from __future__ import annotations

import json
from typing import Any

from testbed.scenario_schema import (
    ACCESS_LINK,
    COMPRESSION,
    DEVICE_OPTIONS,
    FLEET,
    LEARNING,
    LINK,
    NETWORK,
    ROUND_POLICY,
    SCENARIO,
    SWEEP,
)
from testbed.schema_availability import AVAILABILITY
from testbed.schema_record import REQUIRED, Record

SECTIONS: dict[str, Record] = {
    "The scenario": SCENARIO,
    "`learning`": LEARNING,
    "`network`": NETWORK,
    "`network.server`": ACCESS_LINK,
    "`fleets[]`": FLEET,
    "`uplink`, `downlink`": LINK,
    "`availability`": AVAILABILITY,
    "`compression`": COMPRESSION,
    "`rounds_policy`": ROUND_POLICY,
    "`devices`": DEVICE_OPTIONS,
    "`sweep`, besides its axes": SWEEP.fixed,
}


def reference() -> str:
    """A table for each mapping of the language: key, default, meaning."""
    parts = []
    for title, record in SECTIONS.items():
        parts += [f"### {title}", "", "| key | default | meaning |", "| --- | --- | --- |"]
        for key in record.keys.values():
            parts.append(f"| `{key.name}` | {_default(record, key.name)} | {key.doc.replace('|', '/')} |")
        parts.append("")
    return "\n".join(parts)


def _default(record: Record, name: str) -> str:
    default = record.defaults[name]
    kind = record.keys[name].kind
    if default is REQUIRED:
        return "*required*"
    if default is None:
        return "`null`"
    written: Any = kind.write(default)
    if isinstance(written, dict):
        explained = kind is SWEEP or (kind in SECTIONS.values() and kind is not LINK)
        return "see below" if explained else f"`{kind.show(default)}`"
    return f"`{written}`" if isinstance(written, str) and written else f"`{json.dumps(written)}`"
