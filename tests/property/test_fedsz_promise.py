"""The promise, on states that nobody would choose: exact frame, values within the bound, the same with a reference."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedsz
from fedsz import ErrorBound, Partition

LOSSY = [info.codec_id for info in fedsz.codecs().values() if info.kind == "lossy"]
FLOATS = ["float16", ml_dtypes.bfloat16, "float32", ">f4", "float64", ">f8"]
OTHERS = ["bool", "int8", "uint16", "int32", ">i4", "int64", "uint64", "complex64", ml_dtypes.float8_e5m2]
SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324, 1e-45, 1e-40, 65504.0, 3.4e38, -3.4e38, 1.7e308, 1.0]

relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    shape = draw(
        st.lists(st.integers(0, 6), max_size=6).map(tuple) | st.sampled_from([(3000,), (40, 100), (1500,)])
    )
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    dtype = np.dtype(draw(st.sampled_from(FLOATS * 2 + OTHERS)))
    scale = draw(st.sampled_from([1.0, 0.02, 1e-30, 1e-42, 1e20, 1e300]))
    values = rng.normal(0, 1, shape) * scale
    kind = draw(st.sampled_from(["noise", "noise", "constant", "tails", "special", "steps"]))
    if kind == "constant":
        values = np.full(shape, draw(st.sampled_from(SPECIAL)))
    elif kind == "tails":
        values = values / np.where(rng.random(shape) < 0.01, 1e-4, 1.0)
    elif kind == "special":
        values = np.where(rng.random(shape) < 0.1, rng.choice(SPECIAL, shape), values)
    elif kind == "steps":
        values = np.round(values / scale * 4) * scale
    with np.errstate(all="ignore"):
        array: np.ndarray[Any, Any] = values.astype(dtype)
    if array.ndim > 1 and draw(st.booleans()):
        array = array.transpose()[::-1]
    return array


names = st.sampled_from(
    ["conv.weight", "weight", "bn.bias", "bn.running_var", "n", "", "ä.weight_1", "x.weight"]
)
states = st.dictionaries(names | st.text(max_size=8), arrays(), max_size=6)
bounds = st.builds(
    ErrorBound,
    st.sampled_from(["REL", "ABS", "REL_STATE"]),
    st.sampled_from([0.0, 1e-1, 1e-2, 1e-3, 1e-5, 1e-9, 1e-30, 1e-320, 0.5, 1.0, 30.0, 1e300]),
)
partitions = st.builds(
    Partition, threshold=st.sampled_from([0, 10, 1024]), names=st.just(("weight",)), by_data=st.booleans()
)


def bits(array: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def as_float64(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(np.float64)


def finite_span(state: dict[str, Any], lossy: list[str]) -> float:
    finite = [v[np.isfinite(v)] for name in lossy for v in [as_float64(state[name])]]
    finite = [v for v in finite if v.size]
    if not finite:
        return 0.0
    with np.errstate(over="ignore"):
        return float(max(v.max() for v in finite) - min(v.min() for v in finite))


def assert_promise(
    state: dict[str, Any], back: dict[str, Any], bound: ErrorBound, partition: Partition, codec: str
) -> None:
    assert list(back) == list(state)
    lossy = [name for name, array in state.items() if codec != "none" and partition.is_lossy(name, array)]
    for name, array in state.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].flags.writeable
        if name not in lossy or bound.value == 0:
            assert bits(back[name]) == bits(array), name
            continue
        span = finite_span(state, lossy if bound.mode == "REL_STATE" else [name])
        allowed = bound.value if bound.mode == "ABS" else bound.value * span
        before, after = as_float64(array), as_float64(back[name])
        finite = np.isfinite(before)
        assert bits(back[name][~finite]) == bits(array[~finite])
        # Written so that a NaN fails.
        assert (np.abs(after[finite] - before[finite]) <= allowed).all(), name


@pytest.mark.parametrize("codec", [*LOSSY, "none"])
@relaxed
@given(state=states, bound=bounds, partition=partitions)
def test_frame_exact_and_values_within_the_bound(
    codec: str, state: dict[str, Any], bound: ErrorBound, partition: Partition
) -> None:
    payload = fedsz.compress(state, bound, codec=codec, partition=partition)
    assert_promise(state, fedsz.decompress(payload), bound, partition, codec)


@pytest.mark.parametrize("codec", LOSSY)
@settings(relaxed, max_examples=20)
@given(state=states, bound=bounds, partition=partitions, seed=st.integers(0, 1000))
def test_a_reference_never_changes_what_is_decoded(
    codec: str, state: dict[str, Any], bound: ErrorBound, partition: Partition, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    reference = {
        name: array + rng.normal(0, 1e-3, array.shape).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in state.items()
        if rng.random() < 0.8
    }
    alone = fedsz.compress(state, bound, codec=codec, partition=partition)
    given_reference = fedsz.compress(state, bound, codec=codec, partition=partition, reference=reference)
    first, second = fedsz.decompress(alone), fedsz.decompress(given_reference, reference=reference)
    assert list(first) == list(second)
    assert all(bits(first[name]) == bits(second[name]) for name in first)
    assert fedsz.inspect(given_reference, reference=reference).reference_digest
    if reference:
        with pytest.raises(fedsz.ReferenceMismatchError):
            fedsz.decompress(given_reference)


@pytest.mark.parametrize("codec", [*LOSSY, "none"])
@settings(relaxed, max_examples=6)
@given(state=states, bound=bounds)
def test_threads_and_repetition_do_not_change_a_byte(
    codec: str, state: dict[str, Any], bound: ErrorBound
) -> None:
    payload = fedsz.compress(state, bound, codec=codec)
    assert payload == fedsz.compress(state, bound, codec=codec, threads=3)
    one, three = fedsz.decompress(payload), fedsz.decompress(payload, threads=3)
    assert all(bits(one[name]) == bits(three[name]) for name in state)


@settings(relaxed, max_examples=100)
@given(state=states, data=st.data(), codec=st.sampled_from(["none", "sz3"]))
def test_any_cut_or_flipped_bit_is_noticed(state: dict[str, Any], data: st.DataObject, codec: str) -> None:
    payload = fedsz.compress(state, codec=codec)
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(fedsz.PayloadError):
        fedsz.decompress(payload[:cut])
    at, bit = data.draw(st.integers(0, len(payload) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(payload)
    flipped[at] ^= 1 << bit
    with pytest.raises(fedsz.PayloadError):
        fedsz.decompress(flipped)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_are_refused(noise: bytes, magic: bool) -> None:
    with pytest.raises(fedsz.PayloadError):
        fedsz.decompress(b"FDSZ\x01" + noise if magic else noise)
