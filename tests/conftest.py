"""What all tests share: who may run where, and that nobody slips away unseen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

# Helper modules beside the tests (scripted networks, made-up rows) are imported by their file name.
for folder in ("unit", "integration"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

IS_ROOT = sys.platform == "linux" and os.geteuid() == 0
STRICT = os.environ.get("FEDSZ_STRICT") == "1"

# Where a run decides about a change, the same examples are tried each time; everybody else's run looks at new ones.
# How long an example takes is the machine's matter.
timeless = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("strict", timeless, derandomize=True)
settings.register_profile("new examples", timeless)
settings.load_profile("strict" if STRICT else "new examples")


@pytest.fixture(scope="session")
def _worker_pool() -> Iterator[ModuleType]:
    import kept_workers

    yield kept_workers
    kept_workers.close()


@pytest.fixture(scope="module")
def kept_workers(_worker_pool: ModuleType) -> Iterator[None]:
    """Sweeps in this process share workers, where what a fresh one does is not the question."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("testbed.work.Worker", _worker_pool.kept)
        yield


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shapes links or limits work measures time, unless it says otherwise (`beside`); without root it says so."""
    for item in items:
        shapes = item.get_closest_marker("root") or "full_kernel" in item.path.parts
        if shapes and not item.get_closest_marker("beside"):
            item.add_marker("alone")
    if IS_ROOT:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(
                pytest.mark.skip(reason="needs root on Linux: network namespaces and control groups")
            )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say plainly what a green run did not look at."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and STRICT and IS_ROOT:
        terminalreporter.write_line(
            f"FEDSZ_STRICT: {len(skipped)} tests were skipped on a machine that should run them all", red=True
        )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With FEDSZ_STRICT=1 and root, a skipped test fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if STRICT and IS_ROOT and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
