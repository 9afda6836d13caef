"""One row of results: one client in one round, or why there is nothing to tell.

The seven parts add up to the client's round time; a row for which they do not cannot be built.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from testbed.errors import NewerSchemaError, RecordError

# Raise by one when a field changes its meaning or goes away, and teach `upgrade` the way from the one before.
SCHEMA = 1

PARTS = ("downlink", "train", "compress", "uplink", "decompress", "aggregate", "wait")
# A row's parts are differences of one clock's readings; only float rounding may come between them and their sum.
SUM_TOLERANCE_S = 1e-6

Status = Literal["ok", "failed", "dropped"]
Source = Literal["measured", "drawn", "modelled", "replayed"]


@dataclass(frozen=True)
class CodecUsed:
    """The codec that made the payload; *mode* and *bound* are None where nothing is lossy."""

    id: str
    mode: str | None = None
    bound: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One client in one round. Times are emulated seconds, rates bits per second, sizes bytes.

    Attributes:
        run: id of the run, the same in all its files.
        cell, variant, repeat: of the sweep (`testbed.cells.Cell`); *values* are its axis values with units.
        round: from 0.
        started_s: when the round began, since the cell's first round began.
        downlink_s ... wait_s: the parts; *round_s* is their sum, up to a microsecond.
        update_bytes: sum of ``nbytes`` of the arrays that the client sends.
        payload_bytes: what the transport was given, header and checksum included (STYLE.md's ``wire_bytes``); 0 if
            nothing was sent. ``compression_ratio`` is *update_bytes / payload_bytes*.
        link_bytes: what the link's counters say it carried for the upload, headers and retransmissions included;
            None where they cannot be told apart or the link is computed.
        max_error: largest |decoded - sent| of any finite value; None where it was not looked at.
        max_error_over_bound: the largest share of its bound that any tensor used; at most 1 when the bound was kept.
        delta_over_bound: how far the round's training moved the weights: root mean square over a tensor's values, as a
            multiple of what coding may move them, median over the lossy tensors. None where nothing went lossy.
        delta_arrived: how much of that is left after coding, median over the lossy tensors: 1 where the error knows
            nothing of it, 0 where it was rounded away (`fedsz.TensorDelta`).
        delta_lost: share of the lossy tensors of whose change less than half arrived, beyond chance, 0 to 1.
        trusted: False where the host could not shape, serve or time this round truthfully; *untrusted_because* says
            why. Untrusted rows stay in the file and out of the statistics.
        reference: whether the update was coded against the global model that both sides hold; False where the scenario
            does not ask for it, and where nothing is compressed.
        downlink_reference: whether what the server sent was coded against the model that the client still held; False
            also in a client's first round and where it missed the one before.
        source: part -> how its duration came about.
        spans: (part, start, end) in order, seconds since the round began; empty where nobody noted them. Waiting may
            come in several pieces (for the server to take the update, then for others).
        energy_j: what the round costs the client's device: an estimate (`testbed.energy`), the sum of the four that
            follow (training; coding; transfers with the radio; waiting); None where no source says what it draws.
        accuracy: of the global model after this round, 0 to 1; the same for all clients; None if not evaluated.
        model_version, staleness: of asynchronous updates: the version of the model that the client trained on (0 is the
            first), and how many versions the model had gone on when the update entered it (None where it did not).
            There *round* is the model that it entered, or the one being made when it was lost, and *round_s* its own
            way from being asked until it was in the model. None in synchronous rounds.
    """

    run: str
    cell: int
    variant: int
    repeat: int
    round: int
    client: str
    fleet: str
    device: str
    status: Status
    reason: str = ""
    trusted: bool = True
    untrusted_because: str = ""
    engine: str
    dilation: float
    uplink_rate_bps: float
    downlink_rate_bps: float
    codec: CodecUsed
    started_s: float = 0.0
    downlink_s: float
    train_s: float
    compress_s: float
    uplink_s: float
    decompress_s: float
    aggregate_s: float
    wait_s: float
    round_s: float
    update_bytes: int
    payload_bytes: int
    downlink_payload_bytes: int = 0
    link_bytes: int | None = None
    compression_ratio: float | None = None
    max_error: float | None = None
    max_error_over_bound: float | None = None
    delta_over_bound: float | None = None
    delta_arrived: float | None = None
    delta_lost: float | None = None
    accuracy: float | None = None
    energy_j: float | None = None
    energy_train_j: float | None = None
    energy_code_j: float | None = None
    energy_radio_j: float | None = None
    energy_wait_j: float | None = None
    reference: bool = False
    downlink_reference: bool = False
    model_version: int | None = None
    staleness: int | None = None
    source: Mapping[str, Source] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    spans: tuple[tuple[str, float, float], ...] = ()

    def __post_init__(self) -> None:
        where = f"cell {self.cell}, round {self.round}, client {self.client}"
        for part in PARTS:
            seconds = self.seconds(part)
            if not (math.isfinite(seconds) and seconds >= 0.0):
                raise RecordError(where, f"{part}_s is {seconds!r}; a part takes a finite time of at least 0")
        total = math.fsum(self.seconds(part) for part in PARTS)
        if not abs(total - self.round_s) <= SUM_TOLERANCE_S:
            raise RecordError(where, f"the parts add up to {total!r} s, round_s is {self.round_s!r}")
        if self.status not in get_args(Status):
            raise RecordError(where, f"status {self.status!r}; allowed: {', '.join(get_args(Status))}")
        if self.status == "failed" and not self.reason:
            raise RecordError(where, "a failed row says why in 'reason'")
        if not self.trusted and not self.untrusted_because:
            raise RecordError(where, "an untrusted row says why in 'untrusted_because'")
        for part, source in self.source.items():
            if part not in PARTS or source not in get_args(Source):
                raise RecordError(where, f"source {part}: {source}; parts are {', '.join(PARTS)}, sources "
                                  f"{', '.join(get_args(Source))}")  # fmt: skip
        if self.compression_ratio is not None and self.payload_bytes:
            ratio = self.update_bytes / self.payload_bytes
            if not math.isclose(ratio, self.compression_ratio, rel_tol=1e-9):
                raise RecordError(where, f"compression_ratio {self.compression_ratio!r} is not update_bytes / "
                                  f"payload_bytes = {ratio!r}")  # fmt: skip

    def seconds(self, part: str) -> float:
        """Length of one of `PARTS`."""
        value: float = getattr(self, f"{part}_s")
        return value

    def timeline(self) -> tuple[tuple[str, float, float], ...]:
        """`spans`; where nobody noted them, the parts one after the other."""
        if self.spans:
            return self.spans
        ends = list(itertools.accumulate((self.seconds(part) for part in PARTS), initial=0.0))
        return tuple((part, start, end) for part, start, end in zip(PARTS, ends, ends[1:], strict=False))

    @property
    def busy_s(self) -> float:
        """The client's own way through the round: everything but waiting for others."""
        return self.round_s - self.wait_s

    @property
    def usable(self) -> bool:
        """Whether statistics may use it."""
        return self.status == "ok" and self.trusted

    def to_dict(self) -> dict[str, Any]:
        """Plain data, schema first, in the order of the fields."""
        return {"schema": SCHEMA, **asdict(self)}


_NAMES = {item.name for item in fields(Row)}


def row_from_dict(data: Mapping[str, Any], where: str) -> Row:
    """The row of one parsed line.

    Raises:
        NewerSchemaError: written by a later build.
        RecordError: a field is missing, unknown or contradicts another.
    """
    schema = data.get("schema")
    if not isinstance(schema, int) or schema < 1:
        raise RecordError(where, f"schema {schema!r}; a row says its schema, a whole number from 1")
    if schema > SCHEMA:
        raise NewerSchemaError(where, schema, SCHEMA)
    values = {name: value for name, value in data.items() if name != "schema"}
    unknown = sorted(values.keys() - _NAMES)
    if unknown:
        raise RecordError(where, f"unknown field {unknown[0]!r}")
    try:
        spans = tuple((str(part), float(start), float(end)) for part, start, end in values.get("spans", ()))
        return Row(**{**values, "codec": CodecUsed(**values["codec"]), "spans": spans})
    except (TypeError, ValueError, KeyError) as error:
        raise RecordError(where, f"not a row: {error}") from error
    except RecordError as error:
        raise RecordError(f"{where}: {error.where}", error.why) from error
