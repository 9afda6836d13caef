"""The tree shows the architecture: who may import whom, and which files may name a backend."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("testbed", "devices", "netem", "fedsz")


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_only_testbed_imports_our_other_packages(package: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for module in imported(file)
        if module.split(".")[0] in set(PACKAGES) - {package}
    ]
    assert not wrong


def test_mininet_is_imported_in_its_backend_alone() -> None:
    users = {
        file.name
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if any(module.split(".")[0] == "mininet" for module in imported(file))
    }
    assert users == {"mininet_nodes.py"}


def test_fedsz_needs_no_learning_or_emulation_library() -> None:
    for file in sorted((ROOT / "fedsz").rglob("*.py")):
        assert not {m.split(".")[0] for m in imported(file)} & {"simpy", "mininet", "torchvision"}, file
