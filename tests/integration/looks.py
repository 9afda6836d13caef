"""What is measured on a machine that others use: a fault of ours is in every look, the others' work only in some."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def seen(look: Callable[[], T], holds: Callable[[T], bool], looks: int = 8) -> T:
    """The first of up to *looks* measurements that *holds*; AssertionError with all of them where none does."""
    found: list[T] = []
    while len(found) < looks:
        found.append(look())
        if holds(found[-1]):
            return found[-1]
    raise AssertionError(f"not once in {looks} looks: {found}")
