"""The pictures of docs/gallery.md: each function takes a run's results and returns a Matplotlib figure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from netem.units import format_rate, parse_rate
from testbed.plot import split_figure
from testbed.plot_rounds import accuracy_figure
from testbed.record import PARTS, CodecUsed, Results, Row
from testbed.scenario import loads
from testbed.split import Summary, summarise
from testbed.style import PAPER, PART_COLOURS, PART_HATCHES, both_log, drawn, legend_below, looks, plain_log

SHOWN = ("train", "compress", "uplink", "decompress", "wait")
TRACES = {"walk": "a walk", "train": "a train ride", "edge": "the edge of a cell"}
FAILED = "#b00020"
POLICY_LOOKS = {
    "never": (PAPER.ink, "o", "-"),
    "always": ("#d55e00", "s", (0, (5, 1.5))),
    "auto": ("#0072b2", "^", "-"),
}


def coding_s(row: Row) -> float:
    """What a codec can change."""
    return row.compress_s + row.uplink_s + row.decompress_s


def rate_words(rate_bps: float) -> str:
    return format_rate(rate_bps)


def summaries(results: Results) -> list[Summary]:
    """Points of the sweep that have a usable row."""
    return [item for item in summarise(results.rows) if item.used]


def split(results: Results) -> Figure:
    """The picture of the report, for scenarios without one of their own."""
    return split_figure(results.rows)


def memory(results: Results) -> Figure:
    """A bar a client and codec; who was killed has no bar, and the picture says why."""
    shown = list({(row.client, row.codec): row for row in results.rows}.values())
    look = looks(row.codec for row in results.rows)
    with drawn():
        figure = Figure(figsize=(9.2, 1.4 + 0.42 * len(shown)), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(shown):
            if row.status == "ok":
                _bar(axes, place, [row])
                if not row.trusted:
                    axes.text(row.round_s, place, " not trusted", va="center", color=FAILED)
            else:
                axes.text(0, place, f" {row.reason}", va="center", color=FAILED)
        axes.set_ylim(-0.5, len(shown) - 0.5)
        axes.set_yticks(range(len(shown)), [f"{row.device}, {look[row.codec].name}" for row in shown])
        axes.invert_yaxis()
        axes.grid(visible=True, axis="x")
        axes.set_xlabel("seconds since the round began")
        figure.legend(handles=_handles(), loc="outside lower center", ncols=len(PARTS), handlelength=1.4)
    return figure


def learning(results: Results) -> Figure:
    """The report's own picture."""
    figure = accuracy_figure(results.rows)
    assert figure is not None
    return figure


def held(row: Row) -> str:
    """Whether the cell coded against the global model, ``true`` or ``false``; raw values and SZ2 cannot."""
    return row.values["compression.reference"].lower()


