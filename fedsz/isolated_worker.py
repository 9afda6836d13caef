"""The child of `fedsz.isolate`: decodes payloads until its socket closes. ``python -m fedsz.isolated_worker FD``."""

from __future__ import annotations

import ctypes
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
from fedsz.isolate import offsets, receive, send

_PR_SET_PDEATHSIG = 1


def _mapped_bytes() -> int:
    """Address space in use; 0 where the system does not say, which leaves the limit generous by nothing."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    except OSError:
        return 4 << 30


def _limit_memory(allowed: int | None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard if allowed is None else _mapped_bytes() + allowed, hard))


def _decode(request: dict[str, Any], files: list[int], held: Reference | None) -> None:
    # The mappings go when the arrays over them do.
    payload = memoryview(mmap.mmap(files[0], request["payload_bytes"], access=mmap.ACCESS_READ))
    directory, data = read_directory(payload, held, request["max_bytes"])
    starts, size = offsets(directory.layout)
    assert size == request["result_bytes"]
    target = np.frombuffer(mmap.mmap(files[1], max(size, 1)), np.uint8)
    for job in plan(directory, data, held):
        for at, flat in zip(job.positions, job.decode(), strict=True):
            target[starts[at] : starts[at] + flat.nbytes] = flat.view(np.uint8)


def main() -> None:
    """Serve requests one after the other."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    channel = socket.socket(fileno=int(sys.argv[1]))
    for info in fedsz.codecs().values():
        assert info.codec_id  # asking has loaded the libraries, outside any payload's time and memory limit
    send(channel, {"ready": True}, [])
    held: Reference | None = None
    while (received := receive(channel)) is not None:
        request, files = received
        try:
            if request["reference"]:
                with mmap.mmap(files[2], 0, access=mmap.ACCESS_READ) as packed:
                    held = Reference(fedsz.decompress(bytes(packed), max_bytes=1 << 62))
            _limit_memory(request["memory_bytes"])
            _decode(request, files, held)
            answer: dict[str, Any] = {"ok": True}
        except fedsz.CodecUnavailableError as error:
            answer = {"error": "CodecUnavailableError", "args": [error.codec_id, error.why, error.install]}
        except (fedsz.FedSZError, MemoryError) as error:
            answer = {"error": type(error).__name__, "text": str(error)[:1000]}
        finally:
            _limit_memory(None)
            for file in files:
                os.close(file)
        send(channel, answer, [])


if __name__ == "__main__":
    main()
