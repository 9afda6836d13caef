"""Any scenario written out reads back equal, and no text whatever gives anything but a scenario or its errors."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from devices import profile
from fedsz import ErrorBound
from netem.link import LinkSpec
from testbed.errors import ScenarioErrors
from testbed.scenario import (
    Compression,
    DeviceOptions,
    Dirichlet,
    Fleet,
    Learning,
    NetworkSpec,
    RoundPolicy,
    Scenario,
    Sweep,
    loads,
)
from testbed.yaml_position import Scalar, parse, walk

QUICKSTART = (Path(__file__).parents[2] / "scenarios" / "quickstart.yaml").read_text(encoding="utf-8")

REPLACEMENTS = [
    "-1",
    "[]",
    "{}",
    "null",
    "1e999",
    "'a b'",
    ".nan",
    "0x7f",
    "1 Tbit/s",
    "[1, {a: b}]",
    '"\\ud800"',
]

# A profile of one's own, as a calibration writes it.
CALIBRATED = replace(
    profile("raspberry-pi-5"), name="mine", single_train_factor=2.5, idle_w=None, busy_w=None
)

rates = st.floats(8.0, 1e12)
chances = st.floats(0.0, 0.99)


@st.composite
def links(draw: st.DrawFn) -> LinkSpec:
    delay = draw(st.floats(0.0, 60.0))
    jitter = draw(st.floats(0.0, 1.0)) * delay
    return LinkSpec(draw(rates), delay, jitter, draw(chances), draw(chances) if delay else 0.0)


learning = st.builds(
    Learning,
    model=st.sampled_from(["cnn", "mobilenet_v2"]),
    fallback_data=st.sampled_from([None, "digits"]),
    data_dir=st.none() | st.text(string.printable, min_size=1),
    rounds=st.integers(1, 10**6),
    max_steps=st.none() | st.integers(1, 1000),
    split=st.just("iid") | st.builds(Dirichlet, st.floats(1e-3, 1e3)),
    optimizer=st.sampled_from(["sgd", "adam"]),
    lr=st.floats(1e-12, 1e3),
    momentum=st.floats(0.0, 1.0),
    evaluate=st.booleans(),
)
scenarios = st.builds(
    Scenario,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    fleets=st.lists(
        st.builds(
            Fleet,
            name=st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True),
            count=st.integers(5, 10_000),
            device=st.sampled_from(["raspberry-pi-4", "pixel-6", "laptop"]) | st.just(CALIBRATED),
            uplink=links(),
            downlink=links(),
            limits=st.sampled_from(["scale", "quota"]),
            memory_bytes=st.none() | st.integers(4 << 20, 1 << 40),
            radio=st.sampled_from(["none", "wifi"]),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda fleet: fleet.name,
    ).map(tuple),
    seed=st.integers(0, 2**63 - 1),
    description=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    learning=learning,
    network=st.builds(
        NetworkSpec,
        engine=st.sampled_from(["mininet", "model"]),
        dilation=st.just("auto") | st.floats(1e-3, 1e6),
        timeout_s=st.floats(1e-3, 1e5),
    ),
    compression=st.builds(
        Compression,
        codec=st.sampled_from(["none", "sz2", "sz3"]),
        bound=st.builds(ErrorBound, st.sampled_from(["REL", "ABS", "REL_STATE"]), st.floats(0.0, 1e6)),
        reference=st.booleans(),
    ),
    devices=st.builds(DeviceOptions, host=st.none() | st.just(CALIBRATED), doubt=st.booleans()),
    rounds_policy=st.builds(
        RoundPolicy, deadline_s=st.none() | st.floats(0.1, 1e4), ask=st.none() | st.integers(1, 5)
    ),
    sweep=st.builds(
        Sweep,
        axes=st.fixed_dictionaries(
            {}, optional={"uplink.rate": st.lists(rates, min_size=1, max_size=4, unique=True).map(tuple)}
        ),
        repeats=st.integers(1, 5),
        work=st.sampled_from(["measured", "drawn"]),
    ),
)


@settings(max_examples=60, deadline=None)
@given(scenarios)
def test_written_and_read_back_it_is_the_same(scenario):
    assert loads(scenario.to_yaml()) == scenario
    assert loads(json.dumps(scenario.to_dict())) == scenario


def errors_of(text: str) -> ScenarioErrors | None:
    """What is wrong with a scenario; None if nothing. Any other exception is a defect and comes through."""
    try:
        loads(text, "f.yaml")
    except ScenarioErrors as errors:
        return errors
    return None


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_a_scenario_or_its_errors(text):
    errors = errors_of(text)
    assert errors is not None  # no random text has fleets
    assert errors.errors
    assert str(errors).endswith("in f.yaml; nothing was started")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_spoilt_scenario_never_crashes_the_reader(data):
    """Every value of the quick start in turn replaced by something else."""
    tree, _ = parse(QUICKSTART, "q.yaml")
    scalars = [node for node in walk(tree) if isinstance(node, Scalar) and "\n" not in node.text]
    victim = data.draw(st.sampled_from(scalars))
    lines = QUICKSTART.splitlines()
    line = lines[victim.place.line - 1]
    rest = line[victim.place.column - 1 :]
    if not rest.startswith(victim.text):
        return  # a quoted or folded value
    new = data.draw(st.sampled_from(REPLACEMENTS))
    lines[victim.place.line - 1] = line[: victim.place.column - 1] + new + rest[len(victim.text) :]
    errors = errors_of("\n".join(lines))
    if errors is not None:
        assert {error.line for error in errors.errors} <= set(range(1, len(lines) + 1))
