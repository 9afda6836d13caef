"""SZ3 through `pysz`, with each of its predictors. Everything we know about pysz sits here.

pysz's mode numbers differ from SZ2's C interface (2 is PSNR there): only ABS is used. SZ3 adds about 70 bytes, and a
damaged stream usually decodes without complaint. pysz checks the count of values in the stream against ours.
"""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np

from fedsz.errors import MalformedPayloadError
from fedsz.registry import CannotEncodeError, Floats, LossyCodec, register

_ABS = 0
_LORENZO_REG, _INTERP_LORENZO, _NOPRED = 0, 1, 3


class _Sz3(LossyCodec):
    _algorithm: ClassVar[int]
    trusts_input: ClassVar[bool] = True

    @classmethod
    def why_unavailable(cls) -> tuple[str, str] | None:
        try:
            import pysz  # noqa: F401
        except ImportError as error:
            return str(error), "install pysz (pip install 'pysz>=1.1')"
        return None

    def encode(self, values: Floats, bound: float, *, reference: Floats | None = None) -> bytes:
        import pysz

        config = pysz.szConfig((values.size,))
        config.errorBoundMode = _ABS
        config.absErrorBound = bound
        config.cmprAlgo = self._algorithm
        config.openmp = False
        try:
            stream, _ = pysz.sz.compress(values, config)
        except RuntimeError as error:
            raise CannotEncodeError from error
        return cast(bytes, stream.tobytes())

    def decode(
        self,
        blob: memoryview,
        count: int,
        dtype: np.dtype[np.floating],
        *,
        reference: Floats | None = None,
        out: Floats | None = None,
    ) -> Floats:
        import pysz

        try:
            values, _ = pysz.sz.decompress(np.frombuffer(blob, np.uint8), dtype, (count,))
        except (RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise MalformedPayloadError(f"SZ3: {error}") from None
        return cast(Floats, values)


@register
class Sz3(_Sz3):
    """SZ3 with Lorenzo and regression predictors."""

    codec_id: ClassVar[str] = "sz3"
    wire_id: ClassVar[int] = 17
    _algorithm: ClassVar[int] = _LORENZO_REG


@register
class Sz3Interpolation(_Sz3):
    """SZ3 with interpolation, tried against Lorenzo on a sample: SZ3's own default."""

    codec_id: ClassVar[str] = "sz3-interp"
    wire_id: ClassVar[int] = 18
    _algorithm: ClassVar[int] = _INTERP_LORENZO


@register
class Sz3NoPrediction(_Sz3):
    """SZ3's quantiser and coder without a predictor: weights are close to noise."""

    codec_id: ClassVar[str] = "sz3-nopred"
    wire_id: ClassVar[int] = 19
    _algorithm: ClassVar[int] = _NOPRED
