"""Whether a round on emulated links may be believed: each transfer against the model, its links' probes, the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from netem.flow import Direction, FlowRequest
from netem.link import LinkSpec, Topology
from netem.model_backend import ModelNetwork
from netem.probe import by_chance, delay_band, path
from netem.sampling import Strain
from netem.tcp import data_bytes
from testbed.clock import Transfer
from testbed.dilation import TruthfulRange
from testbed.fidelity import TransferCheck, check
from testbed.gate import Gate, Leg
from testbed.round import RoundOutcome

# A transfer further than this from the model is not believed; docs/fidelity.md shows what is usual.
TRANSFER_BAND = 0.05
# Wall-clock seconds that no host can promise: waking a process, telling another one.
HOST_JITTER_S = 0.001
# How much of its own length a transfer may be shifted against the others before contention is another one.
LAG_BAND = 0.05


def modelled_seconds(outcome: RoundOutcome, network: ModelNetwork) -> dict[tuple[str, Direction], float]:
    """How long the model takes for the transfers of a round, each started when its sender really did.

    So what differs is the network: by how much senders were late is judged by itself. A transfer that was cut off
    counts for others with what had arrived of it.

    Args:
        network: the round's links; nothing has been started there.
    """
    flows: list[tuple[float, str, Direction, int]] = []
    for client in outcome.clients:
        flows += [
            (seen.started_s + seen.start_lag_s, client.client, direction, seen.flow.payload_bytes)
            for direction, seen in client.transfers()
            if seen.flow.payload_bytes
        ]
    flows.sort()
    for number, (at_s, client_name, direction, size) in enumerate(flows):
        network.start(FlowRequest(number, client_name, direction, size), at_s)
    return {
        (result.client, result.direction): result.duration_s
        for result in network.run()
        if result.status == "ok"
    }


@dataclass(frozen=True)
class Judge:
    """Judges the rounds of one topology.

    Attributes:
        beside: the clients whose transfers may meet this client's in this direction, itself among them.
        gate: knows which links failed their probes; None where none was made.
        strain: what the host was up to during the round.
    """

    topology: Topology
    congestion_control: str
    host: TruthfulRange
    beside: Callable[[str, Direction], Sequence[str]]
    gate: Gate | None = None
    strain: Strain | None = None

    def round(
        self, outcome: RoundOutcome, expected_s: Mapping[tuple[str, Direction], float]
    ) -> tuple[dict[str, str], list[TransferCheck]]:
        """Why which client's row must not be believed, and every transfer beside the modelled one.

        Args:
            expected_s: as `modelled_seconds` has it.
        """
        untrusted: dict[str, str] = {}
        checks: list[TransferCheck] = []
        for client in outcome.clients:
            for direction, seen in client.transfers():
                model_s = expected_s.get((client.client, direction))
                if model_s is None or not seen.ok:
                    continue
                why = self._disbelieved(seen, model_s, client.client, direction)
                if why:
                    untrusted.setdefault(client.client, why)
                link = path(self.topology, client.client, direction)[0]
                disturbed = "; ".join(filter(None, (self._late(seen), *self._held_up())))
                checks.append(
                    check(client.client, direction, link.rate_bps, seen, model_s, not why, disturbed)
                )
        return untrusted, checks

    def _disbelieved(self, seen: Transfer, model_s: float, client: str, direction: Direction) -> str:
        ways = path(self.topology, client, direction)
        why = self._out_of_band(seen, model_s, ways)
        if why:
            remarks = self.strain.remarks if self.strain else ()
            meanwhile = "".join(f"; {text}" for text in (*self._held_up(), *remarks) if text)
            return f"{direction} {why}{meanwhile}"
        if self.gate and (
            doubt := self.gate.doubt(
                self.topology, self.beside(client, direction), client, Leg(direction, seen.dilation)
            )
        ):
            return f"{direction} {doubt}"
        return "; ".join(self.strain.reasons) if self.strain else ""

    def _out_of_band(self, seen: Transfer, model_s: float, ways: tuple[LinkSpec, ...]) -> str:
        top = ways[0].top_bps
        if top * seen.dilation > 1.01 * self.host.link_bps:
            ran, limit = top * seen.dilation / 1e6, self.host.link_bps / 1e6
            return f"ran at {ran:.0f} Mbit/s (dilation {seen.dilation:g}); this host is truthful up to {limit:.0f}"
        jitter_s = seen.dilation * HOST_JITTER_S
        if late := self._late(seen):
            return late
        if by_chance(ways):
            # Where packets are lost or delayed by chance, a transfer may take any time that its bytes leave it.
            least_s = 8 * data_bytes(seen.flow.payload_bytes) / min(top, ways[1].top_bps)
            if seen.seconds < (1.0 - TRANSFER_BAND) * least_s - jitter_s:
                return f"took {seen.seconds:.4g} s, its bytes alone take {least_s:.4g} s"
        elif (
            abs(seen.seconds - model_s)
            > max(TRANSFER_BAND, delay_band(ways, self.congestion_control)) * model_s + jitter_s
        ):
            return f"took {seen.seconds:.4g} s, the model expects {model_s:.4g} s"
        return ""

    def _held_up(self) -> tuple[str, ...]:
        """What the host did that may have held transfers up."""
        return (*self.strain.reasons, self.strain.held_up) if self.strain else ()

    @staticmethod
    def _late(seen: Transfer) -> str:
        if seen.lag_s <= LAG_BAND * seen.seconds + seen.dilation * HOST_JITTER_S:
            return ""
        return f"was {seen.lag_s:.3g} s behind the clock in a transfer of {seen.seconds:.3g} s"
