"""`szx`: the bytes of the layout in its docstring, the bound, and what it refuses."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from fedsz.errors import MalformedPayloadError
from fedsz.szx import Szx

CODEC = Szx()
BLOCK = 128


def second_decode(blob: bytes, count: int, dtype: str) -> np.ndarray:
    """Written from the table in the docstring of `Szx`, value by value."""
    width = int(dtype[1])
    blocks = -(-count // BLOCK)
    at = -(-blocks // 8)
    flags = [blob[i // 8] >> i % 8 & 1 for i in range(blocks)]
    middles = np.frombuffer(blob, "<" + dtype, blocks, at)
    at += width * blocks
    kept = list(blob[at : at + sum(flags)])
    at += sum(flags)
    sizes = [min(BLOCK, count - BLOCK * i) for i in range(blocks)]
    varying = sum(size for size, flag in zip(sizes, flags, strict=True) if flag)
    shared = [blob[at + i // 4] >> 2 * (i % 4) & 3 for i in range(varying)]
    at += -(-varying // 4)
    values: list[float] = []
    for size, flag, middle in zip(sizes, flags, middles, strict=True):
        if not flag:
            values += [middle] * size
            continue
        bits = kept.pop(0)
        whole = -(-bits // 8)
        before = bytes(width)
        for _ in range(size):
            same = min(whole, shared.pop(0))
            before = before[:same] + blob[at : at + whole - same] + bytes(width - whole)
            at += whole - same
            pattern = int.from_bytes(before, "big") << (8 * whole - bits) & ((1 << 8 * width) - 1)
            (difference,) = struct.unpack(">f" if width == 4 else ">d", pattern.to_bytes(width, "big"))
            values.append(np.dtype(dtype).type(difference) + (middle if bits < 8 * width else 0))
    assert at == len(blob)
    return np.array(values, dtype)


def tensors(count: int, dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    noise = rng.standard_normal(count)
    return {
        "weights": (0.05 * noise).astype(dtype),
        "smooth": np.cumsum(noise).astype(dtype),
        "offset": (1000 + noise).astype(dtype),
        "tails": (noise * np.exp(6 * rng.standard_normal(count))).astype(dtype),
        "steps": np.repeat(noise, 200)[:count].astype(dtype),
    }


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("count", [2, 127, 128, 129, 3000])
@pytest.mark.parametrize("relative", [1.0, 0.5, 1e-1, 1e-2, 1e-4, 1e-7, 1e-15])
def test_values_come_back_within_the_bound_and_a_second_decoder_agrees(
    dtype: str, count: int, relative: float
) -> None:
    for name, values in tensors(count, dtype).items():
        bound = relative * (float(values.max()) - float(values.min()) or 1.0)
        blob = CODEC.encode(values, bound)
        decoded = CODEC.decode(memoryview(blob), count, values.dtype)
        assert np.abs(decoded.astype("f8") - values.astype("f8")).max() <= bound, name
        np.testing.assert_array_equal(decoded, second_decode(blob, count, dtype), name)


def test_a_block_within_the_bound_of_its_middle_is_that_middle() -> None:
    values = np.concatenate([np.linspace(1, 2, BLOCK), np.linspace(5, 6, BLOCK)]).astype("f4")
    blob = CODEC.encode(values, 0.5)
    assert blob == b"\x00" + np.array([1.5, 5.5], "<f4").tobytes()


def test_a_block_in_which_rounding_breaks_the_bound_is_exact() -> None:
    values = (1e8 + np.arange(BLOCK) * 8).astype("f4")  # the spacing of float32 is 8 here
    decoded = CODEC.decode(memoryview(CODEC.encode(values, 1e-3)), BLOCK, values.dtype)
    np.testing.assert_array_equal(decoded, values)


def test_damage_is_refused() -> None:
    values = tensors(1000, "f4")["weights"]
    blob = CODEC.encode(values, 1e-3)
    for size in [*range(60), len(blob) // 2, len(blob) - 1]:
        with pytest.raises(MalformedPayloadError):
            CODEC.decode(memoryview(blob)[:size], 1000, values.dtype)
    for longer, text in ((blob + b"\0", "missing or left over"), (b"\xff" + blob[1:], None)):
        with pytest.raises(MalformedPayloadError, match=text):
            CODEC.decode(memoryview(longer), 1000 if text else 900, values.dtype)
    with pytest.raises(MalformedPayloadError, match="a flag of a block that does not exist"):
        CODEC.decode(memoryview(b"\x80" + blob[1:]), 100, values.dtype)
    start = 1 + 4 * 8
    with pytest.raises(MalformedPayloadError, match="impossible number of bits"):
        CODEC.decode(memoryview(blob[:start] + b"\x21" + blob[start + 1 :]), 1000, values.dtype)
