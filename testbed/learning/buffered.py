"""Buffered asynchronous aggregation: updates that began from different versions of the model, in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from testbed.learning.errors import AggregationError

Arrays = Mapping[str, np.ndarray]
# Running statistics of batch norm are no directions to move along: the difference of two variances, added to a third,
# may come out negative.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def fedbuff(
    model: Arrays, updates: Sequence[tuple[Arrays, Arrays, float]], server_lr: float = 1.0
) -> dict[str, np.ndarray]:
    """The next model: ``w + server_lr / K * sum of s (u - b)`` over a buffer of K updates.

    Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation (AISTATS 2022), algorithm 1, with s the
    weight that an update's staleness leaves it. Statistics of batch norm are mixed instead,
    ``w + sum of s (u - w) / K``, so that they stay between what they were and what clients found.

    Args:
        model: the global model w, by name.
        updates: (b, u, s) of each update: the model that the client began from, the one that it sent, and its weight
            from 0 to 1; at least one. Equal names, shapes and dtypes everywhere.
        server_lr: above 0; 1 moves by the mean.
    Raises:
        AggregationError: nothing to aggregate, tensors that do not fit, or a weight outside of its range.
    """
    if not updates:
        raise AggregationError("no update arrived, so there is nothing to aggregate")
    for number, (base, update, weight) in enumerate(updates):
        if not 0.0 <= weight <= 1.0:
            raise AggregationError(f"update {number} has weight {weight!r}; a weight is from 0 to 1")
        if base.keys() != model.keys() or update.keys() != model.keys():
            raise AggregationError(f"update {number} has other tensors than the model")
    found: dict[str, np.ndarray] = {}
    for name, value in model.items():
        now = np.asarray(value)
        if now.dtype.kind not in "fiub":
            raise AggregationError(f"tensor {name}: {now.dtype} values cannot be aggregated")
        mixed = name.rsplit(".", 1)[-1] in STATISTICS
        moved = np.zeros(now.shape, np.float64)
        for number, (base, update, weight) in enumerate(updates):
            after, before = np.asarray(update[name]), np.asarray(now if mixed else base[name])
            if after.shape != now.shape or before.shape != now.shape:
                raise AggregationError(f"update {number}, tensor {name}: its shape is not the model's")
            moved += weight * (after.astype(np.float64) - before)
        step = (1.0 if mixed else server_lr) / len(updates)
        values = now + step * moved
        found[name] = (np.rint(values) if now.dtype.kind in "iub" else values).astype(now.dtype)
    return found
