"""The command line as a user meets it: exit statuses, messages, the modelled fallback, resuming."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.cli import main

pytestmark = pytest.mark.usefixtures("kept_workers")

SMALL = """
name: small
seed: 3
learning: {model: shufflenet_v2_x0_5, data: digits, rounds: 2, max_steps: 1, batch_size: 16, test_samples: 50}
network: {engine: model}
fleets:
  - {name: pi, count: 2, device: raspberry-pi-4, uplink: 10 Mbit/s, downlink: 100 Mbit/s}
  - {name: phone, count: 1, device: pixel-6, uplink: 10 Mbit/s, downlink: 100 Mbit/s}
sweep:
  uplink.rate: 1, 20000 Mbit/s
  codec: [none, sz2]
  repeats: 2
  work: drawn
"""


@dataclass
class Ended:
    """What a command left on the terminal."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str, cwd: Path) -> Ended:
    """Run one command in this process (loading PyTorch anew for each would take longer than the work)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return Ended(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.yaml").write_text(SMALL, encoding="utf-8")
    done = command("sweep", "small.yaml", "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Compressing pays below this uplink rate" in done.stdout
    assert "Transfer times were MODELLED" in done.stdout
    return folder


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_sweep_leaves_a_complete_result_folder(swept: Path) -> None:
    names = {path.name for path in (swept / "out").iterdir()}
    assert {"run.json", "rounds.jsonl", "cells.jsonl", "crossover.json", "round-time.png"} <= names
    assert len(rows(swept / "out")) == 2 * 2 * 2 * 2 * 3  # rates, codecs, repeats, rounds, clients
    crossover = json.loads((swept / "out" / "crossover.json").read_text(encoding="utf-8"))
    assert {item["measured"]["where"] for item in crossover["crossovers"]} == {"within"}


def test_the_parts_add_up_to_the_round_and_the_bound_is_kept(swept: Path) -> None:
    parts = ("downlink", "train", "compress", "uplink", "decompress", "aggregate", "wait")
    for row in rows(swept / "out"):
        assert sum(row[f"{part}_s"] for part in parts) == pytest.approx(row["round_s"], abs=1e-9)  # type: ignore[misc]
        assert row["update_bytes"] / row["payload_bytes"] == row["compression_ratio"]  # type: ignore[operator]
        if row["codec"]["id"] == "sz2":  # type: ignore[index]
            assert 0 < row["max_error_over_bound"] <= 1  # type: ignore[operator]
        else:
            assert row["max_error"] == 0


def test_variants_of_one_repeat_share_training_to_the_bit(swept: Path) -> None:
    times: dict[tuple[object, ...], set[object]] = {}
    for row in rows(swept / "out"):
        if row["round"] == 0:
            times.setdefault((row["repeat"], row["client"]), set()).add(row["train_s"])
    # One measurement for each client and repeat; the rest is drawn. The clock's readings differ by rounding.
    assert all(max(found) - min(found) < 1e-9 for found in times.values())


def test_resuming_measures_what_is_missing_and_doubles_nothing(swept: Path) -> None:
    out = swept / "cut"
    out.mkdir()
    for name in ("run.json", "cells.jsonl", "rounds.jsonl"):
        (out / name).write_bytes((swept / "out" / name).read_bytes())
    cells = (out / "cells.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (out / "cells.jsonl").write_text(
        "".join(cells[:3]) + cells[3][:20], encoding="utf-8"
    )  # killed while writing
    done = command("sweep", "--resume", "cut", cwd=swept)
    assert done.returncode == 0, done.stderr
    assert "going on: 3 of 8 cells were done before" in done.stderr
    keys = [(row["cell"], row["round"], row["client"]) for row in rows(out)]
    assert sorted(keys) == sorted(set(keys))
    assert set(keys) == {(row["cell"], row["round"], row["client"]) for row in rows(swept / "out")}


def test_results_are_never_overwritten(swept: Path) -> None:
    done = command("sweep", "small.yaml", "--out", "out", cwd=swept)
    assert done.returncode == 2
    assert "results are never overwritten" in done.stderr


def test_every_scenario_error_at_once_and_nothing_started(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        SMALL.replace("10 Mbit/s, downlink", "10 Mbs, downlnk", 1), encoding="utf-8"
    )
    done = command("sweep", "bad.yaml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "bad.yaml:7:" in done.stderr
    assert "10 Mbs" in done.stderr
    assert "downlnk" in done.stderr
    assert "nothing was started" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_scenario_that_is_not_there(tmp_path: Path) -> None:
    done = command("run", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere.yaml:1:1: cannot be read: No such file or directory" in done.stderr


def test_what_the_machine_cannot_do_ends_with_3_or_falls_back(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        SMALL.replace("engine: model", "engine: mininet, congestion_control: vegas").replace(
            "repeats: 2", "repeats: 1"
        ),
        encoding="utf-8",
    )
    done = command("run", "s.yaml", "--out", "a", cwd=tmp_path)
    assert done.returncode == 3
    assert "this machine lacks" in done.stderr
    assert not (tmp_path / "a").exists()
    done = command("run", "s.yaml", "--out", "b", "--fallback", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MODELLED network: this machine lacks" in done.stderr
    assert {row["engine"] for row in rows(tmp_path / "b")} == {"model"}


def test_show_prints_the_filled_in_scenario(swept: Path) -> None:
    done = command("show", "small.yaml", cwd=swept)
    assert done.returncode == 0
    assert "congestion_control: cubic" in done.stdout
    (swept / "full.yaml").write_text(done.stdout, encoding="utf-8")
    assert command("show", "full.yaml", cwd=swept).stdout == done.stdout
