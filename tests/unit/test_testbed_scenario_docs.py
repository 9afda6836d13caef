"""The documentation of scenarios and results says what the program does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from testbed.row import row_from_dict
from testbed.scenario import loads
from testbed.schema_reference import reference

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_example_is_a_scenario():
    example, *_ = blocks("scenarios.md", "yaml")
    scenario = loads(example, "scenarios.md")
    assert len(scenario.client_names) == 10
    assert len(scenario.cells()) == 7 * 3 * 6


def test_the_other_examples_are_parts_of_scenarios():
    _, *others = blocks("scenarios.md", "yaml")
    parts = [part for part in others if "include:" not in part]
    assert len(parts) >= 2
    fleets = "fleets: [{name: a, count: 20, device: pixel-6, uplink: 1 Mbit/s, downlink: 1 Mbit/s}]\n"
    for part in parts:
        loads("name: a\nnetwork: {engine: model}\n" + ("" if "fleets:" in part else fleets) + part)


def test_the_axes_of_the_table_are_axes():
    text = (DOCS / "scenarios.md").read_text(encoding="utf-8")
    axes = re.findall(r"^\| `([\w.]+: .*?)` \|", text, re.MULTILINE)
    assert len(axes) == 7
    example, *_ = blocks("scenarios.md", "yaml")
    base = example[: example.index("sweep:")]
    for axis in axes:
        assert len(loads(f"{base}sweep:\n  {axis}\n").cells()) >= 2


def test_the_example_of_sharing_shares():
    *_, example = blocks("scenarios.md", "yaml")
    scenario = loads(example, str(DOCS.parent / "scenarios" / "mine.yaml"))
    assert [(fleet.name, fleet.count) for fleet in scenario.fleets] == [("laptop", 4), ("slow", 6)]
    assert scenario.network.server.uplink.rate_bps == 1e9


def test_the_reference_is_current():
    """If not: put the output of `reference()` between the two comments."""
    text = (DOCS / "scenarios.md").read_text(encoding="utf-8")
    between = text[text.index("a test compares -->\n") + 20 : text.index("<!-- end of reference -->")]
    assert between == reference() + "\n"


def test_the_example_row_is_a_row():
    (example,) = blocks("results.md", "json")
    data = json.loads(example)
    data.pop("compression_ratio")  # rounded for the page
    assert row_from_dict(data, "results.md").client == "pi-0"
