"""Which tensors are coded within a bound and which exactly."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from fedsz.arrays import LOSSY_DTYPES, Array, flat_native
from fedsz.lossless import zstd_compress

# Enough to tell noise from structure, small against the tensor's own coding.
_SAMPLE = 16_384


@dataclass(frozen=True, slots=True)
class Partition:
    """The rule that routes a tensor.

    The default is FedSZ's own (arXiv:2312.13461): lossy where the name contains ``weight`` and there are more than
    1024 elements. Only floating-point tensors ever go lossy, and only where the bound is above 0.

    Attributes:
        threshold: a lossy tensor has strictly more elements than this.
        names: a lossy tensor's name contains one of these, or matches it where it holds ``*``, ``?`` or ``[``.
        by_data: any other tensor above the threshold goes lossy as well where lossless coding gains little on it (a
            ViT's ``pos_embed`` has no ``weight`` in its name).
        poor_ratio: "little" is a lossless ratio below this, measured on up to 16384 values.
        exclude: names (as in `names`) that are never lossy. The default keeps batch norm's running statistics
            exact, where `by_data` would otherwise take them: a bound relative to the range can turn a small
            variance into nothing.
    """

    threshold: int = 1024
    names: tuple[str, ...] = ("weight",)
    by_data: bool = False
    poor_ratio: float = 1.5
    exclude: tuple[str, ...] = ("running_mean", "running_var")

    def __post_init__(self) -> None:
        # A bare string would otherwise be taken for its letters.
        for field in ("names", "exclude"):
            value = getattr(self, field)
            object.__setattr__(self, field, (value,) if isinstance(value, str) else tuple(value))

    def is_lossy(self, name: str, array: Array) -> bool:
        """Whether *array* goes lossy under *name*."""
        if array.size <= max(self.threshold, 0) or array.dtype.newbyteorder("=") not in LOSSY_DTYPES:
            return False
        if _matches(name, self.exclude):
            return False
        return _matches(name, self.names) or (self.by_data and self._looks_like_noise(array))

    def _looks_like_noise(self, array: Array) -> bool:
        # Whole rows from the middle: the first values of an embedding may be padding.
        flat = flat_native(array) if array.flags.c_contiguous else array.reshape(-1)
        start = max(0, (flat.size - _SAMPLE) // 2)
        sample = flat_native(flat[start : start + _SAMPLE])
        planes = np.ascontiguousarray(sample.view(np.uint8).reshape(-1, sample.itemsize).T)
        return planes.nbytes < self.poor_ratio * len(zstd_compress(planes.reshape(-1).data, 1))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, p) if any(c in p for c in "*?[") else p in name for p in patterns)
