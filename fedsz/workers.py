"""Worker processes for `fedsz.isolate`: a nursery that has loaded the codecs and forks a worker in milliseconds.

The nursery (``python -m fedsz.isolated_worker``) starts once, has one thread, loads every codec and then only forks; a
hostile update therefore costs a fork, not an interpreter start. Messages are JSON with a length before it, open
files travel beside them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import mmap
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedsz.errors import DecoderCrashedError

NURSERY = "fedsz.isolated_worker"
MAX_MESSAGE = 1 << 16
MAX_FILES = 3
_LENGTH = struct.Struct("<I")
_START_S = 120.0  # importing the codecs on a slow, busy machine
_KEPT_RESULT_BYTES = 256 << 20


def send(channel: socket.socket, message: dict[str, Any], files: list[int]) -> None:
    """One message with open files."""
    body = json.dumps(message).encode()
    socket.send_fds(channel, [_LENGTH.pack(len(body)) + body], files)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Inverse of `send`; None at the end of the stream, ConnectionError or ValueError on nonsense."""
    data, files, _, _ = socket.recv_fds(channel, _LENGTH.size, MAX_FILES)
    if not data:
        return None
    data += _exactly(channel, _LENGTH.size - len(data))
    (length,) = _LENGTH.unpack(data)
    if length > MAX_MESSAGE:
        raise ConnectionError(f"message of {length} bytes")
    message = json.loads(_exactly(channel, length))
    if not isinstance(message, dict):
        raise ConnectionError("message is no object")
    return message, files


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = channel.recv(count - len(data))
        if not more:
            raise ConnectionError("stream ended within a message")
        data += more
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


class _Nursery:
    """The process that forks workers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        package_root = str(Path(__file__).resolve().parent.parent)
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", NURSERY, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a corrupted heap announces itself there; the exit status says enough
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # the caller's Ctrl-C is the caller's to handle
            )
        self._channel.settimeout(_START_S)
        if receive(self._channel) is None:
            raise DecoderCrashedError(f"the decoding process did not start (status {self._process.wait()})")

    def fork(self, channel: socket.socket) -> int:
        """A worker that serves *channel*; its process id."""
        return int(self._request({"fork": True}, [channel.fileno()])["pid"])

    def status(self, pid: int) -> int:
        """The exit status of a worker that has ended or is about to; minus the signal number where one killed it."""
        return int(self._request({"status": pid}, [])["status"])

    def _request(self, message: dict[str, Any], files: list[int]) -> dict[str, Any]:
        with self._lock:
            send(self._channel, message, files)
            answer = receive(self._channel)
        if answer is None:
            raise DecoderCrashedError(f"the decoding process has ended (status {self._process.wait()})")
        return answer[0]

    def close(self) -> None:
        """End it; its workers end when their own channels close."""
        self._channel.close()
        self._process.wait()


class Worker:
    """One forked process and the socket to it."""

    def __init__(self, nursery: _Nursery) -> None:
        self._nursery = nursery
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._pid = nursery.fork(theirs)
        self.holds: bytes | None = None  # digest of the reference that the child has
        self._result: mmap.mmap | None = None
        self._how: str | None = None

    def result_area(self, size: int) -> tuple[mmap.mmap, int | None]:
        """Memory shared with the child, and the file to send and close where it is new.

        It is kept between requests, because fresh pages cost more than the copying.
        """
        if self._result is not None and size <= len(self._result) <= max(_KEPT_RESULT_BYTES, size):
            return self._result, None
        size = max(size, mmap.PAGESIZE)
        file = memory_file(size)
        self._result = mmap.mmap(file, size)
        return self._result, file

    def ask(self, message: dict[str, Any], files: list[int], seconds: float) -> dict[str, Any]:
        """One request and its answer; OSError or ValueError where the child dies, TimeoutError where it is slow."""
        self._channel.settimeout(seconds)
        send(self._channel, message, files)
        answer = receive(self._channel)
        if answer is None:
            raise ConnectionError("the worker closed its side")
        return answer[0]

    def kill(self) -> str:
        """End the child if it still lives, and say how it ended."""
        if self._how is None:
            self._channel.close()
            # The nursery has not waited for it yet, so that the number still means this child.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            status = self._nursery.status(self._pid)
            self._how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return self._how


class Pool:
    """Idle workers of this process; never more of them alive than processors."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._slots = threading.Semaphore(os.cpu_count() or 1)
        self._nursery = _Nursery()

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        """A worker for one request; it is ended, not reused, where the request ends in an exception."""
        with self._slots:
            try:
                worker = self._idle.get_nowait()
            except queue.Empty:
                worker = Worker(self._nursery)
            try:
                yield worker
            except BaseException:
                worker.kill()
                raise
            self._idle.put(worker)

    def close(self) -> None:
        """End the idle workers and the nursery."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().kill()
        self._nursery.close()


_pools: list[Pool] = []
_pools_lock = threading.Lock()


def pool() -> Pool:
    """The pool of this process, started on the first call; Linux only."""
    if sys.platform != "linux":
        raise NotImplementedError(
            "isolated decoding forks, limits memory by RLIMIT_AS and reads /proc: Linux only"
        )
    with _pools_lock:
        # A forked child must not talk over its parent's sockets.
        if not _pools or _pools[-1].pid != os.getpid():
            _pools[:] = [Pool()]
        return _pools[-1]


def shut_down() -> None:
    """End the workers of this process; also done at exit."""
    with _pools_lock:
        if _pools and _pools[-1].pid == os.getpid():
            _pools.pop().close()


atexit.register(shut_down)
