"""Whether a round on emulated links may be believed: each transfer against the model, its links' probes, the host."""

from __future__ import annotations

from dataclasses import dataclass

from netem.flow import Direction
from netem.link import LinkSpec, Topology
from netem.probe import by_chance, delayed, path
from netem.sampling import Strain
from netem.tcp import data_bytes
from testbed.clock import Transfer
from testbed.dilation import TruthfulRange, top_bps
from testbed.fidelity import TransferCheck, check
from testbed.gate import Gate, Leg
from testbed.round import RoundOutcome

# A transfer further than this from the model is not believed; docs/fidelity.md shows what is usual.
TRANSFER_BAND = 0.05
# Over links with delay the model itself may be so far off: docs/network-model.md.
DELAYED_BAND, DELAYED_BBR_BAND = 0.10, 0.20
# Wall-clock seconds that no host can promise: waking a process, telling another one.
HOST_JITTER_S = 0.001
# How much of its own length a transfer may be shifted against the others before contention is another one.
LAG_BAND = 0.05


@dataclass(frozen=True)
class Judge:
    """Judges the rounds of one topology.

    Attributes:
        gate: knows which links failed their probes; None where none was made.
        strain: what the host was up to during the round.
    """

    topology: Topology
    congestion_control: str
    host: TruthfulRange
    gate: Gate | None = None
    strain: Strain | None = None

    def round(
        self, outcome: RoundOutcome, expected: RoundOutcome
    ) -> tuple[dict[str, str], list[TransferCheck]]:
        """Why which client's row must not be believed, and every transfer beside the modelled one."""
        untrusted: dict[str, str] = {}
        checks: list[TransferCheck] = []
        names = [client.client for client in outcome.clients]
        for client, model in zip(outcome.clients, expected.clients, strict=True):
            pairs: tuple[tuple[Direction, Transfer | None, Transfer | None], ...] = (
                ("downlink", client.downlink, model.downlink),
                ("uplink", client.uplink, model.uplink),
            )
            for direction, seen, like in pairs:
                if seen is None or like is None or not (seen.ok and like.ok):
                    continue
                why = self._disbelieved(seen, like, names, client.client, direction)
                if why:
                    untrusted.setdefault(client.client, why)
                link = path(self.topology, client.client, direction)[0]
                checks.append(check(client.client, direction, link.rate_bps, seen, like, not why))
        return untrusted, checks

    def _disbelieved(
        self, seen: Transfer, model: Transfer, names: list[str], client: str, direction: Direction
    ) -> str:
        ways = path(self.topology, client, direction)
        why = self._out_of_band(seen, model, ways)
        if why:
            meanwhile = (
                "".join(f"; {text}" for text in (*self.strain.reasons, *self.strain.remarks))
                if self.strain
                else ""
            )
            return f"{direction} {why}{meanwhile}"
        if self.gate and (
            doubt := self.gate.doubt(self.topology, names, client, Leg(direction, seen.dilation))
        ):
            return f"{direction} {doubt}"
        return "; ".join(self.strain.reasons) if self.strain else ""

    def _out_of_band(self, seen: Transfer, model: Transfer, ways: tuple[LinkSpec, ...]) -> str:
        top = top_bps(ways[0])
        if top * seen.dilation > 1.01 * self.host.link_bps:
            ran, limit = top * seen.dilation / 1e6, self.host.link_bps / 1e6
            return f"ran at {ran:.0f} Mbit/s (dilation {seen.dilation:g}); this host is truthful up to {limit:.0f}"
        jitter_s = seen.dilation * HOST_JITTER_S
        if seen.lag_s > LAG_BAND * seen.seconds + jitter_s:
            return f"was {seen.lag_s:.3g} s behind the clock in a transfer of {seen.seconds:.3g} s"
        if by_chance(ways):
            # Where packets are lost or delayed by chance, a transfer may take any time that its bytes leave it.
            least_s = 8 * data_bytes(seen.flow.payload_bytes) / min(top, top_bps(ways[1]))
            if seen.seconds < (1.0 - TRANSFER_BAND) * least_s - jitter_s:
                return f"took {seen.seconds:.4g} s, its bytes alone take {least_s:.4g} s"
        elif abs(seen.seconds - model.seconds) > self._band(ways) * model.seconds + jitter_s:
            return f"took {seen.seconds:.4g} s, the model expects {model.seconds:.4g} s"
        return ""

    def _band(self, ways: tuple[LinkSpec, ...]) -> float:
        """How far a transfer over these links may lie from the model, as a share of it."""
        if not delayed(ways):
            return TRANSFER_BAND
        return DELAYED_BBR_BAND if self.congestion_control == "bbr" else DELAYED_BAND
