"""The nursery and its workers: the other side of `fedsz.workers`. ``python -m fedsz.isolated_worker FD``."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fedsz
from fedsz.container import read_directory
from fedsz.decompression import plan
from fedsz.globalmodel import Reference
from fedsz.isolate import offsets
from fedsz.workers import receive, send

# The caller gives up first and says so; the alarm ends a worker whose caller is gone.
_ALARM_GRACE_S = 5.0


def nursery(channel: socket.socket) -> None:
    """Load the codecs, then fork a worker for every socket that comes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    fedsz.codecs()  # asking loads the libraries
    send(channel, {"ready": True}, [])
    while (received := receive(channel)) is not None:
        request, files = received
        if "status" in request:
            _, status = os.waitpid(request["status"], 0)
            send(channel, {"status": os.waitstatus_to_exitcode(status)}, [])
            continue
        pid = os.fork()
        if pid == 0:
            channel.close()
            try:
                _Server(socket.socket(fileno=files[0])).run()
            finally:
                os._exit(1)
        os.close(files[0])
        send(channel, {"pid": pid}, [])


class _Server:
    """A worker: decodes payloads until its socket closes."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._held: Reference | None = None
        self._result = np.empty(0, np.uint8)

    def run(self) -> None:
        while (received := receive(self._channel)) is not None:
            answer = self._answer(*received)
            send(self._channel, answer, [])
        os._exit(0)

    def _answer(self, request: dict[str, Any], files: list[int]) -> dict[str, Any]:
        try:
            payload = memoryview(mmap.mmap(files[0], request["payload_bytes"], access=mmap.ACCESS_READ))
            if request["new_result_bytes"]:
                self._result = np.frombuffer(mmap.mmap(files[1], request["new_result_bytes"]), np.uint8)
            if request["reference"]:
                packed = mmap.mmap(files[-1], 0, access=mmap.ACCESS_READ)
                self._held = Reference(fedsz.decompress(memoryview(packed), max_bytes=1 << 62))
            _limit(request["memory_bytes"], request["seconds"] + _ALARM_GRACE_S)
            self._decode(payload, request["max_bytes"])
        except fedsz.CodecUnavailableError as error:
            return {"error": "CodecUnavailableError", "args": [error.codec_id, error.why, error.install]}
        except (fedsz.FedSZError, MemoryError) as error:
            return {"error": type(error).__name__, "text": str(error)[:1000]}
        finally:
            _limit(None, 0)
            for file in files:
                os.close(file)
        return {"ok": True}

    def _decode(self, payload: memoryview, max_bytes: int) -> None:
        directory, data = read_directory(payload, self._held, max_bytes)
        jobs = list(plan(directory, data, self._held))
        sizes = [job.nbytes for job in jobs]
        for job, start, size in zip(jobs, offsets(sizes), sizes, strict=False):  # the last offset is the end
            job.decode(self._result[start : start + size])


def _limit(memory_bytes: int | None, seconds: float) -> None:
    """Allow *memory_bytes* beyond what is mapped now (None: no limit) and *seconds* until SIGALRM kills (0: never)."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (hard if memory_bytes is None else mapped + memory_bytes, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    nursery(socket.socket(fileno=int(sys.argv[1])))
