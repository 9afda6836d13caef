"""What one client's round is made of before a packet flies: the plan, and all that its row will say besides times.

A cell's notes keep it (``work`` in ``cells.jsonl``), so that the same round can be played over another network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from testbed import energy
from testbed.carrier import Played
from testbed.cells import Cell
from testbed.coding import Fidelity
from testbed.round import PARTS, ClientOutcome, ClientPlan
from testbed.row import CodecUsed, Row, Source

# Parts of a round that are work, and not a transfer or waiting.
WORK_PARTS = ("train", "compress", "decompress", "aggregate")


@dataclass
class ClientWork:
    """One client's work of one round.

    Attributes:
        codec: what the update was coded with.
        update_bytes: sum of ``nbytes`` of the arrays in the update.
        uplink_digest, downlink_digest: SHA-256 (hex) of the payloads; empty where nothing is sent.
        samples: how much the update weighs in the average; 0 where there is none.
        refused: why the server cannot use the update when it has all its bytes; empty where it can.
        source: part -> how its duration came about.
        doubt: why the durations of its work are not to be trusted; empty where they are.
    """

    plan: ClientPlan
    codec: CodecUsed
    update_bytes: int
    uplink_digest: str = ""
    downlink_digest: str = ""
    samples: int = 0
    refused: str = ""
    reference: bool = False
    downlink_reference: bool = False
    max_error: float | None = None
    max_error_over_bound: float | None = None
    delta_over_bound: float | None = None
    delta_arrived: float | None = None
    delta_lost: float | None = None
    source: dict[str, Source] = field(default_factory=dict)
    doubt: str = ""

    def leave(self, after_s: float | None) -> None:
        """Have the client go away so long after it is asked; None: it stays."""
        self.plan = replace(self.plan, leaves_after_s=after_s)

    def saw(self, fidelity: Fidelity) -> None:
        """Take over what decoding has shown."""
        self.max_error = fidelity.max_error
        self.max_error_over_bound = None if self.codec.bound is None else fidelity.max_error_over_bound
        self.delta_over_bound = fidelity.delta_over_bound
        self.delta_arrived = fidelity.delta_arrived
        self.delta_lost = fidelity.delta_lost

    def to_note(self) -> dict[str, Any]:
        """Plain data; payloads become their sizes."""
        return asdict(replace(self, plan=self.plan.sized()))

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> ClientWork:
        """What `to_note` gave; TypeError or KeyError where it is something else."""
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in note.items() if name in known}
        return cls(**{**values, "plan": ClientPlan(**note["plan"]), "codec": CodecUsed(**note["codec"])})


def refuse_damaged(work: ClientWork, outcome: ClientOutcome, played: Played) -> None:
    """An update that is not what was sent, or that cannot be used, has failed and is not averaged."""
    if outcome.status != "ok":
        return
    if work.refused:
        outcome.status, outcome.reason = "failed", work.refused
    elif played.arrived is not None and played.arrived.get(work.plan.client) != work.uplink_digest:
        outcome.status = "failed"
        outcome.reason = "what arrived is not what was sent (SHA-256 differs)"


def row_of(
    run: str,
    cell: Cell,
    number: int,
    started_s: float,
    work: ClientWork,
    outcome: ClientOutcome,
    played: Played,
    engine: str,
    accuracy: float | None,
) -> Row:
    """The row of one client's round *number*, which began at *started_s* in its cell."""
    fleet = cell.scenario.fleet_of(work.plan.client)
    plan = work.plan.sized()
    assert isinstance(plan.uplink, int)
    assert isinstance(plan.downlink, int)
    moved: Source = "measured" if engine == "mininet" else "modelled"
    seconds: dict[str, Any] = {f"{part}_s": outcome.seconds[part] for part in PARTS}
    because = "; ".join(filter(None, (work.doubt, played.untrusted.get(plan.client, ""))))
    return Row(
        run=run,
        cell=cell.index,
        variant=cell.variant,
        repeat=cell.repeat,
        round=number,
        client=plan.client,
        fleet=fleet.name,
        device=fleet.device_name,
        status=outcome.status,
        reason=outcome.reason,
        trusted=not because,
        untrusted_because=because,
        engine=engine,
        dilation=outcome.uplink.dilation if outcome.uplink else played.dilation,
        uplink_rate_bps=fleet.uplink.rate_bps,
        downlink_rate_bps=fleet.downlink.rate_bps,
        codec=work.codec,
        started_s=started_s,
        **seconds,
        round_s=played.outcome.round_s,
        update_bytes=work.update_bytes,
        payload_bytes=plan.uplink,
        downlink_payload_bytes=plan.downlink,
        link_bytes=outcome.uplink.flow.wire_bytes if outcome.uplink else None,
        compression_ratio=work.update_bytes / plan.uplink if plan.uplink else None,
        max_error=work.max_error,
        max_error_over_bound=work.max_error_over_bound,
        delta_over_bound=work.delta_over_bound,
        delta_arrived=work.delta_arrived,
        delta_lost=work.delta_lost,
        accuracy=accuracy,
        source={"downlink": moved, "uplink": moved, **work.source},
        reference=work.reference,
        downlink_reference=work.downlink_reference,
        spans=tuple(outcome.spans),
        **energy.of_round(fleet, work.plan, outcome),
        values=cell.to_dict()["values"],
    )
