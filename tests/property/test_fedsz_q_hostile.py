"""Bytes from a stranger, straight into the package's own decoders: refused, or finite values; never anything else.

The container's checksum would stop nearly all of these; a sender can compute it anew.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fedsz.dither import FedSZQDither
from fedsz.errors import PayloadError
from fedsz.quantise import FedSZQ
from fedsz.registry import LossyCodec
from fedsz.szx import Szx

MUTATIONS = 400
Seed = tuple[LossyCodec, bytes, int, np.dtype, np.ndarray | None]


def seeds() -> list[Seed]:
    rng = np.random.default_rng(5)
    found: list[Seed] = []
    for dtype, count in (("f4", 130), ("f4", 1100), ("f8", 3000)):
        values = (0.05 * rng.standard_normal(count)).astype(dtype)
        near = (values + 1e-3 * rng.standard_normal(count)).astype(dtype)
        for relative in (0.5, 0.2, 1e-2, 1e-3, 1e-5):
            bound = relative * (float(values.max()) - float(values.min()))
            for codec, reference in (
                (FedSZQ(), None),
                (FedSZQ(), near),
                (FedSZQ(), values[::-1].copy()),
                (Szx(), None),
                (FedSZQDither(), None),
                (FedSZQDither(), near),
                (FedSZQDither(), values[::-1].copy()),
            ):
                blob = codec.encode(values, bound, reference=reference)
                found.append((codec, blob, count, values.dtype, reference))
    return found


def flip(blob: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 4)):
        blob[rng.integers(len(blob))] ^= 1 << int(rng.integers(8))


def set_early(blob: bytearray, rng: np.random.Generator) -> None:
    blob[rng.integers(min(len(blob), 40))] = int(rng.integers(256))


def cut(blob: bytearray, rng: np.random.Generator) -> None:
    del blob[rng.integers(len(blob)) :]


def insert(blob: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(blob)))
    blob[at:at] = rng.bytes(int(rng.integers(1, 9)))


def overwrite(blob: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(blob)))
    blob[at : at + 20] = rng.bytes(20)


def saturate(blob: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(min(len(blob), 30)))
    blob[at : at + 1] = b"\xff" * int(rng.integers(1, 5))


@pytest.mark.parametrize("mutate", [flip, set_early, cut, insert, overwrite, saturate])
def test_mutated_blobs_are_refused_or_give_finite_values(
    mutate: Callable[[bytearray, np.random.Generator], None],
) -> None:
    rng = np.random.default_rng(6)
    choices = seeds()
    for _ in range(MUTATIONS):
        codec, blob, count, dtype, reference = choices[rng.integers(len(choices))]
        mutated = bytearray(blob)
        mutate(mutated, rng)
        try:
            values = codec.decode(memoryview(bytes(mutated)), count, dtype, reference=reference)
        except PayloadError:
            continue
        assert values.shape == (count,)
        assert values.dtype == dtype
        assert np.isfinite(values).all()
