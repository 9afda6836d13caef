"""The doctor's second half: how true this machine's links are, measured now."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from netem.capabilities import require_for
from netem.errors import CapabilityError
from netem.host_range import FLOWS, HostRange, truthful_range
from netem.link import AccessLink, LinkSpec, Topology
from netem.probe import ProbeRow
from netem.units import format_duration, format_rate
from testbed.dilation import TruthfulRange, usable


def check_links(state_dir: Path, out: Console) -> None:
    """Measure and print the table and the verdict, or say why there is none; takes about 15 seconds.

    What was found is kept until the next boot and limits how fast runs have their links.
    """
    link = AccessLink(LinkSpec(1e9), LinkSpec(1e9))
    try:
        require_for(Topology(link, {"probe": link}), "cubic", "auto")
    except CapabilityError as error:
        out.print(f"Links were not measured: {error}", highlight=False)
        return
    tell = _Progress()
    try:
        found = truthful_range(state_dir, refresh=True, note=tell)
    finally:
        tell.end()
    out.print(table(found))
    for line in verdict(found):
        out.print(line, highlight=False)


class _Progress:
    """A line on standard error that says what was measured last; lines of their own where that is no terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._write("measuring links, about 15 s")

    def __call__(self, row: ProbeRow) -> None:
        what = f"{row.direction} at {format_rate(row.rate_bps, 3)}"
        if row.flows > 1:
            what = f"{row.flows} x {what}"
        self._write(f"measuring links: {what}: {row.error:+.2%}")

    def _write(self, text: str) -> None:
        print(
            f"\r\x1b[K{text}" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr
        )
        sys.stderr.flush()

    def end(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def table(found: HostRange) -> Table:
    """Rates, goodput against theory and round trips; then many at once; then short transfers."""
    shown = Table(
        title="How true this machine's links are",
        caption="theory: headers (1448 bytes of payload in 1514), handshake and slow start on the same link; "
        "time against theory: above 0 is slower",
        title_justify="left",
        caption_justify="left",
    )
    shown.add_column("link")
    for heading in ("length", "theory", "goodput", "time against theory", "asked", "round trip", ""):
        shown.add_column(heading, justify="right")
    for title, rows in (("", found.links), (f"{FLOWS} at once", found.totals), ("short", found.shorts)):
        _add(shown, title, rows)
    return shown


def _add(shown: Table, title: str, rows: Sequence[ProbeRow]) -> None:
    if not rows:
        return
    shown.add_section()
    for row in rows:
        rate = format_rate(row.rate_bps * (row.flows if row.flows > 1 else 1), 3)
        name = f"{rate} {row.direction}" if row.flows == 1 else f"{rate} {row.direction}s together"
        shown.add_row(
            f"{title}: {name}" if title == "short" else f"{name} ({title})" if title else name,
            format_duration(float(f"{row.expected_s:.2g}")),
            format_rate(row.expected_goodput_bps, 4),
            format_rate(row.goodput_bps, 4),
            f"{row.error:+.2%}",
            "-" if row.band is None else f"{row.band:.0%}",
            "-" if row.flows > 1 else f"{row.measured_rtt_s * 1e3:.2f} ms",
            Text("true", style="green") if row.ok else Text("not true", style="bold red"),
        )


def verdict(found: HostRange) -> list[str]:
    """What follows from the table, in words."""
    if not found.link_bps:
        lowest = format_rate(found.links[0].rate_bps)
        text = f"Not even {lowest} is true on this machine now (load before: {found.load:.1f})."
        return [f"{text} Check again with nothing else running: rounds over such links are not trusted."]
    total = (
        f"{FLOWS} at once up to {format_rate(found.total_bps)} together"
        if found.total_bps
        else (
            f"{FLOWS} at once not even at {format_rate(found.totals[0].rate_bps * FLOWS)} together"
            if found.totals
            else f"{FLOWS} at once at no rate that was tried"
        )
    )
    short = (
        f"transfers from {format_duration(found.shortest_s)} on are within 1 %"
        if found.shortest_s is not None
        else "no short transfer is within 1 %"
    )
    lines = [
        f"Links are true up to {format_rate(found.link_bps)}, {total}; {short}. Load before: {found.load:.1f}."
    ]
    used, usual = usable(found), TruthfulRange()
    text = (
        f"Runs choose their dilation so that links stay within {format_rate(used.link_bps)}, "
        f"{format_rate(used.total_bps)} together, and transfers above {format_duration(used.shortest_s)}"
    )
    lines.append(f"{text}." if used == usual else f"{text}, which is less than usual: is other work running?")
    return lines
