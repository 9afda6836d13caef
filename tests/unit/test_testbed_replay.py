"""Replaying a run: the same work over another network, to the bit, and never work or bytes that were not recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_testbed_cli import command

from testbed import energy
from testbed import sweep as sweeps
from testbed.errors import RecordError
from testbed.replay import Recording
from testbed.scenario import load

pytestmark = pytest.mark.usefixtures("kept_workers")

RECORDED = """
name: recorded
seed: 3
learning: {model: shufflenet_v2_x0_5, data: digits, rounds: 2, max_steps: 1, batch_size: 8, test_samples: 20}
network: {engine: model, server: {uplink: 10 Gbit/s, downlink: 20 Mbit/s}}
fleets:
  - {name: pi, count: 2, device: raspberry-pi-4, uplink: 10 Mbit/s, downlink: 100 Mbit/s}
sweep: {codec: [none, sz2], work: drawn}
"""
PARTS = ("downlink", "train", "compress", "uplink", "decompress", "aggregate", "wait")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    (folder / "s.yaml").write_text(RECORDED, encoding="utf-8")
    # The same work with another server link, and rates to sweep.
    (folder / "other.yaml").write_text(
        RECORDED.replace("downlink: 20 Mbit/s", "downlink: 1 Gbit/s").replace(
            "sweep: {", "sweep: {uplink.rate: '5, 40 Mbit/s', "
        ),
        encoding="utf-8",
    )
    play(folder, "s.yaml", "out", keep_payloads=True)
    return folder


def play(folder: Path, scenario: str, out: str, *, replay: str = "", keep_payloads: bool = False) -> None:
    sweeps.start(
        load(folder / scenario),
        folder / out,
        mode="quiet",
        replay=folder / replay if replay else None,
        keep_payloads=keep_payloads,
    )


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]


def test_replayed_over_its_own_network_a_run_comes_out_as_it_was(recorded: Path) -> None:
    play(recorded, "s.yaml", "same", replay="out")
    for seen, was in zip(rows(recorded / "same"), rows(recorded / "out"), strict=True):
        assert set(seen) == set(was)
        assert [name for name in seen if seen[name] != was[name]] == ["run", "source"]
        assert seen["source"] == {
            "downlink": "modelled", "uplink": "modelled", **dict.fromkeys(
                ("train", "compress", "decompress", "aggregate"), "replayed")
        }  # fmt: skip


def test_the_same_replay_twice_gives_the_same_bytes(recorded: Path) -> None:
    for name in ("once", "twice"):
        play(recorded, "other.yaml", name, replay="out")
    assert (recorded / "once" / "rounds.jsonl").read_bytes() == (
        recorded / "twice" / "rounds.jsonl"
    ).read_bytes()
    cells = [json.loads(line) for line in (recorded / "once" / "cells.jsonl").read_text().splitlines()]
    assert len(cells) == 4


def test_another_network_changes_transfers_and_nothing_else(recorded: Path) -> None:
    play(recorded, "other.yaml", "changed", replay="out")
    was = {(row["codec"]["id"], row["round"], row["client"]): row for row in rows(recorded / "out")}  # type: ignore[index]
    for row in rows(recorded / "changed"):
        before = was[row["codec"]["id"], row["round"], row["client"]]  # type: ignore[index]
        for name in (
            "train_s",
            "compress_s",
            "payload_bytes",
            "downlink_payload_bytes",
            "max_error",
            "accuracy",
        ):
            # Parts are differences of the clock's readings, which began elsewhere.
            assert row[name] == pytest.approx(before[name], abs=1e-9)
        expected_s = 8 * row["payload_bytes"] / row["uplink_rate_bps"]  # type: ignore[operator]
        assert expected_s < row["uplink_s"] < 1.15 * expected_s + 0.01  # type: ignore[operator]


def test_a_deadline_that_drops_clients_leaves_no_accuracy(recorded: Path) -> None:
    text = RECORDED + "rounds_policy: {deadline: 100 ms}\n"
    (recorded / "deadline.yaml").write_text(text, encoding="utf-8")
    play(recorded, "deadline.yaml", "dropped", replay="out")
    found = rows(recorded / "dropped")
    assert {row["status"] for row in found} == {"dropped"}
    assert {row["accuracy"] for row in found} == {None}


@pytest.mark.parametrize(
    "change",
    [("max_steps: 1", "max_steps: 2"), ("raspberry-pi-4", "pixel-6"), ("sz2", "sz3"), ("seed: 3", "seed: 4")],
)
def test_other_work_than_recorded_is_refused(recorded: Path, tmp_path: Path, change: tuple[str, str]) -> None:
    (tmp_path / "other.yaml").write_text(RECORDED.replace(*change), encoding="utf-8")
    done = command("sweep", "other.yaml", "--replay", str(recorded / "out"), "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "has other work than any recorded one; replay changes the network" in done.stderr
    assert not (tmp_path / "out").exists()


def test_real_links_carry_only_payloads_that_were_kept(recorded: Path) -> None:
    play(recorded, "s.yaml", "thin", replay="out")
    emulated = load(recorded / "s.yaml").with_engine("mininet")
    Recording(recorded / "out").require(emulated)
    with pytest.raises(RecordError, match="kept no payloads, and real links carry real bytes"):
        Recording(recorded / "thin").require(emulated)


def test_a_kept_payload_that_changed_is_refused(recorded: Path) -> None:
    store = Recording(recorded / "out").payloads
    digest = (
        Recording(recorded / "out").rounds(load(recorded / "s.yaml").cells()[0])[0].clients[0].uplink_digest
    )
    payload = store.read(digest)
    path = recorded / "out" / "payloads" / digest
    path.write_bytes(payload[:-1])
    try:
        with pytest.raises(RecordError, match="a kept payload is damaged"):
            store.read(digest)
    finally:
        path.write_bytes(payload)
    with pytest.raises(RecordError, match="a kept payload is missing"):
        store.read("0" * 64)


def test_a_replay_that_was_cut_off_goes_on_replaying(recorded: Path) -> None:
    play(recorded, "other.yaml", "whole", replay="out")
    cut = recorded / "cut"
    cut.mkdir()
    for name in ("run.json", "rounds.jsonl"):
        (cut / name).write_bytes((recorded / "whole" / name).read_bytes())
    lines = (recorded / "whole" / "cells.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (cut / "cells.jsonl").write_text("".join(lines[:2]), encoding="utf-8")
    sweeps.resume(cut, mode="quiet")
    assert (cut / "rounds.jsonl").read_bytes() == (recorded / "whole" / "rounds.jsonl").read_bytes()


def test_measuring_twice_differs_in_measured_times_alone(recorded: Path) -> None:
    play(recorded, "s.yaml", "again")
    for seen, was in zip(rows(recorded / "again"), rows(recorded / "out"), strict=True):
        different = {name for name in seen if seen[name] != was[name]}
        assert different <= {
            "run",
            "started_s",
            "round_s",
            "spans",
            *(f"{part}_s" for part in PARTS),
            *energy.FIELDS,
        }
