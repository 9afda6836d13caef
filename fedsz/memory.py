"""Memory for decoded tensors: few large pieces instead of many small ones, and used again.

A fresh page costs more than decoding into it: on the machine of docs/codecs.md, 13 ms for 37 MB in fifty arrays and 2
ms in one, because NumPy asks for huge pages only from 4 MiB on, and still a quarter of the time that a ResNet50 takes.
So neighbours share a piece, and when the last tensor in a piece is gone, the piece waits for the next state. Pieces are
small enough that who keeps one tensor of a state does not keep much else.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

PIECE_BYTES = 16 << 20
ALIGNMENT = 64
#: Most bytes that wait to be used again.
KEPT_BYTES = 256 << 20
# Memory comes in whole units, so that pieces of nearly the same size can take each other's place. Pieces below one are
# the allocator's own business: it does not give them back to the system.
_UNIT = 1 << 20

# By size. Only whole operations on lists and the dict, which neither threads nor finalizers can interrupt.
_kept: dict[int, list[NDArray[np.uint8]]] = {}


def padded(nbytes: int) -> int:
    """*nbytes* rounded up to the alignment of the next item."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def rooms(sizes: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """An uninitialised room of so many bytes for each size, in turn; each piece is allocated with its first room.

    A piece is exactly as large as its rooms need: at most `PIECE_BYTES`, or one room that is larger.
    """
    at = 0
    while at < len(sizes):
        starts, end, last = [0], padded(sizes[at]), at + 1
        while last < len(sizes) and end + padded(sizes[last]) <= PIECE_BYTES:
            starts.append(end)
            end += padded(sizes[last])
            last += 1
        piece = _piece(end)
        for start, size in zip(starts, sizes[at:last], strict=True):
            yield piece[start : start + size]
        at = last


def release() -> None:
    """Give back the memory that waits to be used again."""
    _kept.clear()


def _piece(size: int) -> NDArray[np.uint8]:
    if size < _UNIT:
        return np.empty(size, np.uint8)
    units = -(-size // _UNIT) * _UNIT
    try:
        memory = _kept[units].pop()
    except LookupError:
        memory = np.empty(units, np.uint8)
    # Through a memoryview: views of the piece then keep the piece alive, and not the memory behind its back.
    piece = np.frombuffer(memory.data, np.uint8, size)
    weakref.finalize(piece, _keep, memory).atexit = False
    return piece


def _keep(memory: NDArray[np.uint8]) -> None:
    held = sum(units * len(waiting) for units, waiting in list(_kept.items()))
    if held + memory.nbytes <= KEPT_BYTES:
        _kept.setdefault(memory.nbytes, []).append(memory)
