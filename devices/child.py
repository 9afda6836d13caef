"""The process at the other end of a `Worker`: receives calls, times them, answers.

Started as a plain file (``python -P child.py SOCKET_FD LIFE_FD``), so it needs nothing but the standard library
until the first call arrives: at that moment it already sits inside its control group, and every import after it
is charged to the device. `send` and `receive` are the wire format, used by the parent as well. Both ends belong
to one user on one machine, so pickle is safe here; bytes from a network never come this way.
"""

from __future__ import annotations

import gc
import os
import pickle
import resource
import socket
import struct
import sys
import threading
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")


def send(sock: socket.socket, message: object) -> None:
    """Write one message; large arrays go as they lie in memory (pickle protocol 5), never copied into the pickle."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    lengths = b"".join(_LENGTH.pack(part.nbytes) for part in parts)
    sock.sendall(_COUNT.pack(len(parts)) + lengths)
    for part in parts:
        sock.sendall(part)


def receive(sock: socket.socket) -> Any:
    """Read one message; EOFError when the other side is gone. Arrays come back writable, on fresh memory."""
    (count,) = _COUNT.unpack(_exactly(sock, _COUNT.size))
    lengths = [_LENGTH.unpack(_exactly(sock, _LENGTH.size))[0] for _ in range(count)]
    head, *buffers = [_exactly(sock, length) for length in lengths]
    return pickle.loads(head, buffers=buffers)  # noqa: S301  # written by our own process, see the module text


def _exactly(sock: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        got = sock.recv_into(view)
        if got == 0:
            raise EOFError("the other end of the worker's socket is closed")
        view = view[got:]
    return data


def _reset_peak() -> None:
    """Start the kernel's high-water mark of this process afresh (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or a kernel without page monitoring: `_peak_bytes` is then the life's peak
        return


def _peak_bytes() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, everyone else KiB


def _limit_threads(threads: int) -> None:
    """Libraries that were loaded by the import of the function; the others obey the environment."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _failure(error: Exception) -> tuple[object, ...]:
    """The exception itself where it survives pickling, its text where it does not."""
    text = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)  # noqa: S301  # our own bytes; an exception with a wrong __init__ fails only here
    except Exception:  # noqa: BLE001  # a foreign __reduce__ may raise anything, and each case means the same
        packed = None
    return ("error", packed, type(error).__qualname__, str(error), text)


def _answer(sock: socket.socket) -> None:
    try:
        module, name, args, kwargs, threads, in_step = receive(sock)
        function: Any = import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
        _limit_threads(threads)
    except EOFError:
        raise
    except Exception as error:  # noqa: BLE001  # an import may raise anything; the caller must see it
        send(sock, _failure(error))
        return
    gc.collect()  # the rubbish of the last call is not this call's work
    if in_step:  # the parent sets the CPU quota now, so that imports and transfers were not slowed
        send(sock, ("ready",))
        receive(sock)
    _reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        result = function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001  # the caller gets it as itself
        send(sock, _failure(error))
        return
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = _peak_bytes()
    del args, kwargs
    if in_step:  # and lifts it again
        send(sock, ("done",))
        receive(sock)
    try:
        send(sock, ("ok", result, wall, cpu, peak))
    except (pickle.PicklingError, TypeError, AttributeError) as error:  # a result that cannot travel
        send(sock, _failure(error))


def _die_with_parent(life_fd: int) -> None:
    """End this process when the parent is gone, however it died.

    The parent holds the write end of a pipe; PR_SET_PDEATHSIG would kill us when the parent's *thread* ends.
    """

    def watch() -> None:
        os.read(life_fd, 1)
        os._exit(1)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def main() -> None:
    """Serve calls until the socket is closed."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    _die_with_parent(int(sys.argv[2]))
    sys.path[:] = receive(sock)
    while True:
        try:
            _answer(sock)
        except (EOFError, ConnectionError):
            return


if __name__ == "__main__":
    main()
