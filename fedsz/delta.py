"""What coding leaves of a delta: the change that one round of training makes to a model.

The bound says how far a value may move, whatever a round has changed. A client that starts from a decoded state starts
on the quantiser's grid, and where training moves a value by less than the bound, the nearest grid point is the one that
it came from: the payload is right and the learning gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsz.arrays import Array, as_array, codec_values
from fedsz.bound import ErrorBound
from fedsz.compiled import compiled
from fedsz.errors import UnsupportedTensorError
from fedsz.partition import Partition
from fedsz.verify import range_over


@dataclass(frozen=True, slots=True)
class TensorDelta:
    """One lossy tensor. Lengths are root mean squares over its values, in bounds: multiples of what coding may move it.

    Attributes:
        name: of the tensor.
        length: of the delta d = sent - before. Below about 1, and from the second round on, a deterministic quantiser
            may round it away.
        arrived: share of d that arrives, <d', d> / <d, d> with d' = decoded - before: 1 where the error knows nothing
            of d, 0 where d was rounded away.
        noise: length of d' - arrived * d.
        values: how many of the tensor's are finite.
    """

    name: str
    length: float
    arrived: float
    noise: float
    values: int

    @property
    def lost(self) -> bool:
        """Whether less than half of the delta arrives, by more than the two standard errors that noise alone has."""
        return self.arrived + 2.0 * self.noise / (self.length * math.sqrt(self.values)) < 0.5


def deltas(
    before: Mapping[str, Any],
    sent: Mapping[str, Any],
    decoded: Mapping[str, Any],
    bound: ErrorBound = ErrorBound("REL", 1e-2),  # noqa: B008  (frozen)
    partition: Partition = Partition(),  # noqa: B008  (frozen)
) -> tuple[TensorDelta, ...]:
    """How much of what a round taught a model is still there after coding, for each tensor that goes lossy.

    Args:
        before: the state that training started from.
        sent: the state after training, as it was compressed with *bound* and *partition*.
        decoded: what `decompress` made of it.

    Returns:
        A value a tensor, in the order of *sent*. Values that are not finite are left out; so are tensors that training
        did not change, and those with a bound of 0.

    Raises:
        UnsupportedTensorError: *before* or *decoded* lacks a tensor, or has it in another shape.
    """
    arrays = {name: as_array(name, value) for name, value in sent.items()}
    found = []
    for name, width in absolute_bounds(arrays, bound, partition).items():
        taught, met, arrived, count = _moments(
            codec_values(_twin("before", before, name, arrays[name])),
            codec_values(arrays[name]),
            codec_values(_twin("decoded", decoded, name, arrays[name])),
        )
        if width > 0.0 and taught > 0.0:
            share = met / taught
            rest = max(arrived - share * met, 0.0)
            length, noise = (math.sqrt(square / count) / width for square in (taught, rest))
            found.append(TensorDelta(name, length, share, noise, count))
    return tuple(found)


def absolute_bounds(
    state: Mapping[str, Array],
    bound: ErrorBound,
    partition: Partition = Partition(),  # noqa: B008  (frozen)
) -> dict[str, float]:
    """How far coding may move a value, in its own unit, for each tensor of *state* that goes lossy.

    0 where a tensor has no two different finite values under a relative bound.
    """
    if bound.value <= 0.0:
        return {}
    lossy = {name: array for name, array in state.items() if partition.is_lossy(name, array)}
    together = range_over(lossy.values()) if bound.mode == "REL_STATE" else None
    return {
        name: bound.absolute(range_over([array]) if together is None else together)
        for name, array in lossy.items()
    }


def _twin(which: str, state: Mapping[str, Any], name: str, like: Array) -> Array:
    if name not in state:
        raise UnsupportedTensorError(name, f"the state {which!r} has no such tensor")
    array = as_array(name, state[name])
    if array.shape != like.shape:
        raise UnsupportedTensorError(name, f"{like.shape} was sent, the state {which!r} has {array.shape}")
    return array


@compiled
def _moments(before: Any, sent: Any, decoded: Any) -> tuple[float, float, float, int]:
    """<d, d>, <d, d'>, <d', d'> and how many values are finite in all three."""
    taught = met = arrived = 0.0
    count = 0
    for i in range(sent.size):
        change = np.float64(sent[i]) - np.float64(before[i])
        came = np.float64(decoded[i]) - np.float64(before[i])
        if np.isfinite(change) and np.isfinite(came):
            taught += change * change
            met += change * came
            arrived += came * came
            count += 1
    return taught, met, arrived, count
