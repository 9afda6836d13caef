"""What each codec trades: how small against how fast."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from testbed.row import CodecUsed, Row
from testbed.style import COLUMNS, PAPER, Theme, drawn, legend_below, looks, plain_log


def ratio_figure(rows: Sequence[Row], theme: Theme = PAPER) -> Figure | None:
    """Compression ratio over the speed of compressing on the device; filled signs and bars from quartile to quartile.

    None where no codec but ``none`` was used.
    """
    groups: dict[tuple[str, str], dict[CodecUsed, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.usable and row.codec.id != "none" and row.payload_bytes and row.compress_s > 0:
            groups[row.fleet, row.device][row.codec].append(row)
    if not groups:
        return None
    look = looks((row.codec for row in rows), theme)
    with drawn(theme):
        columns = min(len(groups), COLUMNS)
        bands = math.ceil(len(groups) / columns)
        figure = Figure(figsize=(max(5.6, 3.9 * columns), 0.4 + 3.4 * bands), layout="constrained")
        grid = figure.subplots(bands, columns, squeeze=False, sharey=True, sharex=True)
        for axes in grid.flat[len(groups) :]:
            axes.set_visible(False)
        for place, ((fleet, device), codecs) in enumerate(groups.items()):
            axes = grid[place // columns][place % columns]
            for codec, mine in codecs.items():
                speeds = np.percentile(
                    [row.update_bytes / row.compress_s / 1e6 for row in mine], [25, 50, 75]
                )
                ratios = np.percentile([row.update_bytes / row.payload_bytes for row in mine], [25, 50, 75])
                style = look[codec]
                axes.errorbar(
                    speeds[1],
                    ratios[1],
                    xerr=[[speeds[1] - speeds[0]], [speeds[2] - speeds[1]]],
                    yerr=[[ratios[1] - ratios[0]], [ratios[2] - ratios[1]]],
                    color=style.colour,
                    marker=style.marker,
                    markersize=7,
                    linestyle="none",
                    label=style.name,
                )
            axes.set_title(f"{fleet} ({device})")
            axes.set_xscale("log")
            axes.set_xlabel("compression speed (MB/s)")
            axes.tick_params(labelbottom=True)  # the panel below may be empty
            axes.grid(visible=True)
            axes.margins(0.15)
            low, high = axes.get_xlim()
            plain_log(axes, "x", (1.0, 2.0, 5.0) if high / low < 30 else (1.0,))
        for axes in grid[:, 0]:
            axes.set_ylabel("compression ratio")
        grid[0][0].set_ylim(0, 1.12 * grid[0][0].get_ylim()[1])
        legend_below(figure, grid.flat)
    return figure
