"""Looks shared by all pictures: colours that the colour-blind can tell apart, and never by colour alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from testbed.row import CodecUsed
from testbed.split import codec_names


@dataclass(frozen=True)
class Theme:
    """Colours of what is not data."""

    ink: str
    faint: str
    paper: str


PAPER = Theme(ink="#1a1a1a", faint="#d5d5d5", paper="#ffffff")

# More panels beside each other than this get too narrow to read.
COLUMNS = 3

# Okabe and Ito's palette, without its yellow, which a thin line on white loses.
_HUES = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (3, 1, 1, 1)),
    (0, (1, 1)),
    (0, (8, 2)),
    (0, (4, 1, 1, 1, 1, 1)),
)

PART_COLOURS = {
    "downlink": "#56b4e9",
    "train": "#8c8c8c",
    "compress": "#d55e00",
    "uplink": "#0072b2",
    "decompress": "#e69f00",
    "aggregate": "#cc79a7",
    "wait": "#e3e3e3",
}
# A second sign for the parts whose colours lie closest in grey print.
PART_HATCHES = {"compress": "////", "decompress": "\\\\\\\\"}


@dataclass(frozen=True)
class Look:
    """How one codec is drawn."""

    name: str
    colour: str
    marker: str
    dashes: Any


def looks(codecs: Iterable[CodecUsed], theme: Theme = PAPER) -> dict[CodecUsed, Look]:
    """One look a codec, the same in every picture of the same codecs; raw values are drawn in ink."""
    names = codec_names(codecs)
    found, number = {}, 0
    for codec, name in names.items():
        if codec.id == "none":
            found[codec] = Look("no compression", theme.ink, "o", "-")
            continue
        turn, place = divmod(number, len(_HUES))
        shift = (place + turn) % len(_HUES)
        found[codec] = Look(name, _HUES[place], _MARKERS[shift], _DASHES[shift])
        number += 1
    return found


def legend_below(figure: Figure, panels: Iterable[Axes], columns: int | None = None) -> None:
    """One legend for all of *panels*, under them: each label once, at most *columns* beside each other."""
    named: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    beside = min(columns or len(named), len(named))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=max(1, beside))


def plain_log(axes: Axes, which: str, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Plain numbers on a logarithmic axis (``x``, ``y`` or both), at these multiples of powers of ten."""
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if name in which:
            axis.set_major_locator(LogLocator(subs=steps))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


def both_log(axes: Axes) -> None:
    """Both axes logarithmic; a label at powers of ten, and more where those alone would label one tick or two."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(visible=True, which="major")
    plain_log(axes, "x", (1.0,))
    low, high = axes.get_ylim()
    decade, two = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0), (1.0, 2.0, 5.0)
    plain_log(axes, "y", decade if high / low < 12 else two if high / low < 100 else (1.0,))


@contextmanager
def drawn(theme: Theme = PAPER) -> Iterator[None]:
    """Matplotlib settings for the figures made inside."""
    settings: Any = {
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "grid.color": theme.faint,
        "grid.linewidth": 0.6,
        "text.color": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "font.size": 9.5,
        "font.family": "sans-serif",
        "hatch.linewidth": 0.5,
        "svg.fonttype": "none",  # text stays text: searchable, selectable, small
        "svg.hashsalt": "fedsz-testbed",  # the same records give the same file
    }
    with mpl.rc_context(settings):
        yield
