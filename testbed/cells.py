"""The cells of a sweep: one self-contained scenario for each variant and repeat, in the order to measure them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from testbed.scenario import Scenario, Sweep
from testbed.scenario_schema import SCENARIO
from testbed.schema_record import assign
from testbed.schema_sweep import axis_path


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        index: position in the sweep, from 0, unique.
        variant: which combination of axis values; the same in every repeat.
        repeat: from 0.
        values: axis -> value, in the unit of the dataclasses.
        scenario: the filled-in scenario with the values applied and nothing left to sweep.
    """

    index: int
    variant: int
    repeat: int
    values: Mapping[str, Any]
    scenario: Scenario

    @property
    def label(self) -> str:
        """``uplink.rate 10 Mbit/s, codec sz2``; empty where nothing is swept."""
        return ", ".join(f"{axis} {show_value(axis, value)}" for axis, value in self.values.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain data with units; enough to run the cell on another machine."""
        values = {axis: show_value(axis, value) for axis, value in self.values.items()}
        return {
            "index": self.index,
            "variant": self.variant,
            "repeat": self.repeat,
            "values": values,
            "scenario": self.scenario.to_dict(),
        }


def show_value(axis: str, value: Any) -> str:
    """An axis value as a person writes it."""
    found = axis_path(axis)
    assert found is not None, axis
    return found[1].show(value)


def apply(scenario: Scenario, values: Mapping[str, Any]) -> Scenario:
    """*scenario* with axis values in place. Its fleets exist, which reading it has checked.

    Raises: ValueError, as the classes raise it, where values do not fit together.
    """
    for axis, value in values.items():
        found = axis_path(axis)
        assert found is not None, axis
        path, _ = found
        scenario = assign(SCENARIO, scenario, path, value)
    return scenario


def variants(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Axis values of each variant; the last axis moves fastest, so that codecs at one rate are neighbours in time."""
    names = list(sweep.axes)
    if sweep.combine == "list" and names:
        rows: Iterator[tuple[Any, ...]] = zip(*sweep.axes.values(), strict=True)
    else:
        rows = itertools.product(*sweep.axes.values())
    for row in rows:
        yield dict(zip(names, row, strict=True))


def cells(scenario: Scenario) -> list[Cell]:
    """All variants once, then all again (A B A B), so that a drift of the machine falls on all alike."""
    base = replace(scenario, sweep=Sweep(work=scenario.sweep.work))
    ready = [(values, apply(base, values)) for values in variants(scenario.sweep)]
    return [
        Cell(repeat * len(ready) + number, number, repeat, values, filled)
        for repeat in range(scenario.sweep.repeats)
        for number, (values, filled) in enumerate(ready)
    ]
