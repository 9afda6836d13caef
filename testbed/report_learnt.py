"""The report's section on learning: how much of what rounds teach arrives through each codec."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.learnt import REMEDY, learnt
from testbed.markup import Html, element, table
from testbed.row import Row
from testbed.setting import setting_text
from testbed.split import codec_name
from testbed.tables import share_text

ANCHOR = "learnt"


def learning(rows: Sequence[Row]) -> list[Html]:
    """A line for each codec; nothing for runs in which nothing was coded within a bound."""
    found = learnt(rows)
    if not found:
        return []
    settings = any(one.setting for one in found)
    head = [
        "codec",
        *(["setting"] if settings else []),
        "moved (bounds)",
        "arrives, first round",
        "arrives, later rounds",
        "tensors that lose half",
        "n",
    ]
    body = [
        [
            codec_name(one.codec),
            *([element("span", setting_text(one.setting), class_="wrap")] if settings else []),
            f"{one.over_bound:.2g}",
            "-" if one.first is None else _arrived(one.first),
            "-" if one.later is None else _arrived(one.later),
            "-" if one.lost is None else share_text(one.lost),
            one.rows,
        ]
        for one in found
    ]
    parts = [element("h2", "What arrives of what was learnt", id=ANCHOR)]
    fading = [f"{one.sentence}. " for one in found if one.fades]
    if fading:
        parts.append(element("p", *fading, f"{REMEDY}.", class_="trust warn"))
    text = (
        "How far a round's training moves the weights, and of that, how much is left after coding: 100 % where the "
        "error knows nothing of it, 0 where it was rounded away. Medians over lossy tensors and client-rounds; lengths "
        "are root mean squares, as multiples of what coding may move a value."
    )
    if all(one.later is None for one in found):
        text += (
            " In a first round nothing is rounded away, as the initial weights lie on no quantiser's grid: more rounds "
            "will tell. From the second on, a grid that stands still takes back more than half of steps shorter than "
            "half a bound (docs/howto/lost-learning.md)."
        )
    return [*parts, table(head, body, text_columns=2 if settings else 1), element("p", text, class_="quiet")]


def _arrived(share: float) -> str:
    return f"{100 * max(share, 0.0):.0f} %"
