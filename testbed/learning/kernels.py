"""Real work for `devices.calibrate`: a training step of PyTorch, SZ2 and SZ3, a lossless coder.

`devices` knows neither models nor codecs, so whoever calibrates with the real ones passes `real_kernels` in. Only
codecs of other projects are timed: their speed does not change when ours does, and the reference times stay true.
"""

from __future__ import annotations

from functools import cache

import numpy as np

import fedsz
from devices.calibrate import Kernel, builtin_kernels
from testbed.learning.models import ModelSpec, initial_state
from testbed.learning.training import TrainTask, train_client

_SPEC = ModelSpec("mobilenet_v2", classes=10, in_channels=1, image_size=32)

# Seconds on the reference host of the device catalogue, one thread: 10th percentile of the CPU time of 25 turns; torch
# 2.13, hdf5plugin 7.1, pysz 1.1, zstandard 0.25.
_REFERENCE_S = {"mobilenet_v2 step": 0.287, "sz2": 0.1257, "sz3": 0.044, "zstd": 0.0396}


@cache
def _task() -> TrainTask:
    random = np.random.default_rng(0)
    return TrainTask(
        model=_SPEC,
        state=initial_state(_SPEC, 0),
        dataset="",
        indices=np.arange(0),
        seed=0,
        batch_size=32,
        device="cpu",
        images=random.integers(0, 256, (32, 1, 32, 32), dtype=np.uint8),
        labels=random.integers(0, 10, 32),
        mean=(0.5,),
        deviation=(0.25,),
    )


def training_step() -> float:
    """One step of MobileNetV2 on 32 images of 32 x 32 on the CPU, the state's loading included; all threads."""
    return train_client(_task()).loss


def lossy(codec: str) -> int:
    """Compress MobileNetV2's 9.1 MB at REL 1e-2 and decompress it again; one thread."""
    payload = fedsz.compress(_task().state, codec=codec)
    return len(payload) + len(fedsz.decompress(payload))


def lossless(codec: str) -> int:
    """The same without loss."""
    payload = fedsz.compress(_task().state, fedsz.ErrorBound("REL", 0.0), lossless=codec)
    return len(payload) + len(fedsz.decompress(payload))


def real_kernels() -> tuple[Kernel, ...]:
    """What `devices.calibrate.calibrate` takes as *kernels*.

    fedsz-q gets faster with our work on it, so a plain quantiser with Huffman coding stands for codecs of its kind.
    """
    plain = next(kernel for kernel in builtin_kernels() if kernel.name == "quantise_and_code")
    return (
        Kernel("mobilenet_v2 step", "train", training_step, _REFERENCE_S["mobilenet_v2 step"]),
        plain,
        Kernel("sz2", "compress", lossy, _REFERENCE_S["sz2"], ("sz2",)),
        Kernel("sz3", "compress", lossy, _REFERENCE_S["sz3"], ("sz3-nopred",)),
        Kernel("zstd", "lossless", lossless, _REFERENCE_S["zstd"], ("zstd",)),
    )
