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
# Linux waits the smoothed round-trip time plus at least 200 ms before it takes a silence for a loss.
MIN_TIMEOUT_S = 0.2


def data_bytes(payload_bytes: int, mss: int = MSS) -> int:
    """Bytes on the wire of the packets that carry *payload_bytes*, Ethernet headers included."""
    return payload_bytes + HEADER_BYTES * -(-payload_bytes // mss)


def flow_bytes(payload_bytes: int, mss: int = MSS, loss: float = 0.0) -> int:
    """Bytes that one transfer puts on the wire in its own direction: SYN, ACK, data, FIN, and what was sent again."""
    return round(data_bytes(payload_bytes, mss) / (1.0 - loss)) + SYN_BYTES + 2 * HEADER_BYTES


def loss_limited_bps(control: CongestionControl, rtt_s: float, loss: float, mss: int = MSS) -> float:
    """Long-run rate on the wire to which random loss holds one connection; inf without loss.

    Reno: Padhye, Firoiu, Towsley, Kurose (ToN 2000), equation 32, one ACK a segment as Linux counts growth.
    Cubic: the larger of Reno's window and RFC 8312's 1.054 (RTT / p)^(3/4) segments, with Padhye's timeouts.
    BBR takes random loss for no sign of congestion: no limit here (true up to about 15 % loss).

    Args:
        rtt_s: round-trip time without queueing; above 0.
        loss: chance that a packet is lost, independent from packet to packet.
    """
    if loss == 0.0 or control == "bbr":
        return math.inf
    window = math.sqrt(1.5 / loss)
    if control == "cubic":
        window = max(window, 1.054 * (rtt_s / loss) ** 0.75)
    timeouts_s = (
        (rtt_s + MIN_TIMEOUT_S) * min(1.0, 3.0 * math.sqrt(3.0 * loss / 8.0)) * loss * (1.0 + 32.0 * loss**2)
    )
    return 8.0 * (mss + HEADER_BYTES) / (rtt_s / window + timeouts_s)


def before_first_loss(segments: float, loss: float) -> float:
    """Expected segments sent before the first is lost (Cardwell, Savage, Anderson, INFOCOM 2000, equation 5)."""
    if loss == 0.0:
        return segments
    return min(segments, -math.expm1(segments * math.log1p(-loss)) * (1.0 - loss) / loss + 1.0)
