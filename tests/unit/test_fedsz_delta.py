"""`fedsz.deltas`: what of a round's change survives its coding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import fedsz
from fedsz import ErrorBound, Partition, TensorDelta, UnsupportedTensorError
from fedsz.delta import absolute_bounds

REL = ErrorBound("REL", 1e-2)
FRESH = np.random.default_rng(3).normal(0, 0.02, (128, 128)).astype("f4")
WIDTH = 1e-2 * float(np.ptp(FRESH))


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers for a test, whatever ran before it."""
    return np.random.default_rng(4)


def state(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"a.weight": values, "a.bias": np.arange(3, dtype="f4")}


def through(values: np.ndarray, codec: str, bound: ErrorBound = REL) -> np.ndarray:
    found = fedsz.decompress(fedsz.compress(state(values), bound, codec=codec), max_bytes=1 << 20)
    return np.asarray(found["a.weight"])


def one(before: np.ndarray, sent: np.ndarray, decoded: np.ndarray, bound: ErrorBound = REL) -> TensorDelta:
    (found,) = fedsz.deltas(state(before), state(sent), state(decoded), bound)
    return found


def test_length_share_and_noise_are_those_of_the_change(rng):
    taught = rng.normal(0, WIDTH, FRESH.shape).astype("f4")
    taught.flat[[FRESH.argmin(), FRESH.argmax()]] = 0.0  # the range, and so the bound, stays
    sent = FRESH + taught
    width = 1e-2 * float(np.ptp(sent))
    assert one(FRESH, sent, sent) == TensorDelta(
        "a.weight", pytest.approx(math.sqrt(np.mean(taught**2)) / width, rel=1e-4), 1.0, 0.0, FRESH.size
    )
    assert one(FRESH, sent, FRESH).arrived == 0.0
    half = one(FRESH, sent, FRESH + taught / 2)
    assert half.arrived == pytest.approx(0.5, abs=1e-4)
    assert half.noise == pytest.approx(0.0, abs=1e-4)
    away = rng.normal(0, 0.3 * width, FRESH.shape)  # knows nothing of what was taught
    noisy = one(FRESH, sent, (sent + away).astype("f4"))
    assert noisy.arrived == pytest.approx(1.0, abs=0.02)
    assert noisy.noise == pytest.approx(0.3, rel=0.02)


def test_noise_alone_loses_nothing(rng):
    """A delta far below the noise arrives as well as any, but no single tensor shows that."""
    sent = (FRESH + rng.normal(0, 1e-3 * WIDTH, FRESH.shape)).astype("f4")
    seen = [
        one(FRESH, sent, (sent + rng.normal(0, 0.5 * WIDTH, FRESH.shape)).astype("f4")) for _ in range(40)
    ]
    assert sum(delta.arrived < 0.5 for delta in seen) > 5
    assert sum(delta.lost for delta in seen) <= 4
    assert one(FRESH, sent, FRESH).lost
    assert not one(FRESH, sent, sent).lost


@pytest.mark.parametrize("length", [0.3, 0.5, 0.7, 1.0, 2.0])
def test_on_the_grid_of_a_quantiser_a_gaussian_change_arrives_as_the_closed_form_says(length, rng):
    """Steps are two bounds wide, so of r bounds 4 / r (phi(1 / r) + phi(3 / r) + ...) arrives, phi normal."""
    bound = ErrorBound("ABS", 1e-3)
    before = through(FRESH, "fedsz-q", bound)
    sent = (before + rng.normal(0, length * bound.value, before.shape)).astype("f4")
    density = [math.exp(-((k / length) ** 2) / 2) / math.sqrt(2 * math.pi) for k in range(1, 40, 2)]
    found = one(before, sent, through(sent, "fedsz-q", bound), bound)
    assert found.length == pytest.approx(length, rel=0.03)
    assert found.arrived == pytest.approx(4 / length * sum(density), abs=0.03)