def side_information(results: Results) -> Figure:
    """Ratio over rounds, and the time of an update over the uplink's rate."""
    look = looks(row.codec for row in results.rows)
    rates = sorted({row.uplink_rate_bps for row in results.rows})
    rounds = sorted({row.round for row in results.rows})
    with drawn():
        figure = Figure(figsize=(9.2, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for codec, given in dict.fromkeys((row.codec, held(row)) for row in results.rows):
            mine = [row for row in results.rows if row.usable and (row.codec, held(row)) == (codec, given)]
            known = any(row.reference for row in mine) and codec.id.startswith("fedsz-q")
            if given == "true" and not known:
                continue  # it helps only what is stored exactly: nearly the same line again
            style = look[codec]
            label = f"{style.name}, given the global model" if known else style.name
            dashes = "-" if known else style.dashes
            if codec.id != "none":
                groups = [[row.compression_ratio for row in mine if row.round == number] for number in rounds]
                _line(
                    left,
                    [number + 1 for number in rounds],
                    groups,
                    style.colour,
                    style.marker,
                    dashes,
                    label,
                    hollow=known,
                )
            groups = [[coding_s(row) for row in mine if row.uplink_rate_bps == rate] for rate in rates]
            at = [rate / 1e6 for rate in rates]
            _line(right, at, groups, style.colour, style.marker, dashes, label, hollow=known)
        left.set_xticks([number + 1 for number in rounds])
        left.set_yscale("log")
        plain_log(left, "y")
        left.grid(visible=True)
        left.set_xlabel("round")
        left.set_ylabel("compression ratio")
        _logarithmic(right, [rate / 1e6 for rate in rates])
        right.set_xlabel("uplink rate (Mbit/s)")
        right.set_ylabel("compress + send + decompress (s)")
        legend_below(figure, [right], 3)
    return figure


Curve = list[tuple[float, float]]


def setting_of(row: Row) -> str:
    """The row's axis values besides the codec."""
    return ", ".join(value for axis, value in row.values.items() if axis != "codec")


def learned(results: Results) -> list[tuple[str, CodecUsed, list[Curve]]]:
    """For each setting and codec: (emulated seconds, accuracy) of every model, a curve for each repeat."""
    models: dict[tuple[str, CodecUsed], dict[int, dict[int, tuple[float, float]]]] = {}
    for row in results.rows:
        if row.accuracy is not None:
            cells = models.setdefault((setting_of(row), row.codec), {})
            cells.setdefault(row.cell, {})[row.round] = (row.started_s + row.round_s, row.accuracy)
    return [
        (setting, codec, [[cell[number] for number in sorted(cell)] for cell in cells.values()])
        for (setting, codec), cells in models.items()
    ]


def asynchronous(results: Results) -> Figure:
    """Accuracy over emulated time, a line for each repeat."""
    found = learned(results)
    look = looks(codec for _, codec, _ in found)
    settings = list(dict.fromkeys(setting for setting, _, _ in found))
    with drawn():
        figure = Figure(figsize=(7.4 if len(settings) == 1 else 9.2, 3.9), layout="constrained")
        grid = figure.subplots(1, len(settings), squeeze=False, sharex=True, sharey=True)
        for axes, wanted in zip(grid[0], settings, strict=True):
            for setting, codec, curves in found:
                if setting != wanted:
                    continue
                style = look[codec]
                for number, curve in enumerate(curves):
                    axes.plot(
                        [seconds for seconds, _ in curve],
                        [100 * accuracy for _, accuracy in curve],
                        color=style.colour,
                        marker=style.marker,
                        markersize=4,
                        linestyle=style.dashes,
                        linewidth=1.4,
                        label=style.name if number == 0 else None,
                    )
            axes.set_title(wanted)
            axes.set_xlabel("emulated seconds (logarithmic)")
            axes.set_xscale("log")  # rounds that wait for the slowest take many times longer
            axes.grid(visible=True)
        grid[0][0].set_ylabel("test accuracy (%)")
        grid[0][-1].legend(loc="lower right")
    return figure


def contention(results: Results) -> Figure:
    """Upload and whole round over the server's rate."""
    axis = "network.server.downlink.rate"
    rates = sorted({parse_rate(row.values[axis]) for row in results.rows})
    look = looks(row.codec for row in results.rows)
    with drawn():
        figure = Figure(figsize=(9.2, 3.7), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, title, value in zip(
            panels,
            ("six uploads at once", "the whole round"),
            (lambda row: row.uplink_s, lambda row: row.round_s),
            strict=True,
        ):
            for codec, style in look.items():
                groups = [
                    [
                        value(row)
                        for row in results.rows
                        if row.usable and row.codec == codec and parse_rate(row.values[axis]) == rate
                    ]
                    for rate in rates
                ]
                _line(
                    axes,
                    [rate / 1e6 for rate in rates],
                    groups,
                    style.colour,
                    style.marker,
                    style.dashes,
                    style.name,
                )
            _logarithmic(axes, [rate / 1e6 for rate in rates])
            axes.set_title(title)
            axes.set_xlabel("the server takes in (Mbit/s)")
        panels[0].set_ylabel("seconds (median and quartiles)")
        panels[1].legend()
    return figure


def mixed(results: Results) -> Figure:
    """Time of an update over the uplink's rate, a line a policy."""
    rates = sorted({row.uplink_rate_bps for row in results.rows})
    with drawn():
        figure = Figure(figsize=(7.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for policy in dict.fromkeys(row.values["policy"] for row in results.rows):
            colour, marker, dashes = POLICY_LOOKS[policy]
            groups = [
                [
                    coding_s(row)
                    for row in results.rows
                    if row.usable and row.values["policy"] == policy and row.uplink_rate_bps == rate
                ]
                for rate in rates
            ]
            _line(axes, [rate / 1e6 for rate in rates], groups, colour, marker, dashes, policy)
        _logarithmic(axes, [rate / 1e6 for rate in rates])
        axes.set_xlabel("uplink rate (Mbit/s)")
        axes.set_ylabel("compress + send + decompress (s),\nmedian and quartiles")
        axes.legend(title="when to compress")
    return figure


def stragglers(results: Results) -> Figure:
    """Stacked bars: a laptop's and a slow client's mean round for each deadline and codec."""
    axis = "rounds_policy.deadline"
    settings = list(dict.fromkeys((row.values[axis], row.codec) for row in results.rows))
    look = looks(row.codec for row in results.rows)
    fleets = list(dict.fromkeys(row.fleet for row in results.rows))
    with drawn():
        figure = Figure(figsize=(9.2, 3.5), layout="constrained")
        grid = figure.subplots(1, len(fleets), sharex=True, sharey=True)
        for axes, fleet in zip(grid, fleets, strict=True):
            for place, (deadline, codec) in enumerate(settings):
                rows = [
                    row
                    for row in results.rows
                    if (row.fleet, row.values[axis], row.codec) == (fleet, deadline, codec) and row.trusted
                ]
                _bar(axes, place, [row for row in rows if row.status == "ok"] or rows)
                dropped = sum(row.status == "dropped" for row in rows)
                if dropped:
                    ends = statistics.fmean(row.round_s for row in rows)
                    axes.text(ends, place, f" dropped {dropped} of {len(rows)}", va="center", color=FAILED)
            axes.set_title({"laptop": "a laptop", "slow": "a slow client"}.get(fleet, fleet))
            axes.set_xlabel("seconds (mean)")
            axes.grid(visible=True, axis="x")
        grid[0].set_yticks(
            range(len(settings)),
            [
                f"{'no deadline' if deadline in ('null', 'None') else 'deadline ' + deadline}, {look[codec].name}"
                for deadline, codec in settings
            ],
        )
        grid[0].invert_yaxis()
        figure.legend(handles=_handles(), loc="outside lower center", ncols=len(PARTS), handlelength=1.4)
    return figure


def traces(results: Results) -> Figure:
    """Above the rate of each trace over time, below the uploads made over it, at the instant they began."""
    scenario = loads(json.dumps(results.manifest["scenario"]), "run.json")
    look = looks(row.codec for row in results.rows)
    with drawn():
        figure = Figure(figsize=(9.6, 5.2), layout="constrained")
        grid = figure.subplots(2, len(scenario.fleets), sharex=True, sharey="row", height_ratios=(1, 1.25))
        end = max(row.started_s + row.round_s for row in results.rows)
        for column, fleet in enumerate(scenario.fleets):
            rate, uploads = grid[0][column], grid[1][column]
            times, rates = _steps(fleet.uplink.trace, end)
            rate.fill_between(times, rates, step="post", color="#0072b2", alpha=0.35, linewidth=0)
            rate.step(times, rates, where="post", color="#0072b2", linewidth=0.9)
            rate.set_title(TRACES.get(fleet.name, fleet.name))
            for codec, style in look.items():
                mine = [
                    row
                    for row in results.rows
                    if row.usable and (row.fleet, row.codec) == (fleet.name, codec)
                ]
                uploads.plot(
                    [_upload_began(row) for row in mine],
                    [row.uplink_s for row in mine],
                    color=style.colour,
                    marker=style.marker,
                    linestyle="none",
                    markersize=5,
                    alpha=0.8,
                    label=style.name,
                )
            uploads.set_yscale("log")
            uploads.grid(visible=True)
            uploads.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            uploads.set_xlabel("emulated seconds")
        grid[0][0].set_ylabel("uplink (Mbit/s)")
        grid[1][0].set_ylabel("upload (s)")
        legend_below(figure, grid[1])
    return figure


def _upload_began(row: Row) -> float:
    starts = [start for name, start, _ in row.timeline() if name == "uplink"]
    return row.started_s + (starts[0] if starts else 0.0)


def _steps(trace: object, end_s: float) -> tuple[list[float], list[float]]:
    """Instants and Mbit/s of *trace* up to *end_s*, repeated as it repeats itself."""
    times, rates = [], []
    turn = 0.0
    while turn <= end_s:
        for at, rate in zip(trace.times_s, trace.rates_bps, strict=True):
            if turn + at <= end_s:
                times.append(turn + at)
                rates.append(rate / 1e6)
        turn += trace.length_s
    return [*times, end_s], [*rates, rates[-1]]


def _line(
    axes: Axes,
    at: Sequence[float],
    groups: Sequence[Sequence[float]],
    colour: str,
    marker: str,
    dashes: object,
    label: str,
    *,
    hollow: bool = False,
) -> None:
    """Medians with a band from quartile to quartile; points without a row are left out."""
    full = [(place, group) for place, group in zip(at, groups, strict=True) if group]
    where = [place for place, _ in full]
    ends = [np.percentile(group, [25, 75]) for _, group in full]
    low, high = [float(end[0]) for end in ends], [float(end[1]) for end in ends]
    axes.fill_between(where, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        where,
        [statistics.median(group) for _, group in full],
        color=colour,
        marker=marker,
        markerfacecolor="white" if hollow else colour,
        linestyle=dashes,
        markersize=5,
        linewidth=1.6,
        label=label,
    )


def _logarithmic(axes: Axes, ticks: Sequence[float]) -> None:
    both_log(axes)
    axes.set_xticks(list(ticks))
    axes.minorticks_off()


def _bar(axes: Axes, place: int, rows: Sequence[Row]) -> None:
    start = 0.0
    for name in PARTS:
        seconds = statistics.fmean(row.seconds(name) for row in rows) if rows else 0.0
        axes.barh(
            place, seconds, left=start, height=0.8, color=PART_COLOURS[name], hatch=PART_HATCHES.get(name),
            edgecolor=PAPER.ink, linewidth=0.4,
        )  # fmt: skip
        start += seconds


def _handles() -> list[Patch]:
    return [
        Patch(
            facecolor=PART_COLOURS[name],
            hatch=PART_HATCHES.get(name, ""),
            edgecolor=PAPER.ink,
            linewidth=0.4,
            label=name,
        )
        for name in PARTS
    ]
