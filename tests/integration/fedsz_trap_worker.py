"""A nursery whose SZ3 decoder misbehaves as its block tells it; see test_fedsz_isolate.py."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from typing import Any

import numpy as np

from fedsz.isolated_worker import nursery
from fedsz.sz3 import Sz3

LATEST: list[np.ndarray[Any, Any]] = []


def trap(self: Sz3, blob: memoryview, count: int, dtype: np.dtype[Any], **rest: Any) -> np.ndarray[Any, Any]:
    """Crash, end, hang, take memory, fail or write nonsense to the caller's socket."""
    what = bytes(blob[:4])
    if what == b"hang":
        time.sleep(60)
    elif what == b"segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == b"exit":
        os._exit(0)
    elif what == b"hoar":
        LATEST.append(np.ones(1 << 28))
    elif what == b"lies":
        for file in range(3, 20):
            try:
                os.write(file, b"\xff" * 64)
            except OSError:
                continue
    raise RuntimeError("not one of ours")


if __name__ == "__main__":
    Sz3.decode = trap  # type: ignore[method-assign]
    nursery(socket.socket(fileno=int(sys.argv[1])))
