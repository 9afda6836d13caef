"""Decoding where a crash costs one update: worker processes with memory and time limits.

The C decoders of SZ2, SZ3 and ZFP trust their input; a crafted block with a valid checksum can make them read or write
where they should not. Here they do that in a process that holds nothing but the payload and the global model. Files in
memory carry the bytes, so that nothing is pickled in either direction, and what comes back is copied before use.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import mmap
import os
import queue
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedsz import errors
from fedsz.arrays import Array
from fedsz.bound import ErrorBound
from fedsz.container import Directory
from fedsz.globalmodel import Reference
from fedsz.layout import Layout

ALIGNMENT = 64
MAX_MESSAGE = 1 << 16
_LENGTH = struct.Struct("<I")
# A worker imports NumPy and compiled codecs on its first request.
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Isolation:
    """Limits of one isolated decoding.

    Attributes:
        seconds: wall time allowed, plus the time for the slowest codec at a tenth of its usual speed.
        bytes_per_second: that slow speed, in decoded bytes.
        spare_bytes: memory allowed beyond four times the decoded state and the payload; the codecs' working space.
    """

    seconds: float = 10.0
    bytes_per_second: float = 10e6
    spare_bytes: int = 512 << 20

    def time_limit_s(self, raw_bytes: int) -> float:
        """Seconds allowed for *raw_bytes* decoded bytes."""
        return self.seconds + raw_bytes / self.bytes_per_second


def offsets(layout: Layout) -> tuple[list[int], int]:
    """Where each tensor lies in the result file, and the file's size."""
    starts, at = [], 0
    for nbytes in layout.nbytes:
        starts.append(at)
        at += -(-nbytes // ALIGNMENT) * ALIGNMENT
    return starts, at


def send(channel: socket.socket, message: dict[str, Any], files: list[int]) -> None:
    """One JSON message, length first, with open files."""
    body = json.dumps(message).encode()
    socket.send_fds(channel, [_LENGTH.pack(len(body)) + body], files)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Inverse of `send`; None at the end of the stream."""
    data, files, _, _ = socket.recv_fds(channel, _LENGTH.size, 3)
    if not data:
        return None
    while len(data) < _LENGTH.size:
        data += _some(channel, _LENGTH.size - len(data))
    (length,) = _LENGTH.unpack(data)
    if length > MAX_MESSAGE:
        raise ConnectionError(f"message of {length} bytes")
    body = b""
    while len(body) < length:
        body += _some(channel, length - len(body))
    message = json.loads(body)
    if not isinstance(message, dict):
        raise ConnectionError("message is no object")
    return message, files


def _some(channel: socket.socket, count: int) -> bytes:
    data = channel.recv(count)
    if not data:
        raise ConnectionError("stream ended within a message")
    return data


def memory_file(size: int) -> int:
    """An open, nameless file of *size* bytes, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("fedsz", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, size)
    return file


class _Worker:
    """One child process and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        package_root = str(Path(__file__).resolve().parent.parent)
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fedsz.isolated_worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a corrupted heap announces itself there; the exit status says enough
                env=environment,
                start_new_session=True,  # the caller's Ctrl-C is the caller's to handle
            )
        self.channel = ours
        self.holds: bytes | None = None  # digest of the reference that the child has
        self._ready = False

    def close(self) -> int:
        """End the child, and say how it ended."""
        self.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout=0.2)
        self.process.kill()
        return self.process.wait()

    def wait_ready(self) -> None:
        """Until the child has imported its codecs: that time is not the payload's."""
        if not self._ready:
            self.channel.settimeout(_START_S)
            if receive(self.channel) is None:
                raise ConnectionError("the worker did not start")
            self._ready = True

    def ask(self, message: dict[str, Any], files: list[int], seconds: float) -> dict[str, Any]:
        """One request and its answer; OSError where the child dies or takes too long."""
        self.channel.settimeout(seconds)
        send(self.channel, message, files)
        answer = receive(self.channel)
        if answer is None:
            raise ConnectionError("the worker closed its side")
        return answer[0]


class _Pool:
    """Idle workers of this process; never more of them alive than processors."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._slots = threading.Semaphore(os.cpu_count() or 1)

    @contextlib.contextmanager
    def worker(self) -> Any:
        """A worker for one request; it is closed, not reused, where the request ends in an exception."""
        with self._slots:
            try:
                worker = self._idle.get_nowait()
            except queue.Empty:
                worker = _Worker()
            try:
                yield worker
            except BaseException:
                worker.close()
                raise
            self._idle.put(worker)

    def close(self) -> None:
        """End the idle workers."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


_pools: list[_Pool] = []
_pools_lock = threading.Lock()


def _pool() -> _Pool:
    with _pools_lock:
        # A forked child must not talk over its parent's sockets.
        if not _pools or _pools[-1]._pid != os.getpid():
            _pools[:] = [_Pool()]
        return _pools[-1]


def shut_down() -> None:
    """End the idle workers of this process; also done at exit."""
    with _pools_lock:
        if _pools and _pools[-1]._pid == os.getpid():
            _pools.pop().close()


atexit.register(shut_down)


def decode(
    payload: memoryview, directory: Directory, reference: Reference | None, limits: Isolation
) -> list[Array]:
    """All tensors of a payload in state order, decoded in a worker process.

    Args:
        payload: whole, its directory already read and checked.
        directory: of it.
        reference: the one that the payload names, or None.
        limits: what the worker may take.

    Raises:
        PayloadError: what the decoder found wrong, or DecoderCrashedError where it died or took too long.
    """
    layout = directory.layout
    starts, size = offsets(layout)
    raw_bytes = sum(layout.nbytes)
    needs = reference if directory.digest is not None else None
    with contextlib.ExitStack() as stack:
        worker: _Worker = stack.enter_context(_pool().worker())
        worker.wait_ready()
        files = [_file_of(stack, payload), _open(stack, max(size, 1))]
        send_reference = needs is not None and worker.holds != needs.digest
        if needs is not None and send_reference:
            from fedsz.compression import compress

            packed = compress(needs.arrays, ErrorBound("ABS", 0), codec="none")
            files.append(_file_of(stack, memoryview(packed)))
        message = {
            "payload_bytes": len(payload),
            "result_bytes": size,
            "memory_bytes": 4 * raw_bytes + len(payload) + limits.spare_bytes,
            "max_bytes": raw_bytes,
            "reference": send_reference,
        }
        started = time.monotonic()
        try:
            answer = worker.ask(message, files, limits.time_limit_s(raw_bytes))
        except TimeoutError:
            spent = time.monotonic() - started
            raise errors.DecoderCrashedError(
                f"decoder stopped after {spent:.1f} s; the payload hangs it"
            ) from None
        except (OSError, ValueError):
            status = worker.close()
            raise errors.DecoderCrashedError(f"decoder died on this payload (exit status {status})") from None
        if needs is not None:
            worker.holds = needs.digest
        if "error" in answer:
            _raise(answer)
        with mmap.mmap(files[1], max(size, 1), access=mmap.ACCESS_READ) as result:
            return [
                _copy(result, start, nbytes, layout.native_dtype(at))
                for at, (start, nbytes) in enumerate(zip(starts, layout.nbytes, strict=True))
            ]


def _open(stack: contextlib.ExitStack, size: int) -> int:
    file = memory_file(size)
    stack.callback(os.close, file)
    return file


def _file_of(stack: contextlib.ExitStack, data: memoryview) -> int:
    file = _open(stack, len(data))
    with mmap.mmap(file, len(data)) as target:
        target[:] = data
    return file


def _copy(result: mmap.mmap, start: int, nbytes: int, dtype: np.dtype[Any]) -> Array:
    out = np.empty(nbytes // dtype.itemsize, dtype)
    with memoryview(result) as view:
        out.view(np.uint8)[:] = np.frombuffer(view[start : start + nbytes], np.uint8)
    return out


def _raise(answer: dict[str, Any]) -> None:
    kind = getattr(errors, str(answer["error"]), None)
    text = str(answer.get("text", ""))
    if (
        isinstance(kind, type)
        and issubclass(kind, errors.PayloadError)
        and kind is not errors.PayloadTooLargeError
    ):
        raise kind(text)
    if kind is errors.CodecUnavailableError:
        raise errors.CodecUnavailableError(*map(str, answer.get("args", ["?", text, ""])))
    raise errors.DecoderCrashedError(f"decoder failed on this payload ({answer['error']}: {text})")
