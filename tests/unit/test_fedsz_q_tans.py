"""The entropy coder below `fedsz-q`, its frequency tables, planes and packing."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from fedsz import compiled, frequency, planes, tans

RNG = np.random.default_rng(3)


def code(symbols: np.ndarray, frequencies: np.ndarray, precision: int) -> np.ndarray:
    states = np.empty(1 << precision, np.uint16)
    moves = np.empty(2 * frequencies.size, np.uint64)
    tans.encoder_tables(frequencies, precision, states, moves)
    out = np.empty(tans.room(symbols.size), np.uint8)
    return out[tans.encode(symbols, precision, states, moves, out) :]


def decoded(stream: np.ndarray, frequencies: np.ndarray, precision: int, count: int) -> np.ndarray | None:
    table = np.empty(1 << precision, np.uint32)
    assert tans.decoder_table(frequencies, precision, table)
    symbols = np.empty(count, np.uint16)
    padded = np.concatenate([stream, np.full(tans.PADDING, 0xA5, np.uint8)])
    return symbols if tans.decode(padded, table, precision, symbols) else None


def normal(weights: np.ndarray, precision: int) -> np.ndarray:
    found = np.empty(weights.size, np.uint32)
    assert frequency.normalise(weights.astype(np.uint64), precision, found)
    return found


@pytest.mark.parametrize("precision", [10, 12, 14])
@pytest.mark.parametrize("count", [8, 16, 8000])
@pytest.mark.parametrize("kind", ["one", "two", "flat", "steep", "many"])
def test_symbols_come_back(precision: int, count: int, kind: str) -> None:
    weights = {
        "one": np.array([0, 7, 0]),
        "two": np.array([1, 0, 100_000]),
        "flat": np.ones(300),
        "steep": np.maximum(1, 1e6 * 0.5 ** np.arange(40)),
        "many": RNG.integers(1, 50, 1 << precision if precision < 13 else 4096),
    }[kind]
    frequencies = normal(weights, precision)
    symbols = RNG.choice(weights.size, count, p=frequencies / frequencies.sum()).astype(np.uint16)
    stream = code(symbols, frequencies, precision)
    np.testing.assert_array_equal(decoded(stream, frequencies, precision, count), symbols)


def test_bits_are_those_of_the_frequencies() -> None:
    weights = np.exp(-np.abs(np.arange(-40, 41)) / 6) * 1e5
    frequencies = normal(weights, 12)
    p = frequencies / frequencies.sum()
    symbols = RNG.choice(p.size, 80_000, p=p).astype(np.uint16)
    ideal = -np.log2(p[symbols]).sum() / 8
    assert ideal * 0.999 < code(symbols, frequencies, 12).size < ideal * 1.003 + 16


def test_a_damaged_stream_is_noticed() -> None:
    frequencies = normal(np.array([10, 50, 30, 5]), 10)
    symbols = RNG.choice(4, 4000, p=[0.1, 0.6, 0.25, 0.05]).astype(np.uint16)
    stream = code(symbols, frequencies, 10)
    assert decoded(stream[:-1], frequencies, 10, 4000) is None
    assert decoded(np.append(stream, np.uint8(0)), frequencies, 10, 4000) is None
    assert decoded(np.zeros(1, np.uint8), frequencies, 10, 4000) is None
    missed = 0
    for bit in RNG.choice(8 * stream.size, 200, replace=False):
        flipped = stream.copy()
        flipped[bit // 8] ^= np.uint8(1 << bit % 8)
        missed += decoded(flipped, frequencies, 10, 4000) is not None
    assert missed <= 2  # the checksum of the container is what counts


def test_frequencies_that_do_not_sum_up_are_refused() -> None:
    table = np.empty(1 << 10, np.uint32)
    for wrong in ([1023], [1025], [1024, 1], [2**32 - 1, 1025], [0]):
        assert not tans.decoder_table(np.array(wrong, np.uint32), 10, table)


@pytest.mark.parametrize("mantissa_bits", [0, 1, 2, 3])
def test_a_table_of_counts_comes_back_nearly(mantissa_bits: int) -> None:
    for counts in (
        np.array([1]),
        np.array([0, 0, 2**31 - 1, 0]),
        RNG.poisson(1e4 * np.exp(-((np.arange(500) - 250) ** 2) / 5000)),
        RNG.integers(0, 2, 4096) * RNG.integers(1, 2**31, 4096),
    ):
        weights, again = np.empty(counts.size, np.uint64), np.empty(counts.size, np.uint64)
        out = np.zeros(16 + 5 * counts.size, np.uint8)
        used = frequency.write_weights(counts.astype(np.uint32), mantissa_bits, weights, out)
        assert frequency.read_weights(out[:used].copy(), again) == used
        np.testing.assert_array_equal(weights, again)
        np.testing.assert_array_equal(weights > 0, counts > 0)
        held = counts[counts > 0]
        error = weights[counts > 0] / 2.0**mantissa_bits / held - 1
        assert np.abs(error).max() <= 0.5**mantissa_bits * 0.51
        for size in range(used):
            assert frequency.read_weights(out[:size].copy(), again) == -1


def test_rare_symbols_keep_a_frequency_and_the_sum_holds() -> None:
    for weights in (np.append(np.ones(1023), 2**43), np.full(1000, 3), np.array([5, 0, 5])):
        found = normal(weights, 10)
        assert found.sum() == 1024
        np.testing.assert_array_equal(found > 0, weights > 0)
    assert not frequency.normalise(np.ones(1025, np.uint64), 10, np.empty(1025, np.uint32))
    assert not frequency.normalise(np.zeros(4, np.uint64), 10, np.empty(4, np.uint32))


@pytest.mark.parametrize("low_bits", [1, 2, 3, 7, 8, 13, 16, 21, 24])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 1001])
def test_low_bits_are_cut_off_and_put_back(low_bits: int, count: int) -> None:
    for dtype in (np.uint16, np.uint32):
        if low_bits > 12 and dtype == np.uint16:
            continue
        symbols = RNG.integers(0, 1 << low_bits + (4 if dtype == np.uint16 else 8), count).astype(dtype)
        tokens = np.empty(count, np.uint16)
        low, again = np.zeros(planes.low_size(count, low_bits), np.uint8), np.empty(count, dtype)
        planes.split(symbols, low_bits, tokens, low)
        np.testing.assert_array_equal(tokens, symbols >> low_bits)
        planes.join(tokens, low_bits, low, again)
        np.testing.assert_array_equal(again, symbols)


@pytest.mark.parametrize(("bins", "per_token"), [(2, 8), (2, 2), (3, 6), (6, 4), (7, 3), (16, 3), (16, 2)])
def test_packed_symbols_come_back(bins: int, per_token: int) -> None:
    for count in (1, 5, 1000):
        symbols = RNG.integers(0, bins, count).astype(np.uint16)
        tokens, again = np.empty(-(-count // per_token), np.uint16), np.empty(count, np.uint16)
        planes.pack(symbols, bins, per_token, tokens)
        assert tokens.max() < bins**per_token
        planes.unpack(tokens, bins, per_token, again)
        np.testing.assert_array_equal(again, symbols)


def test_kernels_are_compiled_without_a_place_for_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    real = numba.njit

    def njit(*arguments: object, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available for file 'x.py'")
        return real(*arguments, **options)

    monkeypatch.setattr(numba, "njit", njit)
    assert compiled.compiled(lambda x: 2 * x)(21) == 42
