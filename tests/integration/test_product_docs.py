"""The documentation is run: every block of every page, in one folder that the tutorial fills first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_blocks import ROOT, RUN, SHOWN, Block, blocks, run_page, scenario

from devices import profile
from devices.profile_file import write_profile
from testbed.cells import apply, variants
from testbed.cli import main
from testbed.record import read_results
from testbed.scenario import loads
from testbed.scenario_yaml import to_yaml
from testbed.sweep import start

pytestmark = pytest.mark.usefixtures("kept_workers")

DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page != TUTORIAL]
# What the pages say that one will see.
PROMISED = {
    "howto/compress.md": ("bytes became", "conv.weight (64, 32, 3, 3)"),
    "howto/untrusted.md": ("% of the rows are not trusted",),
    "howto/troubleshoot.md": ("What this machine can do",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tutorial has been followed."""
    made = tmp_path_factory.mktemp("reader")
    (made / "scenarios").symlink_to(ROOT / "scenarios")
    (made / "docs").symlink_to(DOCS)
    (made / "fleets").symlink_to(ROOT / "scenarios" / "fleets")  # what an example includes
    for name in ("camera", "this-machine"):  # what `testbed calibrate` takes minutes to write
        write_profile(profile("raspberry-pi-4"), made / f"{name}.yaml")
    text = run_page(TUTORIAL, made)
    names = {path.name for path in (made / "out" / "first").iterdir()}
    assert {"report.html", "rounds.csv", "crossover.json"} <= names
    for promised in (
        "congestion_control: cubic",
        "Where the time of a round goes",
        "Compressing pays below this uplink rate",
        "compressing pays",
        "round_s",
        "second less first",
    ):
        assert promised in text, promised
    return made


def test_the_tutorial_works_in_order(folder: Path) -> None:
    assert (folder / "out" / "second" / "report.html").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_block_works(page: Path, folder: Path) -> None:
    text = run_page(page, folder)
    for promised in PROMISED.get(str(page.relative_to(DOCS)), ()):
        assert promised in text, promised


def all_blocks() -> list[Block]:
    return [block for page in (TUTORIAL, *PAGES) for block in blocks(page)]


def test_no_block_escapes() -> None:
    """Each has a language that is run or shown, none hides in a list, and what is not run says why."""
    for block in all_blocks():
        assert block.language in RUN + SHOWN, f"{block.where}: {block.language!r}"
        assert block.not_run is None or len(block.not_run) > 8, block.where
    for page in (TUTORIAL, *PAGES):
        fences = re.findall(r"^\s*```\w+", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == len(blocks(page)), page.name
    reasons = [block.not_run for block in all_blocks() if block.not_run]
    assert len(reasons) < len([block for block in all_blocks() if block.language in RUN]) / 3


def test_scenarios_that_no_command_runs_run_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete scenario without a file name is an example of the language: its smallest form is run."""
    examples = [block for block in all_blocks() if block.language == "yaml" and block.title is None and
                re.search(r"^name:", block.code, re.MULTILINE)]  # fmt: skip
    assert examples
    monkeypatch.chdir(folder)
    for number, block in enumerate(examples):
        whole = scenario(block)
        first = next(iter(variants(whole.sweep)))
        small = apply(whole, first).to_dict()
        small["learning"] |= {
            "model": "cnn",
            "data": "digits",
            "rounds": 1,
            "max_steps": 1,
            "test_samples": 20,
        }
        small["network"]["engine"] = "model"
        for fleet in small["fleets"]:
            fleet["count"] = 1
        small.pop("sweep", None)
        out = folder / "out" / f"example-{number}"
        start(loads(to_yaml(small), block.where), out, mode="quiet")
        assert {row.status for row in read_results(out).rows} == {"ok"}, block.where


def test_commands_that_are_not_run_exist() -> None:
    """`make` targets, scripts and `testbed` commands named in blocks that are not run, and in the README."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts = [block.code for block in all_blocks() if block.not_run]
    texts += [block.code for block in blocks(ROOT / "README.md")]
    assert len(texts) > 2
    for text in texts:
        for target in re.findall(r"\bmake ([a-z][\w-]*)", text):
            assert f"\n{target}:" in makefile, target
        for command in re.findall(r"^(?:\.venv/bin/)?testbed ([a-z]+)", text, re.MULTILINE):
            with pytest.raises(SystemExit) as ended:
                main([command, "--help"])
            assert ended.value.code == 0, command
        for script in re.findall(r"\b(?:scripts|scenarios)/[\w./-]+\.\w+", text):
            assert (ROOT / script).exists() or "NAME" in script, script
