"""What `testbed.bench` measured, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from netem.units import format_rate
from testbed.bench import GIVEN, BenchResult, BenchRow
from testbed.crossover import rate_text
from testbed.row import CodecUsed
from testbed.style import PAPER, Theme, drawn, legend_below, looks, plain_log

# Lines of equal B* in the picture.
_CROSSOVERS_BPS = (1e8, 1e9, 1e10)


def tables(result: BenchResult) -> list[Table]:
    """One table a state."""
    return [
        _table(result, state, [row for row in result.rows if row.state == state])
        for state in dict.fromkeys(row.state for row in result.rows)
    ]


def _table(result: BenchResult, state: str, rows: list[BenchRow]) -> Table:
    size, repeats = rows[0].update_bytes / 1e6, result.options.repeats
    table = Table(
        title=f"{state}: {result.options.part} update, {size:.1f} MB, one core, median \\[quartiles] of {repeats}"
    )
    for name, justify in _COLUMNS:
        table.add_column(name, justify=justify, no_wrap=True)
    for _, group in groupby(rows, key=lambda row: row.bound):
        for row in group:
            table.add_row(*cells(result, row))
        table.add_section()
    return table


_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("REL", "left"),
    ("codec", "left"),
    ("ratio", "right"),
    ("of limit", "right"),
    ("compress MB/s", "right"),
    ("decompress MB/s", "right"),
    ("faster than", "right"),
    ("error / bound", "right"),
    ("B*", "right"),
)


def cells(result: BenchResult, row: BenchRow) -> list[str]:
    """A row as text: bound, codec, ratio, share of the limit, both speeds, both speed-ups, error, B*."""
    if row.why_not:
        return [f"{row.bound:g}", row.codec, "-", "-", row.why_not, "", "", "", ""]
    baseline = result.baseline(row)
    faster = "-"
    if baseline is not None:
        faster = "{:.1f}x / {:.1f}x".format(*row.times_faster(baseline))
    return [
        f"{row.bound:g}",
        row.codec,
        f"{row.ratio:.2f}",
        f"{100 * row.of_limit:.1f} %",
        _speed(row.speeds(row.compress_s)),
        _speed(row.speeds(row.decompress_s)),
        faster,
        f"{row.error_over_bound:.4f}",
        rate_text(row.crossover_bps) if row.crossover_bps > 0 else "never",
    ]


def _speed(quartiles: Iterable[float]) -> str:
    low, middle, high = quartiles
    return f"{middle:.0f} [{low:.0f}-{high:.0f}]"


def markdown(result: BenchResult) -> str:
    """The tables for a document."""
    lines = []
    names = [name for name, _ in _COLUMNS]
    for state in dict.fromkeys(row.state for row in result.rows):
        lines += [f"**{state}**", "", f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
        mine = (cells(result, row) for row in result.rows if row.state == state)
        lines += [f"| {' | '.join(cell.replace('|', 'given') for cell in row)} |" for row in mine]
        lines.append("")
    return "\n".join(lines)


def ratio_speed_figure(result: BenchResult, theme: Theme = PAPER) -> Figure:
    """Ratio over speed, a panel a state, a line a codec from the coarsest bound to the finest.

    Speed is that of both ways together, S / (t_C + t_D), because B* = 8 (1 - 1 / ratio) speed: grey lines join points
    of equal B*.
    """
    rows = [row for row in result.rows if not row.why_not]
    states = list(dict.fromkeys(row.state for row in rows))
    codecs = {codec: CodecUsed(codec) for codec in dict.fromkeys(row.codec for row in rows)}
    look = looks(codecs.values(), theme)
    with drawn(theme):
        figure = Figure(figsize=(max(5.6, 4.6 * len(states)), 4.4), layout="constrained")
        grid = figure.subplots(1, max(1, len(states)), squeeze=False, sharex=True, sharey=True)
        for axes, state in zip(grid[0], states, strict=True):
            for codec, used in codecs.items():
                mine = [row for row in rows if (row.state, row.codec) == (state, codec)]
                style = look[used]
                axes.plot(
                    [_both_ways(row) for row in mine],
                    [row.ratio for row in mine],
                    color=style.colour,
                    marker=style.marker,
                    linestyle=style.dashes,
                    markersize=5.5,
                    linewidth=1.1,
                    label=codec.replace(GIVEN, ", given the last model"),
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
        for axes, state in zip(grid[0], states, strict=True):
            _equal_crossovers(axes, theme)
            axes.set_title(state)
            axes.set_xlabel("speed, both ways (MB/s)")
            plain_log(axes, "xy")
        grid[0][0].set_ylabel("compression ratio")
        legend_below(figure, grid.flat, 4)
    return figure


def _both_ways(row: BenchRow) -> float:
    return row.update_bytes / 1e6 / float(np.median(row.compress_s) + np.median(row.decompress_s))


def _equal_crossovers(axes: Axes, theme: Theme) -> None:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for rate_bps in _CROSSOVERS_BPS:
        ratios = np.geomspace(max(bottom, 1.01), top, 200)
        speeds = rate_bps / 8e6 / (1 - 1 / ratios)
        axes.plot(speeds, ratios, color=theme.faint, linewidth=0.8, zorder=0)
        if left < speeds[-1] < right:
            axes.annotate(
                f"B* = {format_rate(rate_bps)}",
                (speeds[-1], top),
                xytext=(2, -2),
                textcoords="offset points",
                rotation=-90,
                va="top",
                fontsize=7,
                color="#777777",
            )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
