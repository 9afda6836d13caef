"""Memory that decoded tensors share."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import fedsz
from fedsz import memory
from fedsz.memory import ALIGNMENT, KEPT_BYTES, PIECE_BYTES, rooms

MB = 1 << 20


@pytest.mark.parametrize("sizes", [[], [0], [5, 0, 64, 65], [3 * MB] * 11, [40 * MB, 1, 16 * MB, 1]])
def test_rooms_have_their_sizes_and_overlap_nowhere(sizes: list[int]) -> None:
    made = list(rooms(sizes))
    assert [room.size for room in made] == sizes
    places = sorted((room.ctypes.data, room.size) for room in made if room.size)
    assert all(start + size <= after for (start, size), (after, _) in itertools.pairwise(places))


def test_a_piece_is_as_large_as_its_rooms_and_no_larger_than_allowed() -> None:
    sizes = [3 * MB + 1] * 11 + [40 * MB]
    made = list(rooms(sizes))
    pieces = {id(room.base): room.base.nbytes for room in made if room.base is not None}
    assert sum(pieces.values()) <= sum(sizes) + ALIGNMENT * len(sizes)
    assert sorted(pieces.values())[-2] <= PIECE_BYTES < 40 * MB


def kept_bytes() -> int:
    return sum(units * len(waiting) for units, waiting in memory._kept.items())


def test_a_piece_is_used_again_when_its_last_room_is_gone() -> None:
    memory.release()
    first, second = rooms([3 * MB, 5 * MB])
    view = second[100:180].reshape(10, 8).view("u4")
    place = first.ctypes.data
    del first, second
    assert kept_bytes() == 0  # a view of a room is all that is left
    view[...] = 7
    (other,) = rooms([8 * MB - 5])
    assert other.ctypes.data != place
    other[...] = 0
    assert (view == 7).all()
    del view
    assert kept_bytes() == 8 * MB
    (again,) = rooms([8 * MB - 70])
    assert again.ctypes.data == place
    assert kept_bytes() == 0
    del again, other
    assert kept_bytes() == 16 * MB
    memory.release()
    assert kept_bytes() == 0


def test_no_more_is_kept_than_said() -> None:
    memory.release()
    many = list(rooms([PIECE_BYTES] * (KEPT_BYTES // PIECE_BYTES + 3) + [1000] * 5))
    del many
    assert kept_bytes() == KEPT_BYTES
    memory.release()


def test_a_state_outlives_the_next_ones() -> None:
    rng = np.random.default_rng(0)
    states = [{f"{i}.weight": rng.normal(size=1 << 19).astype("f4") for i in range(6)} for _ in range(3)]
    payloads = [fedsz.compress(state, codec="fedsz-q") for state in states]
    expected = [{n: a.tobytes() for n, a in fedsz.decompress(payload).items()} for payload in payloads]
    held = fedsz.decompress(payloads[0])["3.weight"]
    frozen = torch.from_numpy(fedsz.decompress(payloads[1])["2.weight"])
    for _ in range(4):
        for payload, right in zip(payloads, expected, strict=True):
            decoded = fedsz.decompress(payload)
            assert {n: a.tobytes() for n, a in decoded.items()} == right
    assert held.tobytes() == expected[0]["3.weight"]
    assert frozen.numpy().tobytes() == expected[1]["2.weight"]


def test_threads_share_what_is_kept() -> None:
    def work(number: int) -> bool:
        for _ in range(200):
            (room,) = rooms([2 * MB])
            room[:64] = number
            room[-64:] = number
            if not ((room[:64] == number).all() and (room[-64:] == number).all()):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert kept_bytes() <= KEPT_BYTES


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
