"""Lossless codecs: the five of the paper, and byte planes through zstd.

None gains much on weights, whose mantissas are noise: the paper takes blosc-lz for its speed. Byte planes are smaller
and about as fast; docs/format.md has the figures.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import threading
import zlib
from typing import ClassVar

import numpy as np
import zstandard

from fedsz.errors import MalformedPayloadError
from fedsz.registry import LosslessCodec, register
from fedsz.wire import Reader, write_varints

# blosc2 chunks end at 2 GiB.
_BLOSC_PIECE = 1 << 30
_BLOSC_HEADER = 32
_XZ_MEMORY = 256 << 20

_threads = threading.local()


def zstd_compress(data: bytes | bytearray | memoryview, level: int) -> bytes:
    """One zstd frame that states its content size; contexts are kept per thread (making one costs 50 us)."""
    contexts = _threads.__dict__.setdefault("compressors", {})
    if level not in contexts:
        contexts[level] = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
    return bytes(contexts[level].compress(data))


def zstd_decompress_into(blob: memoryview, out: memoryview) -> None:
    """One zstd frame that must hold exactly ``len(out)`` bytes; MalformedPayloadError otherwise."""
    context = _threads.__dict__.get("decompressor")
    if context is None:
        context = _threads.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    try:
        parameters = zstandard.get_frame_parameters(blob)
        if parameters.content_size != len(out):
            raise MalformedPayloadError(f"zstd frame claims {parameters.content_size} bytes, not {len(out)}")
        # With the right content size stated, libzstd never writes past it.
        data = context.decompress(blob, max_output_size=len(out), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedPayloadError(f"zstd: {error}") from None
    if len(data) != len(out):
        raise MalformedPayloadError(f"zstd frame holds {len(data)} bytes, not {len(out)}")
    out[:] = data


@register
class BloscLz(LosslessCodec):
    """blosclz after a byte shuffle, level 9: the paper's choice. Chunks of 1 GiB, one after the other."""

    codec_id: ClassVar[str] = "blosc-lz"
    wire_id: ClassVar[int] = 2

    @classmethod
    def why_unavailable(cls) -> tuple[str, str] | None:
        try:
            import blosc2  # noqa: F401  (takes as long as the rest of this package, so only where it is used)
        except ImportError as error:
            return str(error), "install blosc2 (pip install 'blosc2>=3.0')"
        return None

    def encode(self, data: memoryview, itemsize: int) -> bytes:
        pieces = (data[at : at + _BLOSC_PIECE] for at in range(0, len(data), _BLOSC_PIECE))
        return b"".join(self._encode_piece(piece, itemsize) for piece in pieces)

    @staticmethod
    def _encode_piece(piece: memoryview, itemsize: int) -> bytes:
        import blosc2

        chunk: bytes = blosc2.compress2(
            piece,
            codec=blosc2.Codec.BLOSCLZ,
            clevel=9,
            typesize=itemsize,
            filters=[blosc2.Filter.SHUFFLE],
            filters_meta=[0],
            nthreads=1,
        )
        return chunk

    def decode(self, blob: memoryview, out: memoryview, itemsize: int) -> None:
        import blosc2

        at = 0
        for start in range(0, len(out), _BLOSC_PIECE):
            piece = out[start : start + _BLOSC_PIECE]
            if len(blob) - at < _BLOSC_HEADER:
                raise MalformedPayloadError("blosc chunk ends within its header")
            nbytes, stored = struct.unpack_from("<I4xI", blob, at + 4)
            if nbytes != len(piece) or not _BLOSC_HEADER <= stored <= len(blob) - at:
                raise MalformedPayloadError(
                    f"blosc chunk claims {nbytes} bytes in {stored}, not {len(piece)}"
                )
            try:
                blosc2.decompress2(blob[at : at + stored], dst=piece, nthreads=1)
            except (RuntimeError, ValueError, TypeError) as error:
                raise MalformedPayloadError(f"blosc: {error}") from None
            at += stored
        if at != len(blob):
            raise MalformedPayloadError("bytes after the last blosc chunk")


