"""Every way to a machine (make, Vagrant, a container) runs the same scripts, which exist and which a shell can read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from testbed.scenario import loads

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def targets() -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^([a-z][\w-]*):", text("Makefile"), re.MULTILINE))


def asked(script: str) -> set[str]:
    """Targets that a text asks `make` for at the start of a command."""
    return set(re.findall(r"(?:^|&& |sudo |cd \S+ && )make ([a-z]+)", script, re.MULTILINE))


def test_vagrant_provisions_with_a_script_that_exists_and_calls_make() -> None:
    (path,) = re.findall(r'config\.vm\.provision "shell", path: "([^"]+)"', text("Vagrantfile"))
    script = text(path)
    assert {"setup", "check"} <= asked(script) <= targets()
    # The folder that Vagrant fills is the one in which the script works.
    (folder,) = re.findall(r'synced_folder "\.", "(/home/[^"]+)"', text("Vagrantfile"))
    assert f'cd "${{1:-{folder}}}"' in script
    assert asked(text("Vagrantfile").replace("`", "\n").replace("'", "\n")) <= targets()


def test_the_machine_is_pinned() -> None:
    boxes = re.findall(r"vm\.box = ", text("Vagrantfile"))
    versions = re.findall(r'vm\.box_version = "\d[\d.]+"', text("Vagrantfile"))
    assert len(boxes) == len(versions) == 2


@pytest.mark.skipif(not shutil.which("vagrant"), reason="needs the Debian package vagrant")
def test_vagrant_takes_the_file(tmp_path: Path) -> None:
    """Its own check, for both providers' sections, without either provider."""

    def validate(content: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "Vagrantfile").write_text(content, encoding="utf-8")
        homes = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_CWD": str(tmp_path)}
        return subprocess.run(
            ["vagrant", "validate", "--ignore-provider"],
            env={**os.environ, **homes, "VAGRANT_CHECKPOINT_DISABLE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    done = validate(text("Vagrantfile"))
    assert done.returncode == 0, done.stderr
    assert "validated successfully" in done.stdout
    assert validate(text("Vagrantfile").replace("provision.sh", "absent.sh")).returncode != 0


def test_the_bare_root_is_provisioned_by_the_same_script() -> None:
    """`make test-provision` takes minutes and gigabytes, so it runs when asked; what it would test is seen here."""
    script = text("scripts/test_provision.sh")
    (path,) = re.findall(r'config\.vm\.provision "shell", path: "([^"]+)"', text("Vagrantfile"))
    (folder,) = re.findall(r'synced_folder "\.", "(/home/[^"]+)"', text("Vagrantfile"))
    assert f"place={folder} " in script
    assert f'bash "$place/{path}" "$place"' in script
    # What it sweeps there is cut out of the tutorial, which must hold exactly one scenario for that.
    (awk,) = re.findall(r"^(awk .*) >", script, re.MULTILINE)
    cut = subprocess.run(["bash", "-c", awk], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loads(cut.stdout, "tutorial.md").network.engine == "model"


def test_the_container_is_provisioned_by_the_same_script() -> None:
    content = text("Containerfile")
    (path, folder) = re.findall(r"^RUN bash /testbed/(\S+) (\S+)", content, re.MULTILINE)[0]
    assert f'path: "{path}"' in text("Vagrantfile")
    assert f"COPY . {folder}\n" in content
    assert re.search(r"^FROM \S+debian:bookworm", content, re.MULTILINE)
    (command,) = re.findall(r'^CMD \["make", "(\w+)"\]', content, re.MULTILINE)
    assert command in targets()


def test_the_virtual_machine_takes_no_virtual_environment_or_results_of_the_host() -> None:
    (excluded,) = re.findall(r"rsync__exclude: \[(.*)\]", text("Vagrantfile"))
    for name in (".venv", "results"):
        assert f'"{name}/"' in excluded
        assert name in text(".containerignore").splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_read_run_and_stop_at_the_first_error(script: Path) -> None:
    content = script.read_text(encoding="utf-8")
    assert content.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in content
    assert os.access(script, os.X_OK)
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "`" not in re.sub(r"#.*", "", content), "$(...) nests, backquotes do not"
    # The commonest defect that a shell reports only when it is too late: an unquoted name with a space in it.
    assert not re.findall(r"\b(?:cd|rm|source|cat) \$\{?\w", content)


def test_provisioning_stops_where_its_folder_is_not(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    done = subprocess.run(
        ["bash", ROOT / "scripts" / "provision.sh", missing], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert str(missing) in done.stderr
    assert done.stdout == ""


def pins(lock: str) -> set[tuple[str, str]]:
    """What a lock holds: names and versions."""
    return set(re.findall(r"^([\w.-]+)==(\S+)", text(lock), re.MULTILINE))


def test_users_get_what_was_tested_and_wait_for_nothing_else() -> None:
    """The tests' lock holds the users' one, version by version; nothing of either is left to chance."""
    users, tests = pins("requirements.lock"), pins("requirements-dev.lock")
    assert 50 < len(users) < len(tests)
    assert users <= tests
    only_tests = {"flwr", "ray", "mkdocs", "selenium", "pytest", "mypy"}
    assert only_tests <= {name for name, _ in tests} - {name for name, _ in users}
    for lock in ("requirements.lock", "requirements-dev.lock"):
        content = text(lock)
        assert not re.search(r"https?:|file:|--(?:extra-)?index", content)
        assert not re.search(r"^(?:torch|torchvision|triton|cuda-|nvidia-)", content, re.MULTILINE)
        blocks = re.split(r"\n(?=[a-z])", content)
        assert all("--hash=sha256:" in block for block in blocks)
        # Only Mininet's maintained release is a development one.
        odd = [block.split()[0] for block in blocks if re.search(r"\d(?:a|b|rc|\.?dev)\d", block.split()[0])]
        assert odd == ["mininet==2.3.0.dev6"]


def test_what_make_calls_exists() -> None:
    for script in re.findall(r"scripts/[\w.]+", text("Makefile")):
        assert (ROOT / script).exists(), script
    for line in re.findall(r"^\.PHONY: (.*)", text("Makefile"), re.MULTILINE):
        assert set(line.split()) <= targets()
