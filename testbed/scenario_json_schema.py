"""The JSON Schema of scenario files, for editors: completes keys and names, underlines what is misspelt."""

from __future__ import annotations

import json
from typing import Any

from testbed.scenario_include import INCLUDE
from testbed.scenario_schema import SCENARIO

SCHEMA_FILE = "scenario.schema.json"
_INCLUDED = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
    ],
    "description": "files whose content stands beneath this one's: mappings are merged, fleets by their names",
}


def scenario_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of scenarios and of the parts they include; `testbed show` refuses more than it.

    What a scenario must say, an included file may have said, and a part (which has no name) leaves it to others: only a
    scenario that includes nothing is held to all of it.
    """
    schema = SCENARIO.json_schema()
    properties = {**schema["properties"], INCLUDE: _INCLUDED}
    fleets = properties["fleets"]
    whole_fleet = fleets["items"]["required"]
    fleets = {**fleets, "items": {**fleets["items"], "required": ["name"]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "FedSZ testbed scenario",
        "description": "Which devices, links, training and codecs, and what is varied. See docs/scenarios.md.",
        "type": "object",
        "properties": {**properties, "fleets": fleets},
        "additionalProperties": False,
        "if": {"required": ["name"], "not": {"required": [INCLUDE]}},
        "then": {
            "required": schema["required"],
            "properties": {"fleets": {"items": {"required": whole_fleet}}},
        },
    }


def schema_text() -> str:
    """`scenario_schema` as it is shipped in ``docs``."""
    return json.dumps(scenario_schema(), indent=2, ensure_ascii=False) + "\n"
