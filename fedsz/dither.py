"""`fedsz-q-dither`: the uniform grid of `fedsz-q`, moved under every value by its own pseudo-random part of a step.

Subtractive dither (L. Schuchman, "Dither signals and their effect on quantization noise", IEEE Trans. Commun. Tech.
12(4), 1964): both sides draw u uniform on (-1/2, 1/2), the encoder takes q = rint(x / step + u), the decoder returns
(q - u) step. Without dither the error of a value is a function of that value; here it is uniform on half a step either
way whatever the value, and one value's error tells nothing of another's. Errors of many clients then average out.

It is no differential privacy: the error is bounded, and whoever holds the payload holds u.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import xxhash

from fedsz.grid import Grid, choose_grid
from fedsz.quantise import FedSZQ
from fedsz.registry import Floats, register
from fedsz.subtractive import Dither


@register
class FedSZQDither(FedSZQ):
    """`fedsz-q` with subtractive dither; docs/codecs.md specifies the bytes.

    The seed of a block is a hash of its values: equal tensors give equal bytes, and different clients different
    dither. A reference is moved by the dither as the values are, so that it tells their grid points as well as ever.
    """

    codec_id: ClassVar[str] = "fedsz-q-dither"
    wire_id: ClassVar[int] = 23
    decodes_in_company: ClassVar[bool] = True
    dithered: ClassVar[bool] = True

    def _grid(self, low: float, high: float, bound: float, dtype: np.dtype[np.floating]) -> Grid:
        # As far as decoded values may lie: dither reaches half a step beyond the values.
        return choose_grid(low - bound, high + bound, bound, dtype)

    def _dither(self, tensors: Sequence[Floats]) -> Dither:
        hasher = xxhash.xxh3_64()
        for values in tensors:
            hasher.update(values.view(np.uint8).data)
        return Dither(np.uint64(hasher.intdigest()), np.uint64(0))
