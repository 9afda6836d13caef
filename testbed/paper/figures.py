"""What the experiments' pictures share."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from testbed.row import CodecUsed
from testbed.style import Look, Theme, looks


def look_of(names: Sequence[str], theme: Theme) -> dict[str, Look]:
    """One look a name; ``none`` is drawn in ink."""
    found = looks([CodecUsed(name) for name in names], theme)
    return {used.id: look for used, look in found.items()}


def bound_axes(axes: Axes) -> None:
    """A logarithmic axis of relative bounds, coarse bounds right, as fractions of ten."""
    axes.set_xscale("log")
    axes.set_xlabel("relative error bound")
    axes.grid(visible=True, which="major")


def plain_log(axes: Axes, which: str) -> None:
    """Plain numbers on a logarithmic axis: ``x``, ``y`` or both."""
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if name in which:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
