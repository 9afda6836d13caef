"""Rows of one fleet, rate, codec and setting drawn together: means that add up, medians and quartiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from testbed.pairing import setting
from testbed.row import PARTS, CodecUsed, Row


@dataclass(frozen=True)
class Quartiles:
    """Of seconds."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Summary:
    """One point of a sweep, over its clients, rounds and repeats.

    Attributes:
        mean_s: part -> mean; means, unlike medians, add up to the mean round.
        client_s: the client's time without waiting for others.
        coding_s: the parts that a codec changes: compress, uplink, decompress.
        coding_share: mean share of the round, 0 to 1, that compressing and decompressing take.
        energy_j: (training, coding, transfers, waiting), means of the estimates; None where no source says.
        compression_ratio: median; None if nothing was sent.
        used, untrusted, failed: rows behind the figures, and rows left out.
    """

    fleet: str
    device: str
    rate_bps: float
    codec: CodecUsed
    setting: tuple[tuple[str, str], ...]
    mean_s: dict[str, float]
    round_s: float
    client_s: Quartiles
    coding_s: Quartiles
    coding_share: float
    energy_j: tuple[float, float, float, float] | None
    compression_ratio: float | None
    max_error_over_bound: float | None
    used: int
    untrusted: int
    failed: int


def codec_name(codec: CodecUsed) -> str:
    """``sz2 REL 0.01``; ``none`` for raw values."""
    if codec.mode is None or codec.bound is None:
        return codec.id
    return f"{codec.id} {codec.mode} {codec.bound:g}"


def codec_names(codecs: Iterable[CodecUsed]) -> dict[CodecUsed, str]:
    """Names for labels: the bound is left out where each id has only one."""
    found = list(dict.fromkeys(codecs))
    ids = [codec.id for codec in found]
    return {codec: codec.id if ids.count(codec.id) == 1 else codec_name(codec) for codec in found}


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """In the order of the rows, fleets together, rates rising; points without a usable row are there with used = 0."""
    groups: dict[tuple[str, tuple[tuple[str, str], ...], float, CodecUsed], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.fleet, setting(row.values), row.uplink_rate_bps, row.codec].append(row)
    fleets = list(dict.fromkeys(key[0] for key in groups))
    settings = list(dict.fromkeys(key[1] for key in groups))
    ordered = sorted(groups, key=lambda key: (fleets.index(key[0]), settings.index(key[1]), key[2]))
    return [_summary(groups[key]) for key in ordered]


def _quartiles(values: list[float]) -> Quartiles:
    if not values:
        return Quartiles(float("nan"), float("nan"), float("nan"))
    low, middle, high = np.percentile(values, [25, 50, 75])
    return Quartiles(float(low), float(middle), float(high))


def _coding_share(row: Row) -> float:
    return (row.compress_s + row.decompress_s) / row.round_s if row.round_s else 0.0


def _energy(rows: list[Row]) -> tuple[float, float, float, float] | None:
    known = [
        (row.energy_train_j, row.energy_code_j, row.energy_radio_j, row.energy_wait_j)
        for row in rows
        if row.energy_j is not None
    ]
    if not known:
        return None
    train, code, radio, wait = (float(value) for value in np.mean(np.array(known, dtype=float), axis=0))
    return train, code, radio, wait


def _summary(rows: list[Row]) -> Summary:
    first = rows[0]
    used = [row for row in rows if row.usable]
    ratios = [row.update_bytes / row.payload_bytes for row in used if row.payload_bytes]
    errors = [row.max_error_over_bound for row in used if row.max_error_over_bound is not None]
    return Summary(
        fleet=first.fleet,
        device=first.device,
        rate_bps=first.uplink_rate_bps,
        codec=first.codec,
        setting=setting(first.values),
        mean_s={
            part: float(np.mean([row.seconds(part) for row in used])) if used else float("nan")
            for part in PARTS
        },
        round_s=float(np.mean([row.round_s for row in used])) if used else float("nan"),
        client_s=_quartiles([row.busy_s for row in used]),
        coding_s=_quartiles([row.compress_s + row.uplink_s + row.decompress_s for row in used]),
        coding_share=float(np.mean([_coding_share(row) for row in used])) if used else float("nan"),
        energy_j=_energy(used),
        compression_ratio=float(np.median(ratios)) if ratios else None,
        max_error_over_bound=max(errors) if errors else None,
        used=len(used),
        untrusted=sum(row.status == "ok" and not row.trusted for row in rows),
        failed=sum(row.status != "ok" for row in rows),
    )
