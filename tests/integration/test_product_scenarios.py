"""Every scenario that ships is run, with as little of everything as leaves it the same experiment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.record import read_results
from testbed.scenario import Scenario, load, loads
from testbed.scenario_include import is_part
from testbed.sweep import start

pytestmark = pytest.mark.usefixtures("kept_workers")

FOLDER = Path(__file__).resolve().parents[2] / "scenarios"
SHIPPED = [
    path
    for path in sorted(FOLDER.rglob("*.yaml"))
    # `scenarios/paper` holds experiments of several scenarios; they have tests of their own.
    if not is_part(path) and path.parent.name != "paper"
]


def small(scenario: Scenario) -> Scenario:
    """Two values of each axis, one round, the smallest network on the smallest data, modelled links, no kernel limits.

    Fleets, links, traces, policies and codecs, which make a scenario what it is, stay.
    """
    axes = {axis: values[:: max(1, len(values) - 1)][:2] for axis, values in scenario.sweep.axes.items()}
    learning = replace(
        scenario.learning,
        model="cnn",
        data="digits",
        rounds=2 if scenario.rounds_policy.kind == "async" else 1,
        max_steps=1,
        batch_size=8,
        samples_per_client=16,
        test_samples=20,
        image_size=None,
    )
    fleets = tuple(replace(fleet, limits="scale", memory_bytes=None) for fleet in scenario.fleets)
    sweep = replace(scenario.sweep, axes=axes, repeats=1, work="drawn")
    return replace(scenario, learning=learning, fleets=fleets, sweep=sweep).with_engine("model")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_scenario_that_ships_runs(path: Path, tmp_path: Path) -> None:
    scenario = small(load(path))
    start(scenario, tmp_path / "run", mode="quiet")
    results = read_results(tmp_path / "run")
    assert len(results.cells) == len(scenario.cells()) >= 2
    assert {row.fleet for row in results.rows} == {fleet.name for fleet in scenario.fleets}
    assert any(row.status == "ok" and row.payload_bytes for row in results.rows)
    assert loads(json.dumps(results.manifest["scenario"])) == scenario  # whole, whatever was included
