"""The scenario language for editors, a first scenario, and the shell's completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from testbed.cli import main
from testbed.init import TEMPLATE
from testbed.scenario import load, loads
from testbed.scenario_include import is_part
from testbed.scenario_json_schema import schema_text

ROOT = Path(__file__).resolve().parents[2]
# The paper's experiments hold scenarios, among others; tests/unit/test_testbed_paper.py reads them.
SHIPPED = sorted(path for path in (ROOT / "scenarios").rglob("*.yaml") if path.parent.name != "paper")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads((ROOT / "docs" / "scenario.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_the_shipped_schema_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """If not: `testbed schema > docs/scenario.schema.json`."""
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()
    assert (ROOT / "docs" / "scenario.schema.json").read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_scenario_is_valid_filled_in_too_and_names_the_schema(
    path: Path, validator: Any
) -> None:
    text = path.read_text(encoding="utf-8")
    validator.validate(plain(text))
    if not is_part(path):
        validator.validate(load(path).to_dict())
    hint, name = text.splitlines()[0].split("$schema=")
    assert hint == "# yaml-language-server: "
    assert (path.parent / name).resolve() == ROOT / "docs" / "scenario.schema.json"


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ("nmae: x\n", []),
        ("learning: {rounds: 0}\n", ["learning", "rounds"]),
        ("compression: {codec: sz9}\n", ["compression", "codec"]),
        ("network: {engine: wifi}\n", ["network", "engine"]),
        ("sweep: {work: guessed}\n", ["sweep", "work"]),
        ("include: {file: x.yaml}\n", ["include"]),
        ("fleets: [{name: pi, count: 2}]\n", ["fleets", 0]),
    ],
)
def test_an_editor_underlines_what_the_testbed_refuses(wrong: str, where: list[str], validator: Any) -> None:
    fleet = "{name: pi, count: 1, device: raspberry-pi-4, uplink: 1 Mbit/s, downlink: 1 Mbit/s}"
    good = plain(f"name: x\nfleets: [{fleet}]\n")
    validator.validate(good)
    errors = list(validator.iter_errors({**good, **plain(wrong)}))
    assert {tuple(error.absolute_path) for error in errors} == {tuple(where)}


def test_what_a_scenario_includes_may_say_the_rest(validator: Any) -> None:
    validator.validate(plain("name: x\ninclude: home.yaml\nfleets: [{name: pi, count: 2}]\n"))
    validator.validate(plain("fleets: [{name: pi, count: 2}]\n"))  # a part
    assert not validator.is_valid(plain("name: x\n"))
    assert not validator.is_valid(plain("name: x\ninclude: home.yaml\nfleet: []\n"))


def test_the_first_scenario_is_one_and_is_never_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], validator: Any
) -> None:
    path = tmp_path / "new" / "mine.yaml"
    assert main(["init", str(path)]) == 0
    assert f"testbed show {path}" in capsys.readouterr().out
    assert main(["show", str(path)]) == 0
    assert "congestion_control: cubic" in capsys.readouterr().out
    validator.validate(plain(TEMPLATE))
    assert len(load(path).cells()) == 4 * 3 * 2
    path.write_text("name: kept\n", encoding="utf-8")
    assert main(["init", str(path)]) == 2
    assert "mine.yaml exists already and is not overwritten; choose another name" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "name: kept\n"


def test_the_first_scenario_works_without_root() -> None:
    assert loads(TEMPLATE.replace("engine: mininet", "engine: model")).network.engine == "model"


# What bash does at a press of Tab: the function that the script has named, with the words so far.
TAB = """
name=$(complete -p testbed | sed 's/.*-F \\([^ ]*\\).*/\\1/')
try() {
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
  $name testbed "${@: -1}" "${@: -2:1}"
  echo "${COMPREPLY[*]}"
}
try testbed re
try testbed sweep --dr
try testbed sweep --engine mi
try testbed sweep scenarios/quick
try testbed report scenarios/fl
"""


def test_bash_completes_commands_options_choices_and_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    done = subprocess.run(
        ["bash", "--norc"], input=capsys.readouterr().out + TAB, text=True, capture_output=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "report",
        "--dry-run",
        "mininet",
        "scenarios/quickstart.yaml",
        "scenarios/fleets",
    ]


def test_the_completion_for_zsh_names_files_and_can_be_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    """Tried by hand in zsh 5.9: ``eval`` after ``compinit``, and as ``_testbed`` in a folder of ``fpath``."""
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef testbed")
    assert "compdef _shtab_testbed -N testbed" in script
    assert '":YAML file:_files"' in script


def test_commands_that_train_nothing_do_not_load_pytorch() -> None:
    """It takes seconds, which `show`, `init`, `report` and every mistake in a scenario would cost."""
    look = "import sys, testbed.commands; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], text=True, capture_output=True, check=True)
    assert done.stdout == "False\n"


def test_a_terminal_without_a_letter_gets_its_code_instead_of_an_end(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEMPLATE.replace("my devices?", "my café?"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "testbed", "scenarios", str(tmp_path)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert rb"my caf\xe9?" in done.stdout
