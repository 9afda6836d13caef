"""Max-min fair shares of one link among flows that each have a ceiling of their own, at a cost that does not grow.

A flow moves at the lower of its ceiling and the link's *level*, the rate at which all flows that are not held by their
ceiling move alike. Nothing is updated per flow when the level changes:

- Flows of equal ceiling form a *group* with one counter, the bits that each member has had. A flow is done when the
  counter reaches its mark.
- A group below the level ("held") counts at its ceiling: its next completion has a fixed instant. The groups at the
  level ("sharing") count as fast as one common counter, so that their completions keep their order in units of that
  counter whatever the level does.
- A change of level moves only those groups whose ceiling it crosses, and each moves as one.

Ceilings are rounded to 2^-10 bit/s, so that their sums are exact below 8 Tbit/s and do not drift.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush

_GRAIN = 1024.0
_COMPACT_ABOVE = 64


def grain(rate_bps: float) -> float:
    """*rate_bps* rounded so that sums of many are exact."""
    return math.floor(rate_bps * _GRAIN + 0.5) / _GRAIN


class Rider:
    """Something that takes a share: base class of what callers put in.

    Attributes:
        order: decides between completions at one instant; unique.
    """

    __slots__ = ("group", "mark", "order")

    def __init__(self, order: int) -> None:
        self.order = order
        self.group: _Group | None = None
        self.mark = 0.0


class _Group:
    """Flows of one ceiling."""

    __slots__ = ("base", "base_s", "ceiling", "count", "heap", "sharing", "version")

    def __init__(self, ceiling: float, now_s: float) -> None:
        self.ceiling = ceiling
        self.heap: list[tuple[float, int, Rider]] = []  # by mark; riders that left are skipped when met
        self.count = 0
        self.sharing = False
        self.base = 0.0  # held: the counter at base_s. Sharing: the counter less the link's common one.
        self.base_s = now_s
        self.version = 0  # number of its one entry in the link's heaps by time that is not stale


class FairLink:
    """One link, its riders, and the instant at which the next of them is done.

    Args:
        capacity_bps: what the link carries; inf for a link that never holds anyone up.

    Attributes:
        due_s: instant of the next completion if nothing changes; inf without riders.
    """

    __slots__ = (
        "_capacity",
        "_common",
        "_common_s",
        "_groups",
        "_held_bps",
        "_held_by_ceiling",
        "_held_by_time",
        "_level",
        "_sharing",
        "_sharing_by_ceiling",
        "_sharing_by_mark",
        "_tie",
        "due_s",
    )

    def __init__(self, capacity_bps: float) -> None:
        self.due_s = math.inf
        self._capacity = capacity_bps
        self._groups: dict[float, _Group] = {}
        self._held_bps = 0.0
        self._sharing = 0  # riders at the level
        self._level = math.inf
        self._common = 0.0  # bits that a rider at the level has had, up to _common_s
        self._common_s = 0.0
        self._tie = 0
        # Entries are (key, order of the rider, version, group): unique, so groups are never compared.
        self._held_by_time: list[tuple[float, int, int, _Group]] = []
        self._sharing_by_mark: list[tuple[float, int, int, _Group]] = []
        self._held_by_ceiling: list[tuple[float, int, _Group]] = []  # negated: highest first
        self._sharing_by_ceiling: list[tuple[float, int, _Group]] = []

    @property
    def idle(self) -> bool:
        """Whether nobody rides."""
        return not self._groups

    def rate_of(self, rider: Rider) -> float:
        """The rate at which *rider* moves now."""
        assert rider.group is not None
        return min(rider.group.ceiling, self._level) if rider.group.sharing else rider.group.ceiling

    def add(self, rider: Rider, ceiling_bps: float, bits: float, now_s: float) -> None:
        """Let *rider* take its share until it has had *bits*. Instants never go back from call to call."""
        group = self._groups.get(ceiling_bps)
        if group is None:
            group = self._groups[ceiling_bps] = _Group(ceiling_bps, now_s)
            self._file_by_ceiling(group)
        if group.sharing:
            # The common counter is read by the new mark, so it must be up to date.
            self._settle(now_s)
            self._sharing += 1
        else:
            self._held_bps += ceiling_bps
        group.count += 1
        rider.group = group
        rider.mark = self._counter(group, now_s) + bits
        heappush(group.heap, (rider.mark, rider.order, rider))
        if group.heap[0][2] is rider:
            self._file(group)
        if self._sharing or self._held_bps > self._capacity:
            self._settle(now_s)
            self._sink(now_s)
        self.due_s = self._next()[0]

    def remove(self, rider: Rider, now_s: float) -> float:
        """Take *rider* off before it is done; the bits it had not had yet."""
        group = rider.group
        assert group is not None
        left = max(rider.mark - self._counter(group, now_s), 0.0)
        self._leave(rider, group, now_s)
        self.due_s = self._next()[0]
        return left

    def pop(self) -> tuple[float, Rider]:
        """The next completion: its instant and its rider, which no longer rides."""
        at_s, _, group = self._next()
        assert group is not None
        rider = group.heap[0][2]
        if group.sharing:
            # Exactly the mark, so that riders with equal marks are done at the same instant.
            self._common, self._common_s = rider.mark - group.base, at_s
        self._leave(rider, group, at_s)
        self.due_s = self._next()[0]
        return at_s, rider

    def resize(self, capacity_bps: float, now_s: float) -> None:
        """Give the link another capacity from *now_s* on."""
        self._settle(now_s)
        self._capacity = capacity_bps
        self._sink(now_s)
        self._rise(now_s)
        self.due_s = self._next()[0]

    # -- below: one group at a time ------------------------------------------------------------------------

    def _next(self) -> tuple[float, int, _Group | None]:
        best: tuple[float, int, _Group | None] = (math.inf, 0, None)
        heap = self._held_by_time
        while heap:
            at_s, order, version, group = heap[0]
            if version == group.version:
                best = (at_s, order, group)
                break
            heappop(heap)
        heap = self._sharing_by_mark
        while heap:
            mark, order, version, group = heap[0]
            if version == group.version:
                at_s = self._common_s + max(mark - self._common, 0.0) / self._level
                if (at_s, order) < best[:2]:
                    best = (at_s, order, group)
                break
            heappop(heap)
        return best

    def _counter(self, group: _Group, now_s: float) -> float:
        if group.sharing:
            return self._common + self._level * (now_s - self._common_s) + group.base
        return group.base + group.ceiling * (now_s - group.base_s)

    def _settle(self, now_s: float) -> None:
        if self._sharing:
            self._common += self._level * (now_s - self._common_s)
        else:
            self._common = 0.0
        self._common_s = now_s

    def _leave(self, rider: Rider, group: _Group, now_s: float) -> None:
        rider.group = None
        group.count -= 1
        if group.sharing:
            self._settle(now_s)
            self._sharing -= 1
        else:
            self._held_bps -= group.ceiling
        if not group.count:
            group.version = 0
            del self._groups[group.ceiling]
        else:
            heap = group.heap
            top = heap[0][2]
            while top.group is not group or top.mark != heap[0][0]:
                heappop(heap)
                top = heap[0][2]
            self._file(group)
        if self._sharing:
            self._settle(now_s)
            self._rise(now_s)
        else:
            self._level = math.inf

    def _file(self, group: _Group) -> None:
        """Enter the group's first mark in the heap of its kind; what was there before is stale."""
        self._tie += 1
        group.version = self._tie
        mark, order, _ = group.heap[0]
        if group.sharing:
            heappush(self._sharing_by_mark, (mark - group.base, order, group.version, group))
        else:
            at_s = group.base_s + max(mark - group.base, 0.0) / group.ceiling
            heappush(self._held_by_time, (at_s, order, group.version, group))

    def _file_by_ceiling(self, group: _Group) -> None:
        self._tie += 1
        if group.sharing:
            heap, key = self._sharing_by_ceiling, group.ceiling
        else:
            heap, key = self._held_by_ceiling, -group.ceiling
        if len(heap) > _COMPACT_ABOVE + 2 * len(self._groups):
            heap[:] = [entry for entry in heap if self._is_current(entry, group.sharing)]
            heapify(heap)
        heappush(heap, (key, self._tie, group))

    def _is_current(self, entry: tuple[float, int, _Group], sharing: bool) -> bool:
        group = entry[2]
        return self._groups.get(group.ceiling) is group and group.sharing is sharing

    def _convert(self, group: _Group, now_s: float) -> None:
        """Move *group* to the other kind; both heaps and sums follow, the counter goes on from where it is."""
        counter = self._counter(group, now_s)
        group.sharing = not group.sharing
        if group.sharing:
            self._held_bps -= group.ceiling * group.count
            self._sharing += group.count
            group.base = counter - self._common
        else:
            self._held_bps += group.ceiling * group.count
            self._sharing -= group.count
            group.base, group.base_s = counter, now_s
        self._file(group)
        self._file_by_ceiling(group)

    def _fair_level(self) -> float:
        if self._sharing:
            return max(self._capacity - self._held_bps, 0.0) / self._sharing
        return math.inf if self._held_bps <= self._capacity else 0.0

    def _sink(self, now_s: float) -> None:
        """The level fell or stayed: held groups above it become sharing ones. The common counter is settled."""
        heap = self._held_by_ceiling
        level = self._fair_level()
        while heap:
            if not self._is_current(heap[0], sharing=False):
                heappop(heap)
            elif -heap[0][0] > level:
                self._convert(heappop(heap)[2], now_s)
                level = self._fair_level()
            else:
                break
        self._level = level

    def _rise(self, now_s: float) -> None:
        """The level rose or stayed: sharing groups whose ceiling it reaches become held ones."""
        heap = self._sharing_by_ceiling
        level = self._fair_level()
        while heap:
            if not self._is_current(heap[0], sharing=True):
                heappop(heap)
            elif heap[0][0] <= level:
                self._convert(heappop(heap)[2], now_s)
                level = self._fair_level()
            else:
                break
        self._level = level
