"""Looks shared by all pictures: colours that the colour-blind can tell apart, and never by colour alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes

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


def labelled(panels: Iterable[Axes]) -> dict[str, Artist]:
    """What a legend for all of *panels* names: each label once."""
    found: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    return found


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
