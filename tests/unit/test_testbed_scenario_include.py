"""Parts that scenarios share: what is merged, where mistakes are told, and that nothing of it is needed afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from testbed.cli import main
from testbed.errors import ScenarioErrors
from testbed.record import read_results
from testbed.scenario import load, loads
from testbed.scenario_schema import FLEET, SCENARIO
from testbed.sweep import resume

pytestmark = pytest.mark.usefixtures("kept_workers")

HOME = """\
learning: {model: cnn, data: digits, max_steps: 1, batch_size: 16}
network: {engine: model, server: {uplink: 1 Gbit/s, downlink: 2 Gbit/s}}
fleets:
  - {name: pi, count: 2, device: raspberry-pi-4, uplink: {rate: 10 Mbit/s, delay: 20 ms}, downlink: 50 Mbit/s}
  - {name: phone, count: 3, device: pixel-6, uplink: 20 Mbit/s, downlink: 100 Mbit/s}
sweep: {uplink.rate: "1, 10 Mbit/s", codec: [none, sz2], repeats: 2}
"""
# Whatever keys there are: these tests are about places.
TOP = sorted([*SCENARIO.keys, "include"])
FLEET_KEYS = sorted(FLEET.keys)
DURATION = "a duration is a number and us, ms, s, min or h, for example '20 ms'"
TABS = "found character '\\t' that cannot start any token; YAML indents with spaces, not tabs"
GONE = "cannot be read: No such file or directory"


@pytest.fixture
def write(tmp_path: Path):
    def written(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return written


def errors(path: Path) -> list[str]:
    with pytest.raises(ScenarioErrors) as caught:
        load(path)
    return [str(error).replace("\n    ", " ").replace(f"{path.parent}/", "") for error in caught.value.errors]


def test_what_is_included_stands_beneath_what_the_scenario_says(write):
    folder = write(
        fleets__home=HOME,
        s="name: mine\ninclude: fleets/home.yaml\nnetwork: {server: {downlink: 5 Gbit/s}}\n"
        "fleets:\n  - {name: phone, count: 7}\n"
        "  - {name: laptop, count: 1, device: laptop, uplink: 1 Gbit/s, downlink: 1 Gbit/s}\n"
        "  - {name: pi, uplink: {delay: 5 ms}}\n"
        "sweep: {codec: [none, fedsz-q]}\n",
    )
    scenario = load(folder / "s.yaml")
    assert [(fleet.name, fleet.count) for fleet in scenario.fleets] == [
        ("pi", 2),
        ("phone", 7),
        ("laptop", 1),
    ]
    pi = scenario.fleets[0].uplink
    assert (pi.rate_bps, pi.delay_s) == (10e6, 0.005)
    assert scenario.fleets[1].device == "pixel-6"
    server = scenario.network.server
    assert (server.uplink.rate_bps, server.downlink.rate_bps) == (1e9, 5e9)
    assert scenario.network.engine == "model"
    assert dict(scenario.sweep.axes) == {"uplink.rate": (1e6, 10e6), "codec": ("none", "fedsz-q")}
    assert scenario.sweep.repeats == 2
    assert loads(scenario.to_yaml()) == scenario  # filled in, it needs no other file


def test_of_several_files_the_later_has_the_word_and_files_include_files(write):
    folder = write(
        parts__home=HOME,
        parts__busy="include: home.yaml\nfleets: [{name: pi, count: 40}]\n",
        seeds="seed: 5\nfleets: [{name: pi, count: 50}]\n",
        s="name: x\ninclude: [parts/busy.yaml, seeds.yaml]\n",
    )
    scenario = load(folder / "s.yaml")
    assert (scenario.seed, scenario.fleets[0].count) == (5, 50)
    (folder / "s.yaml").write_text("name: x\ninclude: [seeds.yaml, parts/busy.yaml]\n", encoding="utf-8")
    assert load(folder / "s.yaml").fleets[-1].name == "phone"
    assert load(folder / "s.yaml").fleets[0].count == 40


def test_files_are_looked_for_beside_the_file_that_names_them(write):
    part = HOME.replace("uplink: 20 Mbit/s", "uplink: {trace: walk.csv}")
    folder = write(fleets__home=part, s="name: x\ninclude: fleets/home.yaml\n")
    (folder / "fleets" / "walk.csv").write_text("seconds,Mbit/s\n0,1\n5,2\n", encoding="utf-8")
    trace = load(folder / "s.yaml").fleets[1].uplink.trace
    assert trace is not None
    assert trace.rates_bps == (1e6, 2e6)


def test_mistakes_stand_where_they_were_made_and_all_of_them_are_told(write):
    folder = write(
        home=HOME.replace("count: 2", "cuont: 2").replace("20 ms", "20"),
        s="name: x\ninclude: home.yaml\nsede: 1\nfleets:\n  - {name: phone, count: 0}\n",
    )
    assert errors(folder / "s.yaml") == [
        f"s.yaml:3:1: unknown key 'sede'; did you mean 'seed'? allowed: {', '.join(TOP)}",
        "s.yaml:5:26: fleets[1].count (phone): got '0'; a whole number from 1 to 10000000 is expected",
        "home.yaml:4:5: fleets[0] (pi): missing key 'count': how many clients",
        f"home.yaml:4:16: fleets[0] (pi): unknown key 'cuont'; did you mean 'count'? allowed: {', '.join(FLEET_KEYS)}",
        f"home.yaml:4:83: fleets[0].uplink.delay (pi): got 20; {DURATION}",
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"s": "name: x\ninclude: fleets/hom.yaml\n", "fleets__home": HOME},
            [f"s.yaml:2:10: include: fleets/hom.yaml {GONE}; did you mean 'home.yaml'?"],
        ),
        (
            {"s": "name: x\ninclude: [a.yaml, gone.yaml]\n", "a": "include: b.yaml\n", "b": "include: a.yaml\n"},
            [
                f"s.yaml:2:19: include: gone.yaml {GONE}",
                "b.yaml:1:10: include: goes round in a circle: a.yaml includes b.yaml includes a.yaml",
            ],
        ),
        (
            {"s": "include: s.yaml\nname: x\n"},
            ["s.yaml:1:10: include: goes round in a circle: s.yaml includes s.yaml"],
        ),
        (
            {"s": "name: x\ninclude: a.yaml\n", "a": "- {name: pi}\n"},
            ["a.yaml:1:1: include: got a list; an included file is a mapping with keys of a scenario"],
        ),
        (
            {"s": "name: x\ninclude: a.yaml\n", "a": "fleets:\n\t- 1\n"},
            [f"a.yaml:2:1: not YAML: {TABS}"],
        ),
        (
            {"s": "name: x\ninclude: {file: a.yaml}\n"},
            ["s.yaml:2:10: include: got a mapping; the name of a file is expected, or a list of names"],
        ),
        (
            {"s": "name: x\ninclude: a.yaml\nseed: -1\n", "a": "seed: 1\nseed: 2\nfleets: []\n"},
            [
                "s.yaml:3:7: seed: got '-1'; a whole number from 0 to 9223372036854775807 is expected",
                "a.yaml:2:1: duplicate key 'seed'; it stands in line 1 already",
                "a.yaml:3:9: fleets: got an empty list; a list is expected with at least 1 entry",
            ],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_included(write, files, expected):
    folder = write(**files)
    assert [error.replace(f"{folder}/", "") for error in errors(folder / "s.yaml")] == expected


def test_files_that_include_each_other_often_are_refused_soon(write):
    levels = {f"l{n}": f"include: [l{n + 1}.yaml, l{n + 1}.yaml]\n" for n in range(40)}
    folder = write(**levels, l40="seed: 1\n", s="name: x\ninclude: l0.yaml\n")
    assert "more than 100 includes" in errors(folder / "s.yaml")[0]


def test_a_run_needs_nothing_of_what_was_included(write, tmp_path, capsys):
    folder = write(
        fleets__home=HOME, s="name: x\ninclude: fleets/home.yaml\nsweep: {repeats: 1, work: drawn}\n"
    )
    out = tmp_path / "run"
    assert main(["sweep", str(folder / "s.yaml"), "--out", str(out), "--quiet"]) == 0
    capsys.readouterr()
    results = read_results(out)
    assert "include" not in results.manifest["scenario"]
    assert loads(json.dumps(results.manifest["scenario"])) == load(folder / "s.yaml")
    last = (out / "cells.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (out / "cells.jsonl").write_text("".join(last[:-1]), encoding="utf-8")  # as if it had been killed
    shutil.rmtree(folder / "fleets")
    (folder / "s.yaml").unlink()
    resume(out, mode="quiet")
    assert read_results(out).rows[:-5] == results.rows[:-5]
    assert len(read_results(out).rows) == len(results.rows)


def test_parts_are_listed_as_parts(write, capsys):
    folder = write(fleets__home=HOME, s="name: x\ndescription: Mine.\ninclude: fleets/home.yaml\n")
    assert main(["scenarios", str(folder)]) == 0
    assert capsys.readouterr().out == (
        f"{folder}/s.yaml: Mine.\nparts for scenarios to include: {folder}/fleets/home.yaml\n"
    )
