"""Pictures made from result rows alone. Each function returns a matplotlib `Figure`; `save` writes SVG and PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from netem.units import format_rate
from testbed.crossover import Crossover, rate_text
from testbed.files import write_derived
from testbed.plot_codec import ratio_figure
from testbed.plot_rounds import accuracy_figure, timeline_figure
from testbed.plot_settings import one_rate_each, settings_figure
from testbed.row import PARTS, CodecUsed, Row
from testbed.setting import setting_text
from testbed.split import Quartiles, Summary, summarise
from testbed.style import COLUMNS, PAPER, PART_COLOURS, PART_HATCHES, Look, Theme, both_log, drawn, looks

PNG_DPI = 160
# Bars of more rates than this crowd the split; we show them spread evenly over the sweep.
BAR_RATES = 4
# Up to this many rates each is a tick of its own: they are what was measured.
SWEPT_TICKS = 9

Panel = tuple[str, tuple[tuple[str, str], ...]]


def panels(summaries: Sequence[Summary]) -> dict[Panel, list[Summary]]:
    """Points by fleet and setting, in order."""
    found: dict[Panel, list[Summary]] = {}
    for item in summaries:
        found.setdefault((item.fleet, item.setting), []).append(item)
    return found


def panel_title(points: Sequence[Summary]) -> str:
    first = points[0]
    rest = setting_text(first.setting, "\n")
    return f"{first.fleet} ({first.device})" + (f"\n{rest}" if rest else "")


def time_figure(rows: Sequence[Row], found: Sequence[Crossover], theme: Theme = PAPER) -> Figure:
    """Time over the uplink's rate, both logarithmic; a panel a fleet, a line a codec, with quartile bands.

    Above, the client's whole way through a round; below, only what a codec can change, where the crossing is plain to
    see. Crossovers are marked with their intervals.
    """
    groups = panels([item for item in summarise(rows) if item.used])
    look = looks((row.codec for row in rows), theme)
    with drawn(theme):
        bands = math.ceil(len(groups) / COLUMNS)
        columns = min(len(groups), COLUMNS)
        figure = Figure(figsize=(max(6.4, 4.6 * columns), 7.6 * bands), layout="constrained")
        grid = figure.subplots(2 * bands, columns, squeeze=False)
        for place, (panel, points) in enumerate(groups.items()):
            band, column = divmod(place, columns)
            whole, part = grid[2 * band][column], grid[2 * band + 1][column]
            mine = [item for item in found if (item.fleet, tuple(sorted(item.setting.items()))) == panel]
            _lines(whole, points, look, whole=True)
            _lines(part, points, look, whole=False)
            for axes in (whole, part):
                _mark(axes, mine, look)
            whole.set_title(panel_title(points))
            if column == 0:
                whole.set_ylabel("client's round time,\nwaiting left out (s)")
                part.set_ylabel("compress + send\n+ decompress (s)")
            part.set_xlabel("uplink rate (Mbit/s)")
            _legend(part, points, mine, look)
        for place in range(len(groups), bands * columns):
            band, column = divmod(place, columns)
            grid[2 * band][column].set_visible(False)
            grid[2 * band + 1][column].set_visible(False)
    return figure


def _by_codec(points: Sequence[Summary]) -> dict[CodecUsed, list[Summary]]:
    found: dict[CodecUsed, list[Summary]] = {}
    for item in points:
        found.setdefault(item.codec, []).append(item)
    return found


def _lines(axes: Axes, points: Sequence[Summary], look: dict[CodecUsed, Look], *, whole: bool) -> None:
    for codec, mine in _by_codec(points).items():
        style = look[codec]
        rates = [item.rate_bps / 1e6 for item in mine]
        times: list[Quartiles] = [item.client_s if whole else item.coding_s for item in mine]
        axes.fill_between(
            rates,
            [time.low for time in times],
            [time.high for time in times],
            color=style.colour,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(
            rates,
            [time.median for time in times],
            color=style.colour,
            marker=style.marker,
            linestyle=style.dashes,
            markersize=4.5,
            linewidth=1.6,
            label=style.name,
        )
    both_log(axes)
    swept = sorted({item.rate_bps / 1e6 for item in points})
    if 1 < len(swept) <= SWEPT_TICKS:
        axes.set_xticks(swept)
        axes.minorticks_off()


def _mark(axes: Axes, found: Sequence[Crossover], look: dict[CodecUsed, Look]) -> None:
    """A vertical line at each measured crossover, a band over its interval (to the edge where it is open)."""
    left, right = axes.get_xlim()
    for item in found:
        estimate = item.measured
        if estimate.where != "within" or estimate.value_bps is None:
            continue
        colour = look[item.codec].colour
        axes.axvline(estimate.value_bps / 1e6, color=colour, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
        if estimate.has_interval:
            low = left if estimate.low_bps is None else estimate.low_bps / 1e6
            high = right if estimate.high_bps is None else estimate.high_bps / 1e6
            axes.axvspan(low, high, color=colour, alpha=0.13, linewidth=0, zorder=0)
    axes.set_xlim(left, right)


def _legend(
    axes: Axes, points: Sequence[Summary], found: Sequence[Crossover], look: dict[CodecUsed, Look]
) -> None:
    answers = {item.codec: item for item in found}
    handles, labels = axes.get_legend_handles_labels()
    texts = []
    for codec, label in zip(_by_codec(points), labels, strict=True):
        answer = _answer(answers[codec]) if codec in answers else ""
        texts.append(f"{label}{answer}")
    axes.legend(handles, texts, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1)


def _answer(item: Crossover) -> str:
    estimate = item.measured
    rates = [point.rate_bps for point in item.points]
    if estimate.where == "within" and estimate.value_bps is not None:
        return f": pays below {rate_text(estimate.value_bps)}"
    if estimate.where == "above":
        return f": pays up to {format_rate(max(rates))} and beyond"
    if estimate.where == "below":
        return f": does not pay from {format_rate(min(rates))} on"
    return ""


def split_figure(rows: Sequence[Row], theme: Theme = PAPER) -> Figure:
    """Stacked bars: where the time of a round goes, for a few of the swept rates.

    A column a fleet, a panel a rate. Each panel has a scale of its own: on one scale the slowest rate would press the
    bars of all others, where codecs differ most, into the axis.
    """
    groups = panels([item for item in summarise(rows) if item.used])
    look = looks((row.codec for row in rows), theme)
    with drawn(theme):
        columns = min(len(groups), 2)
        bands = math.ceil(len(groups) / columns)
        chosen = [_chosen(points) for points in groups.values()]
        tallest = max(len(rates) for rates in chosen)
        codecs = max(len(points) for rates in chosen for points in rates.values())
        height = tallest * (0.62 + 0.2 * codecs) + 0.9
        figure = Figure(figsize=(max(6.4, 5.2 * columns), bands * height), layout="constrained")
        grid = figure.subplots(bands * tallest, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_visible(False)
        for place, (points, rates) in enumerate(zip(groups.values(), chosen, strict=True)):
            top, column = place // columns * tallest, place % columns
            for offset, (rate, mine) in enumerate(rates.items()):
                axes = grid[top + offset][column]
                axes.set_visible(True)
                _bars(axes, mine, look, theme)
                title = f"{panel_title(points)}\n" if offset == 0 else ""
                axes.set_title(f"{title}{format_rate(rate, 3)}", fontsize=9.5)
            axes.set_xlabel("seconds a round (mean); every panel has its own scale")
        handles = [_patch(part, theme) for part in PARTS]
        # Beside one column of panels there is no room for all parts in a row.
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=len(PARTS) if columns > 1 else 4,
            handlelength=1.4,
        )
    return figure


def _patch(part: str, theme: Theme) -> Patch:
    return Patch(
        facecolor=PART_COLOURS[part],
        hatch=PART_HATCHES.get(part, ""),
        edgecolor=theme.ink,
        linewidth=0.4,
        label=part,
    )


def _chosen(points: Sequence[Summary]) -> dict[float, list[Summary]]:
    """The points of a few rates, spread evenly over the sweep."""
    rates = sorted({item.rate_bps for item in points})
    if len(rates) > BAR_RATES:
        places = np.linspace(0, len(rates) - 1, BAR_RATES).round().astype(int)
        rates = [rates[place] for place in places]
    return {rate: [item for item in points if item.rate_bps == rate] for rate in rates}


def _bars(axes: Axes, points: Sequence[Summary], look: dict[CodecUsed, Look], theme: Theme) -> None:
    for place, item in enumerate(points):
        start = 0.0
        for part in PARTS:
            axes.barh(
                place,
                item.mean_s[part],
                left=start,
                height=0.86,
                color=PART_COLOURS[part],
                hatch=PART_HATCHES.get(part),
                edgecolor=theme.ink,
                linewidth=0.4,
            )
            start += item.mean_s[part]
    axes.set_yticks(range(len(points)), [look[item.codec].name for item in points])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x")


def svg(figure: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same text."""
    stream = io.StringIO()
    with drawn():
        figure.savefig(
            stream, format="svg", metadata={"Date": None, "Creator": None}, facecolor=figure.get_facecolor()
        )
    return stream.getvalue()


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``NAME.svg`` and ``NAME.png``; older ones are replaced, as they can be made again from the rows."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(
        stream, format="png", dpi=PNG_DPI, metadata={"Software": None}, facecolor=figure.get_facecolor()
    )
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    write_derived(paths[0], svg(figure))
    write_derived(paths[1], stream.getvalue())
    return paths


def figures(rows: Sequence[Row], found: Sequence[Crossover], theme: Theme = PAPER) -> dict[str, Figure]:
    """Every picture that these rows allow, by file name. Without a usable row there is none."""
    if not any(row.usable for row in rows):
        return {}
    apart = one_rate_each([item for item in summarise(rows) if item.used])
    made = {
        "round-time": None if apart else time_figure(rows, found, theme),
        "by-setting": settings_figure(rows, theme) if apart else None,
        "round-split": split_figure(rows, theme),
        "ratio-speed": ratio_figure(rows, theme),
        "timeline": timeline_figure(rows, theme),
        "accuracy": accuracy_figure(rows, theme),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def save_all(rows: Sequence[Row], found: Sequence[Crossover], folder: Path) -> list[Path]:
    """Write every picture that these rows allow."""
    return [path for name, figure in figures(rows, found).items() for path in save(figure, folder, name)]
