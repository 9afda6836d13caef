"""Rows of a compressed round beside the rows of the same round sent raw: the pairs behind every crossover."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from testbed.row import CodecUsed, Row
from testbed.schema_sweep import axis_path

RAW = "none"
# What a row's codec says already.
_CODEC_KEYS = {"codec", "bound"}
# What a raw round does not depend on, so that one may be the partner of coded rounds that differ in it.
_CODING_KEYS = {"lossless", "threshold", "names", "by_data", "reference", "policy"}


@dataclass(frozen=True)
class Group:
    """What one crossover is about: a fleet, a codec with its bound, and whatever else the sweep set.

    *setting* holds the axis values that are neither the uplink's rate nor the codec's, as (axis, value) pairs.
    """

    fleet: str
    device: str
    codec: CodecUsed
    setting: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Pair:
    """One client in one round with a codec, and the same without.

    *extra_s* is what the codec adds to the client's time: the difference of the parts that a codec can change, which
    are compress, uplink and decompress, and downlink where the bytes of the downlink differ. Training and aggregation
    are the same work in both, so that their noise stays out; waiting is other people's time.
    """

    repeat: int
    client: str
    rate_bps: float
    coded: Row
    raw: Row

    @property
    def extra_s(self) -> float:
        extra = sum(
            self.coded.seconds(part) - self.raw.seconds(part) for part in ("compress", "uplink", "decompress")
        )
        if self.coded.downlink_payload_bytes != self.raw.downlink_payload_bytes:
            extra += self.coded.downlink_s - self.raw.downlink_s
        return extra


@dataclass(frozen=True)
class Pairing:
    """Pairs of one group that statistics may use, and how many may not be used.

    Attributes:
        untrusted, failed: pairs with a side that must not be believed, or did not end.
        alone: coded rows without a raw partner.
        gaps_bps: swept rates, rising, at which no pair is left because rounds there are untrusted.
    """

    group: Group
    pairs: tuple[Pair, ...]
    untrusted: int
    failed: int
    alone: int
    gaps_bps: tuple[float, ...] = ()


@cache
def _compression_key(axis: str) -> str:
    """Which key of ``compression`` an axis sets; empty for an axis that sets something else."""
    found = axis_path(axis)
    return str(found[0][1]) if found is not None and found[0][0] == "compression" else ""


@cache
def _is_rate_axis(axis: str) -> bool:
    found = axis_path(axis)
    return found is not None and found[0][0] == "fleets" and found[0][2:] == ("uplink", "rate")


def setting(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The axis values that neither the codec nor the uplink's rate account for."""
    kept = (
        item
        for item in values.items()
        if _compression_key(item[0]) not in _CODEC_KEYS and not _is_rate_axis(item[0])
    )
    return tuple(sorted(kept))


def without_codec(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The axis values that the codec and its bound do not account for, in the order of the sweep."""
    return tuple(item for item in values.items() if _compression_key(item[0]) not in _CODEC_KEYS)


def pair_up(rows: Iterable[Row]) -> list[Pairing]:
    """All pairs by group, groups in the order of their first row.

    A coded row's partner is the raw row of the same repeat, round, client, rate and setting; of several (a sweep over
    bounds sends raw bytes once a bound) the one measured nearest in time. Asynchronous updates are left out: each began
    from a model of its own, and the two sides would not be the same update.
    """
    raw: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    coded: dict[Group, list[Row]] = defaultdict(list)
    for row in rows:
        if row.model_version is not None:
            continue
        if row.codec.id == RAW:
            raw[_key(row)].append(row)
        else:
            coded[Group(row.fleet, row.device, row.codec, setting(row.values))].append(row)
    return [_pairing(group, mine, raw) for group, mine in coded.items()]


def _key(row: Row) -> tuple[object, ...]:
    shared = tuple(item for item in setting(row.values) if _compression_key(item[0]) not in _CODING_KEYS)
    return row.repeat, row.round, row.client, row.uplink_rate_bps, shared


def _pairing(group: Group, rows: list[Row], raw: Mapping[tuple[object, ...], list[Row]]) -> Pairing:
    pairs, untrusted, failed, alone = [], 0, 0, 0
    doubted: set[float] = set()
    for row in rows:
        partners = raw.get(_key(row), [])
        if not partners:
            alone += 1
            continue
        partner = min(partners, key=lambda other: abs(other.cell - row.cell))
        if row.status != "ok" or partner.status != "ok":
            failed += 1
        elif not (row.trusted and partner.trusted):
            untrusted += 1
            doubted.add(row.uplink_rate_bps)
        else:
            pairs.append(Pair(row.repeat, row.client, row.uplink_rate_bps, row, partner))
    gaps = sorted(doubted - {pair.rate_bps for pair in pairs})
    return Pairing(group, tuple(pairs), untrusted, failed, alone, tuple(gaps))
