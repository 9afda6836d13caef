"""Splits and averages, against plain second implementations, on arbitrary input."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.learning.aggregate import Average, fedavg
from testbed.learning.errors import AggregationError, TaskError
from testbed.learning.partition import split


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 400),
    clients=st.integers(1, 40),
    classes=st.integers(1, 12),
    seed=st.integers(0, 2**40),
    alpha=st.sampled_from([None, 0.01, 0.1, 1.0, 100.0]),
    limit=st.sampled_from([None, 1, 7]),
)
def test_every_sample_has_at_most_one_owner(samples, clients, classes, seed, alpha, limit):
    labels = np.arange(samples) % classes
    if samples < clients:
        with pytest.raises(TaskError, match=f"cannot split {samples} samples among {clients} clients"):
            split(labels, clients, seed, alpha=alpha)
        return
    shares = split(labels, clients, seed, alpha=alpha, samples_per_client=limit)
    together = np.concatenate(shares)
    assert len(shares) == clients
    assert all(1 <= len(share) <= (limit or samples) for share in shares)
    assert len(np.unique(together)) == len(together)
    assert set(together.tolist()) <= set(range(samples))
    if limit is None:
        assert len(together) == samples
    again = split(labels, clients, seed, alpha=alpha, samples_per_client=limit)
    assert all(np.array_equal(first, second) for first, second in zip(shares, again, strict=True))


def test_a_small_alpha_is_uneven_and_a_large_one_is_even():
    labels = np.repeat(np.arange(10), 500)

    def classes_held(alpha):
        shares = split(labels, 10, 1, alpha=alpha)
        return np.mean([len(np.unique(labels[share])) for share in shares])

    assert classes_held(0.05) < 5
    assert classes_held(1000.0) == 10
    assert [len(share) for share in split(labels, 10, 1)] == [500] * 10


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_alphas_are_refused(alpha):
    with pytest.raises(TaskError, match="a Dirichlet parameter is finite and above 0"):
        split(np.zeros(10, int), 2, 0, alpha=alpha)


values = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=60, deadline=None)
@given(
    clients=st.lists(
        st.tuples(st.lists(values, min_size=3, max_size=3), st.integers(1, 10**6)), min_size=1, max_size=6
    )
)
def test_the_mean_is_the_exact_weighted_mean(clients):
    updates = [({"w": np.array(numbers, np.float32)}, samples) for numbers, samples in clients]
    got = fedavg(updates)["w"]
    assert got.dtype == np.float32
    total = sum(samples for _, samples in clients)
    for index in range(3):
        exact = sum(Fraction(float(update["w"][index])) * samples for update, samples in updates) / total
        size = max(abs(float(update["w"][index])) for update, _ in updates)
        assert abs(float(got[index]) - float(exact)) <= 1e-6 * abs(float(exact)) + 1e-13 * size


def test_integers_shapes_dtypes_and_order_come_back():
    first = {
        "conv": np.ones((2, 3), np.float16),
        "bn.num_batches_tracked": np.array(391, np.int64),
        "wide": np.full(300_000, 2.0, np.float64),
        "mask": np.array([True, False]),
        "empty": np.empty((0, 4), np.float32),
    }
    second = {
        "conv": np.full((2, 3), 4, np.float16),
        "bn.num_batches_tracked": np.array(394, np.int64),
        "wide": np.full(300_000, 5.0, np.float64),
        "mask": np.array([True, True]),
        "empty": np.empty((0, 4), np.float32),
    }
    mean = fedavg([(first, 1), (second, 2)])
    assert list(mean) == list(first)
    assert all(
        mean[name].dtype == first[name].dtype and mean[name].shape == first[name].shape for name in first
    )
    assert mean["bn.num_batches_tracked"] == 393
    assert (mean["conv"] == 3).all()
    assert (mean["wide"] == 4).all()
    assert mean["mask"].tolist() == [True, True]


def test_one_update_is_its_own_mean():
    update = {"w": np.float32([0.1, -0.0, 1e-40, 3e38])}
    assert fedavg([(update, 123)])["w"].tolist() == update["w"].tolist()


def test_not_a_number_stays_visible():
    mean = fedavg([({"w": np.float32([1, np.nan])}, 1), ({"w": np.float32([3, 4])}, 1)])
    assert mean["w"][0] == 2
    assert np.isnan(mean["w"][1])


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"v": np.zeros(2, np.float32)}, "update 1 has other tensors than the first: v, w"),
        ({"w": np.zeros(3, np.float32)}, r"update 1, tensor w: got float32\[3\], the first had float32\[2\]"),
        ({"w": np.zeros(2, np.float64)}, "got float64"),
    ],
)
def test_updates_that_do_not_fit_are_refused_and_change_nothing(update, message):
    average = Average()
    average.add({"w": np.float32([1, 2])}, 4)
    with pytest.raises(AggregationError, match=message):
        average.add(update, 1)
    assert average.result()["w"].tolist() == [1, 2]


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_must_be_positive(weight):
    with pytest.raises(AggregationError, match="a weight is finite and above 0"):
        fedavg([({"w": np.zeros(1)}, weight)])


def test_nothing_has_no_mean():
    with pytest.raises(AggregationError, match="no update arrived"):
        fedavg([])
