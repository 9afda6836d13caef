"""One client's part in a round as a SimPy process: downlink, train, compress, uplink, and the stopwatch over them.

All work has been measured before it is played (`testbed.work`), so the process here only waits: for time-outs of
measured length and for flows of whichever engine the environment drives.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import simpy
from simpy.events import Event

from netem.flow import Direction
from testbed.clock import FlowEnvironment, Transfer, TransferEvent

Process = Generator[Any, Any, None]
Part = Literal["downlink", "train", "compress", "uplink", "decompress", "aggregate", "wait"]
PARTS: tuple[Part, ...] = ("downlink", "train", "compress", "uplink", "decompress", "aggregate", "wait")


@dataclass(frozen=True)
class ClientPlan:
    """What one client will do.

    Attributes:
        downlink, uplink: bytes that cross the link, or over modelled links their number.
        train_s, compress_s: on the client's device, emulated seconds.
        decompress_s: on the server, emulated seconds.
        pack_s: the server compresses what it is about to send, emulated seconds; counts as compress.
        unpack_s: the client decompresses what it has received, on its device; counts as decompress.
        fails: reason why the client's work ends in failure (out of memory, say) after training and
            compressing for as long as the plan states; such a client sends nothing.
        silent_after_s: the client falls silent after so much of its training; the server notices at once, as a
            connection is lost. None: it does not.
        crash_after_bytes: the client dies when so many bytes of its upload have arrived. None: it does not.
        leaves_after_s: so long after it was asked the client goes away, whatever it is at; what it has sent whole by
            then counts. None: it stays.
    """

    client: str
    downlink: bytes | int
    uplink: bytes | int
    train_s: float
    compress_s: float
    decompress_s: float
    pack_s: float = 0.0
    unpack_s: float = 0.0
    fails: str = ""
    silent_after_s: float | None = None
    crash_after_bytes: int | None = None
    leaves_after_s: float | None = None

    def sized(self) -> ClientPlan:
        """The plan with numbers of bytes for payloads."""
        return replace(self, downlink=_size(self.downlink), uplink=_size(self.uplink))


def _size(payload: bytes | int) -> int:
    return payload if isinstance(payload, int) else len(payload)


@dataclass
class ClientOutcome:
    """What became of one client; times in emulated seconds since its round's first byte.

    Attributes:
        seconds: length of each part; they telescope, so their sum is the round's length.
        spans: (part, start, end) in order, for timelines.
        status: ``"ok"`` counted in the average, ``"dropped"`` missed the deadline, came after enough others or went
            away, ``"failed"`` could not send what it was to send.
    """

    client: str
    seconds: dict[Part, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    spans: list[tuple[Part, float, float]] = field(default_factory=list)
    status: Literal["ok", "dropped", "failed"] = "dropped"
    reason: str = ""
    downlink: Transfer | None = None
    uplink: Transfer | None = None

    def transfers(self) -> Iterator[tuple[Direction, Transfer]]:
        """What has been sent, in order."""
        if self.downlink is not None:
            yield "downlink", self.downlink
        if self.uplink is not None:
            yield "uplink", self.uplink


class Split:
    """Stopwatch over the parts of one client's round: entering a part leaves the one before.

    Args:
        env: its clock when this is made is the round's beginning.
    """

    def __init__(self, env: simpy.Environment, outcome: ClientOutcome) -> None:
        self._env, self._outcome = env, outcome
        self._began_s = env.now
        self.part: Part | None = None
        self._since_s = 0.0
        self._given_up = False

    @property
    def seconds(self) -> float:
        """Since the round's beginning."""
        return self._env.now - self._began_s

    def enter(self, part: Part) -> None:
        if not self._given_up:
            self._leave()
            self.part, self._since_s = part, self._env.now

    def give_up(self, reason: str) -> None:
        """The server waits no longer: from here on this client only waits, whatever its process still does."""
        if self._given_up:
            return
        self.enter("wait")
        self._given_up = True
        self._outcome.reason = self._outcome.reason or reason

    def end(self) -> None:
        """The round is over."""
        self._leave()
        self.part, self._given_up = None, True

    def _leave(self) -> None:
        if self.part is not None and self._env.now > self._since_s:
            self._outcome.seconds[self.part] += self._env.now - self._since_s
            self._outcome.spans.append((self.part, self._since_s - self._began_s, self.seconds))


