"""Tables for the terminal: the split of the round, and the crossovers."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from netem.units import format_rate
from testbed.crossover import Crossover, doubt_note, interval_text, rate_text
from testbed.estimate import Estimate
from testbed.row import PARTS, Row
from testbed.setting import setting_text
from testbed.split import Summary, codec_name, codec_names, summarise

# Rich takes 80 columns where it cannot see a terminal; in a log or a file the split needs more.
FILE_WIDTH = 148
# Narrower than this, columns would be cut until nothing can be read: fewer of them then, without lines between.
WIDE = 132
_SHORT = {"downlink": "down", "compress": "comp.", "uplink": "up", "decompress": "dec.", "aggregate": "aggr."}
_ENERGY = "; energy: of the client's device in a round, an estimate (docs/devices.md)"


def console(stream: IO[str] | None = None) -> Console:
    """A console on *stream* (standard output unless given), wide enough for our tables where it is no terminal."""
    stream = stream if stream is not None else sys.stdout
    return Console(file=stream) if stream.isatty() else Console(file=stream, width=FILE_WIDTH)


def seconds_text(seconds: float) -> str:
    """Three significant digits or so, in seconds, without an exponent: ``183``, ``3.21``, ``0.0041``, ``0``."""
    if math.isnan(seconds):
        return "-"
    if seconds == 0.0:
        return "0"
    if seconds >= 100:
        return f"{seconds:.0f}"
    if seconds >= 10:
        return f"{seconds:.1f}"
    if seconds >= 1:
        return f"{seconds:.2f}"
    return f"{seconds:.4f}"


def share_text(share: float) -> str:
    """``3.1 %``; ``-`` where there is none."""
    return "-" if math.isnan(share) else f"{100 * share:.2g} %" if share < 0.995 else "100 %"


def joules_text(parts: Sequence[float] | None) -> str:
    """The sum of *parts*, in joules, ``38 J``; ``-`` where nothing is known."""
    return "-" if parts is None else f"{float(f'{sum(parts):.3g}'):g} J"


def split_tables(rows: Iterable[Row], width: int = FILE_WIDTH) -> list[Table]:
    """One table a fleet (and setting): where the time of a round goes, per rate and codec; in *width* columns."""
    summaries = summarise(rows)
    groups = dict.fromkeys((item.fleet, item.setting) for item in summaries)
    parts = [[item for item in summaries if (item.fleet, item.setting) == group] for group in groups]
    return [_split_table(part) if width >= WIDE else _narrow_split_table(part) for part in parts]


def _title(fleet: str, device: str, setting: Iterable[tuple[str, str]]) -> str:
    return ", ".join(filter(None, (f"{fleet} ({device})", setting_text(setting))))


def _split_table(summaries: Sequence[Summary]) -> Table:
    first = summaries[0]
    energy = any(item.energy_j is not None for item in summaries)
    table = Table(
        title=f"Where the time of a round goes: {_title(first.fleet, first.device, first.setting)}",
        caption="seconds, means over clients, rounds and repeats; coding: share of the round that compressing and "
        "decompressing take; bold: least time to compress, send and decompress; n: client-rounds used (-left out)"
        + (_ENERGY if energy else ""),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("uplink", justify="right")
    table.add_column("codec")
    for part in PARTS:
        table.add_column(part, justify="right")
    table.add_column("round", justify="right")
    table.add_column("coding", justify="right")
    if energy:
        table.add_column("energy", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("n", justify="right")
    names = codec_names(item.codec for item in summaries)
    rates = list(dict.fromkeys(item.rate_bps for item in summaries))
    for rate in rates:
        here = [item for item in summaries if item.rate_bps == rate]
        best = min((item.coding_s.median for item in here if item.used), default=math.nan)
        for number, item in enumerate(here):
            style = "bold" if item.used and item.coding_s.median == best else ""
            ratio = "-" if item.compression_ratio is None else f"{item.compression_ratio:.2f}"
            table.add_row(
                format_rate(rate, 3) if number == 0 else "",
                Text(names[item.codec], style=style),
                *(seconds_text(item.mean_s[part]) for part in PARTS),
                Text(seconds_text(item.round_s), style=style),
                share_text(item.coding_share),
                *([joules_text(item.energy_j)] if energy else []),
                ratio,
                _count(item.used, item.untrusted, item.failed),
                end_section=number == len(here) - 1,
            )
    return table


def _short_seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if 0.1 <= seconds < 1 else seconds_text(seconds)


def _narrow(title: str, caption: str) -> Table:
    return Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _narrow_split_table(summaries: Sequence[Summary]) -> Table:
    """For 80 columns: rates as lines of their own, no lines between columns."""
    first = summaries[0]
    table = _narrow(
        f"Where the time of a round goes: {_title(first.fleet, first.device, first.setting)}",
        "seconds, means; bold: least time to compress, send and decompress; n: client-rounds used (-left out)",
    )
    table.add_column("codec", no_wrap=True, min_width=10)
    for heading in (*(_SHORT.get(part, part) for part in PARTS), "round", "ratio", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    names = codec_names(item.codec for item in summaries)
    for rate in dict.fromkeys(item.rate_bps for item in summaries):
        here = [item for item in summaries if item.rate_bps == rate]
        best = min((item.coding_s.median for item in here if item.used), default=math.nan)
        table.add_row(Text(format_rate(rate, 3), style="italic"))
        for item in here:
            style = "bold" if item.used and item.coding_s.median == best else ""
            table.add_row(
                Text(f"  {names[item.codec]}", style=style),
                *(_short_seconds(item.mean_s[part]) for part in PARTS),
                Text(_short_seconds(item.round_s), style=style),
                "-" if item.compression_ratio is None else f"{item.compression_ratio:.2f}",
                _count(item.used, item.untrusted, item.failed),
            )
    return table


def _narrow_crossover_table(found: Sequence[Crossover], notes: Sequence[str]) -> Table:
    """For 80 columns: fleets as lines of their own; what the wide table has besides stands in ``report.html``."""
    table = _narrow(_answer_title(found), "\n".join(notes))
    table.add_column("fleet (device), codec", min_width=18)
    table.add_column("measured", justify="right", style="bold", min_width=26)
    table.add_column("closed form", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("pairs", justify="right", no_wrap=True)
    for title, mine in _by_fleet(found).items():
        table.add_row(Text(title, style="italic"))
        for item in mine:
            table.add_row(
                f"  {codec_name(item.codec)}",
                answer_text(item),
                estimate_text(item.closed_form, [], with_interval=False),
                "-" if item.compression_ratio is None else f"{item.compression_ratio:.2f}",
                _count(item.pairs, item.untrusted, item.failed),
            )
    return table


def _by_fleet(found: Sequence[Crossover]) -> dict[str, list[Crossover]]:
    groups: dict[str, list[Crossover]] = {}
    for fleet in dict.fromkeys(item.fleet for item in found):
        for item in found:
            if item.fleet == fleet:
                title = _title(item.fleet, item.device, item.setting.items())
                groups.setdefault(title, []).append(item)
    return groups


def _count(used: int, untrusted: int, failed: int) -> Text:
    """``12``, or ``10 (-2)``: how many stand behind a figure, and how many were left out."""
    text = Text(str(used))
    if untrusted or failed:
        text.append(f" (-{untrusted + failed})", style="red" if failed else "yellow")
    return text


def estimate_text(estimate: Estimate, rates_bps: Sequence[float], *, with_interval: bool = True) -> str:
    """``182 Mbit/s [170, 195]``, ``above 2 Gbit/s``, ``below 10 Mbit/s`` or ``-``."""
    if estimate.where == "within" and estimate.value_bps is not None:
        return rate_text(estimate.value_bps) + (interval_text(estimate) if with_interval else "")
    if estimate.where == "above":
        return f"above {format_rate(max(rates_bps), 3)}" if rates_bps else "at any rate"
    if estimate.where == "below":
        return f"below {format_rate(min(rates_bps), 3)}" if rates_bps else "never"
    return "-"


def _answer_title(found: Sequence[Crossover]) -> str:
    if found and all(item.at_one_rate for item in found):
        return "What compressing is worth at the rate that was run"
    return "Compressing pays below this uplink rate"


def answer_text(item: Crossover) -> str:
    """The measured crossover, or what compressing is worth at the one rate that was run."""
    return item.at_one_rate or estimate_text(item.measured, [point.rate_bps for point in item.points])


def crossover_table(found: Sequence[Crossover], width: int = FILE_WIDTH) -> Table:
    """Where compressing stops paying, measured and by the closed form; in *width* columns."""
    notes = list(
        dict.fromkeys(item.measured.note for item in found if item.measured.note and not item.at_one_rate)
    )
    notes += [note] if (note := doubt_note(found)) else []
    if width < WIDE:
        return _narrow_crossover_table(
            found, ["[95 % interval]; closed form: 8 (S - S') / (t_C + t_D)", *notes]
        )
    table = Table(
        title=_answer_title(found),
        caption="\n".join(
            [
                "[95 % interval]; closed form: 8 (S - S') / (t_C + t_D); net: less the time that raw values take",
                *(
                    ["pairs: used (-left out)"]
                    if any(item.untrusted or item.failed for item in found)
                    else []
                ),
                *notes,
            ],
        ),
        title_justify="left",
        caption_justify="left",
    )
    settings = any(item.setting for item in found)
    table.add_column("fleet (device)")
    if settings:
        table.add_column("setting")
    table.add_column("codec")
    table.add_column("ratio", justify="right")
    table.add_column("t_C (s)", justify="right")
    table.add_column("t_D (s)", justify="right")
    table.add_column("measured", justify="right", style="bold", no_wrap=True)
    table.add_column("closed form", justify="right", no_wrap=True)
    table.add_column("net", justify="right", no_wrap=True)
    table.add_column("pairs", justify="right", no_wrap=True)
    fleet = ""
    fleets = list(dict.fromkeys(item.fleet for item in found))
    for item in sorted(found, key=lambda item: fleets.index(item.fleet)):
        title = f"{item.fleet} ({item.device})"
        table.add_row(
            title if title != fleet else "",
            *([setting_text(item.setting.items())] if settings else []),
            codec_name(item.codec),
            "-" if item.compression_ratio is None else f"{item.compression_ratio:.2f}",
            "-" if item.compress_s is None else seconds_text(item.compress_s),
            "-" if item.decompress_s is None else seconds_text(item.decompress_s),
            answer_text(item),
            estimate_text(item.closed_form, [], with_interval=False),
            estimate_text(item.closed_form_net, [], with_interval=False),
            _count(item.pairs, item.untrusted, item.failed),
        )
        fleet = title
    return table


def print_results(rows: Sequence[Row], found: Sequence[Crossover], to: Console | None = None) -> None:
    """The split, then the answer last, where the eye is when the run has ended."""
    to = to if to is not None else console()
    for table in split_tables(rows, to.width):
        to.print(table)
        to.print()
    if found:
        to.print(crossover_table(found, to.width))
    else:
        to.print(nothing_to_compare(rows), highlight=False)


def nothing_to_compare(rows: Sequence[Row]) -> str:
    """Why there is no answer at all."""
    if not rows:
        return "No cell of this run is complete yet."
    if any(row.model_version is not None for row in rows):
        return (
            "No crossover: asynchronous updates have no partner to be compared with, as each run makes other models at "
            "other times. Compare the accuracy over emulated time."
        )
    return (
        "No crossover: no codec but 'none' was used, so there is nothing to compare."
        if all(row.codec.id == "none" for row in rows)
        else "No crossover: every round used the same codec, so there is nothing to compare."
    )
