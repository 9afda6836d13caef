"""One block: one lossy tensor, or a group of small ones of one dtype, to bytes and back.

A block's method is the number of the codec that made it, 0 for raw bytes or 1 for a constant. Whatever a lossy
codec cannot do within the bound falls back to lossless here, so that the promise does not hang on any codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from fedsz.arrays import LOSSY_DTYPES, Array, cut, flat_native
from fedsz.bound import ErrorBound
from fedsz.errors import MalformedPayloadError, PayloadError
from fedsz.registry import (
    CONSTANT_WIRE_ID,
    RAW_WIRE_ID,
    CannotEncodeError,
    Floats,
    LosslessCodec,
    LossyCodec,
    codec_on_wire,
)
from fedsz.verify import apply_patch, finite_range, offenders, pack_patch
from fedsz.wire import Reader, write_varints

PATCHED = 1  # exact values follow the codec's bytes
CONDITIONAL = 2  # coded against the reference
GROUPED = 4  # a lossy codec's encode_many, not encode
KNOWN_FLAGS = PATCHED | CONDITIONAL | GROUPED

# Where more than this share of a tensor would have to be stored exactly beside the codec's bytes, lossless is smaller.
_MAX_PATCH_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Block:
    """One entry of the directory: how *tensors* neighbours in storage order were coded, and their bytes."""

    method: int
    flags: int
    tensors: int
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Prepared:
    """A lossy tensor ready for its codec.

    Attributes:
        exact: the tensor, 1-D and native.
        values: what the codec sees: float32 or float64, finite.
        bound: absolute, proven against *exact*.
        codec_bound: absolute, smaller where the values are rounded to 16 bits after decoding.
        mask: non-finite values, None where there are none.
        reference: what the codec may be coded against.
    """

    exact: Array
    values: Floats
    bound: float
    codec_bound: float
    mask: Array | None
    reference: Floats | None


def prepare(
    array: Array, bound: ErrorBound, state_range: float | None, reference: Floats | None
) -> Prepared | None:
    """*array* for a lossy codec, or None where it must be coded exactly: constant, nothing finite, near overflow, bound
    too fine."""
    exact = flat_native(array)
    values = exact.astype(LOSSY_DTYPES[exact.dtype], copy=False)
    low, high, mask = finite_range(values)
    span = high - low
    # NaN where nothing is finite. Near overflow the codecs' own sums and products would pass it.
    if not (span > 0 and max(abs(low), abs(high)) < float(np.finfo(values.dtype).max) / 8):
        return None
    if mask is not None:
        if np.count_nonzero(mask) > _MAX_PATCH_SHARE * values.size:
            return None
        values = np.where(mask, values.dtype.type(min(max(0.0, low), high)), values)
    absolute = min(bound.absolute(span if state_range is None else state_range), span)
    codec_bound = absolute
    if exact.dtype.itemsize == 2:
        # Decoded values are rounded to the nearest of the 16-bit type, which moves them by up to half a spacing.
        info = np.finfo(exact.dtype) if exact.dtype.kind == "f" else None
        digits = 10 if info is not None else 7
        codec_bound -= max(abs(low), abs(high)) * 2.0 ** -(digits + 1)
    if codec_bound < absolute / 2 or codec_bound < float(np.finfo(values.dtype).tiny):
        return None
    return Prepared(exact, values, absolute, codec_bound, mask, reference)


def encode_lossy(group: Sequence[Prepared], codec: LossyCodec, verify: bool) -> Block | None:
    """One block of a lossy codec, its bound proven; None where the tensors are better coded exactly."""
    references = [item.reference for item in group]
    try:
        if len(group) > 1:
            blob = codec.encode_many(
                [item.values for item in group], [item.codec_bound for item in group], references
            )
        else:
            blob = codec.encode(group[0].values, group[0].codec_bound, reference=references[0])
    except CannotEncodeError:
        return None
    flags = (GROUPED if len(group) > 1 else 0) | (CONDITIONAL if references[0] is not None else 0)
    patch = b""
    rounded = group[0].exact.dtype.itemsize == 2
    if (verify and (rounded or not codec.guarantees_bound)) or any(item.mask is not None for item in group):
        try:
            decoded = _decode_lossy(memoryview(blob), codec, flags, group)
        except PayloadError:  # a codec that cannot read its own bytes has not kept the bound
            return None
        with np.errstate(over="ignore"):
            wrong = [offenders(item.exact, out, item.bound) for item, out in zip(group, decoded, strict=True)]
        if any(len(at) > _MAX_PATCH_SHARE * len(item.exact) for at, item in zip(wrong, group, strict=True)):
            return None
        if any(len(at) for at in wrong):
            starts = np.cumsum([0, *(len(item.exact) for item in group[:-1])])
            positions = np.concatenate([at + start for at, start in zip(wrong, starts, strict=True)])
            patch = pack_patch(positions, np.concatenate([item.exact for item in group]))
    if patch:
        flags |= PATCHED
        blob = write_varints([len(blob)]) + blob + patch
    if len(blob) >= sum(item.exact.nbytes for item in group):
        return None
    return Block(codec.wire_id, flags, len(group), blob)


def _decode_lossy(blob: memoryview, codec: LossyCodec, flags: int, group: Sequence[Prepared]) -> list[Array]:
    counts = [len(item.exact) for item in group]
    references = [item.reference for item in group]
    return decode_floats(blob, codec, flags, counts, group[0].exact.dtype, references)


def decode_floats(
    blob: memoryview,
    codec: LossyCodec,
    flags: int,
    counts: Sequence[int],
    dtype: np.dtype[np.generic],
    references: Sequence[Floats | None],
    out: Array | None = None,
) -> list[Array]:
    """A lossy codec's bytes to tensors of *dtype*, without the patch; in *out*, one after the other, if given."""
    seen = cast("np.dtype[np.floating]", LOSSY_DTYPES[dtype])
    fit = cast("Floats | None", out if seen == dtype else None)
    if flags & GROUPED:
        if not codec.group_elements:
            raise MalformedPayloadError(f"codec {codec.codec_id} does not group tensors")
        decoded = codec.decode_many(blob, counts, seen, references, fit)
        placed = fit is not None
    elif len(counts) != 1:
        raise MalformedPayloadError(f"a lossy block of {len(counts)} tensors that is not grouped")
    else:
        decoded = [codec.decode(blob, counts[0], seen, reference=references[0], out=fit)]
        placed = decoded[0] is fit
    for values, count in zip(decoded, counts, strict=True):
        if values.shape != (count,) or values.dtype != seen:
            raise MalformedPayloadError(f"codec {codec.codec_id} decoded {values.shape} {values.dtype}")
    with np.errstate(over="ignore"):
        if out is None:
            return [values.astype(dtype, copy=False) for values in decoded]
        if placed:
            return decoded
        rooms = cut(out, counts)
        for values, room in zip(decoded, rooms, strict=True):
            room[:] = values
        return rooms


