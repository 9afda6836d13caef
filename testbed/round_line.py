"""A round in one line, for those who watch a sweep: a table on a terminal, an object a line for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.table import Table
from rich.text import Text

from testbed.row import Row
from testbed.tables import seconds_text

# Lines that the live table keeps: the last cells, and room for the rest of a small terminal.
SHOWN = 8


@dataclass(frozen=True)
class RoundLine:
    """What a round came to.

    Attributes:
        values: the sweep's axes in this cell, with units; empty where nothing is swept.
        clients, ok, trusted: how many took part, came to an end, and may be believed.
        train_s, compress_s, uplink_s, decompress_s: means over the clients that came to an end, emulated seconds; None
            where none did.
        round_s: from the first byte to the new model, the slowest client's.
        ratio: compression ratio, mean; None where nothing was sent.
        accuracy: of the global model after the round; None where it was not computed.
    """

    cell: int
    values: Mapping[str, str]
    round: int
    clients: int
    ok: int
    trusted: int
    round_s: float
    train_s: float | None
    compress_s: float | None
    uplink_s: float | None
    decompress_s: float | None
    ratio: float | None
    accuracy: float | None


def round_lines(rows: Sequence[Row]) -> list[RoundLine]:
    """The rounds of one cell, in their order."""
    return [
        _line([row for row in rows if row.round == number]) for number in sorted({row.round for row in rows})
    ]


def _line(rows: Sequence[Row]) -> RoundLine:
    ok = [row for row in rows if row.status == "ok"]

    def mean(values: list[float]) -> float | None:
        return fmean(values) if values else None

    return RoundLine(
        cell=rows[0].cell,
        values=rows[0].values,
        round=rows[0].round,
        clients=len(rows),
        ok=len(ok),
        trusted=sum(row.trusted for row in rows),
        round_s=max(row.round_s for row in rows),
        train_s=mean([row.train_s for row in ok]),
        compress_s=mean([row.compress_s for row in ok]),
        uplink_s=mean([row.uplink_s for row in ok]),
        decompress_s=mean([row.decompress_s for row in ok]),
        ratio=mean([row.update_bytes / row.payload_bytes for row in ok if row.payload_bytes]),
        accuracy=next((row.accuracy for row in rows if row.accuracy is not None), None),
    )


def live_table(lines: Sequence[RoundLine]) -> Table:
    """The last rounds, for 80 columns and more: axis values are cut where there is no room."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("cell", justify="right", no_wrap=True, min_width=5)
    table.add_column(", ".join(lines[-1].values) or "scenario", no_wrap=True, overflow="ellipsis")
    for heading in ("train", "comp.", "up", "dec.", "round"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=6)
    table.add_column("ratio", justify="right", no_wrap=True, min_width=5)
    table.add_column("acc.", justify="right", no_wrap=True, min_width=4)
    table.add_column("", no_wrap=True, min_width=9)
    for line in lines[-SHOWN:]:
        table.add_row(
            f"{line.cell}.{line.round}",
            Text(", ".join(line.values.values()) or "as it stands"),
            *(_seconds(part) for part in (line.train_s, line.compress_s, line.uplink_s, line.decompress_s)),
            Text(seconds_text(line.round_s), style="bold"),
            "-" if line.ratio is None else f"{line.ratio:.2f}",
            "-" if line.accuracy is None else f"{100 * line.accuracy:.0f} %",
            _doubt(line),
        )
    return table


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else seconds_text(seconds)


def _doubt(line: RoundLine) -> Text:
    if line.ok < line.clients:
        return Text(f"{line.clients - line.ok} not ok", style="red")
    if line.trusted < line.clients:
        return Text("untrusted", style="yellow")
    return Text("")
