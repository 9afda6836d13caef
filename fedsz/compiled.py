"""How kernels of this package are compiled, and unaligned 64-bit access for bit streams.

Numba checks no index in compiled code. A kernel that sees bytes from a stranger therefore checks, masks or bounds every
index itself and says so in a comment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba.extending import intrinsic

Kernel = TypeVar("Kernel", bound=Callable[..., object])

_BYTE_POINTER = ir.IntType(8).as_pointer()
_WORD_POINTER = ir.IntType(64).as_pointer()


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


def _word_at(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(builder.bitcast(data, _BYTE_POINTER), [at]), _WORD_POINTER)


def _load64(typing: Any, array: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.load(_word_at(context, builder, signature.args[0], *arguments))
        word.align = 1
        return word

    return numba.types.uint64(array, numba.types.uint64), generate


def _store64(typing: Any, array: Any, at: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, word = arguments
        builder.store(word, _word_at(context, builder, signature.args[0], array, at)).align = 1
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.uint64, numba.types.uint64), generate


#: ``load64(array, at)``, in kernels only: the native uint64 in bytes at..at+7 of a uint8 array; *at* is uint64
#: and not checked.
load64: Any = intrinsic(_load64)
#: ``store64(array, at, word)``, in kernels only: the reverse.
store64: Any = intrinsic(_store64)
