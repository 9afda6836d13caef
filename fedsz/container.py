"""The versioned, self-describing stream around the blocks; docs/format.md is its specification.

Blocks come first and the directory last, so that writing streams over the tensors and the directory, in columns, is
compressed as a whole. Reading trusts nothing: magic, version, checksum, lengths, only then memory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from isal.isal_zlib import crc32

from fedsz.arrays import BIG_ENDIAN
from fedsz.bound import MODES, ErrorBound
from fedsz.errors import (
    ChecksumError,
    InvalidBoundError,
    MalformedPayloadError,
    ReferenceMismatchError,
    TruncatedPayloadError,
    UnsupportedTensorError,
    VersionError,
)
from fedsz.globalmodel import DIGEST_BYTES, Reference
from fedsz.layout import Layout
from fedsz.lossless import zstd_compress, zstd_decompress_into
from fedsz.wire import Reader, write_varints

MAGIC = b"FDSZ"
VERSION = 1

HEAD = struct.Struct("<4sBBH")  # magic, version, flags, reserved
_SIZES = struct.Struct("<II")  # directory: stored bytes, bytes
_CRC = struct.Struct("<I")
_CODING = struct.Struct("<BdBB")  # bound mode, bound value, lossy codec, lossless codec
_HAS_REFERENCE, _LAYOUT_OF_REFERENCE = 1, 2
_MAX_DIRECTORY = 16 << 20
_DIRECTORY_LEVEL = 1  # level 12 saves an eighth of a kilobyte and takes 0.8 ms instead of 0.02


@dataclass(frozen=True, slots=True)
class BlockRow:
    """What the directory says about one block: see `fedsz.blocks.Block`."""

    method: int
    flags: int
    tensors: int
    length: int


@dataclass(frozen=True)
class Directory:
    """Everything about a payload but its blocks' bytes.

    Attributes:
        bound: as asked for.
        lossy, lossless: numbers of the codecs asked for, 0 for none; blocks say what was used.
        digest: of the reference, None without one.
        layout: names, dtypes and shapes in state order.
        routes: per tensor in state order, whether it may be coded within the bound.
        blocks: in the order of their bytes.
    """

    bound: ErrorBound
    lossy: int
    lossless: int
    digest: bytes | None
    layout: Layout
    routes: tuple[bool, ...]
    blocks: tuple[BlockRow, ...]

    def storage_order(self) -> list[int]:
        """Positions of the tensors in the order in which blocks hold them."""
        return storage_order(self.layout, self.routes)


def storage_order(layout: Layout, routes: Sequence[bool]) -> list[int]:
    """Lossy tensors first, then by dtype number, exact ones then by `Layout.kinds`, then in state order.

    Neighbours can share a block, and running means compress better among running means.
    """
    lossy_first = [not lossy for lossy in routes]
    codes = [code & ~BIG_ENDIAN for code in layout.codes]
    kinds = [b"" if lossy else kind for lossy, kind in zip(routes, layout.kinds, strict=True)]
    return sorted(range(len(routes)), key=list(zip(lossy_first, codes, kinds, strict=True)).__getitem__)


def head(directory_flags: int) -> bytes:
    """The first 8 bytes of a payload."""
    return HEAD.pack(MAGIC, VERSION, directory_flags, 0)


def flags_for(layout: Layout, reference: Reference | None) -> int:
    """The flags of a payload of *layout* coded against *reference*."""
    if reference is None:
        return 0
    return _HAS_REFERENCE | (_LAYOUT_OF_REFERENCE if reference.layout == layout else 0)


def write_directory(directory: Directory, flags: int) -> bytes:
    """The directory and its sizes, as they stand before the checksum."""
    raw = b"".join(
        (
            _CODING.pack(
                MODES.index(directory.bound.mode), directory.bound.value, directory.lossy, directory.lossless
            ),
            directory.digest or b"",
            b"" if flags & _LAYOUT_OF_REFERENCE else directory.layout.write(),
            np.packbits(np.array(directory.routes, bool), bitorder="little").tobytes(),
            write_varints([len(directory.blocks)]),
            bytes(block.method for block in directory.blocks),
            bytes(block.flags for block in directory.blocks),
            write_varints(block.tensors for block in directory.blocks),
            write_varints(block.length for block in directory.blocks),
        )
    )
    if len(raw) > _MAX_DIRECTORY:
        raise UnsupportedTensorError(
            directory.layout.names[0], f"this and all other names need a directory of {len(raw)} bytes"
        )
    packed = zstd_compress(raw, _DIRECTORY_LEVEL)
    if len(packed) >= len(raw):
        packed = raw
    return packed + _SIZES.pack(len(packed), len(raw))


def checksum(data: bytes | memoryview) -> bytes:
    """The last 4 bytes of a payload: CRC-32 (zlib's) of every byte before them."""
    return _CRC.pack(crc32(data))


def read_directory(
    payload: bytes | bytearray | memoryview, reference: Reference | None, max_bytes: int
) -> tuple[Directory, memoryview]:
    """Check a payload and read its directory, without touching the blocks.

    Args:
        payload: from a stranger.
        reference: what the caller holds; needed where the payload takes its layout from it.
        max_bytes: largest sum of decoded bytes that is accepted.

    Returns:
        The directory and the bytes of all blocks together, whose length matches it.
    """
    data = memoryview(payload).cast("B")
    tail = _SIZES.size + _CRC.size
    if len(data) < HEAD.size + tail:
        raise TruncatedPayloadError(f"payload of {len(data)} bytes; the shortest has {HEAD.size + tail}")
    magic, version, flags, reserved = HEAD.unpack_from(data)
    if magic != MAGIC:
        raise MalformedPayloadError(f"payload begins with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise VersionError(f"container version {version}; this build reads version {VERSION}")
    if _CRC.unpack_from(data, len(data) - _CRC.size)[0] != crc32(data[: -_CRC.size]):
        raise ChecksumError("checksum does not match: the payload was damaged or cut short on its way")
    if reserved or flags not in (0, _HAS_REFERENCE, _HAS_REFERENCE | _LAYOUT_OF_REFERENCE):
        raise MalformedPayloadError(f"flags {flags:#04x} and reserved {reserved:#06x} are not known")
    stored, size = _SIZES.unpack_from(data, len(data) - tail)
    if stored > len(data) - HEAD.size - tail or not stored <= size <= _MAX_DIRECTORY:
        raise MalformedPayloadError(f"directory of {size} bytes in {stored} of a payload of {len(data)}")
    end = len(data) - tail - stored
    raw = data[end : end + stored]
    if stored < size:
        packed, raw = raw, memoryview(bytearray(size))
        zstd_decompress_into(packed, raw)
    directory = _parse(Reader(raw, "directory"), flags, reference, max_bytes)
    claimed = sum(block.length for block in directory.blocks)
    if claimed != end - HEAD.size:
        raise MalformedPayloadError(f"blocks of {claimed} bytes; the payload holds {end - HEAD.size}")
    return directory, data[HEAD.size : end]


def _parse(reader: Reader, flags: int, reference: Reference | None, max_bytes: int) -> Directory:
    mode, value, lossy, lossless = _CODING.unpack(reader.take(_CODING.size))
    if mode >= len(MODES):
        raise MalformedPayloadError(f"bound mode number {mode} is not known")
    try:
        bound = ErrorBound(MODES[mode], value)
    except InvalidBoundError as error:
        raise MalformedPayloadError(str(error)) from None
    digest = bytes(reader.take(DIGEST_BYTES)) if flags & _HAS_REFERENCE else None
    if flags & _LAYOUT_OF_REFERENCE:
        assert digest is not None
        layout = check_reference(digest, reference).layout
        layout.check_size(max_bytes)
    else:
        layout = Layout.read(reader, max_bytes)
    tensors = len(layout.names)
    bits = np.unpackbits(np.frombuffer(reader.take((tensors + 7) // 8), np.uint8), bitorder="little")
    if bits[tensors:].any():
        raise MalformedPayloadError("padding of the route bits is not zero")
    count = reader.varint()
    if count > tensors:
        raise MalformedPayloadError(f"{count} blocks for {tensors} tensors")
    methods, block_flags = reader.take(count), reader.take(count)
    counts, lengths = reader.varints(count), reader.varints(count)
    reader.end()
    if sum(counts) != tensors or 0 in counts:
        raise MalformedPayloadError(f"blocks hold {sum(counts)} tensors, the layout {tensors}")
    blocks = tuple(map(BlockRow, methods, block_flags, counts, lengths))
    return Directory(
        bound, lossy, lossless, digest, layout, tuple(bits[:tensors].astype(bool).tolist()), blocks
    )


def check_reference(digest: bytes, reference: Reference | None) -> Reference:
    """*reference*, if it is the one that *digest* names; ReferenceMismatchError otherwise."""
    if reference is None:
        raise ReferenceMismatchError(digest.hex(), None)
    if reference.digest != digest:
        raise ReferenceMismatchError(digest.hex(), reference.digest.hex())
    return reference
