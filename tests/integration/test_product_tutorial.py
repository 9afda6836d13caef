"""The tutorial, followed literally."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

from testbed.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def test_every_block_of_the_tutorial_works_in_order(tmp_path: Path) -> None:
    shown: list[str] = []
    with contextlib.chdir(tmp_path):
        for language, block in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL):
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                if language == "yaml":
                    Path("mine.yaml").write_text(block, encoding="utf-8")
                elif language == "console":
                    for line in block.splitlines():
                        program, *arguments = shlex.split(line)
                        assert program == "testbed"
                        assert main(arguments) == 0, line
                elif language == "python":
                    exec(compile(block, "tutorial.md", "exec"), {})
                else:
                    assert language == "sh"
            shown.append(out.getvalue())
        names = {path.name for path in Path("out/first").iterdir()}
    text = "\n".join(shown)
    assert {"report.html", "rounds.csv", "crossover.json"} <= names
    # What the page says that one will see.
    for promised in (
        "congestion_control: cubic",
        "Where the time of a round goes",
        "Compressing pays below this uplink rate",
        "compressing pays",
        "round_s",
        "second less first",
    ):
        assert promised in text, promised


def test_what_the_page_points_to_exists() -> None:
    links = re.findall(r"\]\(([\w.-]+)\)", PAGE)
    assert links
    assert [name for name in links if not (ROOT / "docs" / name).exists()] == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", PAGE, re.MULTILINE):
        assert f"\n{target}:" in makefile
