"""Clients that die, lie or are tampered with cost their own row: the round goes on, and nothing hangs."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_product_faults import SCENARIO

from devices.worker import Worker
from testbed.carrier import MininetCarrier
from testbed.cli import main
from testbed.record import read_results
from testbed.row import Row
from testbed.work import Model, Timed, Workbench

pytestmark = pytest.mark.usefixtures("kept_workers")

ONE_CELL = SCENARIO[: SCENARIO.index("sweep:")] + "compression: {codec: zfp}\n"
CLIENTS = 3


def run(folder: Path, scenario: str = ONE_CELL) -> tuple[int, str]:
    (folder / "s.yaml").write_text(scenario, encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["run", str(folder / "s.yaml"), "--out", str(folder / "out")])
    return status, err.getvalue()


def one_failed(folder: Path) -> Row:
    """The one row that failed; all others are as ever."""
    rows = read_results(folder / "out").rows
    assert len(rows) == CLIENTS
    (failed,) = (row for row in rows if row.status == "failed")
    assert {row.status for row in rows if row is not failed} == {"ok"}
    return failed


@contextlib.contextmanager
def killed_once(monkeypatch: pytest.MonkeyPatch, what: str) -> Iterator[list[int]]:
    """kill -9 for the worker, by its pid, in the middle of its first call that does *what*."""
    killed: list[int] = []
    call_as = Worker.call_as

    def call(self: Worker, doing: str, *arguments: Any, **options: Any) -> Any:
        if doing != what or killed:
            return call_as(self, doing, *arguments, **options)
        pid = self.pid
        assert pid is not None
        killed.append(pid)
        shot = threading.Timer(0.02, os.kill, (pid, signal.SIGKILL))
        shot.start()
        try:
            # Until the shot has fallen: work on so small a model may be done before.
            while True:
                call_as(self, doing, *arguments, **options)
        finally:
            shot.join()

    monkeypatch.setattr(Worker, "call_as", call)
    yield killed


@pytest.mark.parametrize("what", ["training", "compressing", "decompressing"])
def test_a_worker_killed_at_its_work_costs_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with killed_once(monkeypatch, what) as killed:
        status, err = run(tmp_path)
    assert status == 0, err
    assert len(killed) == 1
    assert f"worker died (signal 9) while {what}" in one_failed(tmp_path).reason


def test_a_killed_server_ends_the_run_with_a_word_and_it_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_once(monkeypatch, "averaging"):
        status, err = run(tmp_path)
    assert status == 1
    assert "testbed: worker died (signal 9) while averaging\n" in err
    assert f"testbed sweep --resume {tmp_path / 'out'}" in err
    assert main(["sweep", "--resume", str(tmp_path / "out"), "--quiet"]) == 0
    assert {row.status for row in read_results(tmp_path / "out").rows} == {"ok"}


def damaged(payload: bytes) -> bytes:
    middle = len(payload) // 2
    return payload[:middle] + bytes([payload[middle] ^ 1]) + payload[middle + 1 :]


def lying_once(monkeypatch: pytest.MonkeyPatch, lie: Any) -> None:
    """The first update that a client sends is *lie* of what it should have sent."""
    encode = Workbench.encode
    lied: list[bool] = []

    def liar(self: Workbench, *arguments: Any) -> Timed[bytes]:
        coded = encode(self, *arguments)
        if lied:
            return coded
        lied.append(True)
        return replace(coded, value=lie(coded.value))

    monkeypatch.setattr(Workbench, "encode", liar)


def test_a_client_that_sends_a_damaged_payload_costs_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying_once(monkeypatch, damaged)
    status, err = run(tmp_path)
    assert status == 0, err
    row = one_failed(tmp_path)
    assert row.reason.startswith("the server cannot decode it: ")
    assert row.uplink_s > 0  # it did cross the link
    assert row.max_error is None


def test_a_client_that_sends_another_model_costs_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    import fedsz

    lying_once(monkeypatch, lambda _: fedsz.compress({"bias": np.zeros(4, np.float32)}, codec="none"))
    status, err = run(tmp_path)
    assert status == 0, err
    assert one_failed(tmp_path).reason.startswith("its tensors are not the model's: ")


def test_a_round_in_which_every_client_fails_is_rows_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Workbench.encode

    def liar(self: Workbench, *arguments: Any) -> Timed[bytes]:
        coded = encode(self, *arguments)
        return replace(coded, value=damaged(coded.value))

    monkeypatch.setattr(Workbench, "encode", liar)
    status, err = run(tmp_path)
    assert status == 0, err
    assert [row.status for row in read_results(tmp_path / "out").rows] == ["failed"] * CLIENTS


@pytest.mark.root
@pytest.mark.beside
def test_bytes_altered_between_client_and_server_cost_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = MininetCarrier.play
    averaged: list[int] = []
    average = Workbench.average

    def tampering(self: MininetCarrier, scenario: Any, plans: Any, *rest: Any) -> Any:
        """What leaves the first client is not what it believes to send; the rest is real links."""
        altered = [replace(plans[0], uplink=damaged(plans[0].uplink)), *plans[1:]]
        return play(self, scenario, altered, *rest)

    def counting(self: Workbench, updates: list[tuple[Model, int]], *rest: Any) -> Timed[Model]:
        averaged.append(len(updates))
        return average(self, updates, *rest)

    monkeypatch.setattr(MininetCarrier, "play", tampering)
    monkeypatch.setattr(Workbench, "average", counting)
    status, err = run(tmp_path, ONE_CELL.replace("engine: model", "engine: mininet"))
    assert status == 0, err
    assert one_failed(tmp_path).reason == "what arrived is not what was sent (SHA-256 differs)"
    assert averaged[-1] == CLIENTS - 1  # it is not in the model
