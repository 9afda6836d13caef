"""Pictures of rounds: who did what when, and what was learned by when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from netem.units import format_rate
from testbed.pairing import without_codec
from testbed.row import PARTS, CodecUsed, Row
from testbed.setting import setting_text
from testbed.style import PAPER, PART_COLOURS, PART_HATCHES, Theme, drawn, legend_below, looks

# More clients than this do not get a readable row each; the picture says how many are left out.
TIMELINE_CLIENTS = 16
# Variants whose learning curves are drawn: the first, a middle one and the last.
ACCURACY_PANELS = 3


def timeline_figure(rows: Sequence[Row], theme: Theme = PAPER) -> Figure | None:
    """One round, a bar a client, a panel a codec, at the middle rate of the sweep. None without a usable round."""
    chosen = _one_round(rows)
    if not chosen:
        return None
    look = looks((row.codec for row in rows), theme)
    with drawn(theme):
        clients = min(TIMELINE_CLIENTS, max(len(part) for part in chosen.values()))
        height = 1.5 + len(chosen) * (0.7 + 0.24 * clients)
        figure = Figure(figsize=(9.2, height), layout="constrained")
        grid = figure.subplots(len(chosen), 1, squeeze=False, sharex=True)
        used: set[str] = set()
        for (axes,), (codec, mine) in zip(grid, chosen.items(), strict=True):
            for place, row in enumerate(mine[:TIMELINE_CLIENTS]):
                for part, start, end in row.timeline():
                    if end <= start:
                        continue
                    used.add(part)
                    axes.barh(place, end - start, left=start, height=0.8, color=PART_COLOURS[part],
                              hatch=PART_HATCHES.get(part), edgecolor=theme.ink, linewidth=0.4)  # fmt: skip
            axes.set_yticks(
                range(min(len(mine), TIMELINE_CLIENTS)), [row.client for row in mine[:TIMELINE_CLIENTS]]
            )
            axes.tick_params(axis="y", length=0)
            axes.invert_yaxis()
            axes.grid(visible=True, axis="x")
            rates = sorted({row.uplink_rate_bps for row in mine})
            left_out = len(mine) - TIMELINE_CLIENTS
            more = f", {left_out} more clients not drawn" if left_out > 0 else ""
            axes.set_title(
                f"{look[codec].name}, uplink {' and '.join(format_rate(rate, 3) for rate in rates)}{more}"
            )
        grid[-1][0].set_xlabel("seconds since the round began")
        handles = [
            Patch(
                facecolor=PART_COLOURS[part],
                hatch=PART_HATCHES.get(part, ""),
                edgecolor=theme.ink,
                linewidth=0.4,
                label=part,
            )
            for part in PARTS
            if part in used
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=1.4)
    return figure


def _one_round(rows: Sequence[Row]) -> dict[CodecUsed, list[Row]]:
    """All clients of the first round of each codec's first cell at the middle rate of the first client."""
    usable = [row for row in rows if row.usable]
    if not usable:
        return {}
    first = usable[0].client
    rates = sorted({row.uplink_rate_bps for row in usable if row.client == first})
    middle = rates[(len(rates) - 1) // 2]
    found: dict[CodecUsed, list[Row]] = {}
    cells: dict[CodecUsed, int] = {}
    for row in usable:
        if row.client == first and row.uplink_rate_bps == middle and row.round == 0:
            cells.setdefault(row.codec, row.cell)
    for codec, cell in cells.items():
        found[codec] = sorted(
            (row for row in rows if row.cell == cell and row.round == 0), key=lambda row: row.client
        )
    return found


def accuracy_figure(rows: Sequence[Row], theme: Theme = PAPER) -> Figure | None:
    """Accuracy over emulated time, a panel for some of what the sweep varies besides codecs. None before two rounds."""
    curves = _curves(rows)
    if not curves or max(len(curve) for mine in curves.values() for curve in mine.values()) < 2:
        return None
    look = looks((row.codec for row in rows), theme)
    panels = list(curves)
    if len(panels) > ACCURACY_PANELS:
        panels = [panels[0], panels[len(panels) // 2], panels[-1]]
    with drawn(theme):
        figure = Figure(figsize=(max(5.6, 3.9 * len(panels)), 3.8), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)
        for axes, panel in zip(grid[0], panels, strict=True):
            for codec, curve in curves[panel].items():
                style = look[codec]
                axes.plot(
                    [seconds for seconds, _ in curve],
                    [100 * accuracy for _, accuracy in curve],
                    color=style.colour,
                    marker=style.marker,
                    markersize=4,
                    linestyle=style.dashes,
                    label=style.name,
                )
            axes.set_title(setting_text(panel, "\n"))
            axes.set_xlabel("emulated seconds")
            axes.grid(visible=True)
        grid[0][0].set_ylabel("test accuracy (%)")
        legend_below(figure, grid[0])
    return figure


_Panel = tuple[tuple[str, str], ...]


def _curves(rows: Sequence[Row]) -> dict[_Panel, dict[CodecUsed, list[tuple[float, float]]]]:
    """Axis values besides the codec's -> codec -> (end of the round, accuracy), of the first repeat's cell."""
    cells: dict[tuple[_Panel, CodecUsed], int] = {}
    ends: dict[int, dict[int, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        if row.accuracy is None:
            continue
        panel = without_codec(row.values)
        cells.setdefault((panel, row.codec), row.cell)
        ends[row.cell][row.round] = (row.started_s + row.round_s, row.accuracy)
    found: dict[_Panel, dict[CodecUsed, list[tuple[float, float]]]] = {}
    for (panel, codec), cell in cells.items():
        found.setdefault(panel, {})[codec] = [ends[cell][number] for number in sorted(ends[cell])]
    return found
