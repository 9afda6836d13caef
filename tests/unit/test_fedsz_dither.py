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


def given(values: np.ndarray, bound: float, base: np.ndarray) -> tuple[bytes, bytes]:
    """The blobs without and with reference, after checking that they decode to the same bits."""
    plain, conditional = CODEC.encode(values, bound), CODEC.encode(values, bound, reference=base)
    without = CODEC.decode(memoryview(plain), values.size, values.dtype)
    with_it = CODEC.decode(memoryview(conditional), values.size, values.dtype, reference=base)
    assert without.tobytes() == with_it.tobytes()
    return plain, conditional


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("relative", [0.3, 1e-1, 1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("moved", [0.0, 1e-5, 1e-3, 3e-2, 1e4])
def test_decoded_bits_are_those_without_a_reference(dtype: str, relative: float, moved: float) -> None:
    tensors = [weights(count, dtype, count) for count in (3001, 129, 1000)]
    bases = [one + (moved * weights(one.size, dtype, 9)).astype(dtype) for one in tensors]
    bounds, counts = [relative * span(one) for one in tensors], [3001, 129, 1000]
    none = [None, None, None]
    plain = CODEC.encode_many(tensors, bounds, none)
    without = CODEC.decode_many(memoryview(plain), counts, np.dtype(dtype), none)
    conditional = CODEC.encode_many(tensors, bounds, bases)
    with_it = CODEC.decode_many(memoryview(conditional), counts, np.dtype(dtype), bases)
    other = second.decode_dithered(conditional, counts, dtype, bases)
    for one, two, three in zip(without, with_it, other, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_several_chunks_given_a_reference() -> None:
    base = weights(300_000)
    values = (base + 2e-4 * weights(300_000, seed=2) / 0.05).astype("f4")
    plain, conditional = given(values, 1e-2 * span(values), base)
    other = second.decode_dithered(conditional[: len(conditional)], [values.size], "f4", [base])[0]
    np.testing.assert_array_equal(other, CODEC.decode(memoryview(plain), values.size, values.dtype))


def test_small_updates_take_few_bytes_and_all_of_them_arrives() -> None:
    """A tenth of a bound: `fedsz-q` has nothing to say of a decoded state, and says it in fewer bytes."""
    base = np.asarray(CODEC.decode(memoryview(CODEC.encode(weights(), 0.005)), COUNT, np.dtype("f4")))
    values = (base + 0.0005 * weights(seed=2) / 0.05).astype("f4")
    plain, conditional = given(values, 0.005, base)
    assert len(conditional) * 5 < len(plain)
    decoded = CODEC.decode(memoryview(plain), COUNT, values.dtype)
    (found,) = fedsz.deltas(
        {"weight": base}, {"weight": values}, {"weight": decoded}, ErrorBound("ABS", 0.005)
    )
    assert found.length == pytest.approx(0.1, rel=0.01)
    assert found.arrived == pytest.approx(1.0, abs=0.1)


def test_what_it_takes_is_near_the_conditional_entropy() -> None:
    base = weights(300_000)
    values = (base + 1e-3 * weights(300_000, seed=2) / 0.05).astype("f4")
    bound = 1e-2 * span(values)
    # Whatever the dither: the place of the reference between two points of the grid is uniform.
    place = np.random.default_rng(5).uniform(-0.5, 0.5, values.size)
    moved = np.rint(place + (values.astype("f8") - base) / (2 * bound)).astype(int)
    bits = 0.0
    for part in range(16):
        _, counts = np.unique(moved[((place + 0.5) * 16).astype(int) == part], return_counts=True)
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    _, conditional = given(values, bound, base)
    assert bits / 8 / len(conditional) > 0.97


def test_company_is_the_same_with_a_reference_that_lacks_tensors() -> None:
    """Small tensors share a block and its dither; a reference that knows only some must not split it."""
    state = {f"{n}.weight": weights(2000, seed=n) for n in range(4)}
    holes: dict[str, np.ndarray] = {name: values + np.float32(1e-4) for name, values in state.items()}
    del holes["1.weight"]
    holes["2.weight"] = holes["2.weight"].copy()
    broken = {**holes, "1.weight": state["1.weight"].copy()}
    broken["1.weight"][5] = np.nan
    plain = fedsz.decompress(fedsz.compress(state, codec="fedsz-q-dither"))
    for base in (holes, broken, {name: values + np.float32(1e-4) for name, values in state.items()}):
        payload = fedsz.compress(state, codec="fedsz-q-dither", reference=base)
        found = fedsz.decompress(payload, reference=base)
        for name, values in plain.items():
            np.testing.assert_array_equal(found[name], values)


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


def test_damage_of_a_block_given_a_reference_is_refused() -> None:
    values = weights(2000)
    base = values + np.float32(1e-3)
    blob = CODEC.encode(values, 0.01, reference=base)
    for size in range(0, len(blob), 7):
        with pytest.raises(MalformedPayloadError):
            CODEC.decode(memoryview(blob)[:size], values.size, values.dtype, reference=base)
    with pytest.raises(MalformedPayloadError, match="unknown layout"):
        CODEC.decode(memoryview(b"\x01" + blob[1:]), values.size, values.dtype, reference=base)
