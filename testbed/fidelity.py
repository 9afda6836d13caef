"""What a run's transfers were held against, and how near they came: ``fidelity.json``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from netem.probe import ProbeRow, probe_row
from netem.units import format_rate, format_size
from testbed.clock import Transfer
from testbed.files import write_derived
from testbed.record import CellDone, Results

SCHEMA = 2
FILE = "fidelity.json"
# What the modelled network is held to over the scenarios that ship: median and worst transfer.
GOAL_MEDIAN, GOAL_WORST = 0.03, 0.10


@dataclass(frozen=True)
class TransferCheck:
    """One emulated transfer beside the same transfer over modelled links; emulated seconds.

    Attributes:
        rate_bps: of the client's link in this direction.
        lag_s: how far it was from the schedule; see `testbed.clock.Transfer`.
        trusted: whether it was inside its band.
        disturbed: what speaks against it without a look at the model: a start that was late, or what the host was up
            to; empty where nothing does.
    """

    client: str
    direction: str
    rate_bps: float
    payload_bytes: int
    dilation: float
    seconds: float
    expected_s: float
    lag_s: float
    trusted: bool
    disturbed: str = ""

    @property
    def difference(self) -> float:
        """Measured less modelled, as a share of modelled."""
        return self.seconds / self.expected_s - 1.0


def check(
    client: str,
    direction: str,
    rate_bps: float,
    seen: Transfer,
    expected_s: float,
    trusted: bool,
    disturbed: str = "",
) -> TransferCheck:
    """Hold one transfer that arrived against what the model expects, emulated seconds."""
    return TransferCheck(
        client,
        direction,
        rate_bps,
        seen.flow.payload_bytes,
        seen.dilation,
        seen.seconds,
        expected_s,
        seen.lag_s,
        trusted,
        disturbed,
    )


def to_notes(checks: Iterable[TransferCheck]) -> list[dict[str, Any]]:
    """Plain data for a cell's notes."""
    return [asdict(item) for item in checks]


def from_cells(cells: Iterable[CellDone]) -> list[TransferCheck]:
    """Every check that a run wrote down."""
    return [TransferCheck(**item) for cell in cells for item in cell.notes.get("transfers", ())]


def points(checks: Sequence[TransferCheck]) -> list[dict[str, Any]]:
    """One row a direction and rate: how many, median and worst difference, how many were not believed."""
    groups: dict[tuple[str, float], list[TransferCheck]] = {}
    for item in checks:
        groups.setdefault((item.direction, item.rate_bps), []).append(item)
    return [
        {
            "direction": direction,
            "rate": format_rate(rate, 4),
            "transfers": len(found),
            "dilation": f"{min(c.dilation for c in found):.3g} to {max(c.dilation for c in found):.3g}",
            "median difference": f"{statistics.median(c.difference for c in found):+.2%}",
            "worst difference": f"{max((c.difference for c in found), key=abs):+.2%}",
            "worst trusted": _worst(c.difference for c in found if c.trusted),
            "untrusted": sum(not c.trusted for c in found),
        }
        for (direction, rate), found in sorted(groups.items())
    ]


def _worst(differences: Iterable[float]) -> str:
    worst = max(differences, key=abs, default=None)
    return "-" if worst is None else f"{worst:+.2%}"


def probes(cells: Iterable[CellDone]) -> list[ProbeRow]:
    """Every look at a link that a run took before it used it."""
    return [probe_row(item) for cell in cells for item in cell.notes.get("probes", ())]


def strains(cells: Iterable[CellDone]) -> list[dict[str, Any]]:
    """What the host was up to in every round: plain data, cell and round first."""
    return [{"cell": cell.cell, **item} for cell in cells for item in cell.notes.get("strain", ())]


def links(rows: Sequence[ProbeRow]) -> list[dict[str, Any]]:
    """One row a probe, for people."""
    return [
        {
            "direction": row.direction,
            "clients": row.client if row.flows == 1 else f"{row.flows} at once",
            "rate here": format_rate(row.rate_bps, 3),
            "goodput": format_rate(row.goodput_bps, 4),
            "theory": format_rate(row.expected_goodput_bps, 4),
            "time against theory": f"{row.error:+.2%}",
            "band": "none: chance" if row.band is None else f"{row.band:.0%}",
            "round trip": f"{row.measured_rtt_s * 1e3:.3g} ms",
            "in theory": f"{row.expected_rtt_s * 1e3:.3g} ms",
            "verdict": row.fault or "true",
        }
        for row in rows
    ]


