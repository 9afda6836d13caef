"""The model that both sides hold: what a payload may be coded against."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import xxhash

from fedsz.arrays import Array, as_array, codec_values, flat_native
from fedsz.layout import Layout
from fedsz.registry import Floats

DIGEST_BYTES = 16


class Reference:
    """A state that sender and receiver both hold bit for bit, prepared once and used for many payloads.

    `compress` and `decompress` accept the state itself as well; a server that decodes the updates of a whole round
    saves a digest per update by making this once. The arrays are not copied: do not change them while it is in use.

    Args:
        state: as for `compress`.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.arrays: dict[str, Array] = {name: as_array(name, value) for name, value in state.items()}
        self.layout = Layout.of(self.arrays)
        self._floats: dict[int, Floats | None] = {}

    @cached_property
    def digest(self) -> bytes:
        """XXH3-128, big-endian, over the layout, then every tensor's bytes, little-endian, in state order.

        It tells models apart, it does not authenticate them: whoever may send updates may send any weights. SHA-256
        took as long as compressing (0.5 GB/s against 10 GB/s on the machine of docs/format.md).
        """
        hasher = xxhash.xxh3_128(self.layout.write())
        for array in self.arrays.values():
            flat = flat_native(array)
            if sys.byteorder == "big":
                flat = flat.byteswap()
            hasher.update(flat.view(np.uint8).data)
        return hasher.digest()

    def flat(self, at: int) -> Array:
        """Tensor *at*, 1-D and native."""
        return flat_native(self.arrays[self.layout.names[at]])

    def floats(self, at: int) -> Floats | None:
        """Tensor *at* as lossy codecs see it; None where it holds a value that is not finite."""
        if at not in self._floats:
            values = codec_values(self.arrays[self.layout.names[at]])
            # min and max are NaN or infinite exactly where some value is.
            usable = values.size > 0 and bool(np.isfinite(values.min()) and np.isfinite(values.max()))
            self._floats[at] = values if usable else None
        return self._floats[at]


def as_reference(state: Mapping[str, Any] | Reference | None) -> Reference | None:
    """*state* prepared as a reference."""
    return state if state is None or isinstance(state, Reference) else Reference(state)
