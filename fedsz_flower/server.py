"""The server's side: a grid that hands on replies with their arrays as they were."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Literal
from weakref import WeakValueDictionary

from flwr.app import ArrayRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedsz import FedSZError, Isolation, MalformedPayloadError, Reference, decompress
from fedsz_flower.records import (
    COMPRESS_S,
    DECOMPRESS_S,
    UPDATE_BYTES,
    WIRE_BYTES,
    State,
    check_same_tensors,
    counterpart,
    is_train,
    metrics_of,
    payload_of,
    record_of,
    state_of,
)


class DecompressGrid(Grid):
    """A Flower grid that decompresses what `CompressMod` compressed, before any strategy sees it.

    It stands between a strategy and the grid that Flower hands to the app, so that it fits every strategy, workflow and
    loop of one's own: ``strategy.start(grid=DecompressGrid(grid), ...)``. Replies without a payload pass as well, so
    clients may compress or not.

    A reply whose payload is damaged or hostile, or whose tensors are not those of the model that its client was sent,
    becomes an error reply, as if that client had failed: strategies report it and go on with the others.

    Every train reply that passes has four metrics more (`UPDATE_BYTES`, `WIRE_BYTES`, `COMPRESS_S`, `DECOMPRESS_S`),
    which Flower's strategies average like any other. Bytes are counted here, `COMPRESS_S` is the client's own word.

    Args:
        grid: the one to send with.
        isolate: as for `fedsz.decompress`; by default each payload is decoded in a worker process with limits.
        max_bytes: largest decoded size of one record. None: as large as the model sent.
        same_tensors: refuse updates with other names, order, kinds of dtype or shapes than the model sent. Turn it off
            where clients return something else, and set *max_bytes*.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        isolate: bool | Literal["auto"] | Isolation = True,
        max_bytes: int | None = None,
        same_tensors: bool = True,
    ) -> None:
        self._grid = grid
        self._isolate, self._max_bytes, self._same_tensors = isolate, max_bytes, same_tensors
        self._open: dict[str, tuple[float, dict[str, _Model]]] = {}
        # One model is sent to many clients; what is computed of it is shared for as long as anybody waits for a reply.
        self._models: WeakValueDictionary[int, _Model] = WeakValueDictionary()

    def set_run(self, run: Run) -> None:
        """See `Grid.set_run`."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """See `Grid.run`."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See `Grid.create_message`."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """See `Grid.get_node_ids`."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """See `Grid.get_nodes`."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See `Grid.push_messages`; the models sent are held until the reply is pulled or the message expires."""
        messages = list(messages)
        ids = self._grid.push_messages(messages)
        now = time.time()
        self._open = {at: sent for at, sent in self._open.items() if sent[0] > now}
        for message in messages:
            expires = message.metadata.created_at + message.metadata.ttl
            self._open[message.metadata.message_id] = (expires, self._models_of(message))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See `Grid.pull_messages`."""
        replies = []
        for reply in self._grid.pull_messages(message_ids):
            _, models = self._open.pop(reply.metadata.reply_to_message_id, (0.0, {}))
            replies.append(self._decompressed(reply, models))
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See `Grid.send_and_receive`."""
        messages = list(messages)
        replies = self._grid.send_and_receive(messages, timeout=timeout)
        # Messages get their ids when they are sent.
        sent = {message.metadata.message_id: self._models_of(message) for message in messages}
        return [
            self._decompressed(reply, sent.get(reply.metadata.reply_to_message_id, {})) for reply in replies
        ]

    def _models_of(self, message: Message) -> dict[str, _Model]:
        return {name: self._model(record) for name, record in message.content.array_records.items()}

    def _model(self, record: ArrayRecord) -> _Model:
        model = self._models.get(id(record))
        if model is None:
            model = self._models[id(record)] = _Model(record)
        return model

    def _decompressed(self, reply: Message, models: Mapping[str, _Model]) -> Message:
        if reply.has_error() or not is_train(reply.metadata.message_type):
            return reply
        try:
            self._replace(reply.content, models)
        except FedSZError as error:
            reason = f"update refused: {error}"
            # Whose reply it was is all that is kept of it.
            return Message(error=Error(ErrorCode.UNKNOWN, reason), metadata=reply.metadata)  # type: ignore[call-overload, no-any-return]
        return reply

    def _replace(self, content: RecordDict, models: Mapping[str, _Model]) -> None:
        update_bytes = wire_bytes = 0
        spent = 0.0
        records = dict(content.array_records)
        for name, record in records.items():
            payload = payload_of(record)
            model = counterpart(name, records, models)
            if payload is None:
                state = state_of(record)
                wire_bytes += sum(array.nbytes for array in state.values())
            else:
                started = time.perf_counter()
                state = self._decode(payload, model)
                spent += time.perf_counter() - started
                wire_bytes += len(payload)
                content[name] = record_of(state)
            if self._same_tensors and model is not None:
                check_same_tensors(state, model.state)
            update_bytes += sum(array.nbytes for array in state.values())
        metrics = metrics_of(content)
        claimed = metrics.get(COMPRESS_S, 0.0)
        if not isinstance(claimed, (int, float)) or not (math.isfinite(claimed) and claimed >= 0):
            raise MalformedPayloadError(f"metric {COMPRESS_S!r} is seconds, got {claimed!r}")
        metrics[COMPRESS_S] = float(claimed)
        metrics[UPDATE_BYTES], metrics[WIRE_BYTES] = update_bytes, wire_bytes
        metrics[DECOMPRESS_S] = spent

    def _decode(self, payload: bytes, model: _Model | None) -> State:
        limit = self._max_bytes
        if limit is None:
            if model is None:
                raise MalformedPayloadError("no model was sent that this is an update of; set max_bytes")
            limit = model.nbytes
        reference = None if model is None else model.reference
        return decompress(payload, reference=reference, max_bytes=limit, isolate=self._isolate)


class _Model:
    """A model that was sent, and what decoding its updates needs of it; nothing is computed before it is needed."""

    def __init__(self, record: ArrayRecord) -> None:
        self._record = record  # held, so that no other record can have its id

    @cached_property
    def state(self) -> State:
        return state_of(self._record)

    @cached_property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.state.values())

    @cached_property
    def reference(self) -> Reference:
        return Reference(self.state)