def constant(array: Array) -> Block | None:
    """A block for a tensor whose values all have the same bits, None for any other."""
    exact = flat_native(array)
    bits = exact.view(np.uint8).reshape(exact.size, -1)
    if exact.size < 2 or not (bits[0] == bits[-1]).all() or not (bits == bits[0]).all():
        return None
    return Block(CONSTANT_WIRE_ID, 0, 1, little_endian(exact[:1]).tobytes())


def encode_exact(
    arrays: Sequence[Array], codec: LosslessCodec | None, references: Sequence[Array] | None
) -> Block:
    """Tensors of one dtype, one after the other, as one block.

    Args:
        arrays: at least one.
        codec: None stores the bytes as they are.
        references: flat tensors of the same sizes and dtype to code against, or None.
    """
    flats = [little_endian(flat_native(array)) for array in arrays]
    data = flats[0] if len(flats) == 1 else np.concatenate(flats)
    if not data.nbytes:
        return Block(RAW_WIRE_ID, 0, len(arrays), b"")
    raw = data.view(np.uint8).data
    if codec is None:
        return Block(RAW_WIRE_ID, 0, len(arrays), raw)
    best = Block(RAW_WIRE_ID, 0, len(arrays), raw)
    attempts = [(data, 0)]
    if references is not None:
        base = np.concatenate([little_endian(reference) for reference in references])
        # Both, because a model that was trained afresh has nothing in common with the last one.
        attempts.append((difference(data, base), CONDITIONAL))
    for words, flags in attempts:
        blob = codec.encode(words.view(np.uint8).data, words.itemsize)
        if len(blob) < len(best.data):
            best = Block(codec.wire_id, flags, len(arrays), blob)
    return best


