"""Scenarios: what is read, what defaults are filled in, and what is written back."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from fedsz import ErrorBound
from netem.link import AccessLink, LinkSpec
from testbed import known
from testbed.errors import ScenarioErrors, ScenarioProblem
from testbed.scenario import (
    Compression,
    Dirichlet,
    Fleet,
    Learning,
    NetworkSpec,
    RoundPolicy,
    Scenario,
    load,
    loads,
)
from testbed.scenario_json_schema import scenario_schema

SCENARIOS = Path(__file__).parents[2] / "scenarios"
MINIMAL = """
name: small
fleets:
  - {name: pi, count: 2, device: raspberry-pi-4, uplink: 10 Mbit/s, downlink: 50 Mbit/s}
"""


def errors(text: str) -> list[str]:
    with pytest.raises(ScenarioErrors) as caught:
        loads(text, "f.yaml")
    return [str(error).replace("\n    ", " ") for error in caught.value.errors]


def test_defaults_are_filled_in():
    pi = Fleet("pi", 2, "raspberry-pi-4", LinkSpec(10e6), LinkSpec(50e6))
    assert loads(MINIMAL) == Scenario("small", (pi,))
    assert loads(MINIMAL).learning == Learning()
    assert loads(MINIMAL).network.server == AccessLink(LinkSpec(10e9), LinkSpec(10e9))


def test_every_key_reaches_its_field():
    text = """
name: all
seed: 7
description: everything said
learning: {model: cnn, data: digits, fallback_data: null, data_dir: /data, rounds: 3, local_epochs: 2, max_steps: 5,
  batch_size: 16, samples_per_client: 100, split: {dirichlet: 0.5}, optimizer: adam, lr: 1e-3, momentum: 0,
  prox_mu: 0.1, test_samples: 50, image_size: 32, evaluate: false}
network: {engine: model, server: {uplink: 1 Gbit/s, downlink: {rate: 2 Gbit/s, delay: 1 ms}},
  congestion_control: bbr, dilation: 4, timeout: 2 min}
fleets:
  - {name: pi, count: 11, device: raspberry-pi-4, limits: quota, downlink: 50 Mbit/s,
     uplink: {rate: 10 Mbit/s, delay: 20 ms, jitter: 5 ms, loss: 1 %, reorder: 0.5 %}}
compression: {codec: sz3, bound: {mode: ABS, value: 1e-3}, lossless: zlib, threshold: 10, names: [kernel],
              by_data: true, reference: true}
