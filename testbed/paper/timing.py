"""Timing on one core: of training and of codecs alike, as a share of one needs both on the same footing."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


@contextmanager
def steady() -> Iterator[None]:
    """Stay on one core with one thread, and collect no garbage but between timings."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    gc.collect()
    gc.freeze()  # what libraries made will stay; a collection before each timing need not walk it again
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        if cores:
            os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def timed(work: Callable[[], Result], clock: Callable[[], float] = time.perf_counter) -> tuple[Result, float]:
    """The result and the seconds that it took.

    Args:
        clock: wall-clock, or `time.process_time`: with one thread the same on a machine that is alone, and not shaken
            by what else runs on one that is not.
    """
    gc.collect()
    start = clock()
    result = work()
    return result, clock() - start
