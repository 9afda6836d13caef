"""Small pieces of work that stand for what a client does; NumPy and zlib only, so they run on any device.

Each is deterministic, needs less than 96 MB and takes 10-50 ms on the reference host. Whoever has the real codecs
and models passes them to `calibrate` as well (`testbed.learning.kernels`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

_VALUES = 1 << 22  # 16 MB of float32: more than a core's caches, as a model's state is


@cache
def _weights() -> np.ndarray:
    """Four million values distributed like a trained layer's: Laplace, float32."""
    return np.random.default_rng(1).laplace(0.0, 0.02, _VALUES).astype(np.float32)


@cache
def _batch() -> tuple[np.ndarray, np.ndarray]:
    """The patches of a batch (rows) and a convolution's weights, float32: (16384, 288) and (288, 64)."""
    random = np.random.default_rng(2)
    return (
        random.standard_normal((16_384, 288), dtype=np.float32),
        random.standard_normal((288, 64), dtype=np.float32),
    )


def training_step() -> float:
    """Forward, backward and update of one 3x3 convolution over a batch, as matrix products. 1.8 Gflop, all threads."""
    patches, weights = _batch()
    hidden = np.maximum(patches @ weights, 0)
    gradient = hidden * (1.0 / hidden.size)
    change = patches.T @ gradient
    back = gradient @ weights.T
    updated = weights - 0.01 * change
    return float(updated[0, 0] + back[0, 0])


def quantise_and_code() -> int:
    """The lossy half of a FedSZ-like codec: uniform quantiser at REL 1e-2, then Huffman coding. One thread."""
    values = _weights()
    step = 0.02 * float(values.max() - values.min())
    symbols = np.rint(values / step).astype(np.int8)
    restored = symbols.astype(np.float32) * np.float32(step)
    assert float(np.abs(restored - values).max()) <= 0.51 * step  # the bound check is part of the work
    coder = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    return len(coder.compress(symbols.tobytes())) + len(coder.flush())


def shuffle_and_deflate() -> int:
    """The lossless half: bytes of equal significance together, then LZ77 and Huffman. One thread."""
    planes = _weights()[: 1 << 17].view(np.uint8).reshape(-1, 4).T
    return len(zlib.compress(np.ascontiguousarray(planes).tobytes(), 6))


def copy_memory() -> float:
    """Eight copies of 16 MB: memory bandwidth. One thread."""
    source = _weights()
    target = np.empty_like(source)
    for _ in range(8):
        np.copyto(target, source)
    return float(target[0])


def repeat(function: Callable[..., object], args: tuple[Any, ...], times: int) -> None:
    """Call it so often: work of any length from a short kernel."""
    for _ in range(times):
        function(*args)