@dataclass
class Arrival:
    """An update whose bytes are at the server."""

    plan: ClientPlan
    outcome: ClientOutcome
    split: Split


class Server(Protocol):
    """What a client's process tells."""

    @property
    def closed(self) -> bool:
        """Nothing more is awaited: sending would be in vain."""
        ...

    def arrived(self, arrival: Arrival) -> None:
        """The upload is over, all its bytes have arrived."""
        ...

    def lost(self) -> None:
        """This client's update will never come."""
        ...


def start_client(
    env: FlowEnvironment, plan: ClientPlan, outcome: ClientOutcome, split: Split, server: Server
) -> None:
    """Have a client begin now, and go away when its plan says so."""
    client = _Client(env, plan, outcome, split, server)
    process = env.process(client.run())
    if plan.leaves_after_s is not None:
        env.process(client.leave(process, plan.leaves_after_s))


class _Client:
    def __init__(
        self, env: FlowEnvironment, plan: ClientPlan, outcome: ClientOutcome, split: Split, server: Server
    ) -> None:
        self._env, self._plan, self._outcome = env, plan, outcome
        self._split, self._server = split, server
        self._flow: TransferEvent | None = None  # under way

    def run(self) -> Process:
        try:
            yield from self._work()
        except simpy.Interrupt as left:
            if self._flow is not None:
                if self._flow.callbacks is not None:  # others shared the links with it until now
                    self._flow.callbacks.append(self._note_cut)
                self._env.abort(self._flow, str(left.cause))
            self._split.give_up(str(left.cause))
            self._server.lost()

    def _note_cut(self, event: Event) -> None:
        assert isinstance(event, TransferEvent)
        setattr(self._outcome, event.request.direction, event.value)

    def leave(self, process: simpy.Process, after_s: float) -> Process:
        yield self._env.timeout(after_s)
        if process.is_alive:
            process.interrupt(f"left while it was at: {self._split.part}")

    def _work(self) -> Process:
        env, plan, split = self._env, self._plan, self._split
        split.enter("compress")
        yield env.timeout(plan.pack_s)
        split.enter("downlink")
        self._flow = env.transfer(plan.client, "downlink", plan.downlink)
        self._outcome.downlink = yield self._flow
        self._flow = None
        if not self._outcome.downlink.ok:
            self._fail(f"downlink: {self._outcome.downlink.flow.error}")
            return
        split.enter("decompress")
        yield env.timeout(plan.unpack_s)
        split.enter("train")
        if plan.silent_after_s is not None:
            yield env.timeout(min(plan.silent_after_s, plan.train_s))
            split.give_up("fell silent while training")
            self._server.lost()
            return
        yield env.timeout(plan.train_s)
        split.enter("compress")
        yield env.timeout(plan.compress_s)
        if plan.fails:
            self._fail(plan.fails)
            return
        if self._server.closed:
            return
        split.enter("uplink")
        self._flow = env.transfer(plan.client, "uplink", plan.uplink, cut_after_bytes=plan.crash_after_bytes)
        self._outcome.uplink = yield self._flow
        self._flow = None
        if self._server.closed:
            return
        if not self._outcome.uplink.ok:
            self._fail(f"uplink: {self._outcome.uplink.flow.error}")
            return
        split.enter("wait")
        self._server.arrived(Arrival(plan, self._outcome, split))

    def _fail(self, reason: str) -> None:
        self._outcome.status, self._outcome.reason = "failed", reason
        self._split.enter("wait")
        self._server.lost()
