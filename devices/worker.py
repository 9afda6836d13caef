"""One child process in which a client's work really runs, alone, measured and held to its limits."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from devices.child import receive, send
from devices.errors import NotImportableError, WorkerCallError, WorkerDiedError, WorkerTimeoutError
from devices.limits import ControlGroup, Limits, Notebook, new_name
from devices.took import Took

P = ParamSpec("P")
R = TypeVar("R")

# Every thread pool that a numerical library may open by itself, pinned by the variable that it reads.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "BLOSC_NTHREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Worker:
    """A context manager around one child process (started afresh, not forked).

    The child enters its control group before it imports anything, so the libraries it loads count against the
    memory ceiling, as they do on a device. The CPU quota is in force during the measured part of a call only: imports
    and the transfer of arguments and results are ours, not the device's. The child keeps modules and caches between
    calls. One that died is replaced at the next call; so a client that runs out of memory costs one call.

    Not thread-safe: one call at a time, which is also what makes its measurements worth something.

    Args:
        limits: what the kernel shall enforce; None or all None: nothing, and no root needed.
        name: the control group's name; must be unique on this machine. Default: made from *ledger*'s run.
        ledger: told of each control group before it is made and after it is gone (see `Notebook`).
        threads: size of the thread pools of numerical libraries in the child.
        timeout_s: longest time for one call; None waits for ever.

    Raises (on entry): LimitError where the kernel cannot enforce a limit.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        name: str | None = None,
        ledger: Notebook | None = None,
        threads: int = 1,
        timeout_s: float | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.threads, self.timeout_s = threads, timeout_s
        self._name = name or new_name("worker", ledger)
        self._group = ControlGroup(self._name, self.limits, ledger=ledger) if self.limits.any() else None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._life = -1

    def __enter__(self) -> Self:
        if self._group is not None:
            self._group.__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child and remove its control group."""
        self._stop()
        if self._group is not None:
            self._group.close()

    @property
    def pid(self) -> int | None:
        """The child's process id, None where none runs."""
        return self._process.pid if self._process is not None else None

    def reshape(self, limits: Limits) -> None:
        """Change the limits between calls; only values may change, not which limits there are.

        Raises: LimitError where the kernel refuses; ValueError where the worker was started without limits.
        """
        if self._group is None:
            raise ValueError("this worker was started without limits")
        self._group.apply(limits)
        self._group.let_run()  # until the next call's measured part
        self.limits = limits

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> tuple[R, Took]:
        """Run ``function(*args, **kwargs)`` in the child; its result and what it cost.

        Raises:
            WorkerDiedError: the process ended.
            WorkerTimeoutError: it took too long.
            NotImportableError: the child cannot find the function.
            WorkerCallError: the function raised something that pickle cannot carry. Whatever else it raises arrives as
                itself, with the child's traceback as a note.
        """
        return self.call_as(getattr(function, "__name__", repr(function)), function, *args, **kwargs)

    def call_as(
        self, what: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[R, Took]:
        """`call` with the words that an error shall use, such as ``"training"``."""
        module, name = _reference(function)
        if self._process is None:
            self._start()
        assert self._socket is not None
        self._socket.settimeout(self.timeout_s)
        try:
            answer = self._exchange(self._socket, (module, name, args, kwargs, self.threads))
        except TimeoutError:
            self._stop()
            assert self.timeout_s is not None
            raise WorkerTimeoutError(what, self.timeout_s) from None
        except (EOFError, ConnectionError):
            raise self._death(what) from None
        if answer[0] == "ok":
            _, result, wall_s, cpu_s, peak_bytes = answer
            return result, Took(wall_s, cpu_s, peak_bytes)
        _, packed, kind, text, trace = answer
        if packed is None:
            raise WorkerCallError(what, kind, text, trace)
        error = pickle.loads(packed)  # noqa: S301  # from our own child
        error.add_note(f"raised in a worker while {what}:\n{trace}")
        raise error

    def _exchange(self, sock: socket.socket, request: tuple[object, ...]) -> Any:
        """Send one call and wait for its outcome, with the CPU quota in force during the measured part only."""
        in_step = self._group is not None and self.limits.cpu_share is not None
        send(sock, (*request, in_step))
        answer = receive(sock)
        while answer[0] in ("ready", "done"):
            assert self._group is not None
            if answer[0] == "ready":
                self._group.hold_back()
            else:
                self._group.let_run()
            send(sock, "go")
            answer = receive(sock)
        if in_step and self._group is not None:
            self._group.let_run()  # also after an exception, which comes without "done"
        return answer

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        life_read, self._life = os.pipe()
        environment = dict(os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.threads)))
        try:
            self._process = subprocess.Popen(
                # -P: without it the folder of child.py leads sys.path, and `profile` there hides the stdlib's.
                [sys.executable, "-P", str(_CHILD), str(theirs.fileno()), str(life_read)],
                pass_fds=(theirs.fileno(), life_read),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what the work prints must not mix with what our caller writes for machines
                env=environment,
                process_group=0,  # Ctrl-C is for us; we then end the child in order
            )
        finally:
            theirs.close()
            os.close(life_read)
        self._socket = ours
        if self._group is not None:
            self._group.let_run()
            self._group.add(self._process.pid)
        send(ours, [str(Path(entry).absolute()) for entry in sys.path])

    def _stop(self) -> int:
        """End the child if there is one; its exit status."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        status = self._process.wait()
        self._process = None
        return status

    def _death(self, what: str) -> WorkerDiedError:
        assert self._process is not None
        # The socket closes a moment before the process is gone; its own exit status must not be replaced by ours.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        status = self._stop()
        killed = self._group is not None and self._group.new_memory_kills() > 0
        return WorkerDiedError(what, status, killed, self.limits.memory_bytes)


_CHILD = Path(__file__).with_name("child.py")


def _reference(function: Callable[..., Any]) -> tuple[str, str]:
    """Module and qualified name, after checking that they lead back to *function*."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not name or module == "__main__" or "<" in name:
        raise NotImportableError(f"{module}.{name}")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not function:
        raise NotImportableError(f"{module}.{name}")
    return module, name