@pytest.mark.parametrize("codec", ["fedsz-q", "sz2", "sz3", "fedsz-q-dither", "zfp"])
def test_small_changes_of_a_decoded_state_are_rounded_away_but_under_dither(codec, rng):
    """A third of a bound: each value is nearest to the grid point that it comes from."""

    def taught(values: np.ndarray) -> np.ndarray:
        return (values + rng.uniform(-0.5, 0.5, values.shape) * WIDTH).astype("f4")

    first = taught(FRESH)  # from no grid yet
    assert one(FRESH, first, through(first, codec)).arrived == pytest.approx(1.0, abs=0.1)
    before = through(FRESH, codec)
    sent = taught(before)
    arrived = one(before, sent, through(sent, codec)).arrived
    if codec in ("fedsz-q", "sz2", "sz3"):
        assert arrived < 0.6
    else:
        assert arrived == pytest.approx(1.0, abs=0.1)


def test_only_what_goes_lossy_and_was_changed_is_there():
    before = {
        "a.weight": FRESH,
        "frozen.weight": FRESH,
        "flat.weight": np.ones(2000, "f4"),
        "small.weight": FRESH[:2],
        "a.running_var": FRESH.ravel(),
    }
    sent = {name: array + np.float32(0.001) for name, array in before.items()}
    sent["frozen.weight"] = FRESH
    found = fedsz.deltas(before, sent, sent)
    assert [delta.name for delta in found] == ["a.weight"]  # a flat tensor's bound is 0
    assert fedsz.deltas(before, sent, sent, ErrorBound("ABS", 0.0)) == ()
    found = fedsz.deltas(before, sent, sent, ErrorBound("ABS", 1e-4), Partition(threshold=10, names=("",)))
    assert [delta.name for delta in found] == ["a.weight", "flat.weight", "small.weight"]
    assert found[0].length == pytest.approx(10.0, rel=1e-3)


def test_what_is_not_finite_is_left_out():
    sent, decoded = FRESH + WIDTH, FRESH + WIDTH / 2
    sent[0, 0], decoded[0, 0] = np.nan, np.nan
    sent[0, 1], decoded[0, 1] = np.inf, np.inf
    found = one(FRESH, sent, decoded)
    assert found.length == pytest.approx(1.0, rel=1e-3)
    assert found.arrived == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_states_of_torch_count_as_they_are(dtype):
    before = torch.from_numpy(FRESH.copy()).to(dtype)
    taught = {"a.weight": before + 4 * WIDTH}
    (found,) = fedsz.deltas({"a.weight": before}, taught, taught)
    assert (found.length, found.arrived) == (pytest.approx(4.0, rel=0.01), 1.0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda other: other.pop("a.weight"), "the state 'before' has no such tensor"),
        (
            lambda other: other.update({"a.weight": FRESH.T[:4]}),
            r"\(128, 128\) was sent, .* 'before' has \(4, 128\)",
        ),
    ],
)
def test_states_of_other_models_are_refused(change, why):
    other = state(FRESH)
    change(other)
    with pytest.raises(UnsupportedTensorError, match=f"'a.weight': .*{why}"):
        fedsz.deltas(other, state(FRESH + WIDTH), state(FRESH))


def test_bounds_in_the_tensors_own_unit():
    arrays = {"a.weight": FRESH, "b.weight": 10 * FRESH, "c.bias": 100 * FRESH.ravel()}
    own = absolute_bounds(arrays, REL)
    assert own == {"a.weight": pytest.approx(WIDTH), "b.weight": pytest.approx(10 * WIDTH)}
    together = absolute_bounds(arrays, ErrorBound("REL_STATE", 1e-2))
    assert together == dict.fromkeys(own, pytest.approx(10 * WIDTH))  # the bias is not lossy
    assert absolute_bounds(arrays, ErrorBound("ABS", 0.5)) == dict.fromkeys(own, 0.5)
