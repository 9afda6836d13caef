"""The tree shows the architecture: who may import whom, and which files may name a backend."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("testbed", "devices", "netem", "fedsz", "fedsz_flower")
ALLOWED = {"fedsz_flower": {"fedsz"}}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_packages_import_no_others_of_ours_than_the_table_says(package: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for module in imported(file)
        if module.split(".")[0] in set(PACKAGES) - {package} - ALLOWED.get(package, set())
    ]
    assert not wrong


def test_flower_is_imported_in_its_adapter_alone_and_the_adapter_nowhere() -> None:
    users = {
        package
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if {module.split(".")[0] for module in imported(file)} & {"flwr", "fedsz_flower"}
    }
    assert users == {"fedsz_flower"}


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
        assert not {m.split(".")[0] for m in imported(file)} & {"simpy", "mininet", "torchvision", "flwr"}, (
            file
        )
