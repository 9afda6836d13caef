"""A step of the wall clock (a time server, a user, a resumed virtual machine) changes no figure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Who may read the clock that can be set, and why no figure hangs on it.
ALLOWED = {
    "netem/ledger.py": "ages of files, which the file system gives in that clock",
    "testbed/bench.py": "when a bench was run, for people",
    "testbed/manifest.py": "when a run began, for people",
    "testbed/paper/outcome.py": "when an experiment was run, for people",
    "testbed/sweep.py": "the name of a result folder",
}
# Calls that read a clock which a time server, or a user, may set while we measure.
SETTABLE = {
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "localtime"),
    ("time", "gmtime"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
}


def settable_clocks(source: str) -> Iterator[str]:
    """Every mention of a settable clock, imported by name or as an attribute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = (
                node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            )
            if (owner, node.attr) in SETTABLE:
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{a.name}" for a in node.names if (node.module, a.name) in SETTABLE)


def test_only_monotonic_clocks_measure() -> None:
    users = {
        str(file.relative_to(ROOT)): found
        for package in ("testbed", "netem", "devices", "fedsz")
        for file in sorted((ROOT / package).rglob("*.py"))
        if (found := list(settable_clocks(file.read_text(encoding="utf-8"))))
    }
    assert {file: found for file, found in users.items() if file not in ALLOWED} == {}
    assert set(users) == set(ALLOWED), "an exception that nobody needs any more"


def test_the_search_finds_every_spelling() -> None:
    for line in (
        "import time\ntime.time()",
        "from time import time",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.utcnow()",
        "import time\nclock = time.time_ns",
    ):
        assert list(settable_clocks(line)), line
    assert not list(
        settable_clocks("import time\ntime.monotonic()\ntime.perf_counter()\ntime.process_time()")
    )
