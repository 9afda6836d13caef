"""`fedsz-q` given a reference: the same decoded bits in fewer bytes, whatever the reference."""

from __future__ import annotations

import fedsz_q_second_decoder as second
import numpy as np
import pytest
from test_fedsz_q import error_over_bound, span, weights

from fedsz.errors import MalformedPayloadError
from fedsz.quantise import FedSZQ

CODEC = FedSZQ()


def both_ways(values: np.ndarray, bound: float, reference: np.ndarray) -> tuple[bytes, bytes]:
    """The blobs without and with reference, after checking that they decode to the same bits."""
    plain = CODEC.encode(values, bound)
    given = CODEC.encode(values, bound, reference=reference)
    without = CODEC.decode(memoryview(plain), values.size, values.dtype)
    with_it = CODEC.decode(memoryview(given), values.size, values.dtype, reference=reference)
    assert without.tobytes() == with_it.tobytes()
    assert error_over_bound(values, with_it, bound) <= 1
    other = second.decode(given, [values.size], values.dtype.str[1:], [reference])[0]
    assert other.tobytes() == with_it.tobytes()
    return plain, given


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("relative", [0.3, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("moved", [0.0, 1e-5, 1e-3, 3e-2])
def test_decoded_bits_are_those_without_reference(dtype: str, relative: float, moved: float) -> None:
    reference = weights(3001, dtype)
    values = (reference + moved * np.random.default_rng(2).standard_normal(3001)).astype(dtype)
    both_ways(values, relative * span(values), reference)


def test_small_updates_take_few_bytes() -> None:
    reference = weights(60_000)
    values = (reference + 2e-4 * np.random.default_rng(2).standard_normal(60_000)).astype("f4")
    plain, given = both_ways(values, 1e-2 * span(values), reference)
    assert len(given) * 10 < len(plain)


def test_the_reference_itself_takes_next_to_nothing() -> None:
    values = weights(60_000)
    _, given = both_ways(values, 1e-2 * span(values), values)
    assert len(given) < 100


def test_nine_contexts_come_near_the_conditional_entropy() -> None:
    reference = weights(300_000)
    values = (reference + 1e-3 * np.random.default_rng(2).standard_normal(300_000)).astype("f4")
    bound = 1e-2 * span(values)
    place = reference.astype(np.float64) / (2 * bound)
    nearest = np.rint(place)
    moved = (np.rint(values.astype(np.float64) / (2 * bound)) - nearest).astype(int)
    sixteenth = np.clip(((place - nearest + 0.5) * 16).astype(int), 0, 15)
    bits = 0.0
    for part in range(16):
        _, counts = np.unique(moved[sixteenth == part], return_counts=True)
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    _, given = both_ways(values, bound, reference)
    assert bits / 8 / len(given) > 0.97


@pytest.mark.parametrize("reference", ["unrelated", "zeros", "huge", "shifted"])
@pytest.mark.parametrize("relative", [0.3, 1e-2, 1e-3, 1e-5])
def test_a_useless_reference_costs_next_to_nothing(reference: str, relative: float) -> None:
    values = weights(20_000)
    base = {
        "unrelated": weights(20_000, seed=9),
        "zeros": np.zeros(20_000, "f4"),
        "huge": np.full(20_000, 3e38, "f4"),
        "shifted": values + np.float32(span(values)),
    }[reference]
    plain, given = both_ways(values, relative * span(values), base)
    assert len(given) < 1.01 * len(plain) + 16


def test_several_chunks_and_groups() -> None:
    reference = weights(second.CHUNK + 13)
    values = (reference + 1e-3 * np.random.default_rng(2).standard_normal(reference.size)).astype("f4")
    both_ways(values, 1e-2 * span(values), reference)

    tensors, references = [values[:1100], values[1100:5000]], [reference[:1100], reference[1100:5000]]
    bounds = [1e-2 * span(tensor) for tensor in tensors]
    blob = CODEC.encode_many(tensors, bounds, references)
    counts = [tensor.size for tensor in tensors]
    found = CODEC.decode_many(memoryview(blob), counts, np.dtype("f4"), references)
    plain = CODEC.decode_many(
        memoryview(CODEC.encode_many(tensors, bounds, [None, None])), counts, np.dtype("f4"), [None, None]
    )
    for one, other, third in zip(found, plain, second.decode(blob, counts, "f4", references), strict=True):
        assert one.tobytes() == other.tobytes() == third.tobytes()


def test_a_cut_or_longer_blob_is_refused() -> None:
    reference = weights(20_000)
    values = (reference + 1e-3 * np.random.default_rng(2).standard_normal(20_000)).astype("f4")
    blob = CODEC.encode(values, 1e-2 * span(values), reference=reference)
    for size in [*range(60), len(blob) // 2, len(blob) - 1]:
        with pytest.raises(MalformedPayloadError):
            CODEC.decode(memoryview(blob)[:size], values.size, values.dtype, reference=reference)
    with pytest.raises(MalformedPayloadError):
        CODEC.decode(memoryview(blob + b"\0"), values.size, values.dtype, reference=reference)
