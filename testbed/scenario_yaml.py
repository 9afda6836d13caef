"""Scenario text to `Scenario` and back."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML

from testbed.cells import apply, variants
from testbed.errors import ScenarioErrors
from testbed.scenario import Scenario
from testbed.scenario_include import parse_included
from testbed.scenario_schema import SCENARIO
from testbed.schema import At, ReportedError, did_you_mean
from testbed.schema_record import broken_rules
from testbed.schema_sweep import axis_path
from testbed.yaml_position import Table, Tree


def read(text: str, name: str) -> Scenario:
    """Every check there is; raises ScenarioErrors with all that failed, in the order of the files."""
    tree, problems, files = parse_included(text, name)
    at = At(problems)
    scenario: Scenario | None = None
    try:
        scenario = replace(SCENARIO.read(tree, at), source=name)
        _check_sweep(scenario, tree, at)
    except ReportedError:
        pass
    if problems or scenario is None:
        in_order = sorted(problems, key=lambda one: (files.index(one.file), one.line, one.column))
        raise ScenarioErrors(name, in_order)
    return scenario


def _check_sweep(scenario: Scenario, tree: Tree, at: At) -> None:
    """Axes name fleets that exist, and each variant is a scenario as good as one written by hand."""
    sweep = tree.entries.get("sweep") if isinstance(tree, Table) else None
    if not isinstance(sweep, Table):
        return
    at = at.key("sweep")
    _check_fleets(scenario, sweep, at)
    told: set[str] = set()
    for values in variants(scenario.sweep):
        try:
            broken = [f"{path}: {why}" for path, why in broken_rules(SCENARIO, apply(scenario, values))]
        except ValueError as error:
            broken = [str(error)]
        for message in broken:
            if message not in told:
                told.add(message)
                at.refuse(sweep.place, message)


def _check_fleets(scenario: Scenario, sweep: Table, at: At) -> None:
    names = [fleet.name for fleet in scenario.fleets]
    wrong = [
        (axis, path[0][1])
        for axis in scenario.sweep.axes
        if (path := axis_path(axis)) is not None
        and path[0][0] == "fleets"
        and path[0][1] not in ("*", *names)
    ]
    for axis, fleet in wrong:
        hint = did_you_mean(fleet, names) or ";"
        at.refuse(
            sweep.key_places[axis],
            f"axis {axis!r}: there is no fleet {fleet!r}{hint} allowed: {', '.join(names)}",
        )
    if wrong:
        raise ReportedError


def to_yaml(data: dict[str, Any]) -> str:
    """YAML 1.2 of plain data, keys in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()
