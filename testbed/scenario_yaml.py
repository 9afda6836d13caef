"""Scenario text to `Scenario` and back."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML

from testbed.cells import apply, variants
from testbed.errors import ScenarioErrors
from testbed.scenario import Scenario
from testbed.scenario_schema import SCENARIO
from testbed.schema import At, ReportedError
from testbed.schema_record import broken_rules
from testbed.yaml_position import Place, Table, Tree, parse


def read(text: str, name: str) -> Scenario:
    """Every check there is; raises ScenarioErrors with all that failed, in the order of the file."""
    tree, problems = parse(text, name)
    at = At(name, problems)
    scenario: Scenario | None = None
    try:
        scenario = replace(SCENARIO.read(tree, at), source=name)
        _check_cells(scenario, tree, at)
    except ReportedError:
        pass
    if problems or scenario is None:
        raise ScenarioErrors(name, sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return scenario


def _check_cells(scenario: Scenario, tree: Tree, at: At) -> None:
    """Each variant must be a scenario as good as one written by hand."""
    place = (
        tree.entries["sweep"].place if isinstance(tree, Table) and "sweep" in tree.entries else Place(1, 1)
    )
    told: set[str] = set()
    for values in variants(scenario.sweep):
        try:
            broken = [f"{path}: {why}" for path, why in broken_rules(SCENARIO, apply(scenario, values))]
        except ValueError as error:
            broken = [str(error)]
        for message in broken:
            if message not in told:
                told.add(message)
                at.key("sweep").refuse(place, message)


def to_yaml(data: dict[str, Any]) -> str:
    """YAML 1.2 of plain data, keys in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()
