"""Going before ordinary work: what watches or carries a transfer must not wait for somebody else's time slice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def real_time() -> Iterator[bool]:
    """This thread is scheduled in real time for as long as the block takes, but no process that it starts.

    Yields whether the kernel allowed it; without, the block runs as ordinary work.
    """
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        go_first()
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, before, parameters)


def go_first() -> None:
    """Schedule this thread in real time from now on, at the lowest priority of that kind.

    Raises:
        PermissionError: not allowed here.
    """
    lowest = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, lowest)
