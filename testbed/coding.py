"""Compression and decompression as measured work: functions that a worker process runs under a client's limits."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, TypeVar

import numpy as np

import fedsz
from fedsz.delta import absolute_bounds
from fedsz.warmup import warm_up

State = Mapping[str, np.ndarray]
DEFAULT_LOSSLESS = "blosc-lz"  # the paper's choice
Result = TypeVar("Result")


@dataclass(frozen=True)
class CodecSettings:
    """How an update becomes bytes; everything that `fedsz.compress` needs besides the state and the reference."""

    codec: str
    bound: fedsz.ErrorBound
    lossless: str | None
    partition: fedsz.Partition

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for settings that give equal bytes; an uncompressed state knows no bound."""
        if self.codec == "none":
            return ("none",)
        return (self.codec, self.bound.mode, self.bound.value, self.lossless, self.partition)


@dataclass(frozen=True)
class Coded:
    """A payload and the seconds (wall) of each of the repeats that made it."""

    payload: bytes
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Decoded:
    """A decoded state and the seconds (wall) of each of the repeats that made it."""

    state: dict[str, np.ndarray]
    seconds: tuple[float, ...]


# A worker that codes for the first time loads libraries and compiles; a device that takes part in round after round
# does not. So the first call of each codec in a worker, with a reference and without, is not counted.
_warm: set[tuple[object, ...]] = set()


def _timed(
    work: Callable[[], Result], repeats: int, kind: str, codec: str, referenced: bool
) -> tuple[Result, tuple[float, ...]]:
    if codec != "none" and ("kernels", referenced) not in _warm:
        # One call would compile what one bound needs; the next bound of a sweep needs other kernels.
        warm_up(reference=referenced)
        _warm.add(("kernels", referenced))
    warm_key = (kind, codec, referenced)
    if warm_key not in _warm:
        work()
        _warm.add(warm_key)
        gc.collect()
        gc.freeze()  # what libraries made will stay; a collection before each measurement need not walk it again
    seconds = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            began = time.perf_counter()
            result = work()
            seconds.append(time.perf_counter() - began)
    finally:
        gc.enable()
    return result, tuple(seconds)


def encode_update(state: State, settings: CodecSettings, reference: State | None, repeats: int) -> Coded:
    """Compress *state* *repeats* (>= 1) times; the payload is the same each time."""

    def work() -> bytes:
        return fedsz.compress(
            state,
            settings.bound,
            codec=settings.codec,
            lossless=settings.lossless or DEFAULT_LOSSLESS,
            partition=settings.partition,
            reference=reference,
        )

    payload, seconds = _timed(work, repeats, "encode", settings.codec, reference is not None)
    return Coded(payload, seconds)


def decode_update(
    payload: bytes, reference: State | None, repeats: int, codec: str, max_bytes: int
) -> Decoded:
    """Check and decompress *payload* *repeats* (>= 1) times.

    Raises: fedsz.PayloadError for a payload that is damaged, lies, or decodes to more than *max_bytes*.
    """
    state, seconds = _timed(
        lambda: fedsz.decompress(payload, reference=reference, max_bytes=max_bytes),
        repeats,
        "decode",
        codec,
        reference is not None,
    )
    return Decoded(state, seconds)


def digest_of(state: Mapping[str, Any]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes: equal digests mean equal states."""
    digest = hashlib.sha256()
    for name, value in state.items():
        array = np.ascontiguousarray(value)
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.view(np.uint8).data if array.ndim else array.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Fidelity:
    """How true what was decoded is to what was sent, and what is left of a round's training.

    Attributes:
        max_error: largest absolute difference over all tensors, in the tensors' unit.
        max_error_over_bound: largest difference as a multiple of what was allowed, 0.0 where nothing moved; at most 1.0
            is the promise.
        delta_over_bound, delta_arrived: medians over the lossy tensors of `fedsz.TensorDelta`'s length and arrived;
            None where nothing went lossy, or nothing was learnt.
        delta_lost: share of the lossy tensors whose delta is lost (`fedsz.TensorDelta`).
    """

    max_error: float
    max_error_over_bound: float
    delta_over_bound: float | None = None
    delta_arrived: float | None = None
    delta_lost: float | None = None


def compare(
    original: State,
    decoded: State,
    bound: fedsz.ErrorBound,
    partition: fedsz.Partition = fedsz.Partition(),  # noqa: B008  (frozen)
    *,
    before: State | None = None,
) -> Fidelity:
    """Hold *decoded* against *original*, tensor by tensor; what does not go lossy must be equal.

    Args:
        before: the state that training started from, for the deltas.
    """
    allowed = absolute_bounds(original, bound, partition)
    worst, worst_share = 0.0, 0.0
    for name, array in original.items():
        if array.dtype.kind != "f" or not array.size:
            continue
        error = float(np.max(np.abs(array.astype(np.float64) - np.asarray(decoded[name], dtype=np.float64))))
        if error > 0:
            limit = allowed.get(name, 0.0)
            worst = max(worst, error)
            worst_share = max(worst_share, error / limit if limit > 0 else float("inf"))
    found = () if before is None else fedsz.deltas(before, original, decoded, bound, partition)
    if not found:
        return Fidelity(worst, worst_share)
    return Fidelity(
        worst,
        worst_share,
        median(one.length for one in found),
        median(one.arrived for one in found),
        fmean(one.lost for one in found),
    )
