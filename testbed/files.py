"""Writing files so that a kill at any moment leaves the old file, the new file or no file; never half of one."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import ResultsExistError

_DRAFT = ".draft-"


def write_once(path: Path, content: str | bytes) -> None:
    """Write a file that did not exist. ResultsExistError, and nothing changed, if it did; OSError as it comes."""
    temporary = _write_temporary(path, content)
    try:
        os.link(temporary, path)  # unlike rename, refuses to replace
    except FileExistsError as error:
        raise ResultsExistError(str(path), single=True) from error
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def write_derived(path: Path, content: str | bytes) -> None:
    """Write a file that can be computed again from the records; an older one is replaced in one step."""
    temporary = _write_temporary(path, content)
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError from inside names *path*: writing to a descriptor (a full disk) names nothing by itself."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def clear_drafts(folder: Path) -> None:
    """Remove what killed writers left half written in *folder*; a draft that its writer still holds stays."""
    for draft in folder.glob(f".*{_DRAFT}*"):
        try:
            descriptor = os.open(draft, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # its writer has just finished
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink(missing_ok=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make new names in *folder* survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_temporary(path: Path, content: str | bytes) -> Path:
    data = content.encode("utf-8") if isinstance(content, str) else content
    while True:
        with naming(path):
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}{_DRAFT}", dir=path.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # falls with this process, however it dies
        if os.fstat(descriptor).st_nlink:  # else it was cleared away before it was locked
            break
        os.close(descriptor)
    temporary = Path(name)
    try:
        with naming(path), os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink()
        raise
    return temporary
