"""Memory that received bytes are written into, used again so that its pages are there already.

A fresh memory file costs the receiving process half a core at 5 Gbit/s: the kernel zeroes and maps each page at its
first touch (300 MB: 0.26 s cold, 0.02 s warm, measured). That would be the host's speed, not the link's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

_LEAST_STEP_BYTES = 1 << 16


@dataclass(slots=True)
class Inbox:
    """One memory file. *users* counts who still needs what is in it."""

    number: int
    file: int
    capacity: int
    users: int = 0


class InboxPool:
    """Memory files in use, and those that wait to be used again.

    Args:
        keep_bytes: how much may wait.
    """

    def __init__(self, keep_bytes: int) -> None:
        self.keep_bytes = keep_bytes
        self._all: dict[int, Inbox] = {}
        self._free: list[Inbox] = []  # least recently used first
        self._next = 0

    def take(self, size: int) -> tuple[Inbox, bool]:
        """An inbox for *size* bytes with one user, and whether it is a new one, which nobody has mapped yet."""
        fitting = [inbox for inbox in self._free if inbox.capacity >= size]
        if fitting:
            inbox = min(fitting, key=lambda inbox: inbox.capacity)
            self._free.remove(inbox)
        else:
            capacity = _round_up(size)
            file = os.memfd_create(f"received-{self._next}", os.MFD_CLOEXEC)
            os.ftruncate(file, capacity)
            inbox = self._all[self._next] = Inbox(self._next, file, capacity)
            self._next += 1
        inbox.users = 1
        return inbox, not fitting

    def release(self, inbox: Inbox) -> list[int]:
        """One user less. Returns the numbers of inboxes that are no more and must be unmapped."""
        inbox.users -= 1
        if inbox.users:
            return []
        self._free.append(inbox)
        dropped = []
        while sum(free.capacity for free in self._free) > self.keep_bytes:
            old = self._free.pop(0)
            os.close(old.file)
            del self._all[old.number]
            dropped.append(old.number)
        return dropped

    def close(self) -> None:
        """Close every file, in use or not."""
        for inbox in self._all.values():
            os.close(inbox.file)
        self._all, self._free = {}, []


def _round_up(size: int) -> int:
    """Up to an eighth more, so that the next round's update, a little longer, fits as well."""
    step = max(1 << max(size.bit_length() - 3, 0), _LEAST_STEP_BYTES)
    return max(-(-size // step), 1) * step
