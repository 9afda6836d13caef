"""How kernels of this package are compiled.

Numba checks no index in compiled code. A kernel that sees bytes from a stranger therefore checks, masks or bounds every
index itself and says so in a comment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(kernel: Kernel) -> Kernel:
    """Decorator: machine code at the first call, kept on disk for the next process, without the GIL.

    Floating point stays strict IEEE (no reassociation, no fused multiply-add): encoder and decoder must round alike,
    on every machine. Where no folder can take the cache (read-only install, no home), each process compiles anew.
    """
    options: Any = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        cached: Kernel = numba.njit(cache=True, **options)(kernel)
    except RuntimeError:  # "cannot cache function: no locator available"
        uncached: Kernel = numba.njit(**options)(kernel)
        return uncached
    return cached
