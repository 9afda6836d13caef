"""Federated averaging, one update at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from testbed.learning.errors import AggregationError


class Average:
    """A weighted mean that is fed one update at a time and keeps one float64 accumulator per tensor.

    Integer tensors (batch norm's ``num_batches_tracked``) are averaged too and rounded to the nearest integer;
    they come back as integers. Names, order, shapes and dtypes are those of the first update.
    """

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._dtypes: dict[str, np.dtype] = {}
        self.weight = 0.0
        self.updates = 0

    def add(self, update: Mapping[str, np.ndarray], samples: float) -> None:
        """Take one client's state with its weight, usually its number of samples (above 0).

        Raises: AggregationError where it does not fit the updates before it; the mean is then unchanged.
        """
        if not (np.isfinite(samples) and samples > 0):
            raise AggregationError(
                f"update {self.updates} has weight {samples!r}; a weight is finite and above 0"
            )
        arrays = {name: np.asarray(values) for name, values in update.items()}
        if self.updates == 0:
            self._sums = {name: np.zeros(values.shape, np.float64) for name, values in arrays.items()}
            self._dtypes = {name: values.dtype for name, values in arrays.items()}
        self._check(arrays)
        for name, values in arrays.items():
            total = self._sums[name]
            # Ten-million-element tensors: multiply-add in pieces, so that no temporary of their size is made.
            flat, source = total.reshape(-1), values.reshape(-1)
            for start in range(0, flat.size, 1 << 18):
                piece = slice(start, start + (1 << 18))
                flat[piece] += source[piece] * np.float64(samples)
        self.weight += samples
        self.updates += 1

    def result(self) -> dict[str, np.ndarray]:
        """The mean so far; AggregationError where there is none."""
        if self.updates == 0:
            raise AggregationError("no update arrived, so there is nothing to average")
        mean: dict[str, np.ndarray] = {}
        for name, total in self._sums.items():
            dtype = self._dtypes[name]
            values = total / self.weight
            mean[name] = (np.rint(values) if dtype.kind in "iub" else values).astype(dtype)
        return mean

    def _check(self, arrays: Mapping[str, np.ndarray]) -> None:
        if arrays.keys() != self._sums.keys():
            odd = sorted(arrays.keys() ^ self._sums.keys())
            raise AggregationError(
                f"update {self.updates} has other tensors than the first: {', '.join(odd[:5])}"
            )
        for name, values in arrays.items():
            if values.shape != self._sums[name].shape or values.dtype != self._dtypes[name]:
                raise AggregationError(
                    f"update {self.updates}, tensor {name}: got {values.dtype}{list(values.shape)}, "
                    f"the first had {self._dtypes[name]}{list(self._sums[name].shape)}"
                )
            if values.dtype.kind not in "fiub":
                raise AggregationError(f"tensor {name}: {values.dtype} values cannot be averaged")


def fedavg(updates: Iterable[tuple[Mapping[str, np.ndarray], float]]) -> dict[str, np.ndarray]:
    """The mean of client states weighted by their samples (McMahan et al., arXiv:1602.05629), read one by one."""
    average = Average()
    for update, samples in updates:
        average.add(update, samples)
    return average.result()
