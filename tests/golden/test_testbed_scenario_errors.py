"""A bad scenario gives exactly this text: every mistake, its place, what came and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import ScenarioErrors
from testbed.scenario import loads

HERE = Path(__file__).parent


def test_every_mistake_is_told_at_once():
    text = (HERE / "bad-scenario.yaml").read_text(encoding="utf-8")
    with pytest.raises(ScenarioErrors) as caught:
        loads(text, "scenarios/edge-25.yaml")
    assert str(caught.value) + "\n" == (HERE / "bad-scenario.txt").read_text(encoding="utf-8")