def decode_block(
    block: Block,
    counts: Sequence[int],
    dtype: np.dtype[np.generic],
    lossy: bool,
    references: Sequence[Array | None],
    floats: Sequence[Floats | None],
    out: Array | None,
) -> list[Array]:
    """The tensors of a block, flat, native and writable.

    Args:
        block: flags already known to be legal; data from a stranger.
        counts: values per tensor, already within the caller's memory limit.
        dtype: of all of them, native.
        lossy: a lossy codec is allowed here.
        references: per tensor the reference's own, flat (used by exact blocks), or None.
        floats: the same as lossy codecs see it.
        out: room for all values, one tensor after the other; None leaves memory to the codec.
    """
    data = memoryview(block.data)
    codec = codec_on_wire(block.method) if block.method not in (RAW_WIRE_ID, CONSTANT_WIRE_ID) else None
    if isinstance(codec, LossyCodec):
        if not lossy:
            raise MalformedPayloadError(f"codec {codec.codec_id} on a tensor that is marked exact")
        return _decode_lossy_block(block, data, codec, counts, dtype, floats, out)
    if block.flags & ~CONDITIONAL:
        raise MalformedPayloadError("flags of a lossy block on an exact one")
    if out is None:
        out = np.empty(sum(counts), dtype)
    if block.method == CONSTANT_WIRE_ID:
        if len(counts) != 1 or len(data) != dtype.itemsize or block.flags:
            raise MalformedPayloadError("a constant block holds one value of one tensor")
        out[:] = little_endian(np.frombuffer(data, dtype))
        return [out]
    if isinstance(codec, LosslessCodec):
        word = word_dtype(dtype) if block.flags & CONDITIONAL else dtype
        if out.size:
            codec.decode(data, out.view(np.uint8).data, word.itemsize)
    elif block.method != RAW_WIRE_ID:
        raise MalformedPayloadError(f"unknown codec number {block.method}")
    elif len(data) != out.nbytes or block.flags:
        raise MalformedPayloadError(f"a raw block of {len(data)} bytes for {out.nbytes}")
    else:
        out.view(np.uint8)[:] = np.frombuffer(data, np.uint8)
    if block.flags & CONDITIONAL:
        if any(reference is None for reference in references):
            raise MalformedPayloadError("a block coded against a tensor that the reference does not have")
        base = np.concatenate([little_endian(cast(Array, reference)) for reference in references])
        undo_difference(out, base)
    if not np.little_endian:
        out.byteswap(inplace=True)
    return cut(out, counts)


def _decode_lossy_block(
    block: Block,
    data: memoryview,
    codec: LossyCodec,
    counts: Sequence[int],
    dtype: np.dtype[np.generic],
    floats: Sequence[Floats | None],
    out: Array | None,
) -> list[Array]:
    if 0 in counts:
        raise MalformedPayloadError("a lossy block of an empty tensor")
    patch: memoryview | None = None
    if block.flags & PATCHED:
        reader = Reader(data, "patched block")
        data = reader.take(reader.varint())
        patch = reader.take(reader.remaining())
    references: Sequence[Floats | None] = [None] * len(counts)
    if block.flags & CONDITIONAL:
        if not codec.supports_reference or any(values is None for values in floats):
            raise MalformedPayloadError(
                "a lossy block coded against a tensor that the reference does not have"
            )
        references = floats
    decoded = decode_floats(data, codec, block.flags, counts, dtype, references, out)
    if patch is not None:
        joined = decoded[0] if len(decoded) == 1 else np.concatenate(decoded) if out is None else out
        apply_patch(patch, joined)
        decoded = cut(joined, counts)
    return decoded


def little_endian(array: Array) -> Array:
    """*array* with its bytes little-endian under the same dtype: itself on nearly every machine."""
    return array if np.little_endian else array.byteswap()


def word_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.unsignedinteger]:
    """The unsigned integer whose differences are coded: the item, or one part of a complex one."""
    return np.dtype(f"u{dtype.itemsize // (2 if dtype.kind == 'c' else 1)}")


def difference(data: Array, base: Array) -> Array:
    """Bit patterns of *data* minus those of *base*, as unsigned integers with the sign in the lowest bit (zigzag)."""
    word = word_dtype(data.dtype)
    delta = data.view(word) - base.view(word)
    signed = delta.view(np.dtype(f"i{word.itemsize}"))
    return cast(Array, (delta << 1) ^ (signed >> (8 * word.itemsize - 1)).view(word))


def undo_difference(coded: Array, base: Array) -> None:
    """Inverse of `difference`, in place; both have the tensor's dtype."""
    bits = coded.view(word_dtype(base.dtype))
    bits[:] = ((bits >> 1) ^ (~(bits & 1) + 1)) + base.view(bits.dtype)
