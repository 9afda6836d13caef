"""States in files come back as they were, dtype by dtype; files that hold none are refused in one sentence."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

import fedsz
from fedsz.__main__ import main
from fedsz.files import load, save

SAFETENSORS = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16", "float32",
    "float64", "complex64", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip
NPZ = (*(name for name in SAFETENSORS if name[:2] not in ("bf",) and "float8" not in name), "complex128")


def state_of(names: tuple[str, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Every dtype as a matrix, a scalar and nothing at all."""
    state = {}
    for name in names:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        state[f"{name}.matrix"] = np.arange(-6, 6).reshape(3, 4).astype(dtype)
        state[f"{name}.scalar"] = np.array(1.5, dtype)
        state[f"{name}.empty"] = np.zeros((0, 7), dtype)
    return state


def same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert set(got) == set(want)
    for name, array in want.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        assert got[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize(("suffix", "names"), [(".safetensors", SAFETENSORS), (".npz", NPZ)])
def test_every_dtype_survives_the_file_and_the_payload_between_two_files(
    tmp_path: Path, suffix: str, names: tuple[str, ...]
) -> None:
    state = state_of(names)
    first, payload, second = tmp_path / f"a{suffix}", tmp_path / "a.fdsz", tmp_path / f"b{suffix}"
    save(state, first)
    same(load(first), state)
    assert main(["compress", str(first), str(payload), "--bound", "0"]) == 0
    assert main(["decompress", str(payload), str(second)]) == 0
    same(load(second), state)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in (first, payload, second)
    )


