"""The client's side: a mod that compresses what training returns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

from flwr.app import Array, Context, Error, Message
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode

from fedsz import ErrorBound, FedSZError, Partition, compress
from fedsz.registry import lossless_codec, lossy_codec
from fedsz.warmup import warm_up
from fedsz_flower.records import COMPRESS_S, counterpart, is_train, metrics_of, packed, payload_of, state_of


@dataclass(frozen=True)
class CompressMod:
    """A Flower client mod: the arrays of every train reply leave as one payload of `fedsz.compress`.

    Put it first in ``mods``: the first mod is the last to see the reply, so that others (clipping, noise) still see
    arrays. Secure aggregation hides updates from the server and cannot be combined with it. The server's side is
    `DecompressGrid`.

    The wall seconds of compressing are added to the reply's metrics as `COMPRESS_S`; kernels are compiled before.

    Attributes:
        codec: lossy codec id (`fedsz.codecs`), or ``none``; the default lets small steps through, round after round.
        bound: how far a value may move.
        lossless: codec id for everything that does not go lossy.
        partition: which tensors go lossy.
        reference: code against the model that this message brought, which the server still holds. Decoded values are
            the same without; the payload is larger.
        threads: blocks coded at once, >= 1.

    Raises:
        UnknownCodecError, CodecUnavailableError: when built, not in the middle of a run.
    """

    codec: str = "fedsz-q-dither"
    bound: ErrorBound = ErrorBound("REL", 1e-2)  # noqa: RUF009  (frozen)
    lossless: str = "zstd-planes"
    partition: Partition = Partition()  # noqa: RUF009  (frozen)
    reference: bool = True
    threads: int = 1

    def __post_init__(self) -> None:
        if self.codec != "none":
            lossy_codec(self.codec)
            lossless_codec(self.lossless)

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Let the app train, then compress its reply; a reply that cannot be compressed becomes an error reply."""
        if not is_train(message.metadata.message_type):
            return call_next(message, context)
        # Held before the app runs: it may empty the records that it is given.
        models = {name: dict(record) for name, record in message.content.array_records.items()}
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        try:
            self._compress(reply, models if self.reference else {})
        except FedSZError as error:
            failed = Error(ErrorCode.MOD_FAILED_PRECONDITION, f"fedsz_flower: {error}")
            return Message(failed, reply_to=message)
        return reply

    def _compress(self, reply: Message, models: dict[str, dict[str, Array]]) -> None:
        _warm(self.reference)
        spent = 0.0
        records = dict(reply.content.array_records)
        for name, record in records.items():
            if payload_of(record) is not None:  # the mod is there twice, or the app compresses by itself
                continue
            state = state_of(record)
            model = counterpart(name, records, models)
            held = None if model is None else state_of(model)
            started = time.perf_counter()
            payload = compress(
                state,
                self.bound,
                codec=self.codec,
                lossless=self.lossless,
                partition=self.partition,
                reference=held,
                threads=self.threads,
            )
            spent += time.perf_counter() - started
            reply.content[name] = packed(payload)
        metrics_of(reply.content)[COMPRESS_S] = spent


@cache
def _warm(reference: bool) -> None:
    """Once in a process: seconds of compiling are none of compressing."""
    warm_up(reference=reference)
