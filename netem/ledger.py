"""What we asked the kernel for, written down first, so that the next start can undo what a killed run left.

One file per run in the state directory, locked for the life of the run. The lock falls with the process, however it
dies; a ledger whose lock is free belongs to a dead run, and `sweep` removes exactly what stands in it, newest first.
Nothing is ever found by pattern: other people have bridges and processes too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TextIO

from netem.errors import CommandError, LedgerError

_SUFFIX = ".ledger"
_DRAFT = ".draft-"
_DRAFT_S = 60.0  # no start takes so long between making a draft and giving it its name
_KILL_WAIT_S = 10.0
_LOCK_WAIT_S = 2.0

_open_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


class Ledger:
    """The notes of one run; a context manager that holds the lock.

    Attributes:
        run_id: five hexadecimal digits, unique among the ledgers of this state directory; goes into every
            name that we give (an interface name has 15 characters).
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.run_id = ""
        self._path = Path()
        self._file = -1
        self._notes: list[tuple[str, str]] = []

    def __enter__(self) -> Ledger:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        # Locked under a name that no sweep looks at, then linked: no sweep can see it unlocked.
        draft = self.state_dir / f"{_DRAFT}{os.getpid()}-{secrets.token_hex(8)}"
        self._file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(
                {
                    "ledger": 1,
                    "boot": _boot_id(),
                    "pids": _pid_namespace(),
                    "owner": process_name(os.getpid()),
                }
            )
            while True:
                self.run_id = secrets.token_hex(3)[:5]
                self._path = self.state_dir / f"{self.run_id}{_SUFFIX}"
                with contextlib.suppress(FileExistsError):
                    os.link(draft, self._path)
                    break
        except BaseException:
            os.close(self._file)
            raise
        finally:
            draft.unlink()
        _open_ledgers.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._notes:
            self._path.unlink(missing_ok=True)
        self._release()

    def note(self, kind: str, name: str) -> None:
        """Write down, before asking the kernel, that *name* will exist."""
        if kind not in _REMOVERS:
            raise LedgerError(str(self._path), f"no way to remove a {kind!r} is known")
        self._write({"note": [kind, name]})
        self._notes.append((kind, name))

    def remove(self, kind: str, name: str) -> None:
        """Remove what was noted, if it is still there, and write that down."""
        _REMOVERS[kind][1](name)
        self.gone(kind, name)

    def gone(self, kind: str, name: str) -> None:
        """Write down, after it was removed, that *name* exists no more."""
        self._notes.remove((kind, name))
        self._write({"gone": [kind, name]})

    def _write(self, record: dict[str, object]) -> None:
        os.write(self._file, (json.dumps(record) + "\n").encode())

    def _release(self) -> None:
        """Close the file, and the lock with it (in a forked child: the child's copy of it)."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        _open_ledgers.discard(self)


def _forget_in_child() -> None:
    """A forked child that outlives a killed parent must not keep its ledger locked."""
    for ledger in list(_open_ledgers):
        ledger._release()


os.register_at_fork(after_in_child=_forget_in_child)


def sweep(state_dir: Path) -> list[str]:
    """Remove what dead runs left behind.

    Returns:
        What was removed, ``"kind name"`` each, in the order of removal. What was gone already is not listed.
    Raises:
        LedgerError: a ledger that cannot be read, or something that could not be removed; its ledger stays.
    """
    removed: list[str] = []
    if not state_dir.is_dir():
        return removed
    for path in sorted(state_dir.glob(f"*{_SUFFIX}")):
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("r+", encoding="utf-8"))
            except FileNotFoundError:  # swept by someone else
                continue
            if not _lock(file):
                continue
            if os.fstat(file.fileno()).st_nlink == 0:  # swept between our open and our lock
                continue
            removed += _sweep_one(path, file.read())
    for draft in state_dir.glob(f"{_DRAFT}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > _DRAFT_S:
                draft.unlink()
    return removed


def _lock(file: TextIO) -> bool:
    """Whether the lock is ours, that is, whether the ledger's run is dead.

    A run killed while it started a program leaves a child that holds the lock for the moment until it becomes that
    program; with its owner gone, that moment is waited for.
    """
    deadline_s = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if _owner_lives(file) or time.monotonic() > deadline_s:
                return False
            time.sleep(0.005)


def _owner_lives(file: TextIO) -> bool:
    file.seek(0)
    try:
        header = json.loads(file.readline())
        if header["pids"] != _pid_namespace() or header["boot"] != _boot_id():
            return True  # not to be seen from here; the lock says that it lives
        pid, start = (int(part) for part in header["owner"].split(":"))
    except (ValueError, KeyError, TypeError):
        return True  # being written, or damaged: nothing to go by but the lock
    finally:
        file.seek(0)
    try:
        return _start_ticks(pid) == start
    except FileNotFoundError:
        return False


def _sweep_one(path: Path, text: str) -> list[str]:
    header, notes = _read(path, text)
    if header.get("pids") != _pid_namespace() and header.get("boot") == _boot_id():
        return []  # another container's: its process numbers mean nothing here
    removed = []
    for kind, name in reversed(notes):
        survives_boot, remove = _REMOVERS[kind]
        if header.get("boot") != _boot_id() and not survives_boot:
            continue
        try:
            if remove(name):
                removed.append(f"{kind} {name}")
        except (OSError, CommandError) as error:
            raise LedgerError(str(path), f"{kind} {name} could not be removed: {error}") from error
    path.unlink()
    return removed


def _read(path: Path, text: str) -> tuple[dict[str, object], list[tuple[str, str]]]:
    header: dict[str, object] = {}
    notes: list[tuple[str, str]] = []
    complete = text[: text.rfind("\n") + 1]  # a last line that was cut short was never acted upon
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            record = json.loads(line)
            if number == 1:
                if record["ledger"] != 1:
                    raise LedgerError(
                        str(path), f"ledger version {record['ledger']}; this build reads version 1"
                    )
                header = record
            elif "note" in record:
                kind, name = record["note"]
                if kind not in _REMOVERS:
                    raise LedgerError(str(path), f"line {number}: no way to remove a {kind!r} is known")
                notes.append((kind, name))
            else:
                kind, name = record["gone"]
                notes.remove((kind, name))
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(str(path), f"line {number} is damaged: {line!r}") from error
    return header, notes


def process_name(pid: int) -> str:
    """``"pid:start"``: the number of a process alone may be someone else's by now."""
    return f"{pid}:{_start_ticks(pid)}"


