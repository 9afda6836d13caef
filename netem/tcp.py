"""What TCP costs on a link: headers, handshake, slow start, and how much it carries when packets are lost.

Expected values of published models, not a packet simulation. `docs/network-model.md` says what is assumed and how far
measured transfers lie from it.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

CongestionControl = Literal["cubic", "reno", "bbr"]
CONGESTION_CONTROLS: tuple[CongestionControl, ...] = get_args(CongestionControl)

MSS = 1448  # payload bytes of a full packet: MTU 1500 less IPv4 (20), TCP (20) and timestamps (12)
HEADER_BYTES = 66  # Ethernet (14), IPv4, TCP with timestamps; what `tc` counts around every payload
SYN_BYTES = 74  # a connection request carries 20 bytes of options
INITIAL_WINDOW = 10  # segments (RFC 6928, and Linux)
# A loss cuts the window to this share of itself.
_BACK_OFF: dict[CongestionControl, float] = {"cubic": 0.7, "reno": 0.5}
# The queue that is taken to stand before a link, in time at its rate: it bounds the window that slow start reaches.
QUEUE_S = 0.2


def data_bytes(payload_bytes: int, mss: int = MSS) -> int:
    """Bytes on the wire of the packets that carry *payload_bytes*, Ethernet headers included."""
    return payload_bytes + HEADER_BYTES * -(-payload_bytes // mss)


def flow_bytes(data: float, loss: float = 0.0) -> int:
    """Bytes that one transfer puts on the wire in its own direction: SYN, ACK, *data*, FIN and what was sent again."""
    return round(data / (1.0 - loss)) + SYN_BYTES + 2 * HEADER_BYTES


def loss_limited_window(control: CongestionControl, rtt_s: float, loss: float) -> float:
    """Mean window in segments to which random loss holds one connection in the long run; inf without loss.

    Reno: Mathis, Semke, Mahdavi, Ott (CCR 1997), sqrt(3 / 2p), for selective acknowledgements and one acknowledgement a
    segment, as Linux counts growth. Cubic: the larger of that and RFC 8312's 1.054 (RTT / p)^(3/4). Time-outs, which
    rule in models of plain Reno (Padhye et al.), are rare with selective acknowledgements: with them, transfers at 3
    to 5 % loss came out 1.2 to 2 times too slow (measured against Linux 6.1).
    BBR takes random loss for no sign of congestion: no limit here (true up to about 15 % loss).

    Args:
        rtt_s: round-trip time without queueing.
        loss: chance that a packet is lost, independent from packet to packet.
    """
    if loss == 0.0 or control == "bbr":
        return math.inf
    window = math.sqrt(1.5 / loss)
    return max(window, 1.054 * (rtt_s / loss) ** 0.75) if control == "cubic" else window


def before_first_loss(segments: float, loss: float) -> float:
    """Expected segments sent before the first is lost (Cardwell, Savage, Anderson, INFOCOM 2000, equation 5)."""
    return min(segments, -math.expm1(segments * math.log1p(-loss)) * (1.0 - loss) / loss + 1.0)


def loss_phases(
    control: CongestionControl, rtt_s: float, loss: float, segments: float, rate_segments_s: float
) -> list[tuple[float, float]]:
    """How random loss paces one transfer on average: (segments, segments a second) one after the other.

    First slow start, as fast as the link allows, until a first loss is to be expected. Then the window that it
    reached, cut at every further loss, one in 1 / *loss* segments, down to the long-run window.

    Args:
        segments: length of the transfer.
        rate_segments_s: what the link carries; where loss never holds it down, there is one endless phase.
    """
    least = loss_limited_window(control, rtt_s, loss)
    if least >= rate_segments_s * rtt_s:
        return [(math.inf, math.inf)]
    first = before_first_loss(segments, loss)
    phases = [(first, math.inf)]
    # Having sent n segments, slow start has about half of them under way, and no more than the queue takes.
    window = min((first + INITIAL_WINDOW) / 2.0, rate_segments_s * (rtt_s + QUEUE_S)) * _BACK_OFF[control]
    while window > least:
        phases.append((1.0 / loss, window / rtt_s))
        window *= _BACK_OFF[control]
    return [*phases, (math.inf, least / rtt_s)]
