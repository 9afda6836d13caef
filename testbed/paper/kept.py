"""Results of hours, kept one a line: a run that was cut off goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from testbed.paper.learner import Training


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; what a kill left of the last one is cut away."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [_with_tuples(json.loads(line)) for line in whole.splitlines()]


def append(path: Path, record: Mapping[str, Any]) -> None:
    """One more line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record, allow_nan=False) + "\n")


def plan_hash(training: Training) -> str:
    """Equal for results of the same training, seed apart."""
    plan = asdict(training.plan(0)) | {
        "data": training.dataset.name,
        "final_test_samples": training.learner.final_test_samples,
    }
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:12]


def _with_tuples(record: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
