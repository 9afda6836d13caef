"""Rows and result folders: what adds up, what is refused, and what a kill leaves."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pickle
import re
import signal
import time

import pytest
from testbed_rows import sweep_rows

from testbed import manifest
from testbed.errors import NewerSchemaError, RecordError, ResultsExistError
from testbed.files import write_derived, write_once
from testbed.record import (
    CELLS,
    MANIFEST,
    PARTS,
    ROUNDS,
    CellDone,
    RowWriter,
    add_manifest,
    create_folder,
    read_results,
)
from testbed.row import row_from_dict
from testbed.scenario import loads
from testbed.sweep import resume

ROWS = sweep_rows(repeats=1, rates=(10e6, 20e6), codecs=("none", "sz2"))  # 4 cells of 4 rows
BY_CELL = {cell: [row for row in ROWS if row.cell == cell] for cell in range(4)}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run"
    create_folder(path, {"run": "made-up", "name": "x"})
    return path


def fill(folder, cells):
    with RowWriter(folder) as writer:
        for cell in cells:
            for row in BY_CELL[cell]:
                writer.write(row)
            writer.end_cell(CellDone(cell=cell, rows=len(BY_CELL[cell]), wall_s=1.5, notes={"lag_s": 0.001}))


def test_the_parts_of_every_row_add_up():
    for row in ROWS:
        assert sum(row.seconds(part) for part in PARTS) == pytest.approx(row.round_s, abs=1e-6)
        assert row.busy_s == pytest.approx(row.round_s - row.wait_s)


def test_a_row_survives_json():
    for row in ROWS:
        line = json.dumps(row.to_dict(), allow_nan=False)
        assert row_from_dict(json.loads(line), "here") == row
    noted = dataclasses.replace(ROWS[0], spans=(("train", 0.0, 1.5),))
    assert row_from_dict(json.loads(json.dumps(noted.to_dict())), "here") == noted
    assert noted.timeline() == (("train", 0.0, 1.5),)


def test_without_spans_the_timeline_is_the_parts_in_order():
    timeline = ROWS[0].timeline()
    assert [part for part, _, _ in timeline] == list(PARTS)
    assert timeline[0][1] == 0.0
    assert timeline[-1][2] == pytest.approx(ROWS[0].round_s)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"round_s": 99.0}, r"the parts add up to .* s, round_s is 99\.0"),
        ({"train_s": -1.0}, r"train_s is -1\.0; a part takes a finite time of at least 0"),
        ({"wait_s": float("nan")}, "wait_s is nan; a part takes a finite time of at least 0"),
        ({"status": "lost"}, "status 'lost'; allowed: ok, failed, dropped"),
        ({"status": "failed"}, "a failed row says why in 'reason'"),
        ({"trusted": False}, "an untrusted row says why in 'untrusted_because'"),
        ({"source": {"train": "guessed"}}, "source train: guessed; parts are "),
        ({"source": {"trains": "measured"}}, "source trains: measured; parts are "),
        ({"compression_ratio": 7.5}, r"compression_ratio 7\.5 is not update_bytes / payload_bytes"),
    ],
)
def test_rows_that_contradict_themselves_cannot_be_built(change, why):
    with pytest.raises(RecordError, match=f"cell 0, round 0, client pi-0: {why}"):
        dataclasses.replace(ROWS[0], **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "here: schema 99; this build reads schema 1 and older"),
        ({"schema": None}, "here: schema None; a row says its schema, a whole number from 1"),
        ({"extra": 1}, "here: unknown field 'extra'"),
        ({"codec": {"name": "sz2"}}, "here: not a row: "),
        ({"round_s": 99.0}, "here: cell 0, round 0, client pi-0: the parts add up to "),
    ],
)
def test_lines_that_are_not_rows(change, message):
    with pytest.raises(RecordError, match=f"^{re.escape(message)}"):
        row_from_dict({**ROWS[0].to_dict(), **change}, "here")


def test_a_missing_field_is_named():
    data = ROWS[0].to_dict()
    del data["engine"]
    with pytest.raises(RecordError, match="'engine'"):
        row_from_dict(data, "here")


def test_errors_can_be_rebuilt_from_their_arguments():
    for error in (RecordError("here", "why"), NewerSchemaError("here", 9, 1), ResultsExistError("results/x")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert str(type(error)(*error.args)) == str(error)


def test_what_was_written_is_read(folder):
    fill(folder, [0, 1, 2, 3])
    results = read_results(folder)
    assert list(results.rows) == ROWS
    assert [cell.cell for cell in results.cells] == [0, 1, 2, 3]
    assert results.cells[0].notes == {"lag_s": 0.001}
    assert results.manifest["run"] == "made-up"


def test_a_folder_is_used_once(folder):
    with pytest.raises(ResultsExistError, match="exists already and results are never overwritten"):
        create_folder(folder, {"run": "other"})
    assert json.loads((folder / MANIFEST).read_text())["run"] == "made-up"


def test_a_resumed_run_says_what_it_ran_on(folder):
    assert add_manifest(folder, {"run": "made-up"}).name == "run-2.json"
    assert add_manifest(folder, {"run": "made-up"}).name == "run-3.json"


def test_rows_of_an_interrupted_cell_do_not_count_and_are_cut_on_resuming(folder):
    fill(folder, [0, 1])
    with RowWriter(folder) as writer:
        for row in BY_CELL[2][:3]:
            writer.write(row)
    assert list(read_results(folder).rows) == BY_CELL[0] + BY_CELL[1]
    with RowWriter(folder) as writer:
        assert sorted(writer.done) == [0, 1]
    fill(folder, [2, 3])
    assert list(read_results(folder).rows) == ROWS


@pytest.mark.parametrize("name", [ROUNDS, CELLS])
def test_a_torn_last_line_is_dropped(folder, name):
    fill(folder, [0, 1])
    whole = (folder / name).read_bytes()
    with (folder / name).open("ab") as stream:
        stream.write(b'{"schema":1,"cell":2,"ro')
    assert list(read_results(folder).rows) == BY_CELL[0] + BY_CELL[1]
    with RowWriter(folder):
        pass
    assert (folder / name).read_bytes() == whole


def test_a_cell_is_complete_when_its_line_is(folder):
    """Every prefix of both files that a kill can leave gives whole cells, and resuming fills the rest in."""
    fill(folder, [0, 1])
    rounds, cells = (folder / ROUNDS).read_bytes(), (folder / CELLS).read_bytes()
    fill(folder, [2])
    more = (folder / ROUNDS).read_bytes()
    for length in range(len(rounds), len(more), 97):
        (folder / ROUNDS).write_bytes(more[:length])
        (folder / CELLS).write_bytes(cells)
        with RowWriter(folder) as writer:
            assert sorted(writer.done) == [0, 1]
        assert (folder / ROUNDS).read_bytes() == rounds
    fill(folder, [2, 3])
    assert list(read_results(folder).rows) == ROWS


def test_a_complete_cell_takes_no_more_rows(folder):
    fill(folder, [0])
    with (
        RowWriter(folder) as writer,
        pytest.raises(RecordError, match="cell 0: is complete; a row would be doubled"),
    ):
        writer.write(BY_CELL[0][0])


def test_a_cell_ends_with_the_rows_it_says(folder):
    with RowWriter(folder) as writer:
        writer.write(BY_CELL[0][0])
        with pytest.raises(RecordError, match="cell 0: says 4 rows, 1 were written"):
            writer.end_cell(CellDone(cell=0, rows=4))


def test_two_sweeps_cannot_write_at_once(folder):
    with RowWriter(folder), pytest.raises(RecordError, match="another sweep writes here at this moment"):
        RowWriter(folder).__enter__()
    with RowWriter(folder):  # the lock went with its holder
        pass


def test_damage_in_the_middle_is_an_error_with_its_line(folder):
    fill(folder, [0, 1])
    lines = (folder / ROUNDS).read_bytes().splitlines(keepends=True)
    (folder / ROUNDS).write_bytes(b"".join([lines[0], b"{]\n", *lines[1:]]))
    with pytest.raises(RecordError, match=r"rounds\.jsonl:2: not JSON"):
        read_results(folder)
    (folder / ROUNDS).write_bytes(b"".join(lines[1:]))
    with pytest.raises(RecordError, match=r"cell 0 has 3 rows, cells\.jsonl says 4"):
        read_results(folder)


def test_rows_between_complete_cells_are_not_cut(folder):
    fill(folder, [0, 1])
    lines = (folder / ROUNDS).read_bytes()
    stray = json.dumps(BY_CELL[3][0].to_dict()).encode() + b"\n"
    (folder / ROUNDS).write_bytes(stray + lines)
    with pytest.raises(RecordError, match="rows of an interrupted cell lie between complete ones"):
        RowWriter(folder).__enter__()


def test_newer_files_are_refused(folder):
    (folder / MANIFEST).write_text('{"schema": 2}')
    with pytest.raises(NewerSchemaError, match=r"run\.json: schema 2; this build reads schema 1 and older"):
        read_results(folder)


def _write_until_killed(folder) -> None:
    fill(folder, [0])
    with RowWriter(folder) as writer:
        for row in BY_CELL[1][:2]:
            writer.write(row)
        (folder / "ready").touch()
        time.sleep(60)


def test_kill_9_loses_only_the_cell_it_fell_in(folder):
    process = multiprocessing.get_context("spawn").Process(target=_write_until_killed, args=(folder,))
    process.start()
    while not (folder / "ready").exists():
        assert process.is_alive()
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(read_results(folder).rows) == BY_CELL[0]
    fill(folder, [1, 2, 3])
    assert list(read_results(folder).rows) == ROWS


def test_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_once(path, "one")
    with pytest.raises(ResultsExistError):
        write_once(path, "two")
    assert path.read_text() == "one"
    write_derived(path, b"three")
    assert path.read_text() == "three"
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]  # no temporary file is left
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_once(tmp_path / "a.json", "one")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_says_what_ran_and_on_what():
    scenario = loads(
        "name: x\nfleets: [{name: a, count: 1, device: laptop, uplink: 1 Mbit/s, downlink: 1 Mbit/s}]\n"
    )
    data = manifest.collect(scenario, "9f3c", extra={"data": "digits"})
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert loads(json.dumps(data["scenario"])) == scenario
    assert (data["run"], data["seed"], data["data"]) == ("9f3c", 0, "digits")
    assert data["versions"]["numpy"]
    assert {"kernel", "cpu", "cores", "memory_bytes", "load"} <= data["machine"].keys()
    assert set(data["source"]) == {"commit", "dirty"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON: "),
        ("[]", "says no schema"),
        ("{}", "says no schema"),
        ('{"schema": 99}', "schema 99; "),
    ],
)
def test_a_folder_that_is_not_ours_or_too_new_is_refused_in_words_and_left_alone(tmp_path, text, why):
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    for read in (read_results, resume):
        with pytest.raises(RecordError) as caught:
            read(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert why in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
