"""The part of a step by which a dithered grid is moved under each value: what encoder and decoder both can compute."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fedsz.compiled import compiled

# In kernels every constant is uint64: Numba turns an expression of uint64 and int64 into float64.
_1, _27, _30, _31, _40 = (np.uint64(number) for number in (1, 27, 30, 31, 40))
_GOLDEN, _MIX_A, _MIX_B = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Dither(NamedTuple):
    """The dither of some values: *seed* of their block, or None for none, and the number of the first of them in it."""

    seed: np.uint64 | None
    first: np.uint64

    def after(self, values: int) -> Dither:
        """That of the values so many further on."""
        return self._replace(first=self.first + np.uint64(values))


NO_DITHER = Dither(None, np.uint64(0))


@compiled
def dither(seed: Any, index: Any) -> Any:
    """Of value *index* (uint64): SplitMix64's output number *index* (Steele, Lea and Flood, OOPSLA 2014), or 0.

    One of the 2^24 middles of equal parts of (-1/2, 1/2). A seed of None is known when kernels are compiled, and what
    hangs on it is not in them.
    """
    if seed is None:
        return 0.0
    z = seed + (index + _1) * _GOLDEN
    z = (z ^ (z >> _30)) * _MIX_A
    z = (z ^ (z >> _27)) * _MIX_B
    z = z ^ (z >> _31)
    return (np.float64(z >> _40) + 0.5) * 2.0**-24 - 0.5
