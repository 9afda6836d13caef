"""ZFP in fixed-accuracy mode through `zfpy`: built for smooth fields, its weakest use is a flat tensor of weights."""

from __future__ import annotations

import math
import struct
from typing import ClassVar, cast

import numpy as np

from fedsz.errors import MalformedPayloadError
from fedsz.registry import CannotEncodeError, Floats, LossyCodec, register

_TOLERANCE = struct.Struct("<d")


@register
class Zfp(LossyCodec):
    """ZFP, one dimension, tolerance mode, without ZFP's own header: count and dtype are the container's.

    Bytes: tolerance as float64, little-endian, then the ZFP stream.
    """

    codec_id: ClassVar[str] = "zfp"
    wire_id: ClassVar[int] = 20
    trusts_input: ClassVar[bool] = True

    @classmethod
    def why_unavailable(cls) -> tuple[str, str] | None:
        try:
            import zfpy  # noqa: F401
        except (ImportError, ValueError) as error:  # ValueError: built against another NumPy
            return str(error), "install zfpy (pip install 'zfpy>=1.0')"
        return None

    def encode(self, values: Floats, bound: float, *, reference: Floats | None = None) -> bytes:
        import zfpy

        try:
            stream = zfpy.compress_numpy(values, tolerance=bound, write_header=False)
        except RuntimeError as error:
            raise CannotEncodeError from error
        return _TOLERANCE.pack(bound) + cast(bytes, stream)

    def decode(
        self,
        blob: memoryview,
        count: int,
        dtype: np.dtype[np.floating],
        *,
        reference: Floats | None = None,
        out: Floats | None = None,
    ) -> Floats:
        import zfpy

        if len(blob) <= _TOLERANCE.size:
            raise MalformedPayloadError("ZFP block ends within its tolerance")
        (tolerance,) = _TOLERANCE.unpack_from(blob)
        if not 0 < tolerance < math.inf:
            raise MalformedPayloadError(f"ZFP tolerance {tolerance}")
        kind = zfpy.dtype_to_ztype(dtype)
        out = np.empty(count, dtype) if out is None else out
        try:
            zfpy._decompress(blob[_TOLERANCE.size :], kind, (count,), out=out, tolerance=tolerance)
        except (RuntimeError, ValueError, TypeError) as error:
            raise MalformedPayloadError(f"ZFP: {error}") from None
        return out
