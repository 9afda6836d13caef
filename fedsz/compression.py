"""`compress`: a state in, bytes out."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from fedsz.arrays import Array, as_array
from fedsz.blocks import Block, Prepared, constant, encode_exact, encode_lossy, prepare
from fedsz.bound import ErrorBound
from fedsz.container import (
    BlockRow,
    Directory,
    checksum,
    flags_for,
    head,
    storage_order,
    write_directory,
)
from fedsz.errors import InvalidBoundError
from fedsz.globalmodel import Reference, as_reference
from fedsz.layout import Layout
from fedsz.partition import Partition
from fedsz.registry import RAW_WIRE_ID, LosslessCodec, LossyCodec, lossless_codec, lossy_codec
from fedsz.verify import range_over

# Small exact tensors of one dtype are coded together up to this many bytes.
_GROUP_BYTES = 1 << 20
# A new kind of tensor begins a new block only where the block so far is worth its directory entry.
_KIND_BYTES = 4 << 10


def compress(
    state: Mapping[str, Any],
    bound: ErrorBound = ErrorBound("REL", 1e-2),  # noqa: B008  (frozen)
    *,
    codec: str = "sz2",
    lossless: str = "zstd-planes",
    partition: Partition = Partition(),  # noqa: B008  (frozen)
    reference: Mapping[str, Any] | Reference | None = None,
    threads: int = 1,
    verify: bool = True,
) -> bytes:
    """Compress an update so that no finite value of a lossy tensor moves by more than *bound*.

    FedSZ (Wilkins et al., arXiv:2312.13461) with a proof of the bound, a checksum and no pickle.

    Args:
        state: names to tensors: a torch state_dict as it is, NumPy arrays, or what ``np.asarray`` takes. Any shape
            (0-d, empty, up to 64 dimensions), byte order and stride; bool, integers, float16, bfloat16, float32,
            float64, complex and float8. NaN and infinities come back bit for bit.
        bound: see `ErrorBound`; 0 codes everything exactly.
        codec: lossy codec id, or ``none``: every tensor as raw bytes, still with checksum.
        lossless: codec id for everything that does not go lossy. The default is an eighth smaller than
            the paper's ``blosc-lz`` and about as fast (docs/format.md).
        partition: which tensors go lossy.
        reference: the model that the receiver also holds. Decoded values are the same with and without; only the
            bytes shrink. Tensors are matched by name, dtype and shape. Ignored by ``none``.
        threads: blocks coded at once, >= 1. The payload does not depend on it.
        verify: decode every block of a codec that does not prove the bound itself, compare, and store what broke the
            bound exactly. False trusts the codec, for timing it alone.

    Raises:
        InvalidBoundError: *bound* is none.
        UnknownCodecError, CodecUnavailableError: the codec.
        UnsupportedTensorError: an entry that is no dense tensor of numbers, or a name that is no text.
    """
    if not isinstance(bound, ErrorBound):
        raise InvalidBoundError('bound is an ErrorBound, as in ErrorBound("REL", 1e-2)', bound)
    arrays = {name: as_array(name, value) for name, value in state.items()}
    layout = Layout.of(arrays)
    raw = codec == "none"
    held = None if raw else as_reference(reference)
    lossy = None if raw else lossy_codec(codec)
    exact = None if raw else lossless_codec(lossless)
    routes = tuple(
        not raw and bound.value > 0 and partition.is_lossy(name, array) for name, array in arrays.items()
    )
    writer = _Writer(layout, list(arrays.values()), routes, bound, lossy, exact, held, verify)
    out = io.BytesIO()
    flags = flags_for(layout, held)
    out.write(head(flags))
    rows: list[BlockRow] = []
    for blocks in _in_order(writer, threads):
        for block in blocks:
            rows.append(BlockRow(block.method, block.flags, block.tensors, len(block.data)))
            out.write(block.data)
    directory = Directory(
        bound,
        lossy.wire_id if lossy else RAW_WIRE_ID,
        exact.wire_id if exact else RAW_WIRE_ID,
        held.digest if held else None,
        layout,
        routes,
        tuple(rows),
    )
    out.write(write_directory(directory, flags))
    with out.getbuffer() as view:
        crc = checksum(view)
    out.write(crc)
    return out.getvalue()


class _Writer:
    """Cuts the state into jobs and does each: some neighbours in storage order to blocks."""

    def __init__(
        self,
        layout: Layout,
        arrays: Sequence[Array],
        routes: Sequence[bool],
        bound: ErrorBound,
        lossy: LossyCodec | None,
        exact: LosslessCodec | None,
        held: Reference | None,
        verify: bool,
    ) -> None:
        self._layout, self._arrays, self._routes = layout, arrays, routes
        self._bound, self._lossy, self._exact, self._held, self._verify = bound, lossy, exact, held, verify
        self._state_range: float | None = None
        if bound.mode == "REL_STATE":
            self._state_range = range_over(
                array for array, route in zip(arrays, routes, strict=True) if route
            )
        # Where in the reference each tensor has its counterpart.
        self._twins: list[int | None] = [None] * len(arrays)
        if held is not None:
            self._twins = [layout.same_tensor(at, held.layout) for at in range(len(arrays))]

    def jobs(self) -> Iterator[list[int]]:
        """Positions of tensors to be coded together: one dtype, one route, all or none with a counterpart.

        The last not where decoded values hang on who is coded together: there the reference must not decide it.
        """
        together = self._lossy is not None and self._lossy.decodes_in_company
        layout, routes, kinds = self._layout, self._routes, self._layout.kinds
        group: list[int] = []
        key: tuple[object, ...] | None = None
        size = 0
        for at in storage_order(layout, routes):
            lossy = routes[at]
            this_key = (lossy, layout.native_code(at), self._twins[at] is None and not (lossy and together))
            if lossy:
                need = layout.counts[at]
                full = self._lossy is None or size + need > self._lossy.group_elements
            else:
                need = layout.nbytes[at]
                full = size + need > _GROUP_BYTES or (size > _KIND_BYTES and kinds[at] != kinds[group[-1]])
            if group and (full or this_key != key):
                yield group
                group, size = [], 0
            key = this_key
            group.append(at)
            size += need
        if group:
            yield group

    def code(self, group: list[int]) -> list[Block]:
        """The blocks of one job."""
        if not self._routes[group[0]]:
            return [self._encode_exact(group)]
        blocks: list[Block] = []
        pending: list[int] = []
        prepared: list[Prepared] = []
        for at in group:
            item = self._prepare(at)
            if item is None:
                blocks += self._encode_lossy(pending, prepared)
                pending, prepared = [], []
                blocks.append(constant(self._arrays[at]) or self._encode_exact([at]))
            else:
                pending.append(at)
                prepared.append(item)
        return blocks + self._encode_lossy(pending, prepared)

    def _prepare(self, at: int) -> Prepared | None:
        floats = None
        twin = self._twins[at]
        if twin is not None and self._lossy is not None and self._lossy.supports_reference:
            assert self._held is not None
            floats = self._held.floats(twin)
        return prepare(self._arrays[at], self._bound, self._state_range, floats)

    def _encode_lossy(self, positions: list[int], prepared: list[Prepared]) -> list[Block]:
        if not positions:
            return []
        assert self._lossy is not None
        # A reference with a NaN in it is none, so that a group may be mixed after all.
        mixed = len({item.reference is None for item in prepared}) > 1
        if mixed and self._lossy.decodes_in_company:
            prepared, mixed = [replace(item, reference=None) for item in prepared], False
        if not mixed:
            block = encode_lossy(prepared, self._lossy, self._verify)
            if block is not None:
                return [block]
        if len(positions) == 1:
            return [self._encode_exact(positions)]
        return [
            block
            for at, item in zip(positions, prepared, strict=True)
            for block in self._encode_lossy([at], [item])
        ]

    def _encode_exact(self, group: list[int]) -> Block:
        references = None
        if self._held is not None and self._twins[group[0]] is not None:
            references = [self._held.flat(twin) for at in group if (twin := self._twins[at]) is not None]
        return encode_exact([self._arrays[at] for at in group], self._exact, references)


def _in_order(writer: _Writer, threads: int) -> Iterator[list[Block]]:
    """Blocks of all jobs in order, with at most *threads* + 1 jobs' results held."""
    if threads <= 1:
        yield from map(writer.code, writer.jobs())
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[list[Block]]] = []
        for job in writer.jobs():
            waiting.append(pool.submit(writer.code, job))
            if len(waiting) > threads:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
