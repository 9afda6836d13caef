"""The program of one helper process of an emulated network.

Started as ``python -m netem.agent FD ROLE``. FD is a sequenced-packet socket to the owner. Messages are JSON;
bulk never travels in them, but as memory files whose descriptors go along. When the other end of FD closes, however
it died, this process ends.

Sender and receiver are processes of their own, so that no lock of one interpreter stands between the two ends of a
transfer; the digester hashes outside the timed path; the shaper sets links and replays traces.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from netem.errors import NetemError
from netem.real_time import go_first
from netem.traffic_control import TrafficControl

MESSAGE_BYTES = 1 << 18
BULK = b"bulk"  # a message that is too long for the socket comes as a memory file
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter_namespace(descriptor: int) -> None:
    """Move this thread into a network namespace. Sockets made from here on belong to it for ever."""
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def memory_file(name: str, content: bytes) -> int:
    """A file in memory with *content*, read from its beginning; returns its descriptor."""
    file = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


class Agent:
    """The event loop of one process. One thread; subclasses answer messages in methods named ``on_...``."""

    control_class: ClassVar[type[TrafficControl]] = TrafficControl

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.epoll = select.epoll()
        self._namespaces: dict[int, int] = {}  # index -> descriptor
        self._controls: dict[int, TrafficControl] = {}

    def run(self) -> None:
        """Serve until the owner is gone."""
        self.epoll.register(self.channel.fileno(), select.EPOLLIN)
        while True:
            for descriptor, events in self.epoll.poll(self.patience_s()):
                if descriptor != self.channel.fileno():
                    self.ready(descriptor, events)
                elif not self._listen_to_owner():
                    return
            self.tick()

    def patience_s(self) -> float | None:
        """How long to sleep at most; None for ever."""
        return None

    def ready(self, descriptor: int, events: int) -> None:
        """Something happened on a descriptor that was registered."""

    def tick(self) -> None:
        """Called after every sleep."""

    def tell(self, **message: Any) -> None:
        """Send a message to the owner."""
        data = json.dumps(message).encode()
        if len(data) <= MESSAGE_BYTES // 2:
            self.channel.send(data)
            return
        file = memory_file("message", data)
        socket.send_fds(self.channel, [BULK], [file])
        os.close(file)

    def _listen_to_owner(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self.channel, MESSAGE_BYTES, 4)
        if not data:
            return False
        message = json.loads(data)
        do = message.pop("do")
        try:
            getattr(self, f"on_{do}")(descriptors=descriptors, **message)
        except (NetemError, OSError) as error:
            self.tell(event="error", text=f"{do}: {error}")
        return True

    # --- namespaces -----------------------------------------------------------------------------------

    def on_namespaces(self, descriptors: list[int], pids: dict[str, int]) -> None:
        """Learn namespaces: index -> a process that lives in it."""
        for index, pid in pids.items():
            self._namespaces[int(index)] = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.tell(event="done")

    def enter(self, index: int) -> None:
        """Go into a namespace that the owner has named."""
        enter_namespace(self._namespaces[index])

    def control(self, index: int) -> TrafficControl:
        """The queues of a namespace."""
        if index not in self._controls:
            self.enter(index)
            self._controls[index] = self.control_class()
        return self._controls[index]

    def on_lateness(self, descriptors: list[int]) -> None:
        """Report how late this process wakes up when it asked to, in seconds: the 95th percentile of 40 naps.

        The least of three: a moment at which others have the processor says nothing of this machine's timers, and the
        bucket that is made of it stays.
        """
        late_s = [_late_s(40) for _ in range(3)]
        self.tell(event="done", late_s=min(late_s))


def _late_s(naps: int) -> float:
    late_s = []
    for _ in range(naps):
        due_s = time.monotonic() + 0.0005
        time.sleep(0.0005)
        late_s.append(time.monotonic() - due_s)
    return sorted(late_s)[round(0.95 * naps) - 1]


def prefer_this_process() -> None:
    """Be scheduled before everything ordinary: with other work on the machine this is the difference between
    a link served on time and one served milliseconds late (at 1 Gbit/s and a load of 5: 0.1 % against 30 %)."""
    try:
        go_first()
    except PermissionError:  # a container without CAP_SYS_NICE, a control group without real-time share
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, -15)


def main() -> None:
    # Only this program needs them, and they need this module.
    from netem.link_agent import LinkAgent
    from netem.transfer_agent import TransferAgent

    channel, role = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    Path("/proc/self/comm").write_text(f"netem-{role}"[:15], encoding="ascii")
    if role != "digester":
        prefer_this_process()
    agent = LinkAgent(channel) if role == "shaper" else TransferAgent(channel)
    with contextlib.suppress(
        BrokenPipeError, ConnectionResetError
    ):  # the owner went while it was being answered
        agent.run()


if __name__ == "__main__":
    main()
