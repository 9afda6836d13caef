"""`decompress`: bytes from a stranger in, a state out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedsz.arrays import BIG_ENDIAN, LOSSY_DTYPES, Array, StateArray, cut
from fedsz.blocks import CONDITIONAL, KNOWN_FLAGS, Block, decode_block
from fedsz.container import Directory, check_reference, read_directory
from fedsz.errors import FedSZError, MalformedPayloadError
from fedsz.globalmodel import Reference, as_reference
from fedsz.isolate import Isolation
from fedsz.isolate import decode as decode_isolated
from fedsz.memory import rooms
from fedsz.registry import trusts_input

DEFAULT_MAX_BYTES = 1 << 32


def decompress(
    payload: bytes | bytearray | memoryview,
    *,
    reference: Mapping[str, Any] | Reference | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
    isolate: bool | Literal["auto"] | Isolation = False,
    threads: int = 1,
) -> dict[str, Array]:
    """Decode a payload of `compress`.

    Args:
        payload: may come from a stranger. The C decoders of sz2, sz3 and zfp are not written for hostile input: use
            ``isolate=True`` where the sender is not trusted.
        reference: the model that the sender coded against; ignored by a payload that needs none.
        max_bytes: largest sum of decoded bytes that is accepted, checked before any tensor is allocated.
        isolate: decode in a pooled worker process with memory and time limits, so that a crash there costs this
            payload only (DecoderCrashedError). ``"auto"`` does so only for payloads with blocks of sz2, sz3 or zfp; an
            `Isolation` sets the limits. Linux only.
        threads: blocks decoded at once, >= 1; one in a worker process.

    Returns:
        Names, order, dtypes and shapes as they were. The arrays are writable and accepted by torch's
        ``load_state_dict`` (see `StateArray`); bfloat16 has the dtype of the package ml_dtypes. Neighbours share pieces
        of memory of at most 16 MiB: copy a tensor that is to outlive the others by far.

    Raises:
        PayloadError: its subclasses say what is wrong with the payload.
        ReferenceMismatchError: coded against a model other than *reference*.
        CodecUnavailableError: the library of a codec that the payload uses is missing.
    """
    held = as_reference(reference)
    directory, data = read_directory(payload, held, max_bytes)
    jobs = list(plan(directory, data, held))
    out: list[Array | None] = [None] * len(directory.layout.names)
    if isolate == "auto":
        isolate = any(trusts_input(block.method) for block in directory.blocks)
    if isolate:
        limits = isolate if isinstance(isolate, Isolation) else Isolation()
        sizes = [job.nbytes for job in jobs]
        decoded = decode_isolated(memoryview(payload).cast("B"), directory, held, limits, sizes)
        _place(out, jobs, map(Job.tensors, jobs, decoded), directory)
        return _named(directory, out)
    # The libraries of sz2 and sz3 allocate by themselves.
    fresh = [job.nbytes for job in jobs if not trusts_input(job.block.method)]
    room = rooms(fresh)
    outs = (None if trusts_input(job.block.method) else next(room) for job in jobs)
    if threads <= 1:
        _place(out, jobs, map(Job.decode, jobs, outs), directory)
    else:
        with ThreadPoolExecutor(threads) as pool:
            _place(out, jobs, pool.map(Job.decode, jobs, outs), directory)
    return _named(directory, out)


def _named(directory: Directory, out: list[Array | None]) -> dict[str, Array]:
    return {name: array for name, array in zip(directory.layout.names, out, strict=True) if array is not None}


@dataclass(frozen=True, slots=True)
class Job:
    """One block, with all that its decoding needs."""

    block: Block
    positions: list[int]
    directory: Directory
    reference: Reference | None

    @property
    def nbytes(self) -> int:
        """Decoded bytes."""
        return sum(self.directory.layout.nbytes[at] for at in self.positions)

    def tensors(self, room: NDArray[np.uint8]) -> list[Array]:
        """The block's tensors, flat and native, where *room* holds their bytes one after the other."""
        layout = self.directory.layout
        dtype = layout.native_dtype(self.positions[0])
        return cut(room.view(dtype), [layout.counts[at] for at in self.positions])

    def decode(self, room: NDArray[np.uint8] | None) -> list[Array]:
        """The block's tensors, flat and native; in *room*, of `nbytes`, where that is given."""
        layout, first = self.directory.layout, self.positions[0]
        dtype, lossy = layout.native_dtype(first), self.directory.routes[first]
        if self.block.flags & ~KNOWN_FLAGS:
            raise MalformedPayloadError(f"block flags {self.block.flags:#04x} are not known")
        twins: list[int | None] = [None] * len(self.positions)
        if self.block.flags & CONDITIONAL and self.reference is not None:
            twins = [layout.same_tensor(at, self.reference.layout) for at in self.positions]
        held = self.reference
        flats = [held.flat(twin) if held and twin is not None else None for twin in twins]
        floats = [held.floats(twin) if held and lossy and twin is not None else None for twin in twins]
        counts = [layout.counts[at] for at in self.positions]
        try:
            out = None if room is None else room.view(dtype)
            return decode_block(self.block, counts, dtype, lossy, flats, floats, out)
        except FedSZError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # A gap in a decoder's own checks. The stranger's payload is at fault first, and no caller expects an
            # IndexError of it; the cause stays attached, and the fuzz run counts it as a find.
            raise MalformedPayloadError(f"decoder failed on this block: {error!r}") from error


def plan(directory: Directory, data: memoryview, reference: Reference | None) -> Iterator[Job]:
    """A job per block; MalformedPayloadError where a block mixes dtypes or routes."""
    reference = None if directory.digest is None else check_reference(directory.digest, reference)
    layout, routes = directory.layout, directory.routes
    order = directory.storage_order()
    for at in order:
        if routes[at] and layout.native_dtype(at) not in LOSSY_DTYPES:
            raise MalformedPayloadError(f"tensor of dtype {layout.dtype(at)} is marked lossy")
    start = tensor = 0
    for row in directory.blocks:
        positions = order[tensor : tensor + row.tensors]
        if len({(routes[at], layout.native_code(at)) for at in positions}) != 1:
            raise MalformedPayloadError("a block mixes dtypes, or lossy with exact tensors")
        block = Block(row.method, row.flags, row.tensors, data[start : start + row.length])
        yield Job(block, positions, directory, reference)
        start, tensor = start + row.length, tensor + row.tensors


def _place(
    out: list[Array | None], jobs: list[Job], results: Iterator[list[Array]], directory: Directory
) -> None:
    layout = directory.layout
    swapped = any(code & BIG_ENDIAN for code in layout.codes)
    for job, flats in zip(jobs, results, strict=True):
        for at, flat in zip(job.positions, flats, strict=True):
            if swapped:
                flat = flat.astype(layout.dtypes[at], copy=False)
            out[at] = flat.reshape(layout.shapes[at]).view(StateArray)
