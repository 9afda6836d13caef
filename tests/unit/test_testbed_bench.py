"""`testbed.bench`: what is measured, kept and shown; never how fast it was."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from test_testbed_cli import command

import fedsz
from testbed.bench import BenchOptions, BenchResult, BenchRow, read_result, run, write_result
from testbed.bench_report import cells, markdown, ratio_speed_figure, tables
from testbed.bench_states import StateSourceError, load_state
from testbed.cli import main
from testbed.errors import NewerSchemaError
from testbed.plot import save
from testbed.tables import console


def state(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    moved = 1e-4 * np.random.default_rng(seed).standard_normal(6000)
    return {
        "conv.weight": (0.05 * rng.standard_normal(6000) + moved).astype("f4").reshape(20, 300),
        "bn.running_mean": rng.standard_normal(50).astype("f4"),
        "bn.num_batches_tracked": np.array(7),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("states")
    save_file(state(1), folder / "client.safetensors")
    torch.save({name: torch.from_numpy(array) for name, array in state(2).items()}, folder / "global.pt")
    return folder / "client.safetensors", folder / "global.pt"


@pytest.fixture(scope="module")
def result(files: tuple[Path, Path]) -> BenchResult:
    client, base = files
    said: list[str] = []
    options = BenchOptions(
        (str(client),), ("sz2", "szx", "fedsz-q"), (1e-1, 1e-2), repeats=3, reference=str(base)
    )
    found = run(options, said.append)
    assert said == [f"{client}, REL 0.1", f"{client}, REL 0.01"]
    return found


def test_every_codec_gets_a_row_and_those_that_can_one_with_the_reference(result: BenchResult) -> None:
    names = ["sz2", "szx", "fedsz-q", "fedsz-q | reference"]
    assert [(row.bound, row.codec) for row in result.rows] == [
        (bound, name) for bound in (1e-1, 1e-2) for name in names
    ]
    for row in result.rows:
        assert len(row.compress_s) == len(row.decompress_s) == 3
        assert row.update_bytes == 6000 * 4 + 50 * 4 + 8
        assert 0 < row.error_over_bound <= 1
        assert row.ratio == row.update_bytes / row.payload_bytes
        assert row.crossover_bps > 0


def test_the_limit_is_the_entropy_of_the_grid_points(result: BenchResult) -> None:
    values = state(1)["conv.weight"].astype(np.float64)
    for row in result.rows:
        points = np.rint(values / (2 * row.bound * (values.max() - values.min())))
        _, counts = np.unique(points, return_counts=True)
        assert row.limit_bytes == pytest.approx(-(counts * np.log2(counts / 6000)).sum() / 8)
    shares = {row.codec: row.of_limit for row in result.rows if row.bound == 1e-2}
    assert 0.9 < shares["fedsz-q"] < 1 < shares["fedsz-q | reference"]


def test_speeds_are_held_against_sz2_repeat_by_repeat(result: BenchResult) -> None:
    row = replace(result.rows[2], compress_s=(1.0, 2.0, 4.0), decompress_s=(1.0, 1.0, 1.0))
    sz2 = replace(result.rows[0], compress_s=(3.0, 4.0, 40.0), decompress_s=(2.0, 2.0, 5.0))
    assert row.times_faster(sz2) == (3.0, 2.0)
    assert result.baseline(row) is result.rows[0]
    assert row.speeds((1.0, 2.0, 4.0)).tolist() == pytest.approx([0.009078, 0.012104, 0.018156], rel=1e-3)


def test_only_lossy_tensors_where_asked(files: tuple[Path, Path]) -> None:
    options = BenchOptions((str(files[0]),), ("fedsz-q",), (1e-2,), repeats=1, part="lossy")
    (row,) = run(options).rows
    assert row.update_bytes == 24_000
    assert row.exact_bytes == 0


def test_kept_and_read_again(result: BenchResult, tmp_path: Path) -> None:
    path = write_result(result, tmp_path)
    again = read_result(path)
    assert again.rows == result.rows
    assert again.options == replace(result.options, folder=again.options.folder)
    assert {"machine", "versions", "source", "core"} <= set(again.about)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(NewerSchemaError, match="schema 2; this build reads schema 1"):
        read_result(path)


def test_table_markdown_and_picture(result: BenchResult, tmp_path: Path) -> None:
    stream = io.StringIO()
    for table in tables(result):
        console(stream).print(table)
    text = stream.getvalue()
    assert "fedsz-q | reference" in text
    assert "[quartiles]" in text
    assert markdown(result).count("\n| 0.01 |") == 4
    assert [path.name for path in save(ratio_speed_figure(result), tmp_path, "bench")] == [
        "bench.svg",
        "bench.png",
    ]


def test_a_codec_that_is_not_here_says_why(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ("no libsz", "install it")
    monkeypatch.setattr("fedsz.sz2.Sz2.why_unavailable", classmethod(lambda cls: missing))
    found = run(BenchOptions((str(files[0]),), ("sz2", "fedsz-q"), (1e-2,), repeats=1))
    assert found.rows[0] == BenchRow(str(files[0]), 1e-2, "sz2", 24_208, why_not="no libsz; install it")
    assert "no libsz; install it" in cells(found, found.rows[0])
    assert cells(found, found.rows[1])[6] == "-"
    ratio_speed_figure(found)


def test_bad_input_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(fedsz.UnknownCodecError, match="unknown codec 'sz9'"):
        run(BenchOptions(("resnet50",), ("sz9",)))
    with pytest.raises(fedsz.InvalidBoundError):
        run(BenchOptions(("resnet50",), ("sz2",), (-1.0,)))
    with pytest.raises(
        StateSourceError, match=r"resnet: neither a \.safetensors.*mobilenet_v2, resnet50, alexnet"
    ):
        load_state("resnet")
    with pytest.raises(StateSourceError, match=r"none\.pt: cannot be read"):
        load_state(str(tmp_path / "none.pt"))


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("unpickled",))


def test_files_are_not_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trap.pt"
    torch.save({"weight": Trap()}, path)
    with pytest.raises(StateSourceError, match="cannot be read"):
        load_state(str(path))
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(StateSourceError, match="cannot be read"):
        load_state(str(path))
    assert "unpickled" not in capsys.readouterr().out


def test_checkpoints_are_unwrapped_and_others_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "state_dict": {"weight": torch.ones(3, dtype=torch.bfloat16)}}, path)
    assert load_state(str(path))["weight"].dtype.name == "bfloat16"
    torch.save({"epoch": "three"}, path)
    with pytest.raises(StateSourceError, match="holds no state dict"):
        load_state(str(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codecs", "sz9"], "testbed: unknown codec 'sz9'; registered: sz2, "),
        (["--bounds=-1"], "testbed: error bound: value is a finite number >= 0, got -1.0"),
        (["none.pt"], "testbed: none.pt: cannot be read"),
    ],
)
def test_the_command_refuses_bad_arguments(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = command("bench", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bounds", "x"], "argument --bounds: got 'x'; numbers with commas, for example 1e-2,1e-3"),
        (["--repeats", "0"], "argument --repeats: got '0'; a whole number from 1 on"),
        (["--part", "half"], "argument --part: invalid choice: 'half'"),
    ],
)
def test_the_command_line_refuses_what_it_cannot_read(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *arguments])
    assert message in capsys.readouterr().err


def test_the_command_measures_a_part(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = command(
        "bench", str(files[0]), "--codecs", "fedsz-q", "--bounds", "1e-2", "--repeats", "1", "--part", "lossy",
        "--reference", str(files[1]), "--out", "out", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lossy update" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "bench.json",
        "ratio-speed.svg",
        "ratio-speed.png",
    }
    assert [row.update_bytes for row in read_result(tmp_path / "out" / "bench.json").rows] == [24_000, 24_000]
