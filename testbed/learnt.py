"""How much of what rounds teach the model survives its coding, per codec: what a ratio and a round's time do not show.

A first round's update starts from weights that lie anywhere, so an error is as likely to push a value on as to push it
back. From the second round on a client starts from decoded values, and a deterministic quantiser may take back what is
shorter than its bound (`fedsz.deltas`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median

from testbed.pairing import setting
from testbed.row import CodecUsed, Row
from testbed.setting import setting_text
from testbed.split import codec_name

# We warn where less of the median tensor's delta arrives, or more tensors lose half of theirs.
ARRIVED, LOST_TENSORS = 0.5, 0.25
REMEDY = "A finer bound, longer rounds or fedsz-q-dither keep what was learnt (docs/howto/lost-learning.md)"


@dataclass(frozen=True)
class Learnt:
    """One codec under one setting, over all clients, rates and repeats.

    Attributes:
        over_bound: median over client-rounds of `Row.delta_over_bound`.
        first: median of `Row.delta_arrived` where clients started from the initial model; None without such rows.
        later: the same where they started from a model that had been coded; None in runs of one round.
        lost: mean of `Row.delta_lost` of the latter, 0 to 1.
        rows: client-rounds behind it.
    """

    codec: CodecUsed
    setting: tuple[tuple[str, str], ...]
    over_bound: float
    first: float | None
    later: float | None
    lost: float | None
    rows: int

    @property
    def fades(self) -> bool:
        """Whether so little arrives that the model may not learn what it is taught."""
        return self.later is not None and (self.later < ARRIVED or (self.lost or 0.0) > LOST_TENSORS)

    @property
    def name(self) -> str:
        """The codec, and the setting where there is one."""
        return codec_name(self.codec) + (f" ({setting_text(self.setting)})" if self.setting else "")

    @property
    def sentence(self) -> str:
        """Of a codec that `fades`: what and how much."""
        later = 0.0 if self.later is None else max(self.later, 0.0)
        return (
            f"Learning is lost through {self.name}: from the second round on {100 * later:.0f} % of what a round "
            f"teaches the median tensor arrives, and {100 * (self.lost or 0.0):.0f} % of the tensors lose more than "
            f"half, as a round moves weights by {self.over_bound:.2g} bounds"
        )


def learnt(rows: Iterable[Row]) -> list[Learnt]:
    """In the order of the rows; what codes nothing within a bound is not there.

    Untrusted rows count: clocks have no part in this.
    """
    groups: dict[tuple[CodecUsed, tuple[tuple[str, str], ...]], list[Row]] = defaultdict(list)
    for row in rows:
        if row.delta_arrived is not None:
            groups[row.codec, setting(row.values)].append(row)
    return [_learnt(codec, place, mine) for (codec, place), mine in groups.items()]


def _learnt(codec: CodecUsed, place: tuple[tuple[str, str], ...], rows: list[Row]) -> Learnt:
    first = [row.delta_arrived for row in rows if _from_initial(row) and row.delta_arrived is not None]
    coded = [row for row in rows if not _from_initial(row)]
    return Learnt(
        codec,
        place,
        median(row.delta_over_bound for row in rows if row.delta_over_bound is not None),
        median(first) if first else None,
        median(row.delta_arrived for row in coded if row.delta_arrived is not None) if coded else None,
        fmean(row.delta_lost for row in coded if row.delta_lost is not None) if coded else None,
        len(rows),
    )


def _from_initial(row: Row) -> bool:
    """Whether the client started from a model that has never been coded."""
    return (row.round if row.model_version is None else row.model_version) == 0


def warnings(rows: Iterable[Row]) -> list[str]:
    """A line for each codec that `Learnt.fades`, and what helps; for the terminal."""
    fading = [f"{one.sentence}." for one in learnt(rows) if one.fades]
    return [*fading, f"{REMEDY}."] if fading else []
