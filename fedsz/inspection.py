"""What a payload holds, without decoding it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedsz.arrays import as_array
from fedsz.blocks import CONDITIONAL, PATCHED
from fedsz.bound import ErrorBound
from fedsz.container import read_directory
from fedsz.globalmodel import Reference, as_reference
from fedsz.registry import CONSTANT_WIRE_ID, RAW_WIRE_ID, id_on_wire


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor of a payload.

    Attributes:
        name, dtype, shape: as sent.
        lossy: routed to the lossy codec; `method` says what became of it.
        method: codec id, ``raw`` or ``constant``.
        raw_bytes: decoded size.
        stored_bytes: its block's size; tensors that share a block share it in proportion to `raw_bytes`.
        block: number of its block.
        patched: exact values are stored beside the codec's bytes of the block.
        conditional: coded against the reference.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    lossy: bool
    method: str
    raw_bytes: int
    stored_bytes: float
    block: int
    patched: bool
    conditional: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """A payload at a glance; `header_bytes` is everything but the blocks."""

    codec: str
    lossless: str
    bound: ErrorBound
    raw_bytes: int
    payload_bytes: int
    header_bytes: int
    reference_digest: str | None
    tensors: tuple[TensorRow, ...]


def inspect(
    payload: bytes | bytearray | memoryview, *, reference: Mapping[str, Any] | Reference | None = None
) -> Inspection:
    """Read a payload's directory; no block is decoded and no tensor allocated.

    Args:
        payload: may come from a stranger; everything that `decompress` checks before the blocks is checked.
        reference: needed only where the payload takes its names and shapes from it.

    Raises:
        PayloadError, ReferenceMismatchError: as for `decompress`.
    """
    directory, data = read_directory(payload, as_reference(reference), 1 << 62)
    layout, order = directory.layout, directory.storage_order()
    rows: dict[int, TensorRow] = {}
    start = 0
    for number, block in enumerate(directory.blocks):
        positions = order[start : start + block.tensors]
        start += block.tensors
        together = sum(layout.nbytes[at] for at in positions)
        for at in positions:
            share = layout.nbytes[at] / together if together else 1 / len(positions)
            rows[at] = TensorRow(
                layout.names[at],
                str(layout.dtype(at)),
                layout.shapes[at],
                directory.routes[at],
                _method_name(block.method),
                layout.nbytes[at],
                block.length * share,
                number,
                bool(block.flags & PATCHED),
                bool(block.flags & CONDITIONAL),
            )
    return Inspection(
        "none" if directory.lossy == RAW_WIRE_ID else _method_name(directory.lossy),
        "none" if directory.lossless == RAW_WIRE_ID else _method_name(directory.lossless),
        directory.bound,
        sum(layout.nbytes),
        len(payload),
        len(payload) - len(data),
        directory.digest.hex() if directory.digest else None,
        tuple(rows[at] for at in range(len(layout.names))),
    )


def _method_name(number: int) -> str:
    named = {RAW_WIRE_ID: "raw", CONSTANT_WIRE_ID: "constant"}
    return named.get(number) or id_on_wire(number) or f"unknown-{number}"


def update_bytes(state: Mapping[str, Any]) -> int:
    """Bytes of a state's tensors, uncompressed."""
    return sum(as_array(name, value).nbytes for name, value in state.items())


def compression_ratio(state: Mapping[str, Any], payload: bytes | bytearray | memoryview) -> float:
    """Uncompressed bytes over payload bytes, header and checksum counted: the one definition used everywhere."""
    return update_bytes(state) / len(payload)
