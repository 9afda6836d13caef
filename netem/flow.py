"""One transfer: what is asked for and what came of it. Plain data, the same for both engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["uplink", "downlink"]
FlowStatus = Literal["ok", "failed"]


@dataclass(frozen=True, slots=True)
class FlowRequest:
    """Send *payload* between *client* and the server.

    Attributes:
        flow_id: unique among the flows of one network, at least 0.
        direction: ``"uplink"`` is client to server, ``"downlink"`` server to client.
        payload: the bytes to send. The modelled engine also takes their number, so that a million clients
            need no bytes.
        cut_after_bytes: the connection is lost, and the client's cable with it, the moment so many payload bytes have
            arrived, at least 1 and fewer than there are; None: it holds.
    """

    flow_id: int
    client: str
    direction: Direction
    payload: bytes | int
    cut_after_bytes: int | None = None

    @property
    def payload_bytes(self) -> int:
        return self.payload if isinstance(self.payload, int) else len(self.payload)

    def cut_reason(self) -> str:
        """What the result of a flow says that was cut as asked; the same on both engines."""
        return f"connection lost after {self.cut_after_bytes} of {self.payload_bytes} bytes"


@dataclass(frozen=True, slots=True)
class FlowResult:
    """What became of one `FlowRequest`.

    Attributes:
        status: ``"ok"`` when every byte arrived, else ``"failed"`` with the reason in *error*.
        started_s: instant at which the sender asked for the connection, in the engine's time base; the
            handshake is part of the transfer.
        finished_s: instant at which the last payload byte was at the receiver, or at which it was given up.
        payload_bytes: bytes that arrived.
        wire_bytes: bytes that crossed the client's access link for this flow, Ethernet headers and
            retransmissions included; None where other flows shared that link and direction.
        handshake_s: from asking for the connection to having it, a round trip; None where it is not measured.
        digest: SHA-256 (hex) of what arrived; empty for a failed flow and for payloads without bytes.
    """

    flow_id: int
    client: str
    direction: Direction
    status: FlowStatus
    started_s: float
    finished_s: float
    payload_bytes: int
    wire_bytes: int | None
    digest: str
    error: str = ""
    handshake_s: float | None = None

    @property
    def duration_s(self) -> float:
        return self.finished_s - self.started_s

    @property
    def goodput_bps(self) -> float:
        """Payload bits delivered per second, connection set-up included."""
        return 8.0 * self.payload_bytes / self.duration_s if self.duration_s > 0 else 0.0
