"""Flower's records and states: where in a message a payload lies, which model it belongs to, where its metrics go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedsz import FedSZError, MalformedPayloadError

State = dict[str, NDArray[Any]]
_T = TypeVar("_T")

#: Serialisation type of the one `Array` that carries a payload; whoever does not know it refuses it by that name.
STYPE = "fedsz"
_NAME = "fedsz"

#: Names of the metrics that a compressed message carries: bytes of the update's tensors, bytes of its payload, and wall
#: seconds of compressing on the client and of decompressing on the server.
UPDATE_BYTES = "fedsz.update_bytes"
WIRE_BYTES = "fedsz.wire_bytes"
COMPRESS_S = "fedsz.compress_s"
DECOMPRESS_S = "fedsz.decompress_s"

# Where Flower's older interface (Client, NumPyClient) keeps what `fit` returned as metrics.
_LEGACY_METRICS = "fitres.metrics"


class DifferentTensorsError(FedSZError):
    """An update whose tensors are not those of the model that the client was sent."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"the update is not one of the model sent: {self.what}"


def is_train(message_type: str) -> bool:
    """Whether messages of this type ask for, or are, updates; types are ``category`` or ``category.action``."""
    return message_type.split(".")[0] == MessageType.TRAIN


def state_of(arrays: Mapping[str, Array]) -> State:
    """The arrays of a record.

    Raises:
        MalformedPayloadError: one of them is none that NumPy saved.
    """
    state: State = {}
    for name, array in arrays.items():
        try:
            value = array.numpy()
        except Exception as error:  # NumPy's reader raises whatever its parsers do
            raise MalformedPayloadError(f"array {name!r} cannot be read: {error}") from error
        if not isinstance(value, np.ndarray):  # an archive of several, for example
            raise MalformedPayloadError(f"array {name!r} holds {type(value).__name__}")
        state[name] = value
    return state


def record_of(state: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Inverse of `state_of`."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in state.items()})


def packed(payload: bytes) -> ArrayRecord:
    """A record that carries a payload."""
    return ArrayRecord({_NAME: Array(dtype="uint8", shape=(len(payload),), stype=STYPE, data=payload)})


def payload_of(record: ArrayRecord) -> bytes | None:
    """The payload that a record carries, None where it carries arrays as they are.

    Raises:
        MalformedPayloadError: a payload and something else beside it.
    """
    if not any(array.stype == STYPE for array in record.values()):
        return None
    if len(record) != 1:
        raise MalformedPayloadError(f"a payload among {len(record)} arrays; it travels alone")
    return next(iter(record.values())).data


def counterpart(name: str, replied: Mapping[str, object], sent: Mapping[str, _T]) -> _T | None:
    """Which of the models *sent* the record *name* of a reply is an update of.

    Both sides must come to the same answer. Where there is one on either side they belong together, whatever they are
    called (the older interface sends ``fitins.parameters`` and gets ``fitres.parameters``); otherwise names decide.
    """
    if len(replied) == len(sent) == 1:
        return next(iter(sent.values()))
    return sent.get(name)


def check_same_tensors(state: Mapping[str, NDArray[Any]], model: Mapping[str, NDArray[Any]]) -> None:
    """DifferentTensorsError unless *state* can be averaged into *model*: names, their order and shapes are the same.

    dtypes may differ within a kind: Flower's strategies turn the integers of batch norm's counters to floats.
    """
    if list(state) != list(model):
        odd = sorted(set(state) ^ set(model))
        what = f"names differ ({', '.join(map(repr, odd[:3]))})" if odd else "names come in another order"
        raise DifferentTensorsError(what)
    for name, array in state.items():
        want = model[name]
        if array.shape != want.shape or not np.can_cast(array.dtype, want.dtype, "same_kind"):
            raise DifferentTensorsError(
                f"{name!r} has {array.dtype}{list(array.shape)}, sent was {want.dtype}{list(want.shape)}"
            )


def metrics_of(content: RecordDict) -> MetricRecord | ConfigRecord:
    """The record of a reply to which our metrics are added.

    The app's own where it has one, as Flower's strategies take replies with exactly one; a new one otherwise.
    """
    legacy = content.config_records.get(_LEGACY_METRICS)
    if legacy is not None:
        return legacy
    present = content.metric_records
    if _NAME not in present:
        if len(present) == 1:
            return next(iter(present.values()))
        content[_NAME] = MetricRecord()
    return content.metric_records[_NAME]
