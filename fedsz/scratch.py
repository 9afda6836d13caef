"""Working memory that a thread keeps: fresh pages cost more than what is done in them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

_held = threading.local()


def scratch(use: str, size: int, dtype: Any) -> NDArray[Any]:
    """An array of *size* uninitialised elements for one *use*.

    It is the same memory at each call of the same thread: the array of the call before is lost. Callers bound the
    sizes, so that a thread never holds more than a few megabytes.
    """
    key = f"{use} {np.dtype(dtype).str}"
    array: NDArray[Any] | None = _held.__dict__.get(key)
    if array is None or array.size < size:
        array = np.empty(size, dtype)
        setattr(_held, key, array)
    return array[:size]
