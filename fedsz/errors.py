"""Everything that `fedsz` raises on purpose.

Every exception passes all its arguments to ``super().__init__`` and makes its text in ``__str__``, so that it
survives pickling and being rebuilt from ``args``.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class FedSZError(Exception):
    """Base of every error of this package."""


class UnknownCodecError(FedSZError):
    """A codec id that nobody registered."""

    def __init__(self, codec_id: str, known: Sequence[str]) -> None:
        super().__init__(codec_id, known)
        self.codec_id, self.known = codec_id, known

    def __str__(self) -> str:
        near = difflib.get_close_matches(str(self.codec_id), self.known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown codec {self.codec_id!r}; registered: {', '.join(self.known)}{hint}"


class CodecUnavailableError(FedSZError):
    """A codec that is known, but whose library is not usable here."""

    def __init__(self, codec_id: str, why: str, install: str) -> None:
        super().__init__(codec_id, why, install)
        self.codec_id, self.why, self.install = codec_id, why, install

    def __str__(self) -> str:
        return f"codec {self.codec_id!r} cannot be used here: {self.why}; {self.install}"


class InvalidBoundError(FedSZError, ValueError):
    """An error bound that means nothing: unknown mode, NaN, negative or infinite value."""

    def __init__(self, what: str, got: object) -> None:
        super().__init__(what, got)
        self.what, self.got = what, got

    def __str__(self) -> str:
        return f"error bound: {self.what}, got {self.got!r}"


class UnsupportedTensorError(FedSZError, TypeError):
    """An entry of a state that is not a tensor of numbers."""

    def __init__(self, name: object, why: str) -> None:
        super().__init__(name, why)
        self.name, self.why = name, why

    def __str__(self) -> str:
        return f"tensor {self.name!r}: {self.why}"


class StateFileError(FedSZError):
    """A file that holds no state, or cannot be made to hold this one."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


class ReferenceMismatchError(FedSZError):
    """The payload was coded against a model that the caller does not hold."""

    def __init__(self, wanted: str, got: str | None) -> None:
        super().__init__(wanted, got)
        self.wanted, self.got = wanted, got

    def __str__(self) -> str:
        held = "none was given" if self.got is None else f"the one given has digest {self.got}"
        return f"payload needs the reference with digest {self.wanted}; {held}"


class PayloadError(FedSZError):
    """A payload that this build cannot or must not decode. Subclasses say why."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return self.what


class TruncatedPayloadError(PayloadError):
    """The payload ends before its parts do."""


class ChecksumError(PayloadError):
    """The bytes are not the ones that were written."""


class VersionError(PayloadError):
    """Written by another version of the format."""


class MalformedPayloadError(PayloadError):
    """Checksum right, contents contradictory: a faulty or hostile writer."""


class PayloadTooLargeError(PayloadError):
    """Decoding would need more memory than the caller allows."""

    def __init__(self, needs: int, allowed: int) -> None:
        super().__init__(f"payload claims {needs} decoded bytes; max_bytes allows {allowed}")
        self.args = (needs, allowed)
        self.needs, self.allowed = needs, allowed


class DecoderCrashedError(PayloadError):
    """The isolated decoder died or ran past its time: the payload is damaged or hostile."""
