"""The wheel without the testbed: built, installed where only what `fedsz` declares is to be seen, and used."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "torchvision",
    "mininet",
    "simpy",
    "matplotlib",
    "scipy",
    "pandas",
    "safetensors",
    "flwr",
    "sklearn",
)
PAGE = ROOT / "docs" / "howto" / "alone.md"


def declared(requirements: list[str], seen: set[str]) -> set[str]:
    """Names of the distributions that are installed for *requirements*, and for theirs."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found = distribution(requirement.name)
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if name not in seen:
                seen.add(name)
                declared(found.requires or [], seen)
    return seen


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("alone")
    source = folder / "source"
    source.mkdir()
    # A copy, as setuptools builds in place and takes what an earlier build has left.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in ("testbed", "devices", "netem", "fedsz", "fedsz_flower"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))

    def pip(*arguments: str | Path) -> None:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 2_000_000
    place = folder / "venv"
    venv.create(place, symlinks=True, with_pip=False)
    python = place / "bin" / "python"
    pip("--python", python, "install", "--no-index", "--no-deps", "--no-compile", wheel)
    (site,) = place.glob("lib/python*/site-packages")
    (metadata,) = site.glob("fedsz_testbed-*.dist-info/METADATA")
    requires = re.findall(r"^Requires-Dist: (.*)", metadata.read_text(encoding="utf-8"), re.MULTILINE)
    for name in declared(requires, set()):
        for file in distribution(name).files or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution(name).locate_file(top))).resolve())
    return python


def ran(python: Path, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    # Isolated: no variable, no user's packages and not this folder's source can help.
    done = subprocess.run(
        [python, "-I", *arguments], cwd=python.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def test_nothing_heavy_is_there(alone: Path) -> None:
    found = ran(alone, "-c", f"import importlib.util as u; print([m for m in {HEAVY!r} if u.find_spec(m)])")
    assert found.stdout == "[]\n"


def test_every_codec_is_available_and_the_page_runs(alone: Path, tmp_path: Path) -> None:
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    check = """
        import sys
        assert all(info.available for info in fedsz.codecs().values()), fedsz.codecs()
        assert not {"torch", "simpy", "mininet", "testbed"} & {name.split(".")[0] for name in sys.modules}
        assert fedsz.__file__.startswith(sys.prefix)
    """
    script = tmp_path / "page.py"
    script.write_text(code + textwrap.dedent(check), encoding="utf-8")
    assert ran(alone, script).stdout


def test_the_command_line_and_what_it_says_without_an_extra(alone: Path, tmp_path: Path) -> None:
    make = f"import numpy as np; np.savez({str(tmp_path / 'a.npz')!r}, **{{'fc.weight': np.linspace(-1, 1, 5000)}})"
    ran(alone, "-c", make)
    fedsz = alone.parent / "fedsz"
    ran(alone, fedsz, "compress", tmp_path / "a.npz", tmp_path / "a.fdsz", "--codec", "sz2")
    assert "sz2 REL 0.01" in ran(alone, fedsz, "inspect", tmp_path / "a.fdsz").stdout
    ran(alone, fedsz, "decompress", tmp_path / "a.fdsz", tmp_path / "b.npz")
    refused = ran(alone, fedsz, "decompress", tmp_path / "a.fdsz", tmp_path / "b.safetensors", code=2)
    assert refused.stderr == (
        f"fedsz: {tmp_path / 'b.safetensors'}: needs the package safetensors: "
        "pip install 'fedsz-testbed[safetensors]'\n"
    )
    refused = ran(alone, alone.parent / "testbed", "check", code=3)
    assert re.fullmatch(
        r"testbed: needs the package \w+: pip install 'fedsz-testbed\[testbed\]'\n", refused.stderr
    )
    refused = ran(alone, "-c", "import fedsz_flower", code=1)
    assert refused.stderr.endswith("fedsz_flower needs Flower: pip install 'fedsz-testbed[flower]'\n")
