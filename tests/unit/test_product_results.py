"""Runs as tables and frames, and two runs side by side."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from testbed_rows import sweep_rows

from testbed.cli import main
from testbed.compare import compare
from testbed.record import PARTS, SCHEMA, CellDone, RowWriter, create_folder
from testbed.results import PackageMissingError, columns, export, load
from testbed.row import Row

ROWS = sweep_rows(repeats=6, noise=0.05, rates=(10e6, 1e9), codecs=("none", "sz2"))
DOCS = Path(__file__).parents[2] / "docs" / "results.md"


def fill(folder: Path, rows: Sequence[Row], change: Callable[[Row], Row] = lambda row: row) -> Path:
    create_folder(folder, {"run": "made-up", "name": folder.name})
    with RowWriter(folder) as writer:
        for cell in dict.fromkeys(row.cell for row in rows):
            mine = [change(row) for row in rows if row.cell == cell]
            for row in mine:
                writer.write(row)
            writer.end_cell(CellDone(cell=cell, rows=len(mine)))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("results") / "a", ROWS)


def slower(row: Row, seconds: float = 0.5) -> Row:
    """The same row with a client that trains longer, and a round that much longer."""
    return dataclasses.replace(row, train_s=row.train_s + seconds, round_s=row.round_s + seconds)


def test_a_frame_has_every_row_and_the_documented_columns(folder: Path) -> None:
    run = load(folder)
    frame = run.frame()
    assert len(frame) == len(ROWS)
    assert list(frame.columns) == columns(run.rows)
    assert list(frame["round_s"]) == [row.round_s for row in ROWS]
    assert set(frame["codec"]) == {"none", "sz2"}
    assert set(frame["value:uplink.rate"]) == {"10 Mbit/s", "1000 Mbit/s"}
    parts = sum(frame[f"{part}_s"] for part in PARTS)
    assert abs(parts - frame["round_s"]).max() < 1e-6
    assert set(frame["schema"]) == {SCHEMA}
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in columns([]) if f"`{name}`" not in text] == []


def test_without_pandas_the_error_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(PackageMissingError, match=r"needs the package 'pandas'; fix: pip install"):
        load(folder).frame()
    with pytest.raises(PackageMissingError, match="Parquet needs the package 'pyarrow'"):
        export(folder, "parquet")
    assert export(folder, "csv", folder.parent / "x.csv").exists()  # needs nothing


def test_csv_says_what_the_records_say(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "t.csv"
    assert main(["export", str(folder), "--format", "csv", "--out", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    with target.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["round_s"]) for row in rows] == [row.round_s for row in ROWS]  # every digit
    assert {row["codec_bound"] for row in rows} == {"", "0.01"}  # nothing is an empty field


def test_parquet_keeps_types_versions_and_the_manifest(folder: Path) -> None:
    parquet = importlib.import_module("pyarrow.parquet")
    assert main(["export", str(folder), "--format", "parquet"]) == 0
    table = parquet.read_table(folder / "rounds.parquet")
    assert table.to_pylist() == list(load(folder).records())
    assert str(table.schema.field("link_bytes").type) == "int64"  # though every value is missing
    assert str(table.schema.field("trusted").type) == "bool"
    metadata = table.schema.metadata
    assert metadata[b"testbed.schema"] == str(SCHEMA).encode()
    assert json.loads(metadata[b"testbed.manifest"])["name"] == "a"


def test_a_run_against_itself_differs_in_nothing(folder: Path) -> None:
    found = compare(load(folder), load(folder))
    assert found.alone == (0, 0)
    assert sum(group.differences["round_s"].pairs for group in found.groups) == len(ROWS)
    for group in found.groups:
        for difference in group.differences.values():
            assert difference.median in (0.0, None)
            assert not difference.certain


def test_pairing_finds_half_a_second_under_noise_that_hides_it(folder: Path, tmp_path: Path) -> None:
    other = fill(tmp_path / "b", ROWS, slower)
    for group in compare(load(folder), load(other)).groups:
        change = group.differences["train_s"]
        assert change.median == pytest.approx(0.5)
        assert (change.low, change.high) == (pytest.approx(0.5), pytest.approx(0.5))
        assert change.certain
        assert not group.differences["compress_s"].certain


def test_noise_gives_an_interval_around_the_median_that_mostly_covers_nothing(
    folder: Path, tmp_path: Path
) -> None:
    rows = sweep_rows(repeats=6, noise=0.05, seed=2, rates=(10e6, 1e9), codecs=("none", "sz2"))
    found = [g.differences["train_s"] for g in compare(load(folder), load(fill(tmp_path / "c", rows))).groups]
    for difference in found:
        assert difference.low is not None
        assert difference.high is not None
        assert difference.median is not None
        assert difference.low < difference.high
        assert difference.low <= difference.median <= difference.high
    # The two runs differ in noise alone. An interval may miss zero one time in twenty, not every second time.
    assert sum(difference.certain for difference in found) <= len(found) // 2


def test_what_has_no_partner_or_no_trust_is_counted_not_hidden(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def doubted(row: Row) -> Row:
        if row.repeat == 0:
            return dataclasses.replace(row, trusted=False, untrusted_because="made up")
        return row

    other = fill(tmp_path / "d", [row for row in ROWS if row.repeat < 2], doubted)
    found = compare(load(folder), load(other))
    assert found.alone == (len(ROWS) * 4 // 6, 0)
    assert found.unusable == len(ROWS) // 6
    assert main(["compare", str(folder), str(other)]) == 0
    text = capsys.readouterr().out
    assert f"left out: {found.unusable} pairs" in text
    assert main(["compare", str(folder), str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.to_dict()))


def test_runs_with_nothing_in_common_end_with_a_word(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = fill(tmp_path / "e", [dataclasses.replace(row, fleet="other") for row in ROWS[:4]])
    assert main(["compare", str(folder), str(other)]) == 1
    assert "no usable round in common" in capsys.readouterr().err


NO_RUN = [
    ("report", "{}"),
    ("export", "{}"),
    ("compare", "{}", "{}"),
    ("sweep", "--resume", "{}"),
    ("run", "scenarios/quickstart.yaml", "--engine", "model", "--replay", "{}", "--out", "{}/out"),
]


@pytest.mark.parametrize("arguments", NO_RUN, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize(
    ("name", "why"),
    [("nowhere", "there is no such folder"), ("empty", "it holds no run.json"), ("other", "its run.json")],
)
def test_a_folder_that_holds_no_run_is_a_bad_argument(
    arguments: tuple[str, ...], name: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("[]", encoding="utf-8")
    folder = str(tmp_path / name)
    assert main([part.format(folder) for part in arguments]) == 2
    said = capsys.readouterr()
    assert f"testbed: {folder} is no result folder: {why}" in said.err
    assert said.out == ""
    assert not (tmp_path / name / "out").exists()


def test_a_scenario_beside_resume_is_a_bad_argument_as_only_one_could_be_meant(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "scenarios/quickstart.yaml", "--resume", str(folder)]) == 2
    assert "name no other" in capsys.readouterr().err
    assert main(["scenarios", str(folder)]) == 2
