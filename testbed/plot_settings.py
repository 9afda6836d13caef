"""Times of a sweep whose fleets each ran at one rate: other fields were swept, or nothing was."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netem.units import format_rate
from testbed.row import CodecUsed, Row
from testbed.setting import setting_text
from testbed.split import Quartiles, Summary, summarise
from testbed.style import PAPER, Look, Theme, drawn, legend_below, looks

# More lines than this are a wall of dots; the table below the picture has all of them.
LINES = 24


def one_rate_each(summaries: Sequence[Summary]) -> bool:
    """Whether no fleet was run at two rates, so that there is nothing to draw over bandwidth."""
    rates: dict[tuple[str, tuple[tuple[str, str], ...]], set[float]] = {}
    for item in summaries:
        rates.setdefault((item.fleet, item.setting), set()).add(item.rate_bps)
    return all(len(found) == 1 for found in rates.values())


def settings_figure(rows: Sequence[Row], theme: Theme = PAPER) -> Figure:
    """A line a fleet and setting, a sign a codec, bars from quartile to quartile; left the client's whole way through a
    round, right only what a codec can change."""
    points = [item for item in summarise(rows) if item.used]
    names = list(dict.fromkeys((item.fleet, item.setting, item.rate_bps) for item in points))[:LINES]
    look = looks((row.codec for row in rows), theme)
    with drawn(theme):
        figure = Figure(figsize=(9.2, 1.7 + 0.42 * len(names)), layout="constrained")
        (whole, part) = figure.subplots(1, 2, sharey=True)
        for place, name in enumerate(names):
            mine = [item for item in points if (item.fleet, item.setting, item.rate_bps) == name]
            for turn, item in enumerate(mine):
                shift = 0.5 * ((turn + 0.5) / len(mine) - 0.5)
                _sign(whole, item.client_s, place + shift, item.codec, look)
                _sign(part, item.coding_s, place + shift, item.codec, look)
        whole.set_yticks(range(len(names)), [_name(*name) for name in names])
        whole.invert_yaxis()
        whole.set_xlabel("client's round time, waiting left out (s)")
        part.set_xlabel("compress + send + decompress (s)")
        for axes in (whole, part):
            axes.set_xlim(left=0)
            axes.grid(visible=True, axis="x")
            axes.tick_params(axis="y", length=0)
        legend_below(figure, [part])
    return figure


def _sign(axes: Axes, time: Quartiles, height: float, codec: CodecUsed, look: dict[CodecUsed, Look]) -> None:
    style = look[codec]
    axes.errorbar(
        time.median,
        height,
        xerr=[[time.median - time.low], [time.high - time.median]],
        color=style.colour,
        marker=style.marker,
        markersize=6,
        linestyle="none",
        label=style.name,
    )


def _name(fleet: str, setting: tuple[tuple[str, str], ...], rate_bps: float) -> str:
    return ", ".join(filter(None, (fleet, format_rate(rate_bps, 3), setting_text(setting))))
