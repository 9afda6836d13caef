"""Code blocks of Markdown pages, and how each kind is run.

A block with a title is a file, and is written. A block that a test cannot run (it takes root, minutes or a hypervisor)
has a comment before it that says why, invisible to readers: ``<!-- not run: takes minutes -->``. What a Python block
prints can be shown after it, under ``<!-- output -->``, and then has to be exactly that; this writes it there:

    python tests/integration/docs_blocks.py docs/howto/pandas.md
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from testbed.cli import main
from testbed.scenario import Scenario, loads

ROOT = Path(__file__).resolve().parents[2]
RUN = ("console", "python", "sh", "yaml")
SHOWN = ("text", "json", "csv")
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>not run: [^>]+|output) -->\n)?"
    r'```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)
# What a fragment of a scenario is put into, to see whether it is one.
_BASE: dict[str, Any] = {
    "name": "page",
    "learning": {"model": "cnn", "data": "digits", "max_steps": 1, "batch_size": 16, "test_samples": 50},
    "network": {"engine": "model"},
    "fleets": [
        {
            "name": "pi",
            "count": 20,
            "device": "raspberry-pi-4",
            "uplink": "10 Mbit/s",
            "downlink": "10 Mbit/s",
        }
    ],
}


@dataclass(frozen=True)
class Block:
    """One fenced block; *where* is its line."""

    where: str
    language: str
    title: str | None
    code: str
    not_run: str | None
    is_output: bool


def blocks(page: Path) -> list[Block]:
    """All blocks of *page*, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        mark = match["mark"] or ""
        found.append(
            Block(
                f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}",
                match["language"],
                match["title"],
                match["code"],
                mark.removeprefix("not run: ") if mark.startswith("not run: ") else None,
                mark == "output",
            )
        )
    return found


def run_page(page: Path, folder: Path) -> str:
    """Run the blocks of *page* in order in *folder*; everything that they print. AssertionError where one fails."""
    names: dict[str, Any] = {"__name__": "page"}
    printed: list[str] = []
    with contextlib.chdir(folder):
        for block in blocks(page):
            out = io.StringIO()
            if block.is_output:
                assert block.code == printed[-1], f"{block.where}: the page shows something else"
                continue
            if block.title:
                Path(block.title).write_text(block.code, encoding="utf-8")
            if (
                block.not_run is None
                and block.language in RUN
                and not (block.title and block.language == "python")
            ):
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                    _run(block, names)
            printed.append(out.getvalue())
    return "\n".join(printed)


def refresh(page: Path, folder: Path) -> None:
    """Run the Python blocks of *page* in *folder*; put what they print under its marks, and pictures beside it."""
    names: dict[str, Any] = {"__name__": "page"}
    printed = ""

    def put(match: re.Match[str]) -> str:
        nonlocal printed
        if match["mark"] == "output":
            return f"<!-- output -->\n```text\n{printed}```"
        out = io.StringIO()
        if match["language"] == "python" and not match["title"]:
            with contextlib.redirect_stdout(out):
                exec(compile(match["code"], page.name, "exec"), names)
        printed = out.getvalue()
        return match[0]

    with contextlib.chdir(folder):
        text = _BLOCK.sub(put, page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    for picture in folder.glob("*.png"):
        shutil.copy(picture, page.parent / picture.name)


def _run(block: Block, names: dict[str, Any]) -> None:
    if block.language == "console":
        for line in block.code.splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "testbed", f"{block.where}: {line}"
            assert main(arguments) == 0, f"{block.where}: {line}"
    elif block.language == "python":
        exec(compile(block.code, block.where, "exec"), names)
    elif block.language == "sh":
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block.where}: {done.stderr}"
    else:
        scenario(block)


def scenario(block: Block) -> Scenario:
    """The scenario that a YAML block is, or that it becomes with what it leaves out; ScenarioErrors if it is none."""
    data = YAML(typ="safe", pure=True).load(block.code)
    assert data is None or isinstance(data, Mapping), block.where  # None: a comment, for editors
    text = block.code
    if data is None or "name" not in data:
        stream = io.StringIO()
        YAML(typ="safe", pure=True).dump({**_BASE, **(data or {})}, stream)
        text = stream.getvalue()
    return loads(text, str(Path(block.title or "page.yaml").resolve()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "docs").symlink_to(ROOT / "docs")
        refresh(Path(sys.argv[1]).resolve(), Path(scratch))
