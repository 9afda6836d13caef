"""Moving bytes: TCP sockets opened inside the clients' namespaces, in the sender's and the receiver's process.

Timed path of a flow: ``sendfile`` from the payload's memory file into the socket, ``recv_into`` the memory file of
the receiving side, and the clock. The digest is taken afterwards in a process of its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

from netem.agent import Agent

CHUNK_BYTES = 1 << 20
_IDLE_S = 0.05


@dataclass(slots=True)
class _Outgoing:
    """A flow that this process sends."""

    flow: int
    socket: socket.socket
    file: int
    size: int
    offset: int = 0
    connected: bool = False


@dataclass(slots=True)
class _Incoming:
    """A flow that this process receives.

    *socket* is None until its connection has come; after *until* bytes, where that is fewer than *size*, it is cut.
    """

    flow: int
    view: memoryview
    size: int
    timeout_s: float
    meter: list[int]
    last_progress_s: float
    until: int
    socket: socket.socket | None = None
    offset: int = 0


class TransferAgent(Agent):
    """Sends, receives or hashes, as its owner asks. Every socket is non-blocking."""

    def __init__(self, channel: socket.socket) -> None:
        super().__init__(channel)
        self.listeners: dict[int, socket.socket] = {}
        self.outgoing: dict[int, _Outgoing] = {}
        self.incoming: dict[int, _Incoming] = {}
        self.expected: dict[tuple[str, int], _Incoming] = {}
        self.unclaimed: dict[tuple[str, int], socket.socket] = {}
        self.inboxes: dict[int, mmap.mmap] = {}

    def patience_s(self) -> float | None:
        return _IDLE_S if self.expected or self.incoming else None

    def ready(self, descriptor: int, events: int) -> None:
        if descriptor in self.listeners:
            self._accept(self.listeners[descriptor])
        elif descriptor in self.outgoing:
            self._send(self.outgoing[descriptor], events)
        elif descriptor in self.incoming:
            self._receive(self.incoming[descriptor])

    def tick(self) -> None:
        if self.expected or self.incoming:
            self._give_up_on_the_stalled()

    # --- the owner's messages -------------------------------------------------------------------------

    def on_listen(self, descriptors: list[int], places: list[list[Any]], congestion_control: str) -> None:
        """Accept connections: ``[namespace index, address, port]`` each."""
        for index, address, port in places:
            listener = self._socket(index, congestion_control)
            listener.bind((address, port))
            listener.listen(1024)
            self.listeners[listener.fileno()] = listener
            self.epoll.register(listener.fileno(), select.EPOLLIN)
        self.tell(event="done")

    def on_inbox(self, descriptors: list[int], number: int, capacity: int, warm: bool) -> None:
        """Map a memory file to receive into; *warm*: with every page in place."""
        (file,) = descriptors
        flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if warm else 0)
        self.inboxes[number] = mmap.mmap(file, capacity, flags=flags)
        os.close(file)
        if warm:
            self.tell(event="done")

    def on_drop(self, descriptors: list[int], numbers: list[int]) -> None:
        """Unmap memory files."""
        for number in numbers:
            self.inboxes.pop(number).close()

    def on_expect(
        self,
        descriptors: list[int],
        flow: int,
        peer: list[Any],
        inbox: int,
        size: int,
        timeout_s: float,
        meter: list[int],
        cut_after: int | None,
    ) -> None:
        """Receive *size* bytes from *peer* into an inbox; *cut_after*: as if the cable were pulled after so many."""
        view = memoryview(self.inboxes[inbox])[:size]
        until = size if cut_after is None else cut_after
        incoming = _Incoming(flow, view, size, timeout_s, meter, time.monotonic(), until)
        key = (peer[0], peer[1])
        if key in self.unclaimed:
            self._begin(incoming, self.unclaimed.pop(key))
        else:
            self.expected[key] = incoming

    def on_send(
        self,
        descriptors: list[int],
        flow: int,
        source: list[Any],
        target: list[Any],
        size: int,
        congestion_control: str,
        meter: list[int],
    ) -> None:
        """Connect from ``[namespace index, address, port]`` to ``[address, port]`` and send the memory file."""
        (file,) = descriptors
        index, address, port = source
        try:
            sock = self._socket(index, congestion_control)
            sock.bind((address, port))
            counter = self._meter(meter)
            started_s = time.monotonic()
            status = sock.connect_ex((target[0], target[1]))
        except OSError as error:
            os.close(file)
            self.tell(event="failed", flow=flow, at_s=time.monotonic(), error=f"sender: {error.strerror}")
            return
        outgoing = _Outgoing(flow, sock, file, size)
        self.outgoing[sock.fileno()] = outgoing
        self.epoll.register(sock.fileno(), select.EPOLLOUT)
        self.tell(event="started", flow=flow, at_s=started_s, counter=counter)
        if status not in (0, errno.EINPROGRESS):
            self._stop_sending(outgoing, os.strerror(status))

    def on_abort(self, descriptors: list[int], flow: int) -> None:
        """Forget a flow; the other side sees a reset, not an orderly end."""
        for outgoing in [out for out in self.outgoing.values() if out.flow == flow]:
            _reset_on_close(outgoing.socket)
            self._forget_outgoing(outgoing)
        for key, incoming in list(self.expected.items()):
            if incoming.flow == flow:
                del self.expected[key]
                incoming.view.release()
        for incoming in [entry for entry in self.incoming.values() if entry.flow == flow]:
            assert incoming.socket is not None
            _reset_on_close(incoming.socket)
            self._forget_incoming(incoming)

    def on_give_up(self, descriptors: list[int], flow: int, reason: str) -> None:
        """End a flow before all of it has arrived, and say how much has."""
        waiting = [key for key, incoming in self.expected.items() if incoming.flow == flow]
        ending = [self.expected.pop(key) for key in waiting]
        ending += [entry for entry in self.incoming.values() if entry.flow == flow]
        for incoming in ending:
            self._fail(incoming, f"{reason}; {incoming.offset} of {incoming.size} had arrived")

    def on_digest(self, descriptors: list[int], flow: int, size: int) -> None:
        """SHA-256 of a memory file."""
        (file,) = descriptors
        digest = hashlib.sha256()
        if size:
            with mmap.mmap(file, size, prot=mmap.PROT_READ) as data:
                digest.update(data)
        os.close(file)
        self.tell(event="digest", flow=flow, digest=digest.hexdigest())

    # --- sockets --------------------------------------------------------------------------------------

    def _socket(self, index: int, congestion_control: str) -> socket.socket:
        self.enter(index)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion_control.encode("ascii"))
        return sock

    def _meter(self, meter: list[int]) -> int:
        index, ifindex = meter
        return self.control(index).wire_bytes(ifindex)

    def _send(self, flow: _Outgoing, events: int) -> None:
        if not flow.connected:
            status = flow.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if status:
                self._stop_sending(flow, os.strerror(status))
                return
            flow.connected = True
            self.tell(event="connected", flow=flow.flow, at_s=time.monotonic())
        try:
            while flow.offset < flow.size:
                flow.offset += os.sendfile(
                    flow.socket.fileno(), flow.file, flow.offset, min(CHUNK_BYTES, flow.size - flow.offset)
                )
            if events & (select.EPOLLHUP | select.EPOLLERR) or self._receiver_closed(flow):
                self._forget_outgoing(flow)
            else:
                with contextlib.suppress(OSError):  # shut before, or reset by now: nothing left to say
                    flow.socket.shutdown(socket.SHUT_WR)
                self.epoll.modify(flow.socket.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
        except BlockingIOError:
            pass
        except OSError as error:
            self._stop_sending(flow, error.strerror or "connection lost")

    @staticmethod
    def _receiver_closed(flow: _Outgoing) -> bool:
        try:
            return flow.socket.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _stop_sending(self, flow: _Outgoing, reason: str) -> None:
        self._forget_outgoing(flow)
        self.tell(event="failed", flow=flow.flow, at_s=time.monotonic(), error=f"sender: {reason}")

    def _forget_outgoing(self, flow: _Outgoing) -> None:
        self.outgoing.pop(flow.socket.fileno(), None)
        flow.socket.close()  # leaves the epoll set with its last descriptor
        os.close(flow.file)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, key = listener.accept()
                sock.setblocking(False)
                incoming = self.expected.pop(key, None)
                if (
                    incoming is None
                ):  # the two processes were told at the same time; the owner's word is on its way
                    self.unclaimed[key] = sock
                else:
                    self._begin(incoming, sock)

    def _begin(self, flow: _Incoming, sock: socket.socket) -> None:
        flow.socket = sock
        flow.last_progress_s = time.monotonic()
        self.incoming[sock.fileno()] = flow
        self.epoll.register(sock.fileno(), select.EPOLLIN)
        if flow.size == 0:
            self._finish(flow, time.monotonic())

    def _receive(self, flow: _Incoming) -> None:
        assert flow.socket is not None
        try:
            got = flow.socket.recv_into(flow.view[flow.offset : min(flow.offset + CHUNK_BYTES, flow.until)])
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(flow, error.strerror or "connection lost")
            return
        now_s = time.monotonic()
        flow.offset += got
        flow.last_progress_s = now_s
        if flow.offset == flow.size:
            self._finish(flow, now_s)
        elif flow.offset == flow.until:
            self._fail(flow, "cut", cut=True)
        elif not got:
            self._fail(flow, "the sender closed early")

    def _finish(self, flow: _Incoming, now_s: float) -> None:
        counter = self._meter(flow.meter)
        self._forget_incoming(flow)
        self.tell(event="arrived", flow=flow.flow, at_s=now_s, size=flow.offset, counter=counter)

    def _fail(self, flow: _Incoming, reason: str, *, cut: bool = False) -> None:
        # Said before the sender can notice, so that the owner hears of the cause before it hears of the consequence.
        self.tell(
            event="failed",
            flow=flow.flow,
            at_s=time.monotonic(),
            size=flow.offset,
            error=f"receiver: {reason}",
            cut=cut,
        )
        if flow.socket is not None:
            _reset_on_close(flow.socket)
        self._forget_incoming(flow)

    def _forget_incoming(self, flow: _Incoming) -> None:
        if flow.socket is not None:
            self.incoming.pop(flow.socket.fileno(), None)
            flow.socket.close()
        flow.view.release()

    def _give_up_on_the_stalled(self) -> None:
        now_s = time.monotonic()
        for key, flow in list(self.expected.items()):
            if now_s - flow.last_progress_s > flow.timeout_s:
                del self.expected[key]
                self._fail(flow, f"no connection within {flow.timeout_s:g} s")
        for flow in list(self.incoming.values()):
            if now_s - flow.last_progress_s > flow.timeout_s:
                self._fail(
                    flow, f"no byte for {flow.timeout_s:g} s; {flow.offset} of {flow.size} had arrived"
                )


def _reset_on_close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