@register
class Zstd(LosslessCodec):
    """zstd level 10, as in the paper; one frame."""

    codec_id: ClassVar[str] = "zstd"
    wire_id: ClassVar[int] = 3

    def encode(self, data: memoryview, itemsize: int) -> bytes:
        return zstd_compress(data, 10)

    def decode(self, blob: memoryview, out: memoryview, itemsize: int) -> None:
        zstd_decompress_into(blob, out)


class _Deflate(LosslessCodec):
    _window_bits: ClassVar[int]

    def decode(self, blob: memoryview, out: memoryview, itemsize: int) -> None:
        machine = zlib.decompressobj(self._window_bits)
        try:
            # One byte more than allowed tells a lying stream from an honest one.
            data = machine.decompress(blob, len(out) + 1)
        except zlib.error as error:
            raise MalformedPayloadError(f"{self.codec_id}: {error}") from None
        _exact(self.codec_id, data, out, machine.eof, machine.unused_data)


@register
class Zlib(_Deflate):
    """zlib level 6 (RFC 1950)."""

    codec_id: ClassVar[str] = "zlib"
    wire_id: ClassVar[int] = 4
    _window_bits: ClassVar[int] = zlib.MAX_WBITS

    def encode(self, data: memoryview, itemsize: int) -> bytes:
        return zlib.compress(data, 6)


@register
class Gzip(_Deflate):
    """gzip level 9 with time stamp 0 (RFC 1952), one member."""

    codec_id: ClassVar[str] = "gzip"
    wire_id: ClassVar[int] = 5
    _window_bits: ClassVar[int] = zlib.MAX_WBITS | 16

    def encode(self, data: memoryview, itemsize: int) -> bytes:
        return gzip.compress(data, 9, mtime=0)


@register
class Xz(LosslessCodec):
    """xz, preset 6, one stream."""

    codec_id: ClassVar[str] = "xz"
    wire_id: ClassVar[int] = 6

    def encode(self, data: memoryview, itemsize: int) -> bytes:
        return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, preset=6)

    def decode(self, blob: memoryview, out: memoryview, itemsize: int) -> None:
        machine = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        try:
            data = machine.decompress(blob, len(out) + 1)
        except (lzma.LZMAError, MemoryError) as error:
            raise MalformedPayloadError(f"xz: {error}") from None
        _exact(self.codec_id, data, out, machine.eof, machine.unused_data)


@register
class ZstdPlanes(LosslessCodec):
    """The first byte of every item, then every second byte, ...: each plane by itself.

    A varint before each plane: 0, the plane as it is; 1, one byte that all of it equals; n + 2, a zstd frame of n
    bytes.
    """

    codec_id: ClassVar[str] = "zstd-planes"
    wire_id: ClassVar[int] = 7
    _level = 3

    def encode(self, data: memoryview, itemsize: int) -> bytes:
        items = np.frombuffer(data, np.uint8).reshape(-1, itemsize)
        parts: list[bytes | memoryview] = []
        for plane in range(itemsize):
            column = np.ascontiguousarray(items[:, plane])
            if (column == column[0]).all():
                parts += [b"\x01", column[:1].data]
                continue
            frame = zstd_compress(column.data, self._level)
            if len(frame) < len(column):
                parts += [write_varints([len(frame) + 2]), frame]
            else:
                parts += [b"\x00", column.data]
        return b"".join(parts)

    def decode(self, blob: memoryview, out: memoryview, itemsize: int) -> None:
        items = np.frombuffer(out, np.uint8).reshape(-1, itemsize)
        reader = Reader(blob, "zstd-planes block")
        column = np.empty(len(items), np.uint8)
        for plane in range(itemsize):
            stored = reader.varint()
            if stored == 0:
                items[:, plane] = np.frombuffer(reader.take(len(items)), np.uint8)
            elif stored == 1:
                items[:, plane] = reader.take(1)[0]
            else:
                zstd_decompress_into(reader.take(stored - 2), column.data)
                items[:, plane] = column
        reader.end()


def _exact(codec_id: str, data: bytes, out: memoryview, ended: bool, rest: bytes) -> None:
    if len(data) != len(out) or not ended or rest:
        raise MalformedPayloadError(f"{codec_id} stream does not hold exactly {len(out)} bytes")
    out[:] = data
