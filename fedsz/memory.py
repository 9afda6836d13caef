"""Memory for decoded tensors: few large pieces instead of many small ones.

A fresh page costs more than decoding into it: on the machine of docs/codecs.md, 13 ms for 37 MB in fifty arrays and 2
ms in one, because NumPy asks for huge pages only from 4 MiB on. So neighbours share a piece; pieces are kept small
enough that who keeps one tensor of a state does not keep much else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

PIECE_BYTES = 16 << 20
ALIGNMENT = 64


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
        piece = np.empty(end, np.uint8)
        for start, size in zip(starts, sizes[at:last], strict=True):
            yield piece[start : start + size]
        at = last
