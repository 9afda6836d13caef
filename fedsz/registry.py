"""Codecs by id. An id, and its number on the wire, name one byte format for ever.

A lossy codec sees one flat tensor of finite numbers and an absolute bound; names, shapes, dtypes, non-finite
values, the proof of the bound and its repair belong to the container and are the same for every codec. New bytes
get a new id and a new number, and the old reader stays.

Numbers taken: 0 raw, 1 constant (both the container's own); 2-15 lossless; 16 sz2, 17 sz3, 18 sz3-interp,
19 sz3-nopred, 20 zfp, 21 szx, 22 fedsz-q, 23 fedsz-q-dither. The next free lossy number is 24.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedsz.errors import CodecUnavailableError, UnknownCodecError

Floats = NDArray[np.float32] | NDArray[np.float64]
Kind = Literal["lossy", "lossless", "none"]

RAW_WIRE_ID = 0
CONSTANT_WIRE_ID = 1


class CannotEncodeError(Exception):
    """Raised by a codec that cannot keep the bound on this tensor; the container then stores it exactly."""


class Codec(ABC):
    """What lossy and lossless codecs share."""

    codec_id: ClassVar[str]
    wire_id: ClassVar[int]
    kind: ClassVar[Kind]
    #: decode is C code that was written for honest input; ``decompress(..., isolate="auto")`` isolates such blocks.
    trusts_input: ClassVar[bool] = False

    @classmethod
    def why_unavailable(cls) -> tuple[str, str] | None:
        """None where the codec works here, otherwise (what is wrong, what to do about it)."""
        return None


class LossyCodec(Codec):
    """Error-bounded codec of one flat tensor.

    Instances hold no state between calls and may be used from several threads at once.
    """

    kind: ClassVar[Kind] = "lossy"
    #: encode/decode accept ``reference`` (where False it is always None).
    supports_reference: ClassVar[bool] = False
    #: encode itself proves ``abs(float64(decoded) - float64(value)) <= bound`` for every value, or raises
    #: CannotEncodeError. Where False the container decodes again, compares and stores offenders exactly.
    guarantees_bound: ClassVar[bool] = False
    #: Neighbouring lossy tensors of one dtype are handed to encode_many together while their values sum up to at
    #: most this. 0: every tensor on its own through encode. A tensor with more values always goes alone.
    group_elements: ClassVar[int] = 0

    #: What a tensor decodes to hangs on which others share its block: those do then not hang on the reference.
    decodes_in_company: ClassVar[bool] = False

    @abstractmethod
    def encode(self, values: Floats, bound: float, *, reference: Floats | None = None) -> bytes:
        """Compress *values* so that none moves by more than *bound*.

        Args:
            values: 1-D, C-contiguous, native byte order, float32 or float64, at least 1 value, all finite,
                not all equal. May be read-only; must not be changed.
            bound: absolute, > 0, at most max - min. May be tiny against the values (then CannotEncodeError).
            reference: same dtype and size, all finite, or None. Must not change what `decode` returns.

        Raises:
            CannotEncodeError: the bound cannot be kept by this codec on these values.
        """

    @abstractmethod
    def decode(
        self,
        blob: memoryview,
        count: int,
        dtype: np.dtype[np.floating],
        *,
        reference: Floats | None = None,
        out: Floats | None = None,
    ) -> Floats:
        """Decompress exactly *count* >= 1 values of *dtype* (float32 or float64, native) from *blob*.

        *blob* may come from a stranger: claimed sizes are checked before memory is taken, and anything wrong is a
        PayloadError. *count* times the item size has been checked against the caller's memory limit already.
        *reference* is given exactly when it was given to `encode`. *out* is room for the values, which a codec fills
        and returns; one whose library allocates by itself may return that instead.
        """

    def encode_many(
        self, tensors: Sequence[Floats], bounds: Sequence[float], references: Sequence[Floats | None]
    ) -> bytes:
        """Several tensors of one dtype as one blob; called only where `group_elements` > 0."""
        raise NotImplementedError

    def decode_many(
        self,
        blob: memoryview,
        counts: Sequence[int],
        dtype: np.dtype[np.floating],
        references: Sequence[Floats | None],
        out: Floats | None = None,
    ) -> list[Floats]:
        """Inverse of `encode_many`: the tensors, one after the other in *out* where that is given."""
        raise NotImplementedError


class LosslessCodec(Codec):
    """Byte-exact codec."""

    kind: ClassVar[Kind] = "lossless"

    @abstractmethod
    def encode(self, data: memoryview, itemsize: int) -> bytes:
        """Compress *data* (1-D bytes, whole items of *itemsize* bytes, at least one)."""

    @abstractmethod
    def decode(self, blob: memoryview, out: memoryview, itemsize: int) -> None:
        """Fill *out* (1-D bytes, writable) exactly; MalformedPayloadError before much more than it is allocated."""


@dataclass(frozen=True, slots=True)
class CodecInfo:
    """One row of `fedsz.codecs()`."""

    codec_id: str
    kind: Kind
    available: bool
    why: str
    install: str


CodecClass = TypeVar("CodecClass", bound=type[Codec])

_BY_ID: dict[str, type[Codec]] = {}
_BY_WIRE_ID: dict[int, type[Codec]] = {}
_INSTANCES: dict[type[Codec], Codec] = {}


def register(cls: CodecClass) -> CodecClass:
    """Class decorator: make *cls* known by its codec_id and wire_id."""
    if not 2 <= cls.wire_id <= 255:
        raise ValueError(f"wire id {cls.wire_id} of {cls.__qualname__} is outside 2..255")
    for owner in (_BY_ID.setdefault(cls.codec_id, cls), _BY_WIRE_ID.setdefault(cls.wire_id, cls)):
        if owner is not cls:
            raise ValueError(
                f"codec id {cls.codec_id!r} or wire id {cls.wire_id} belongs to {owner.__qualname__}"
            )
    return cls


def codecs() -> dict[str, CodecInfo]:
    """Every known codec: what is available here, and for the rest why it is not."""
    rows = {"none": CodecInfo("none", "none", True, "", "")}
    for codec_id, cls in sorted(_BY_ID.items(), key=lambda item: item[1].wire_id):
        why, install = cls.why_unavailable() or ("", "")
        rows[codec_id] = CodecInfo(codec_id, cls.kind, not why, why, install)
    return rows


def _instance(cls: type[Codec]) -> Codec:
    if cls not in _INSTANCES:
        trouble = cls.why_unavailable()
        if trouble is not None:
            raise CodecUnavailableError(cls.codec_id, *trouble)
        _INSTANCES[cls] = cls()
    return _INSTANCES[cls]


def lossy_codec(codec_id: str) -> LossyCodec:
    """The lossy codec named *codec_id*; UnknownCodecError or CodecUnavailableError otherwise."""
    cls = _BY_ID.get(codec_id)
    if cls is None or not issubclass(cls, LossyCodec):
        raise UnknownCodecError(
            codec_id, ("none", *(i for i, c in _BY_ID.items() if issubclass(c, LossyCodec)))
        )
    codec = _instance(cls)
    assert isinstance(codec, LossyCodec)
    return codec


def lossless_codec(codec_id: str) -> LosslessCodec:
    """The lossless codec named *codec_id*; UnknownCodecError or CodecUnavailableError otherwise."""
    cls = _BY_ID.get(codec_id)
    if cls is None or not issubclass(cls, LosslessCodec):
        raise UnknownCodecError(codec_id, tuple(i for i, c in _BY_ID.items() if issubclass(c, LosslessCodec)))
    codec = _instance(cls)
    assert isinstance(codec, LosslessCodec)
    return codec


def codec_on_wire(wire_id: int) -> Codec | None:
    """The codec with number *wire_id*, None where no such number is known; CodecUnavailableError as above."""
    cls = _BY_WIRE_ID.get(wire_id)
    return None if cls is None else _instance(cls)


def trusts_input(wire_id: int) -> bool:
    """Whether the decoder with number *wire_id* must not see a stranger's bytes in a process that matters."""
    cls = _BY_WIRE_ID.get(wire_id)
    return cls is not None and cls.trusts_input


def id_on_wire(wire_id: int) -> str | None:
    """The codec id with number *wire_id*, None where no such number is known."""
    cls = _BY_WIRE_ID.get(wire_id)
    return None if cls is None else cls.codec_id
