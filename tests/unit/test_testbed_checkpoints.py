"""A run cut off in the middle of a cell goes on there, and ends with the model of an unbroken one, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_testbed_cli import command

from testbed.learning.checkpoint import load_checkpoint
from testbed.record import read_results
from testbed.work import Workbench

pytestmark = pytest.mark.usefixtures("kept_workers")

ROUNDS, CLIENTS = 3, 2
SCENARIO = """
name: checkpoint
seed: 5
learning: {model: cnn, data: digits, image_size: 8, rounds: 3, max_steps: 3, batch_size: 16, lr: 0.05, checkpoint: true}
network: {engine: model}
fleets:
  - {name: pi, count: 2, device: raspberry-pi-4, uplink: 10 Mbit/s, downlink: 100 Mbit/s}
compression: COMPRESSION
"""
WAYS = {
    "plain": "{codec: zfp}",
    "against what clients hold": "{codec: fedsz-q, downlink: true, reference: true}",
    "deciding by the last update": "{codec: fedsz-q-dither, policy: auto, reference: true}",
}


def kept(folder: Path) -> dict[str, np.ndarray]:
    return dict(load_checkpoint(folder / "checkpoints" / "cell-0.safetensors").state)


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_cell_ends_where_an_unbroken_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO.replace("COMPRESSION", WAYS[way]), encoding="utf-8")
    done = command("run", "s.yaml", "--out", "whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    train, trained = Workbench.train, []

    def interrupted(self: Workbench, *arguments: Any) -> Any:
        if len(trained) == 2 * CLIENTS + 1:  # in the third round
            raise KeyboardInterrupt
        trained.append(arguments)
        return train(self, *arguments)

    monkeypatch.setattr(Workbench, "train", interrupted)
    done = command("run", "s.yaml", "--out", "cut", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "stopped; 0 complete cells kept in cut, and 2 rounds of the next\nto go on: testbed sweep --resume cut\n"
    )
    trained.clear()
    done = command("sweep", "--resume", "cut", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on: cell 0 after 2 of 3 rounds" in done.stderr
    assert len(trained) == CLIENTS  # the third round, and nothing else

    unbroken, resumed = kept(tmp_path / "whole"), kept(tmp_path / "cut")
    assert list(unbroken) == list(resumed)
    assert all(np.array_equal(unbroken[name], resumed[name]) for name in unbroken)
    whole, cut = (read_results(tmp_path / name).rows for name in ("whole", "cut"))
    assert [(row.round, row.client, row.accuracy, row.payload_bytes) for row in whole] == [
        (row.round, row.client, row.accuracy, row.payload_bytes) for row in cut
    ]
    assert len({row.run for row in cut}) == 1
    ends = {row.round: row.started_s + row.round_s for row in cut}
    for row in cut:
        assert row.started_s == pytest.approx(ends.get(row.round - 1, 0.0))


def test_a_checkpoint_that_is_not_this_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.yaml").write_text(
        SCENARIO.replace("COMPRESSION", WAYS["plain"]).replace("rounds: 3", "rounds: 2"), encoding="utf-8"
    )
    assert command("run", "s.yaml", "--out", "other", cwd=tmp_path).returncode == 0
    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "train", _stop)
        assert command("run", "s.yaml", "--out", "cut", cwd=tmp_path).returncode == 1
    (tmp_path / "cut" / "checkpoints").mkdir()
    file = tmp_path / "cut" / "checkpoints" / "cell-0.safetensors"
    file.write_bytes((tmp_path / "other" / "checkpoints" / "cell-0.safetensors").read_bytes())
    done = command("sweep", "--resume", "cut", cwd=tmp_path)
    assert done.returncode == 1
    assert "cell-0.safetensors: belongs to another run: run is " in done.stderr
    file.write_bytes(file.read_bytes()[:100])
    done = command("sweep", "--resume", "cut", cwd=tmp_path)
    assert done.returncode == 1
    assert "cell-0.safetensors: cannot be read: " in done.stderr
    assert "Traceback" not in done.stderr


def _stop(*_: Any) -> Any:
    raise KeyboardInterrupt
