"""What a run's transfers were held against, and how near they came: ``fidelity.json``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from netem.units import format_rate
from testbed.clock import Transfer
from testbed.files import write_derived
from testbed.record import CellDone, Results

SCHEMA = 1
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

    @property
    def difference(self) -> float:
        """Measured less modelled, as a share of modelled."""
        return self.seconds / self.expected_s - 1.0


def check(
    client: str, direction: str, rate_bps: float, seen: Transfer, model: Transfer, trusted: bool
) -> TransferCheck:
    """Hold one transfer that arrived against the modelled one."""
    return TransferCheck(
        client,
        direction,
        rate_bps,
        seen.flow.payload_bytes,
        seen.dilation,
        seen.seconds,
        model.seconds,
        seen.lag_s,
        trusted,
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
            "rate": format_rate(rate),
            "transfers": len(found),
            "dilation": f"{min(c.dilation for c in found):.3g} to {max(c.dilation for c in found):.3g}",
            "median difference": f"{statistics.median(c.difference for c in found):+.2%}",
            "worst difference": f"{max((c.difference for c in found), key=abs):+.2%}",
            "untrusted": sum(not c.trusted for c in found),
        }
        for (direction, rate), found in sorted(groups.items())
    ]


def write(folder: Path, results: Results) -> Path | None:
    """Keep the comparison as ``fidelity.json``; None for a run without emulated links."""
    checks = from_cells(results.cells)
    if not checks:
        return None
    data: Mapping[str, Any] = {
        "schema": SCHEMA,
        "what": "emulated transfers beside the same transfers over modelled links, at the same instants",
        "points": points(checks),
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


def brief(checks: Sequence[TransferCheck]) -> str:
    """One line for the end of a run: what came of its transfers, disturbed ones included."""
    median = statistics.median(abs(item.difference) for item in checks)
    outside = sum(not item.trusted for item in checks)
    return (
        f"{len(checks)} transfers held against the modelled network: median difference {median:.2%}; "
        f"{outside} were disturbed by something else on this host and are left out"
    )


def verdict(checks: Sequence[TransferCheck]) -> tuple[bool, str]:
    """Whether the two engines agree as well as is asked of them, and that in words."""
    differences = [abs(item.difference) for item in checks]
    median, worst = statistics.median(differences), max(differences)
    good = median <= GOAL_MEDIAN and worst <= GOAL_WORST
    text = f"{len(checks)} transfers: median difference {median:.2%} (goal {GOAL_MEDIAN:.0%})"
    text += f", worst {worst:.2%} (goal {GOAL_WORST:.0%})"
    return good, f"{text}; {'the engines agree' if good else 'the engines do NOT agree on this machine'}"
