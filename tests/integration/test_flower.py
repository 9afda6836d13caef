"""The app of docs/howto/flower.md, run by Flower: the aggregate of a plain run, within the bound; a hostile client."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs_blocks import blocks

from fedsz import Partition
from fedsz_flower import COMPRESS_S, DECOMPRESS_S, UPDATE_BYTES, WIRE_BYTES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "flower.md"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Per run (the page's own, without compression, with a hostile client) what the server saw in each round."""
    folder = tmp_path_factory.mktemp("flower")
    page = blocks(PAGE)
    (code,) = (block.code for block in page if block.title == "digits.py")
    (folder / "digits.py").write_text(code, encoding="utf-8")
    env = {
        **os.environ,
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    driver = ROOT / "tests" / "integration" / "flower_driver.py"
    done = subprocess.run(
        [sys.executable, driver, folder / "seen"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What the page says it prints, but for the digits, which differ between processors.
    (said,) = (block.code for block in page if block.code.startswith("round 1: "))
    assert re.sub(r"\d+", "9", said) in re.sub(r"\d+", "9", done.stdout)
    with (folder / "seen").open("rb") as file:
        outcome: dict[str, list[dict[str, Any]]] = pickle.load(file)
    return outcome


def bounds(update: dict[str, np.ndarray[Any, Any]]) -> dict[str, float]:
    """How far each tensor may have moved: REL 1e-2, as the page says, and nothing where a tensor goes exactly."""
    partition = Partition()
    return {
        name: 1e-2 * float(array.max() - array.min()) if partition.is_lossy(name, array) else 0.0
        for name, array in update.items()
    }


def test_the_aggregate_is_that_of_an_uncompressed_run_within_the_bound(seen: dict[str, Any]) -> None:
    (plain,) = seen["plain"]
    page = seen["page"][0]
    assert len(seen["page"]) == 3
    assert set(plain["updates"]) == set(page["updates"]) == {898, 899}
    moved = 0
    for examples, update in plain["updates"].items():
        arrived = page["updates"][examples]
        assert list(arrived) == list(update)
        for name, limit in bounds(update).items():
            assert (arrived[name].dtype, arrived[name].shape) == (update[name].dtype, update[name].shape)
            error = np.abs(arrived[name] - update[name]).max()
            assert error <= limit * (1 + 1e-6)
            moved += bool(error)
    assert moved >= 4  # or nothing was compressed at all
    limits = {examples: bounds(update) for examples, update in plain["updates"].items()}
    for name, value in plain["aggregate"].items():
        limit = sum(examples * limits[examples][name] for examples in limits) / 1797
        assert np.abs(page["aggregate"][name] - value).max() <= limit * (1 + 1e-6) + 1e-7


def test_metrics_say_what_it_cost_and_the_reference_makes_it_smaller(seen: dict[str, Any]) -> None:
    rounds = [note["metrics"] for note in seen["page"]]
    sent = sum(array.nbytes for array in seen["page"][0]["updates"][898].values())
    for metrics in rounds:
        assert metrics[UPDATE_BYTES] == pytest.approx(sent)
        assert metrics[WIRE_BYTES] < sent / 5
        assert metrics[COMPRESS_S] > 0
        assert metrics[DECOMPRESS_S] > 0
        assert metrics["loss"] > 0
    assert rounds[1][WIRE_BYTES] < 0.9 * rounds[0][WIRE_BYTES]
    assert UPDATE_BYTES not in seen["plain"][0]["metrics"]


def test_a_hostile_client_costs_its_own_update_only(seen: dict[str, Any]) -> None:
    (note,) = seen["hostile"]
    assert set(note["updates"]) == {899}
    (reason,) = note["errors"]
    assert reason.startswith("update refused: ")
    assert "checksum" in reason
    honest = note["updates"][899]
    for name, value in note["aggregate"].items():
        np.testing.assert_array_equal(value, honest[name])
