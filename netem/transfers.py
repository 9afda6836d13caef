"""The owner's side of the transfer processes: starts them, hands flows over, puts results together."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from netem.agent import memory_file
from netem.errors import TransferError
from netem.flow import FlowRequest, FlowResult
from netem.inbox import Inbox, InboxPool
from netem.processes import AgentProcess, batches

PORT = 5001
_FIRST_SOURCE_PORT, _LAST_SOURCE_PORT = 10_000, 60_000
_ROLES = ("sender", "receiver", "digester")
_REPLY_S = 30.0
# Received bytes that wait to be overwritten: enough for eight updates of the largest model in use, bounded.
_KEEP_INBOX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of transfers: a namespace (by index) and the address in it."""

    namespace: int
    address: str


@dataclass(slots=True)
class _Flow:
    request: FlowRequest
    inbox: Inbox
    shared: bool
    started_s: float
    counter: int = 0
    handshake_s: float | None = None
    finished_s: float = 0.0
    arrived_bytes: int = 0
    wire_bytes: int | None = None


class Transfers:
    """Three processes and the flows they carry; a context manager.

    Args:
        started: called with the process number of each process as soon as it runs, for the ledger.
        timeout_s: a flow for which no byte arrives for this long has failed.
        keep_received: keep what arrived until `received` takes it.
        defer_digests: report a flow the moment it has ended, with an empty digest, and hash nothing before `digests`
            asks: hashing takes a core for tens of milliseconds and would disturb the flows that are still under way.
    """

    def __init__(
        self,
        started: Callable[[int], None],
        *,
        congestion_control: str,
        timeout_s: float,
        keep_received: bool,
        defer_digests: bool = False,
    ) -> None:
        self._note_start = started
        self._congestion_control = congestion_control
        self._timeout_s = timeout_s
        self._keep_received = keep_received
        self._defer_digests = defer_digests
        self._outboxes: dict[int, tuple[bytes, int]] = {}  # id(payload) -> payload, its memory file
        self._inboxes = InboxPool(_KEEP_INBOX_BYTES)
        self._undigested: dict[int, tuple[Inbox, int]] = {}
        self._processes: dict[str, AgentProcess] = {}
        self._poll = select.poll()
        self._flows: dict[int, _Flow] = {}
        self._done: list[FlowResult] = []
        self._received: dict[int, tuple[Inbox, int]] = {}
        self._next_port = _FIRST_SOURCE_PORT
        self._answers: list[dict[str, Any]] = []

    def __enter__(self) -> Transfers:
        try:
            for role in _ROLES:
                process = self._processes[role] = AgentProcess(role, self._note_start)
                self._poll.register(process.channel, select.POLLIN)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and free what they held."""
        for process in self._processes.values():
            process.close()
        for _, file in self._outboxes.values():
            os.close(file)
        self._inboxes.close()
        self._outboxes, self._processes, self._flows = {}, {}, {}
        self._received, self._undigested = {}, {}

    @property
    def pids(self) -> dict[str, int]:
        return {role: process.pid for role, process in self._processes.items()}

    def enter(self, holders: Mapping[int, int], listeners: Iterable[Endpoint]) -> None:
        """Make namespaces (index -> process that lives in it) known, and listen at *listeners*."""
        for role in ("sender", "receiver"):
            self._processes[role].enter(holders)
        for batch in batches([[end.namespace, end.address, PORT] for end in listeners]):
            self._processes["receiver"].ask(
                do="listen", places=batch, congestion_control=self._congestion_control
            )

    # --- flows ----------------------------------------------------------------------------------------

    def prepare(self, payloads: Iterable[bytes]) -> None:
        """Copy payloads to where flows send them from, and make room for what arrives, so that `start` is quick.

        One for each flow to come; an object that stands there again is copied once. Those of the call before are
        dropped. Call it while no flow is under way.
        """
        old, self._outboxes = self._outboxes, {}
        for _, file in old.values():
            os.close(file)
        room, rooms = 0, []
        for payload in payloads:
            if id(payload) not in self._outboxes:
                self._outboxes[id(payload)] = (payload, memory_file("send", payload))
            room += len(payload)
            if room <= self._inboxes.keep_bytes:
                rooms.append(self._take_inbox(len(payload), warm=True))
        for inbox in rooms:
            self._release_inbox(inbox)

    def _take_inbox(self, size: int, *, warm: bool = False) -> Inbox:
        inbox, new = self._inboxes.take(size)
        if new:
            self._tell(
                "receiver", [inbox.file], do="inbox", number=inbox.number, capacity=inbox.capacity, warm=warm
            )
            if warm:
                self._answer("done")
        return inbox

    def _release_inbox(self, inbox: Inbox) -> None:
        dropped = self._inboxes.release(inbox)
        if dropped:
            self._tell("receiver", do="drop", numbers=dropped)

    def start(self, request: FlowRequest, source: Endpoint, target: Endpoint, meter: tuple[int, int]) -> None:
        """Start to send now. *meter* is the shaped interface of the client's link in this direction."""
        if request.flow_id in self._flows:
            raise TransferError(f"flow {request.flow_id} is already under way")
        if isinstance(request.payload, int):
            raise TransferError(
                f"flow {request.flow_id}: an emulated transfer needs the bytes, not their number"
            )
        size = len(request.payload)
        prepared, outbox = self._outboxes.get(id(request.payload), (None, -1))
        outbox = os.dup(outbox) if prepared is request.payload else memory_file("send", request.payload)
        inbox = self._take_inbox(size)
        shared = False
        for other in self._flows.values():
            if other.request.client == request.client:
                other.shared = shared = True
        port = self._next_port
        self._next_port = port + 1 if port < _LAST_SOURCE_PORT else _FIRST_SOURCE_PORT
        self._flows[request.flow_id] = _Flow(request, inbox, shared, time.monotonic())
        self._tell(
            "receiver",
            do="expect",
            flow=request.flow_id,
            inbox=inbox.number,
            peer=[source.address, port],
            size=size,
            timeout_s=self._timeout_s,
            meter=meter,
            cut_after=request.cut_after_bytes,
        )
        self._tell(
            "sender",
            [outbox],
            do="send",
            flow=request.flow_id,
            source=[source.namespace, source.address, port],
            target=[target.address, PORT],
            size=size,
            congestion_control=self._congestion_control,
            meter=meter,
        )
        os.close(outbox)

    def abort(self, flow_id: int, reason: str) -> None:
        """Have a flow end now, with what has arrived; its result comes as any other. Nothing if it has ended."""
        if flow_id in self._flows:
            self._tell("receiver", do="give_up", flow=flow_id, reason=reason)

    def wait(self, timeout_s: float) -> list[FlowResult]:
        """Flows that came to an end: as soon as there is one, or none after *timeout_s*."""
        deadline_s = time.monotonic() + timeout_s
        while not self._done:
            remaining_s = deadline_s - time.monotonic()
            if not self._pump(max(remaining_s, 0.0)) and remaining_s <= 0:
                break
        done, self._done = self._done, []
        return done

    def digests(self) -> dict[int, str]:
        """SHA-256 (hex) of what arrived in every flow that has ended well since the last call (*defer_digests*)."""
        waiting, self._undigested = self._undigested, {}
        for flow_id, (inbox, size) in waiting.items():
            self._tell("digester", [inbox.file], do="digest", flow=flow_id, size=size)
        found: dict[int, str] = {}
        while len(found) < len(waiting):
            answer = self._answer("digest")
            found[answer["flow"]] = answer["digest"]
            self._release_inbox(waiting[answer["flow"]][0])
        return found

    def discard(self, flow_id: int) -> None:
        """Forget what arrived in a finished flow: neither hash nor keep it."""
        for kept in (self._undigested, self._received):
            if flow_id in kept:
                self._release_inbox(kept.pop(flow_id)[0])

    @property
    def in_flight(self) -> int:
        return len(self._flows)

    def received(self, flow_id: int) -> bytes:
        """The bytes that arrived in a finished flow; they are freed here."""
        try:
            inbox, size = self._received.pop(flow_id)
        except KeyError:
            raise TransferError(
                f"nothing is kept of flow {flow_id}: it failed, was fetched before, or keep_received is off"
            ) from None
        data = bytearray(size)
        view = memoryview(data)
        read = 0
        while read < size:
            read += os.preadv(inbox.file, [view[read:]], read)
        self._release_inbox(inbox)
        return bytes(data)

    # --- messages -------------------------------------------------------------------------------------

    def _tell(self, role: str, descriptors: Sequence[int] = (), **message: Any) -> None:
        self._processes[role].tell(descriptors, **message)

    def _answer(self, event: str) -> dict[str, Any]:
        deadline_s = time.monotonic() + _REPLY_S
        while True:
            for position, answer in enumerate(self._answers):
                if answer["event"] == event:
                    return self._answers.pop(position)
            if time.monotonic() > deadline_s:
                raise TransferError(f"no {event!r} from the transfer processes for {_REPLY_S:g} s")
            self._pump(0.1)

    def _pump(self, timeout_s: float) -> bool:
        """Handle the messages that are there; wait up to *timeout_s* for the first."""
        ready = {descriptor for descriptor, _ in self._poll.poll(timeout_s * 1000)}
        # A sender loses its connection when the receiver ends it, and that had said why before: hear all of it first.
        for role in ("receiver", "sender", "digester"):
            process = self._processes[role]
            more = process.channel.fileno() in ready
            while more:
                self._handle(process.hear())
                more = role == "receiver" and process.channel.fileno() in dict(self._poll.poll(0))
        return bool(ready)

    def _handle(self, message: dict[str, Any]) -> None:
        handler = getattr(self, f"_on_{message['event']}", None)
        if handler is not None and message["flow"] in self._flows:
            handler(self._flows[message["flow"]], message)
        elif handler is None or message["event"] == "digest":
            self._answers.append(message)

    def _on_started(self, flow: _Flow, message: dict[str, Any]) -> None:
        flow.started_s = message["at_s"]
        flow.counter = message["counter"]

    def _on_connected(self, flow: _Flow, message: dict[str, Any]) -> None:
        flow.handshake_s = message["at_s"] - flow.started_s

    def _on_arrived(self, flow: _Flow, message: dict[str, Any]) -> None:
        flow.finished_s = message["at_s"]
        flow.arrived_bytes = message["size"]
        if message["counter"] is not None and not flow.shared:
            flow.wire_bytes = message["counter"] - flow.counter
        if self._defer_digests:
            flow.inbox.users += 1
            self._undigested[flow.request.flow_id] = (flow.inbox, flow.arrived_bytes)
            self._end(flow, "", "", flow.wire_bytes)
        else:
            self._tell(
                "digester", [flow.inbox.file], do="digest", flow=flow.request.flow_id, size=flow.arrived_bytes
            )

    def _on_digest(self, flow: _Flow, message: dict[str, Any]) -> None:
        self._end(flow, "", message["digest"], flow.wire_bytes)

    def _on_failed(self, flow: _Flow, message: dict[str, Any]) -> None:
        flow.finished_s = message["at_s"]
        flow.arrived_bytes = message.get("size", 0)
        for role in ("sender", "receiver"):
            self._tell(role, do="abort", flow=flow.request.flow_id)
        error = flow.request.cut_reason() if message.get("cut") else message["error"]
        self._end(flow, error, "", None)

    def _end(self, flow: _Flow, error: str, digest: str, wire_bytes: int | None) -> None:
        request = flow.request
        del self._flows[request.flow_id]
        if self._keep_received and not error:
            self._received[request.flow_id] = (flow.inbox, flow.arrived_bytes)
        else:
            self._release_inbox(flow.inbox)
        self._done.append(
            FlowResult(
                flow_id=request.flow_id,
                client=request.client,
                direction=request.direction,
                status="failed" if error else "ok",
                started_s=flow.started_s,
                finished_s=flow.finished_s,
                payload_bytes=flow.arrived_bytes,
                wire_bytes=wire_bytes,
                digest=digest,
                error=error,
                handshake_s=flow.handshake_s,
            )
        )
