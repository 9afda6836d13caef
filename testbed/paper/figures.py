"""What the experiments' pictures share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from matplotlib.axes import Axes

from testbed.row import CodecUsed
from testbed.style import Look, Theme, looks


def look_of(names: Sequence[str], theme: Theme) -> dict[str, Look]:
    """One look a name; ``none`` is drawn in ink."""
    found = looks([CodecUsed(name) for name in names], theme)
    return {used.id: look for used, look in found.items()}


def bound_axes(axes: Axes, bounds: Collection[float]) -> None:
    """A logarithmic axis of relative *bounds*, coarse ones right; to be called before anything is drawn.

    Its limits are set, as one bound alone gives an axis nothing to choose them by.
    """
    axes.set_xscale("log")
    axes.set_xlim(min(bounds) / 1.8, max(bounds) * 1.8)
    axes.set_xlabel("relative error bound")
    axes.grid(visible=True, which="major")


def spread(groups: Sequence[Sequence[float]]) -> tuple[list[float], list[list[float]]]:
    """Mean of each group, and how far its least and its largest value lie from it, as error bars take it."""
    means = [sum(group) / len(group) for group in groups]
    # A mean of equal values may lie a rounding beyond them.
    below = [max(0.0, mean - min(group)) for mean, group in zip(means, groups, strict=True)]
    above = [max(0.0, max(group) - mean) for mean, group in zip(means, groups, strict=True)]
    return means, [below, above]