def _start_ticks(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(text[text.rindex(")") + 2 :].split()[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _remove_process(name: str) -> bool:
    pid, start = (int(part) for part in name.split(":"))
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at through /proc only after the handle is held: the number cannot change owner in between.
        if _start_ticks(pid) != start:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not select.select([handle], [], [], _KILL_WAIT_S)[0]:
            raise TimeoutError(f"still there {_KILL_WAIT_S:.0f} s after SIGKILL")
    except (FileNotFoundError, ProcessLookupError):
        return False
    finally:
        os.close(handle)
    return True


def _remove_interface(name: str) -> bool:
    if not Path(f"/sys/class/net/{name}").exists():
        return False
    try:
        _run("ip", "link", "del", "dev", name)
    except CommandError:  # its other end's namespace may have taken it along in between
        if Path(f"/sys/class/net/{name}").exists():
            raise
        return False
    return True


def _remove_ovs_bridge(name: str) -> bool:
    known = _run("ovs-vsctl", "list-br").split()
    if name not in known:
        return False
    _run("ovs-vsctl", "--if-exists", "del-br", name)
    return True


def _remove_cgroup(name: str) -> bool:
    """*name* is the group's folder. Whoever is still in it was started by the dead run: only it knew the group."""
    folder = Path(name)
    if "/fz" not in name or not folder.is_dir():
        return False
    deadline_s = time.monotonic() + _KILL_WAIT_S
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline_s:
                raise
            for pid in (folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)
        else:
            return True


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(argv, done.returncode, done.stderr)
    return done.stdout


# kind -> (does it outlive a reboot, how to remove it: False when it was gone already)
_REMOVERS: dict[str, tuple[bool, Callable[[str], bool]]] = {
    "process": (False, _remove_process),
    "interface": (False, _remove_interface),
    "ovs-bridge": (True, _remove_ovs_bridge),
    "cgroup": (False, _remove_cgroup),
}
