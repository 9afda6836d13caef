"""Compile before the clock runs."""

from __future__ import annotations

import numpy as np

from fedsz.bound import ErrorBound
from fedsz.compression import compress
from fedsz.decompression import decompress

# Enough that coarse symbols are packed.
_COUNT = 20_000


def warm_up(*, float64: bool = False, reference: bool = True) -> None:
    """Compile, or load from the cache on disk, every kernel of the package's own codecs and of the bound's check.

    The first call of a kernel in a process compiles it (half a minute for all of them on a machine that has never done
    so, about a second where the cache on disk has them). Whoever measures time calls this first.

    Args:
        float64: for float64 tensors too.
        reference: for coding against a reference too.
    """
    random = np.random.default_rng(0)
    for dtype in ("float32", "float64")[: 1 + float64]:
        weights = random.normal(0, 0.05, _COUNT).astype(dtype)
        frozen = weights.copy()
        frozen.flags.writeable = False  # kernels are compiled for read-only tensors separately
        states = [{"weight": weights}, {"weight": frozen}, {"1.weight": weights, "2.weight": frozen}]
        updated = {"weight": weights + random.normal(0, 1e-4, _COUNT).astype(dtype)}
        unrelated = {"weight": weights[::-1].copy()}
        for value in (0.3, 1e-2, 1e-3, 1e-5, 1e-6):  # packed, plain, low bits, low bits, wide symbols
            bound = ErrorBound("REL", value)
            for state in states:
                decompress(compress(state, bound, codec="fedsz-q"))
            for base in (updated, unrelated) if reference else ():
                for codec in ("fedsz-q", "fedsz-q-dither"):
                    payload = compress(states[0], bound, codec=codec, reference=base)
                    decompress(payload, reference=base)
        for codec in ("szx", "fedsz-q-dither", "sz3-nopred"):  # the last is checked by the container
            for state in states:
                decompress(compress(state, codec=codec))
