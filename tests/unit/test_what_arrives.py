"""`scripts.what_arrives`: what of a round's change survives its coding."""

from __future__ import annotations

import numpy as np
import pytest

import fedsz
from fedsz import ErrorBound
from scripts.what_arrives import State, arrival

BOUND = 1e-2
RNG = np.random.default_rng(3)
FRESH: State = {"a.weight": RNG.normal(0, 0.02, (128, 128)).astype("f4")}


def through(state: State, codec: str) -> State:
    payload = fedsz.compress(state, ErrorBound("REL", BOUND), codec=codec)
    return fedsz.decompress(payload, max_bytes=1 << 20)


def taught(state: State, bounds: float) -> State:
    """*state* after training that moves every value by so many bounds at most."""
    width = BOUND * float(np.ptp(state["a.weight"]))
    step = RNG.uniform(-bounds, bounds, (128, 128)) * width
    return {"a.weight": (state["a.weight"] + step).astype("f4")}


def test_shares_and_noise_are_those_of_the_update() -> None:
    sent = taught(FRESH, 1.0)
    whole, none = arrival(FRESH, sent, sent, BOUND), arrival(FRESH, sent, FRESH, BOUND)
    assert whole.taught == pytest.approx((3**-0.5,), rel=0.02)
    assert (whole.share, whole.noise) == (pytest.approx((1.0,)), pytest.approx((0.0,), abs=1e-6))
    assert (none.share, none.noise) == ((0.0,), (0.0,))


def test_small_steps_from_a_decoded_state_are_rounded_away_but_under_dither() -> None:
    """Half a bound at most: each value is nearest to the grid point that it comes from."""
    arrived = {}
    for codec in ("fedsz-q", "fedsz-q-dither"):
        before = through(FRESH, codec)
        sent = taught(before, 0.5)
        arrived[codec] = arrival(before, sent, through(sent, codec), BOUND)
        first = arrival(FRESH, sent := taught(FRESH, 0.5), through(sent, codec), BOUND)
        assert first.share == pytest.approx((1.0,), abs=0.1)  # no grid to come from yet
    assert arrived["fedsz-q"].share == pytest.approx((0.0,), abs=0.05)
    assert arrived["fedsz-q-dither"].share == pytest.approx((1.0,), abs=0.1)
