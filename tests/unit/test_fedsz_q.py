"""`fedsz-q`: what its bytes mean, how near the entropy limit they come, what it refuses."""

from __future__ import annotations

import fedsz_q_second_decoder as second
import numpy as np
import pytest

import fedsz
from fedsz import ErrorBound
from fedsz.errors import MalformedPayloadError
from fedsz.grid import choose_grid
from fedsz.quantise import FedSZQ
from fedsz.registry import CannotEncodeError

CODEC = FedSZQ()


def weights(count: int, dtype: str = "f4", seed: int = 0) -> np.ndarray:
    return (0.05 * np.random.default_rng(seed).standard_normal(count)).astype(dtype)


def span(values: np.ndarray) -> float:
    return float(values.max()) - float(values.min())


def error_over_bound(values: np.ndarray, decoded: np.ndarray, bound: float) -> float:
    return float(np.abs(decoded.astype(np.float64) - values.astype(np.float64)).max()) / bound


def entropy_bytes(values: np.ndarray, bound: float) -> float:
    _, counts = np.unique(np.rint(values.astype(np.float64) / (2 * bound)), return_counts=True)
    return float(-(counts * np.log2(counts / values.size)).sum() / 8)


# The bounds take every way that symbols travel: packed, as they are, low bits of all widths, symbols over 16 bits.
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("relative", [0.9, 0.3, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("count", [1500, 30_001])
def test_a_second_decoder_reads_the_same_values(dtype: str, relative: float, count: int) -> None:
    values = weights(count, dtype)
    bound = relative * span(values)
    blob = CODEC.encode(values, bound)
    decoded = CODEC.decode(memoryview(blob), count, values.dtype)
    assert error_over_bound(values, decoded, bound) <= 1
    np.testing.assert_array_equal(decoded, second.decode(blob, [count], dtype)[0])


def test_a_second_decoder_reads_several_chunks() -> None:
    values = weights(2 * second.CHUNK + 77)
    for relative in (0.3, 1e-2, 1e-3):
        bound = relative * span(values)
        blob = CODEC.encode(values, bound)
        decoded = CODEC.decode(memoryview(blob), values.size, values.dtype)
        np.testing.assert_array_equal(decoded, second.decode(blob, [values.size], "f4")[0])


def test_a_second_decoder_reads_a_group() -> None:
    tensors = [weights(count, seed=count) * scale for count, scale in ((1025, 1), (3000, 40), (200, 0.1))]
    bounds = [1e-2 * span(tensor) for tensor in tensors]
    blob = CODEC.encode_many(tensors, bounds, [None] * 3)
    decoded = CODEC.decode_many(memoryview(blob), [1025, 3000, 200], np.dtype("f4"), [None] * 3)
    for values, bound, found, other in zip(
        tensors, bounds, decoded, second.decode(blob, [1025, 3000, 200], "f4"), strict=True
    ):
        assert error_over_bound(values, found, bound) <= 1
        np.testing.assert_array_equal(found, other)


@pytest.mark.parametrize("relative", [1e-1, 1e-2, 3e-3])
def test_a_tensor_decodes_to_the_same_alone_and_in_company(relative: float) -> None:
    tensors = [weights(500), weights(500, seed=1) + np.float32(3), weights(128, seed=2) * np.float32(1e-3)]
    bounds = [relative * span(tensor) for tensor in tensors]
    counts = [tensor.size for tensor in tensors]
    blob = CODEC.encode_many(tensors, bounds, [None] * 3)
    for values, bound, found in zip(
        tensors, bounds, CODEC.decode_many(memoryview(blob), counts, np.dtype("f4"), [None] * 3), strict=True
    ):
        alone = CODEC.decode(memoryview(CODEC.encode(values, bound)), values.size, values.dtype)
        assert found.tobytes() == alone.tobytes()


@pytest.mark.parametrize("count", [128, 200, 1100, 4000])
@pytest.mark.parametrize("kind", ["flat", "normal", "tails"])
@pytest.mark.parametrize("given", [False, True])
def test_blocks_are_smaller_than_raw_tensors_at_any_bound(count: int, kind: str, given: bool) -> None:
    rng = np.random.default_rng(count)
    draw = {"flat": rng.random, "normal": rng.standard_normal, "tails": rng.standard_cauchy}[kind]
    for dtype, width, finest in (("f4", 2, 2.0**-12), ("f4", 4, 2.0**-21), ("f8", 8, 2.0**-30)):
        values = draw(count).astype(dtype)
        reference = draw(count).astype(dtype) if given else None
        for relative in (0.5, 1e-1, 1e-2, 1e-3, finest):
            blob = CODEC.encode(values, relative * span(values), reference=reference)
            assert len(blob) < width * count, (dtype, relative)  # two bytes a value: float16, seen as float32


def test_what_might_not_be_smaller_is_refused() -> None:
    with pytest.raises(CannotEncodeError):
        CODEC.encode(weights(127), 1e-2)


def test_tensors_of_very_different_scale_do_not_share_an_alphabet() -> None:
    state = {f"{scale}.weight": weights(2000, seed=scale) * np.float32(scale) for scale in (1, 1000)}
    bound = ErrorBound("ABS", 1e-4)
    alone = [len(CODEC.encode(tensor, 1e-4)) for tensor in state.values()]
    payload = fedsz.compress(state, bound, codec="fedsz-q")
    assert len(payload) < sum(alone) + 150
    for name, decoded in fedsz.decompress(payload).items():
        assert error_over_bound(state[name], decoded, 1e-4) <= 1


@pytest.mark.parametrize("relative", [1e-1, 1e-2, 1e-3, 1e-4])
def test_bytes_come_near_the_entropy_limit(relative: float) -> None:
    values = weights(400_000)
    bound = relative * span(values)
    assert entropy_bytes(values, bound) / len(CODEC.encode(values, bound)) > 0.99


def test_a_sparse_tensor_costs_what_its_entropy_says() -> None:
    values = np.where(np.random.default_rng(1).random(200_000) < 0.02, weights(200_000), 0).astype("f4")
    bound = 1e-2 * span(values)
    blob = CODEC.encode(values, bound)
    assert entropy_bytes(values, bound) / len(blob) > 0.97
    decoded = CODEC.decode(memoryview(blob), values.size, values.dtype)
    assert (decoded[values == 0] == 0).all()


def test_a_few_outliers_do_not_cost_the_others_their_bits() -> None:
    values = weights(200_000)
    values[[5, 777]] = 40, -30  # a thousand deviations away
    bound = 1e-5 * span(values)
    assert entropy_bytes(values, bound) / len(CODEC.encode(values, bound)) > 0.97


def test_all_values_within_the_bound_of_one_point_take_a_few_bytes() -> None:
    values = weights(5000) + np.float32(7)
    blob = CODEC.encode(values, 10.0)
    assert len(blob) < 12
    assert error_over_bound(values, CODEC.decode(memoryview(blob), 5000, values.dtype), 10.0) <= 1


def test_an_offset_far_from_zero_keeps_the_bound() -> None:
    values = weights(5000) + np.float32(1000)
    for relative in (1e-1, 1e-2):
        bound = relative * span(values)
        blob = CODEC.encode(values, bound)
        decoded = CODEC.decode(memoryview(blob), 5000, values.dtype)
        assert error_over_bound(values, decoded, bound) <= 1
        np.testing.assert_array_equal(decoded, second.decode(blob, [5000], "f4")[0])


@pytest.mark.parametrize("bound", [1e-9, 1e-38, 1e-45])
def test_a_bound_below_the_spacing_of_the_values_is_refused(bound: float) -> None:
    with pytest.raises(CannotEncodeError):
        CODEC.encode(weights(5000), bound)


def test_the_step_is_at_most_twice_the_bound_and_hardly_less() -> None:
    for relative in (1e-1, 1e-2, 1e-3, 1e-4):
        grid = choose_grid(-1.0, 1.0, 2 * relative, np.dtype("f4"))
        assert 0.998 < grid.step / (4 * relative) <= 1
        assert np.float32(grid.step) == grid.step


def test_read_only_values_are_taken_and_not_changed() -> None:
    values = weights(3000)
    values.flags.writeable = False
    before = values.copy()
    CODEC.encode(values, 1e-3)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("relative", [0.3, 1e-2, 1e-3])
def test_a_cut_or_longer_blob_is_refused(relative: float) -> None:
    values = weights(20_000)
    blob = CODEC.encode(values, relative * span(values))
    for size in [*range(40), len(blob) // 2, len(blob) - 1]:
        with pytest.raises(MalformedPayloadError):
            CODEC.decode(memoryview(blob)[:size], values.size, values.dtype)
    with pytest.raises(MalformedPayloadError):
        CODEC.decode(memoryview(blob + b"\0"), values.size, values.dtype)


def test_a_blob_for_another_number_of_values_is_refused() -> None:
    values = weights(20_000)
    blob = CODEC.encode(values, 1e-2 * span(values))
    for count in (1, 19_990, 20_008, 40_000):
        with pytest.raises(MalformedPayloadError):
            CODEC.decode(memoryview(blob), count, values.dtype)


def test_a_grid_holds_the_points_of_its_own_ends() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20_000):
        high = float(np.float32(rng.uniform(0.1, 1)))
        low = float(np.float32(high * rng.uniform(-1, 0.9)))
        grid = choose_grid(low, high, high / 2 ** rng.uniform(1, 21.9), np.dtype("f4"))
        first, last = np.rint(low * (1 / grid.step)), np.rint(high * (1 / grid.step))
        assert grid.low <= first <= last <= grid.low + grid.bins - 1


@pytest.mark.parametrize("bound", [1e-1, 1e-2, 1e-3])
def test_what_was_decoded_stays_where_it_is_when_coded_again(bound: float) -> None:
    """A global model is coded round after round; an error that is drawn anew each time would add up."""

    def through(values: np.ndarray) -> np.ndarray:
        payload = fedsz.compress({"a.weight": values}, ErrorBound("REL", bound), codec="fedsz-q")
        return fedsz.decompress(payload, max_bytes=1 << 20)["a.weight"]

    values = weights(256 * 256).reshape(256, 256)
    once = through(values)
    width = bound * span(values)
    assert error_over_bound(values, once, width) > 0.9
    # Not nothing: the decoded values' range, and so their grid, is a little narrower.
    assert error_over_bound(once, through(through(once)), width) < 0.2
