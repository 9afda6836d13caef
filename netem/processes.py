"""Starting helper processes and talking to them, from the owner's side."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from netem.agent import BULK, MESSAGE_BYTES
from netem.errors import TransferError

Item = TypeVar("Item")

_REPLY_S = 60.0
_END_S = 2.0


class AgentProcess:
    """One helper process. It ends when this object is closed or this process dies.

    Args:
        role: ``sender``, ``receiver``, ``digester`` or ``shaper``.
        started: called with the process number as soon as there is one, for the ledger.
    """

    def __init__(self, role: str, started: Callable[[int], None]) -> None:
        self.role = role
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.channel, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MESSAGE_BYTES)
        package_parent = str(Path(__file__).resolve().parent.parent)
        paths = [package_parent, *filter(None, [os.environ.get("PYTHONPATH")])]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "netem.agent", str(theirs.fileno()), role],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C ends the owner, which then ends this
            )
        started(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, descriptors: Sequence[int] = (), **message: Any) -> None:
        """Send a message; *descriptors* go along."""
        try:
            socket.send_fds(self.channel, [json.dumps(message).encode()], descriptors)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self.death() from error

    def hear(self) -> dict[str, Any]:
        """The next message; waits for it."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.channel, MESSAGE_BYTES, 1)
        except ConnectionResetError:
            data, descriptors = b"", []
        if data == BULK:
            with os.fdopen(descriptors[0], "rb") as file:
                data = file.read()
        if not data:
            raise self.death()
        message: dict[str, Any] = json.loads(data)
        if message["event"] == "error":
            raise TransferError(f"the {self.role} process: {message['text']}")
        return message

    def ask(self, descriptors: Sequence[int] = (), **message: Any) -> dict[str, Any]:
        """Send a message and wait for its ``done``. Only for processes that say nothing unasked."""
        self.tell(descriptors, **message)
        if not select.select([self.channel], [], [], _REPLY_S)[0]:
            raise TransferError(f"the {self.role} process did not answer {message['do']!r} in {_REPLY_S:g} s")
        return self.hear()

    def enter(self, holders: Mapping[int, int]) -> None:
        """Make namespaces known: index -> a process that lives in it."""
        for batch in batches(list(holders.items())):
            self.ask(do="namespaces", pids={str(index): pid for index, pid in batch})

    def death(self) -> TransferError:
        """The error to raise when the process is gone."""
        try:
            status: int | None = self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            status = None
        return TransferError(f"the {self.role} process is gone (status {status})")

    def close(self) -> None:
        """End the process."""
        self.channel.close()
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def batches(items: Sequence[Item], size: int = 100) -> Iterator[Sequence[Item]]:
    """Pieces that fit into one message."""
    return (items[start : start + size] for start in range(0, len(items), size))
