"""Memory that decoded tensors share."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fedsz
from fedsz.memory import ALIGNMENT, PIECE_BYTES, rooms

MB = 1 << 20


@pytest.mark.parametrize("sizes", [[], [0], [5, 0, 64, 65], [3 * MB] * 11, [40 * MB, 1, 16 * MB, 1]])
def test_rooms_have_their_sizes_and_overlap_nowhere(sizes: list[int]) -> None:
    made = list(rooms(sizes))
    assert [room.size for room in made] == sizes
    places = sorted((room.ctypes.data, room.size) for room in made if room.size)
    assert all(start + size <= after for (start, size), (after, _) in itertools.pairwise(places))


def test_a_piece_is_as_large_as_its_rooms_and_no_larger_than_allowed() -> None:
    sizes = [3 * MB + 1] * 11 + [40 * MB]
    pieces = {id(room.base): room.base.nbytes for room in list(rooms(sizes)) if room.base is not None}
    assert sum(pieces.values()) <= sum(sizes) + ALIGNMENT * len(sizes)
    assert sorted(pieces.values())[-2] <= PIECE_BYTES < 40 * MB


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("codec", ["fedsz-q", "none", "sz2", "szx"])
def test_tensors_that_share_memory_do_not_touch_each_other(codec: str, isolate: bool) -> None:
    rng = np.random.default_rng(0)
    state = {f"{i}.weight": rng.normal(size=1100 + i).astype(("f4", "f8", "f2")[i % 3]) for i in range(9)}
    state |= {f"{i}.bias": rng.normal(size=i).astype("f4") for i in range(5)}
    payload = fedsz.compress(state, codec=codec)
    untouched, changed = fedsz.decompress(payload), fedsz.decompress(payload, isolate=isolate)
    for name in state:
        assert changed[name].tobytes() == untouched[name].tobytes()
    for name in list(state)[::2]:
        changed[name][...] = 0
    for name in list(state)[1::2]:
        assert changed[name].tobytes() == untouched[name].tobytes()
