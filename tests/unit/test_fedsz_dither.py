"""`fedsz-q-dither`: the error is uniform on the step and independent of the values, and the bound still holds."""

from __future__ import annotations

import fedsz_q_second_decoder as second
import numpy as np
import pytest

import fedsz
from fedsz import ErrorBound
from fedsz.dither import FedSZQDither
from fedsz.errors import MalformedPayloadError

CODEC = FedSZQDither()
COUNT = 200_000
# Of the Kolmogorov-Smirnov distance times the root of n: passed by one honest sample in 300,000.
CRITICAL = 2.5


def weights(count: int = COUNT, dtype: str = "f4", seed: int = 0) -> np.ndarray:
    return (0.05 * np.random.default_rng(seed).standard_normal(count)).astype(dtype)


def span(values: np.ndarray) -> float:
    return float(values.max()) - float(values.min())


def errors(values: np.ndarray, bound: float, dtype: str = "f4") -> np.ndarray:
    """Errors of all values in steps, and the bound checked."""
    blob = CODEC.encode(values, bound)
    decoded = CODEC.decode(memoryview(blob), values.size, values.dtype).astype(np.float64)
    difference = decoded - values.astype(np.float64)
    assert np.abs(difference).max() <= bound
    step = float(np.frombuffer(blob, dtype, 1, 9)[0])
    assert step / 2 <= bound
    return difference / step


def distance_from_uniform(found: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance from the uniform distribution on (-1/2, 1/2), times the root of n."""
    ordered, n = np.sort(found) + 0.5, found.size
    above, below = np.arange(1, n + 1) / n - ordered, ordered - np.arange(n) / n
    return float(max(above.max(), below.max()) * np.sqrt(n))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Times the root of n: standard normal where the two are independent."""
    return float(np.corrcoef(one, other)[0, 1] * np.sqrt(one.size))


# With a grid of a few points, the error without dither is plainly a function of the value.
@pytest.mark.parametrize("relative", [0.5, 0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_error_is_uniform_and_independent_of_the_values(relative: float, dtype: str) -> None:
    values = weights(dtype=dtype)
    found = errors(values, relative * span(values), dtype)
    assert distance_from_uniform(found) < CRITICAL
    assert abs(correlation(found, values)) < 5
    assert abs(correlation(np.abs(found), np.abs(values))) < 5
    assert abs(correlation(found**2, values.astype("f8") ** 2)) < 5
    assert abs(correlation(found[1:], found[:-1])) < 5
    for low, high in ((-np.inf, -0.05), (-0.01, 0.01), (0.05, np.inf)):
        assert distance_from_uniform(found[(values > low) & (values < high)]) < CRITICAL


def test_values_that_are_all_but_equal_get_errors_all_the_same() -> None:
    values = np.full(COUNT, 0.01, "f4")
    values[0] = 1.0
    found = errors(values, 0.1)
    assert distance_from_uniform(found[1:]) < CRITICAL


def test_the_same_measure_tells_the_plain_grid_from_it() -> None:
    values = weights()
    bound = 0.1 * span(values)
    decoded = fedsz.decompress(
        fedsz.compress({"a.weight": values}, ErrorBound("ABS", bound), codec="fedsz-q")
    )
    found = (decoded["a.weight"].astype("f8") - values) / (2 * bound)
    assert abs(correlation(np.abs(found), np.abs(values))) > 100


def test_the_average_of_clients_is_nearer_than_any_of_them() -> None:
    clients = [(weights() + np.float32(1e-7) * client).astype("f4") for client in range(16)]
    bound = ErrorBound("ABS", 0.01)
    payloads = [fedsz.compress({"a.weight": one}, bound, codec="fedsz-q-dither") for one in clients]
    sent = [fedsz.decompress(payload)["a.weight"].astype("f8") for payload in payloads]
    alone = np.sqrt(np.mean((sent[0] - clients[0]) ** 2))
    average = np.sqrt(np.mean((np.mean(sent, 0) - np.mean(clients, 0)) ** 2))
    assert average == pytest.approx(alone / 4, rel=0.05)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("relative", [0.9, 0.1, 1e-2, 1e-5])
def test_a_second_decoder_reads_the_same_values(dtype: str, relative: float) -> None:
    tensors = [weights(count, dtype, count) * scale for count, scale in ((1025, 1), (3000, 3), (200, 0.9))]
    bounds = [relative * span(tensor) for tensor in tensors]
    blob, counts = CODEC.encode_many(tensors, bounds, [None] * 3), [1025, 3000, 200]
    decoded = CODEC.decode_many(memoryview(blob), counts, np.dtype(dtype), [None] * 3)
    for found, other in zip(decoded, second.decode_dithered(blob, counts, dtype), strict=True):
        np.testing.assert_array_equal(found, other)


def test_equal_values_give_equal_bytes_and_others_other_dither() -> None:
    one, other = weights(), weights(seed=1)
    assert CODEC.encode(one, 0.01) == CODEC.encode(one.copy(), 0.01)
    assert CODEC.encode(one, 0.01)[1:9] != CODEC.encode(other, 0.01)[1:9]


def test_damage_is_refused() -> None:
    values = weights(2000)
    blob = CODEC.encode(values, 0.01)
    for size in range(0, len(blob), 7):
        with pytest.raises(MalformedPayloadError):
            CODEC.decode(memoryview(blob)[:size], values.size, values.dtype)
    with pytest.raises(MalformedPayloadError, match="unknown layout"):
        CODEC.decode(memoryview(b"\x02" + blob[1:]), values.size, values.dtype)
    with pytest.raises(MalformedPayloadError, match="impossible grid"):
        CODEC.decode(memoryview(blob[:13] + b"\x00\x01"), values.size, values.dtype)
