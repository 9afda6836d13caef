"""Workers that outlive the test that started them: starting one loads PyTorch, longer than most tests' sweeps take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from devices.limits import Limits, Notebook
from devices.worker import Worker

_idle: list[Worker] = []


@contextmanager
def kept(limits: Limits | None = None, *, ledger: Notebook | None = None) -> Iterator[Worker]:
    """As `Worker`; one without limits goes on to serve whoever comes next, unless its user was interrupted."""
    if limits is not None and limits.any():
        with Worker(limits, ledger=ledger) as worker:
            yield worker
        return
    worker = _idle.pop() if _idle else Worker().__enter__()
    try:
        yield worker
    except BaseException:  # it may be in the middle of an answer
        worker.close()
        raise
    _idle.append(worker)


def close() -> None:
    """End them all."""
    while _idle:
        _idle.pop().close()