def test_what_other_programs_wrote_and_read(tmp_path: Path) -> None:
    """The reader against torch's and NumPy's writers, the writer against theirs as readers."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    state = {"w": torch.arange(12.0).reshape(3, 4).to(torch.bfloat16), "n": torch.tensor(7)}
    save_file(state, tmp_path / "torch.safetensors")
    ours = load(tmp_path / "torch.safetensors")
    assert {name: array.dtype.name for name, array in ours.items()} == {"w": "bfloat16", "n": "int64"}
    save(ours, tmp_path / "ours.safetensors")
    for name, tensor in load_file(tmp_path / "ours.safetensors").items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name])
    with safe_open(tmp_path / "ours.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "checkpoint.pt")
    same(load(tmp_path / "checkpoint.pt"), ours)
    big_endian = {"w": np.arange(5, dtype=">f4"), "t": np.arange(6.0).reshape(2, 3).T}
    for suffix in (".safetensors", ".npz"):
        save(big_endian, tmp_path / f"order{suffix}")
        for name, array in load(tmp_path / f"order{suffix}").items():
            np.testing.assert_array_equal(array, big_endian[name])
    np.savez(tmp_path / "numpy.npz", w=np.ones(3))
    same(load(tmp_path / "numpy.npz"), {"w": np.ones(3)})
    save({"file": np.ones(3)}, tmp_path / "ours.npz")
    with np.load(tmp_path / "ours.npz") as archive:
        assert archive.files == ["file"]


def test_what_a_format_does_not_know_is_refused_and_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(fedsz.StateFileError, match=r"a\.safetensors: tensor 'c' has dtype complex128, which"):
        save({"c": np.ones(2, np.complex128)}, tmp_path / "a.safetensors")
    with pytest.raises(
        fedsz.StateFileError, match=r"a\.npz: tensor 'b' has dtype bfloat16, which \.npz lacks"
    ):
        save({"b": np.ones(2, ml_dtypes.bfloat16)}, tmp_path / "a.npz")
    with pytest.raises(fedsz.StateFileError, match=r"a\.bin: tensors are written to \.safetensors or \.npz"):
        save({"b": np.ones(2)}, tmp_path / "a.bin")
    assert not list(tmp_path.iterdir())


def test_files_that_hold_no_state(tmp_path: Path) -> None:
    with pytest.raises(
        fedsz.StateFileError, match=r"model\.bin: a file of tensors ends in \.safetensors, \.npz"
    ):
        load(tmp_path / "model.bin")
    for suffix in (".safetensors", ".npz", ".pt"):
        path = tmp_path / f"broken{suffix}"
        with pytest.raises(fedsz.StateFileError, match=rf"broken\{suffix}: cannot be read: "):
            load(path)
        path.write_bytes(b"not a model at all")
        with pytest.raises(fedsz.StateFileError, match=rf"broken\{suffix}: cannot be read: "):
            load(path)
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object))
    with pytest.raises(fedsz.StateFileError, match="cannot be read: Object arrays cannot be loaded"):
        load(tmp_path / "pickled.npz")
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(fedsz.StateFileError, match="holds one array without a name"):
        load(tmp_path / "one.npz")
    header = json.dumps({"x": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "new.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(fedsz.StateFileError, match="tensor 'x' has dtype F8_E8M0; known: BOOL"):
        load(tmp_path / "new.safetensors")


@pytest.mark.parametrize(("package", "suffix"), [("safetensors", ".safetensors"), ("torch", ".pt")])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, suffix: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / f"model{suffix}").write_bytes(b"")
    with pytest.raises(fedsz.StateFileError, match=r"needs .*: pip install "):
        load(tmp_path / f"model{suffix}")
    if package == "safetensors":
        with pytest.raises(fedsz.StateFileError, match=r"needs the package safetensors: pip install "):
            save({"w": np.ones(3)}, tmp_path / "out.safetensors")


def model(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(7)
    weights = random.normal(0, 0.05, (200, 100)).astype("f4")
    return {
        "fc.weight": weights + np.float32(1e-4) * random.normal(size=(200, 100)).astype("f4") * seed,
        "n": np.array(seed),
    }


def test_compress_inspect_and_decompress_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, update, payload = (tmp_path / name for name in ("base.npz", "update.npz", "update.fdsz"))
    save(model(0), base)
    save(model(1), update)
    given = ["--reference", str(base)]
    assert main(["compress", str(update), str(payload), *given, "--bound", "1e-3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{payload}: 2 tensors, 80,008 bytes to ")
    assert float(said.rsplit(" ", 1)[1]) > 4
    assert main(["inspect", str(payload), *given]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["name", "dtype", "shape", "method", "raw_bytes", "stored_bytes", "ratio"]
    assert table[1].startswith("fc.weight  float32  200x100  fedsz-q given the reference")
    assert table[3].startswith("fedsz-q REL 0.001, the rest zstd-planes, against reference ")
    assert main(["inspect", str(payload), *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["payload_bytes"] == payload.stat().st_size
    assert [row["name"] for row in found["tensors"]] == ["fc.weight", "n"]
    back = tmp_path / "back.npz"
    assert main(["decompress", str(payload), str(back), *given]) == 0
    want, got = model(1), load(back)
    assert list(got) == list(want)
    assert np.abs(got["fc.weight"] - want["fc.weight"]).max() <= 1e-3 * np.ptp(want["fc.weight"])
    assert got["n"] == 1
    assert main(["codecs"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-15:]] == list(fedsz.codecs())[
        -15:
    ]


def test_wrong_use_is_one_line_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.npz", tmp_path / "a.fdsz"
    save(model(1), source)

    def refused(code: int, text: str, *arguments: str) -> None:
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert main(list(arguments)) == code
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert text in said.err
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    refused(2, "fedsz: unknown codec 'sz9'", "compress", str(source), str(target), "--codec", "sz9")
    refused(
        2,
        "fedsz: error bound: value is a finite number >= 0",
        "compress",
        str(source),
        str(target),
        "--bound=-1",
    )
    refused(2, f"fedsz: {target}: No such file", "decompress", str(target), str(source), "--force")
    nowhere = tmp_path / "none"
    refused(2, f"fedsz: {nowhere}: there is no such folder", "compress", str(source), str(nowhere / "a.fdsz"))
    assert main(["compress", str(source), str(target)]) == 0
    capsys.readouterr()
    refused(2, f"fedsz: {target}: exists already; --force", "compress", str(source), str(target))
    refused(2, f"fedsz: {source}: exists already; --force", "decompress", str(target), str(source))
    refused(2, "max_bytes allows 10", "decompress", str(target), str(tmp_path / "b.npz"), "--max-bytes", "10")
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    refused(2, "fedsz: ", "decompress", str(target), str(tmp_path / "b.npz"))
