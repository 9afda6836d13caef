"""Tests in this folder run in a kernel of their own, booted once; outside, each shows what came of it there.

Outside, pytest collects the tests as usual; running the first boots the kernel, which runs all those selected
and writes down every report; the others only read theirs. Tests marked `processors` run in a virtual machine, which has
two, all others in a kernel that is a process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import full_kernel_boot
import pytest
import virtual_machine

HERE = Path(__file__).parent
_REPORTS = os.environ.get("FULL_KERNEL", "")  # a folder; set inside the kernel only
# By the name of the module that boots the kernel: reports of each test, and the console.
_outcome = pytest.StashKey[dict[str, tuple[dict[str, list[pytest.TestReport]], str]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Inside: write every report down at once, so that a crash of the kernel leaves those before it."""
    report = yield
    if _REPORTS:
        data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        with (Path(_REPORTS) / "reports.jsonl").open("a") as file:
            file.write(json.dumps(data) + "\n")
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Outside: instead of running the test, tell what came of it in the kernel."""
    if _REPORTS or HERE not in item.path.parents:  # pytest asks about every test of the session
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    kernel = _kernel(item)
    if excuse := kernel.excuse():
        place = (str(item.path), item.location[1] or 0, f"Skipped: {excuse}")
        return [_report(item, "skipped", place)]
    if absent := kernel.missing():
        return [_report(item, "failed", f"cannot boot a full kernel; {absent}")]
    booted = item.session.stash.setdefault(_outcome, {})
    if kernel.__name__ not in booted:
        booted[kernel.__name__] = _boot(kernel, item.session)
    reports, console = booted[kernel.__name__]
    found = reports.get(item.nodeid, [])
    if not found or found[-1].when != "teardown":
        end = "\n".join(console.splitlines()[-60:])
        found = [
            *found,
            _report(item, "failed", f"the kernel did not finish this test; its console ends:\n{end}"),
        ]
    return found


def _kernel(item: pytest.Item) -> ModuleType:
    return virtual_machine if item.get_closest_marker("processors") else full_kernel_boot


def _boot(kernel: ModuleType, session: pytest.Session) -> tuple[dict[str, list[pytest.TestReport]], str]:
    mine = [item for item in session.items if HERE in item.path.parents and _kernel(item) is kernel]
    factory = pytest.TempPathFactory.from_config(session.config, _ispytest=True)
    folder = factory.mktemp(kernel.__name__)
    done = kernel.boot(folder, session.config.rootpath, [item.nodeid for item in mine])
    reports: dict[str, list[pytest.TestReport]] = {}
    for line in done.reports:
        hook = session.config.hook
        report = hook.pytest_report_from_serializable(config=session.config, data=json.loads(line))
        reports.setdefault(report.nodeid, []).append(report)
    return reports, done.console


def _report(item: pytest.Item, outcome: str, why: str | tuple[str, int, str]) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, outcome, why, "call")  # type: ignore[arg-type]