def host(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a thing that was watched: median and worst over the rounds, and in how many it spoke against a round."""
    if not found:
        return []

    def shares(name: str) -> list[float]:
        return [item[name] for item in found]

    rows = [
        {
            "watched": text,
            "median": f"{statistics.median(shares(name)):.1%}",
            "worst": f"{max(shares(name)):.1%}",
        }
        for name, text in (
            ("busy", "processor busy"),
            ("softirq", "in soft interrupts"),
            ("steal", "taken by the hypervisor"),
        )
    ]
    sums = {
        "held back by a quota, s": shares("throttled_s"),
        "packets waited for a processor, s": [item.get("packets_waited_s", 0.0) for item in found],
        "packets dropped before any link": shares("softnet_dropped"),
        "packets dropped by links": [sum(item["drops"].values()) for item in found],
        "load": shares("load"),
    }
    for text, values in sums.items():
        rows.append(
            {"watched": text, "median": f"{statistics.median(values):.3g}", "worst": f"{max(values):.3g}"}
        )
    fullest = [max(item["fullest_bytes"].values(), default=0) for item in found]
    rows.append(
        {
            "watched": "fullest queue seen",
            "median": format_size(statistics.median_high(fullest), 3),
            "worst": format_size(max(fullest), 3),
        }
    )
    return rows


def write(folder: Path, results: Results) -> Path | None:
    """Keep probes, samples and comparisons as ``fidelity.json``; None for a run without emulated links."""
    checks = from_cells(results.cells)
    if not checks:
        return None
    looks, watched = probes(results.cells), strains(results.cells)
    good, text = verdict(checks)
    data: Mapping[str, Any] = {
        "schema": SCHEMA,
        "what": "probes of links before their first round, what the host was up to in each round, and emulated "
        "transfers beside the same transfers over modelled links, at the same instants",
        "verdict": {
            "agrees": good,
            "text": text,
            "summary": " ".join(f"{line}." for line in (probed(looks), brief(checks)) if line),
            "untrusted_rows": sum(not row.trusted for row in results.rows),
            "rows": len(results.rows),
        },
        "links": links(looks),
        "host": host(watched),
        "points": points(checks),
        "probes": [asdict(row) | {"error": row.error, "fault": row.fault} for row in looks],
        "cpu": results.manifest.get("devices", {}).get("quota_checks", []),
        "rounds": watched,
        "transfers": to_notes(checks),
    }
    path = folder / FILE
    write_derived(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    return path


def table(checks: Sequence[TransferCheck]) -> Table:
    """The rows of `points` for a terminal."""
    shown = Table(
        title="Emulated against modelled transfers",
        caption="difference: emulated less modelled, share of modelled",
        title_justify="left",
        caption_justify="left",
    )
    rows = points(checks)
    for heading in rows[0] if rows else ():
        shown.add_column(heading, justify="left" if heading == "direction" else "right")
    for row in rows:
        shown.add_row(*(str(value) for value in row.values()))
    return shown


def probed(rows: Sequence[ProbeRow]) -> str:
    """One line for the end of a run: what came of the looks at its links; empty where there was none."""
    if not rows:
        return ""
    faults = [row for row in rows if row.fault]
    example = (
        f", for example the {faults[0].direction} of {faults[0].client}: {faults[0].fault}" if faults else ""
    )
    return f"{len(rows)} probes of links before their first round: {len(rows) - len(faults)} found them true{example}"


def brief(checks: Sequence[TransferCheck]) -> str:
    """One line for the end of a run: what came of its transfers, disturbed ones included."""
    median = statistics.median(abs(item.difference) for item in checks)
    outside = sum(not item.trusted for item in checks)
    return (
        f"{len(checks)} transfers held against the modelled network: median difference {median:.2%}; "
        f"{outside} were disturbed by something else on this host and are left out"
    )


def verdict(checks: Sequence[TransferCheck]) -> tuple[bool, str]:
    """Whether the two engines agree as well as is asked of them, and that in words.

    Where they do not, transfers that the host may have disturbed are looked away from: they say nothing about the
    engines. How far a transfer lies from the model is no such reason.
    """
    good, text = _agreement(checks)
    alone = [item for item in checks if not item.disturbed]
    if not good and len(alone) < len(checks):
        apart = f"{len(checks) - len(alone)} more may have been disturbed by the host"
        if not alone:
            return False, f"{text}; no transfer was left alone by this host: nothing follows"
        good, text = _agreement(alone)
        text += f"; {apart}"
    return good, f"{text}; {'the engines agree' if good else 'the engines do NOT agree on this machine'}"


def _agreement(checks: Sequence[TransferCheck]) -> tuple[bool, str]:
    differences = [abs(item.difference) for item in checks]
    median, worst = statistics.median(differences), max(differences)
    text = f"{len(checks)} transfers: median difference {median:.2%} (goal {GOAL_MEDIAN:.0%})"
    return median <= GOAL_MEDIAN and worst <= GOAL_WORST, f"{text}, worst {worst:.2%} (goal {GOAL_WORST:.0%})"
