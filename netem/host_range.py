"""What this host shapes truthfully: the highest rates and the shortest transfer, measured once for every boot."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast, get_args

from netem.flow import Direction
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.probe import MOST_TOGETHER, ProbeRow, band, probe_path, probe_row

RATES_BPS = (10e6, 100e6, 500e6, 1e9, 2e9, 5e9, 10e9)
TOTALS_BPS = (500e6, 1e9, 2e9, 3e9, 4e9, 6e9, 8e9)
FLOWS = MOST_TOGETHER
DURATIONS_S = (0.002, 0.005, 0.01, 0.025, 0.05)
WALL_S = 0.15
_TRIES = 3  # other work on the machine may spoil one
_SHORTEST_SPREAD = 0.05  # between the extremes of nine looks; one that a busy host spoils may do that
_SHORTEST_BAND = 0.01
_SCHEMA = 3
_FILE = "host-range.json"


@dataclass(frozen=True, slots=True)
class HostRange:
    """Where this host shapes and times truthfully.

    Attributes:
        link_bps: highest rate of one link; 0 where not even the lowest passed.
        total_bps: highest sum of rates of links that carry flows at the same time.
        shortest_s: shortest transfer whose length is within a percent of theory; None where none of those tried is.
        load: runnable processes when it was measured; a busy host is less truthful.
        burst_s: token bucket that the links had.
        links, totals, shorts: the looks behind each of the three.
    """

    link_bps: float
    total_bps: float
    shortest_s: float | None
    load: float
    burst_s: float
    links: tuple[ProbeRow, ...]
    totals: tuple[ProbeRow, ...]
    shorts: tuple[ProbeRow, ...]


def truthful_range(
    state_dir: Path, *, refresh: bool = False, note: Callable[[ProbeRow], None] | None = None
) -> HostRange:
    """What this host can do, measured once for every boot (some ten seconds) and kept in *state_dir*.

    Args:
        refresh: measure it again.
        note: called with every row as it is measured.
    """
    if not refresh and (known := known_range(state_dir)) is not None:
        return known
    measured = _measure(state_dir, note or (lambda _: None))
    _write(state_dir / _FILE, measured)
    return measured


def known_range(state_dir: Path) -> HostRange | None:
    """What was measured since this boot, or None."""
    try:
        record = json.loads((state_dir / _FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if record.get("schema") != _SCHEMA or record.get("boot") != _boot():
        return None
    fields = cast("dict[str, object]", record["range"])
    for name in ("links", "totals", "shorts"):
        rows = cast("list[dict[str, object]]", fields[name])
        fields[name] = tuple(probe_row(row) for row in rows)
    return HostRange(**fields)  # type: ignore[arg-type]


def _measure(state_dir: Path, note: Callable[[ProbeRow], None]) -> HostRange:
    clients = [f"probe-{number}" for number in range(FLOWS)]
    links: list[ProbeRow] = []
    totals: list[ProbeRow] = []
    shorts: list[ProbeRow] = []

    def look(
        kept: list[ProbeRow],
        rate_bps: float,
        chosen: Sequence[str],
        direction: Direction,
        allowed: float,
        *,
        wall_s: float = WALL_S,
        looks: int = 3,
    ) -> ProbeRow:
        network.reshape(_star(clients, rate_bps))
        for _ in range(_TRIES):
            row = probe_path(network, chosen, direction, wall_s=wall_s, looks=looks, allowed=allowed)
            if row.ok:
                break
        kept.append(row)
        note(row)
        return row

    def link_passes(rate_bps: float) -> bool:
        rows = [look(links, rate_bps, clients[:1], way, band(rate_bps)) for way in get_args(Direction)]
        return all(row.ok for row in rows)

    def total_passes(total_bps: float) -> bool:
        return look(totals, total_bps / FLOWS, clients, "uplink", band(total_bps)).ok

    def short_passes(duration_s: float) -> bool:
        rate_bps = min(1e9, link_bps or 1e9)
        row = look(shorts, rate_bps, clients[:1], "uplink", _SHORTEST_BAND, wall_s=duration_s, looks=9)
        return row.ok and row.spread_s <= _SHORTEST_SPREAD * row.expected_s

    load = os.getloadavg()[0]
    with MininetNetwork(_star(clients, 1e9), state_dir=state_dir, defer_digests=True) as network:
        link_bps = _highest(RATES_BPS, link_passes)
        total_bps = _highest((total for total in TOTALS_BPS if total / FLOWS <= link_bps), total_passes)
        shortest_s = next((duration_s for duration_s in DURATIONS_S if short_passes(duration_s)), None)
        assert network.burst_s is not None
        return HostRange(
            link_bps,
            total_bps,
            shortest_s,
            load,
            network.burst_s,
            tuple(links),
            tuple(totals),
            tuple(shorts),
        )


def _star(clients: Sequence[str], rate_bps: float) -> Topology:
    access = AccessLink(LinkSpec(rate_bps), LinkSpec(rate_bps))
    wide = AccessLink(LinkSpec(40e9), LinkSpec(40e9))
    return Topology(wide, dict.fromkeys(clients, access))


def _highest(values: Iterator[float] | Sequence[float], passes: Callable[[float], bool]) -> float:
    """The last of rising *values* before the first that does not pass; 0 if none does."""
    highest = 0.0
    for value in values:
        if not passes(value):
            break
        highest = value
    return highest


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _write(path: Path, measured: HostRange) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": _SCHEMA, "boot": _boot(), "range": asdict(measured)}, indent=1)
    draft, name = tempfile.mkstemp(dir=path.parent, prefix=".host-range-")
    try:
        with os.fdopen(draft, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