rounds_policy: {kind: sync, deadline: 90 s, ask: 8, take: 6}
sweep: {uplink.rate: [1 Mbit/s, 2 Mbit/s], repeats: 3, work: drawn, combine: list}
"""
    scenario = loads(text, "all.yaml")
    assert scenario.source == "all.yaml"
    assert scenario.learning == Learning(
        "cnn",
        "digits",
        None,
        "/data",
        3,
        2,
        5,
        16,
        100,
        Dirichlet(0.5),
        "adam",
        1e-3,
        0.0,
        0.0,
        0.1,
        50,
        32,
        False,
    )
    server = AccessLink(LinkSpec(1e9), LinkSpec(2e9, delay_s=1e-3))
    assert scenario.network == NetworkSpec("model", server, "bbr", 4.0, 120.0)
    uplink = LinkSpec(10e6, 0.02, 0.005, 0.01, 0.005)
    assert scenario.fleets == (Fleet("pi", 11, "raspberry-pi-4", uplink, LinkSpec(50e6), "quota"),)
    bound = ErrorBound("ABS", 1e-3)
    assert scenario.compression == Compression("sz3", bound, "zlib", 10, ("kernel",), True, True)
    assert scenario.rounds_policy == RoundPolicy("sync", 90.0, None, 8, 6)
    assert dict(scenario.sweep.axes) == {"uplink.rate": (1e6, 2e6)}
    assert (scenario.sweep.repeats, scenario.sweep.work, scenario.sweep.combine) == (3, "drawn", "list")
    assert loads(scenario.to_yaml()) == scenario


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_scenario_loads_and_round_trips(path):
    scenario = load(path)
    assert loads(scenario.to_yaml()) == scenario
    assert loads(json.dumps(scenario.to_dict())) == scenario  # JSON is YAML
    assert scenario.cells()
    assert scenario.description


def test_the_quick_start_is_what_the_tutorial_says():
    scenario = load(SCENARIOS / "quickstart.yaml")
    assert scenario.sweep.axes["uplink.rate"] == (10e6, 50e6, 100e6, 200e6, 500e6, 1e9, 2e9, 5e9)
    assert scenario.sweep.axes["codec"] == ("none", "sz2", "sz3", "fedsz-q")
    assert scenario.sweep.repeats == 6
    assert len({fleet.device for fleet in scenario.fleets}) >= 2


def test_client_names_sort_as_they_count():
    def fleet(count: int) -> Fleet:
        return Fleet("pi", count, "raspberry-pi-4", LinkSpec(1e6), LinkSpec(1e6))

    assert fleet(1).client_names == ["pi-0"]
    assert fleet(10).client_names[-1] == "pi-9"
    assert fleet(11).client_names[:2] == ["pi-00", "pi-01"]
    assert fleet(11).client_names == sorted(fleet(11).client_names)


def test_topology_and_fleet_of():
    scenario = loads(MINIMAL)
    assert set(scenario.topology().clients) == {"pi-0", "pi-1"}
    assert scenario.topology().clients["pi-1"].uplink == LinkSpec(10e6)
    assert scenario.fleet_of("pi-1").name == "pi"
    for stranger in ("pi-2", "pi-00", "pi", "pi-", "phone-0", "pi-x", "0"):
        with pytest.raises(KeyError):
            scenario.fleet_of(stranger)


def test_with_engine_changes_only_the_engine():
    scenario = loads(MINIMAL)
    assert scenario.with_engine("model").network.engine == "model"
    assert scenario.with_engine("model").with_engine("mininet") == scenario


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (RoundPolicy(), 10),
        (RoundPolicy(ask=4), 4),
        (RoundPolicy(sample=0.25), 3),
        (RoundPolicy(sample=0.01), 1),
        (RoundPolicy(sample=1.0), 10),
    ],
)
def test_how_many_clients_are_asked(policy, asked):
    assert policy.asked(10) == asked


def test_yaml_is_1_2():
    assert loads(MINIMAL + "learning: {lr: 1e-2}").learning.lr == 0.01
    assert loads(MINIMAL + "learning: {batch_size: 0x10}").learning.batch_size == 16
    assert loads(MINIMAL + "learning: {batch_size: 010}").learning.batch_size == 10
    assert errors(MINIMAL + "learning: {evaluate: on}") == [
        "f.yaml:5:22: learning.evaluate: got 'on'; true or false is expected; did you mean 'true'?"
    ]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "f.yaml:1:1: the file is empty"),
        (
            "- a\n",
            "f.yaml:1:1: got a list; a mapping is expected; allowed: compression, description, devices,",
        ),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: not YAML: but found another document"),
        ("a: [1\nb: 2\n", "f.yaml:2:2: not YAML: expected ',' or ']', but got ':'"),
        (
            "\ta: 1\n",
            "f.yaml:1:1: not YAML: found character '\\t' that cannot start any token; YAML indents with",
        ),
        (
            "r: [10, 20] Mbit/s\n",
            "f.yaml:1:13: not YAML: expected <block end>, but found '<scalar>'; for several",
        ),
        ("a: *b\n", "f.yaml:1:4: not YAML: found undefined alias 'b'"),
        ("a: &a [*a]\n", "f.yaml:1:4: nested too deeply or too large once aliases are followed"),
    ],
)
def test_what_is_not_a_scenario_at_all(text, start):
    (error,) = errors(text)
    assert error.startswith(start)


def test_a_file_of_aliases_of_aliases_does_not_fill_the_memory():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "too large once aliases are followed" in errors("\n".join(lines))[0]


@pytest.mark.parametrize(
    ("extra", "start"),
    [
        ("seed: -1", "5:7: seed: got '-1'; a whole number from 0 to 9223372036854775807 is expected"),
        ("seed: true", "5:7: seed: got 'true'; a whole number from 0 to 9223372036854775807 is expected"),
        ("learning: {lr: .nan}", "5:16: learning.lr: got '.nan'; a number above 0 is expected"),
        ("learning: {lr: .inf}", "5:16: learning.lr: got '.inf'; a number above 0 is expected"),
        (
            "learning: {split: non}",
            "5:19: learning.split: got 'non'; a mapping is expected; allowed: dirichlet, or i",
        ),
        (
            "learning:",
            "5:10: learning: got nothing; a mapping is expected; allowed: batch_size, checkpoint, data, data_dir,",
        ),
        (
            "learning: {model: mobilenetv2}",
            "5:19: learning.model: unknown model 'mobilenetv2'; did you mean 'mob",
        ),
        (
            "learning: {data: fashion}",
            "5:18: learning.data: unknown data set 'fashion'; did you mean 'fashion-mnist'?",
        ),
        (
            "network: {dilation: much}",
            "5:21: network.dilation: got 'much'; a number above 0 up to 1000000 is exp",
        ),
        ("network: {timeout: 0 s}", "5:20: network.timeout: got '0 s'; a duration here is above 0 us"),
        (
            "compression: {bound: REL -1}",
            "5:22: compression.bound: got 'REL -1'; an error bound is {mode: REL, val",
        ),
        (
            "compression: {bound: {mode: rel, value: 1}}",
            "5:29: compression.bound.mode: got 'rel'; did you mean 'REL'?",
        ),
        ("compression: {codec: sz9}", "5:22: compression.codec: unknown codec 'sz9'; did you mean "),
        ("compression: {codec: 3}", "5:22: compression.codec: got '3'; the name of a codec is expected"),
        ("rounds_policy: {ask: 3}", "5:16: rounds_policy: asks 3 clients but the fleets have 2"),
        (
            "rounds_policy: {take: 2, sample: 50 %}",
            "5:16: rounds_policy: takes 2 arrivals but asks only 1 clients",
        ),
        ("name: again", "5:1: duplicate key 'name'; it stands in line 2 already"),
        ("? [a, b]\n: 1", "5:3: a key is a word"),
        (
            "description: !!python/name:os.system x",
            "5:14: description: tag 'tag:yaml.org,2002:python/name:os.system'; plain YAML",
        ),
    ],
)
def test_mistakes_and_their_places(extra, start):
    (error,) = errors(MINIMAL + extra)
    assert error.startswith(f"f.yaml:{start}")


def test_fleet_names_are_unique():
    text = MINIMAL + "  - {name: pi, count: 1, device: laptop, uplink: 1 Mbit/s, downlink: 1 Mbit/s}\n"
    assert errors(text) == ["f.yaml:4:3: fleets: 2 fleets are called 'pi'; names are unique"]


def test_a_missing_library_is_a_line_not_a_crash(monkeypatch):
    def gone(name: str) -> None:
        raise ImportError("No module named 'fedsz'")

    monkeypatch.setattr(known, "_codecs", gone)
    assert errors(MINIMAL + "compression: {codec: sz2}") == [
        "f.yaml:5:22: compression.codec: codec 'sz2' cannot be checked: No module named 'fedsz'"
    ]


def test_a_codec_that_is_known_but_not_here(monkeypatch):
    monkeypatch.setattr(known, "_codecs", lambda kinds: {"sz3": "pysz cannot be imported; pip install pysz"})
    assert errors(MINIMAL + "compression: {codec: sz3}") == [
        "f.yaml:5:22: compression.codec: codec 'sz3' cannot be used here: pysz cannot be imported; pip install pysz"
    ]


def test_traces_are_read_from_beside_the_scenario_and_saved_with_it(tmp_path):
    (tmp_path / "walk.csv").write_text("seconds,Mbit/s\n0,5\n1,10\n2,0\n")
    path = tmp_path / "s.yaml"
    path.write_text(MINIMAL.replace("uplink: 10 Mbit/s", "uplink: {trace: walk.csv, delay: 5 ms}"))
    scenario = load(path)
    trace = scenario.fleets[0].uplink.trace
    assert trace is not None
    assert trace.rates_bps == (5e6, 10e6, 0.0)
    assert scenario.fleets[0].uplink.rate_bps == pytest.approx(trace.mean_bps)
    (tmp_path / "walk.csv").unlink()
    assert loads(scenario.to_yaml()) == scenario


def test_a_trace_that_cannot_be_read(tmp_path):
    path = str(tmp_path / "s.yaml")
    with pytest.raises(ScenarioErrors) as caught:
        loads(MINIMAL.replace("uplink: 10 Mbit/s", "uplink: {trace: {file: no.csv, ends: hold}}"), path)
    assert [error.message for error in caught.value.errors] == [
        "unknown key 'ends'; did you mean 'end'? allowed: direction, end, file, format"
    ]
    with pytest.raises(ScenarioErrors) as caught:
        loads(MINIMAL.replace("uplink: 10 Mbit/s", "uplink: {trace: no.csv}"), path)
    assert [error.message for error in caught.value.errors] == [
        f"{tmp_path}/no.csv: No such file or directory"
    ]


def test_a_link_says_its_rate():
    assert errors(MINIMAL.replace("uplink: 10 Mbit/s", "uplink: {delay: 5 ms}")) == [
        "f.yaml:4:58: fleets[0].uplink (pi): missing key 'rate', for example rate: 10 Mbit/s"
    ]


def test_errors_can_be_rebuilt_from_their_arguments():
    problem = ScenarioProblem("f.yaml", 1, 2, "a.b", "wrong", "pi")
    error = ScenarioErrors("f.yaml", [problem])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(error) == "f.yaml:1:2: a.b (pi): wrong\n1 error in f.yaml; nothing was started"


def test_the_json_schema_describes_what_is_read():
    schema = scenario_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["properties"]) == {"include", *loads(MINIMAL).to_dict()}
    assert schema["then"]["required"] == ["name", "fleets"]
    assert schema["properties"]["learning"]["properties"]["batch_size"]["default"] == 64
    assert "sz2" in schema["properties"]["compression"]["properties"]["codec"]["enum"]
