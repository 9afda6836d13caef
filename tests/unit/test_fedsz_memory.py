"""Peak memory stays near one tensor above the state."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fedsz

TENSOR = 1 << 20
COUNT = 24
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return {f"{i}.weight": RNG.normal(0, 0.02, TENSOR // 4).astype("f4") for i in range(COUNT)}


def peak(work: Callable[[], Any]) -> tuple[Any, int]:
    """Result and most bytes held at once beyond those before. NumPy tells tracemalloc, the C codecs do not."""
    work()
    fedsz.memory.release()  # what waits to be used again would not be counted
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", ["none", "sz2", "sz3", "zfp", "szx", "fedsz-q"])
def test_compress_holds_the_payload_and_a_tensor(state: dict[str, Any], codec: str) -> None:
    payload, most = peak(lambda: fedsz.compress(state, codec=codec))
    # The payload grows by a quarter when it must; besides it, one tensor's blob, decoded values and comparison.
    assert most < 1.5 * len(payload) + 5 * TENSOR


@pytest.mark.parametrize("codec", ["none", "sz2", "sz3", "zfp", "szx", "fedsz-q"])
def test_decompress_holds_the_state_and_a_tensor(state: dict[str, Any], codec: str) -> None:
    payload = fedsz.compress(state, codec=codec)
    _, most = peak(lambda: fedsz.decompress(payload))
    assert most < fedsz.update_bytes(state) + 3 * TENSOR


@pytest.mark.parametrize("codec", ["sz3", "none", "fedsz-q"])
def test_a_reference_is_not_copied(state: dict[str, Any], codec: str) -> None:
    reference = fedsz.Reference({name: array + np.float32(1e-3) for name, array in state.items()})
    payload, most = peak(lambda: fedsz.compress(state, codec=codec, reference=reference))
    assert most < 1.5 * len(payload) + 5 * TENSOR
    _, most = peak(lambda: fedsz.decompress(payload, reference=reference))
    assert most < fedsz.update_bytes(state) + 3 * TENSOR


def test_the_input_is_not_touched(state: dict[str, Any]) -> None:
    frozen = {name: array.copy() for name, array in state.items()}
    for array in frozen.values():
        array.flags.writeable = False
    for info in fedsz.codecs().values():
        if info.kind != "lossless":
            fedsz.compress(frozen, codec=info.codec_id, reference=frozen)
