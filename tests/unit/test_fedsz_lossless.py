"""Lossless codecs: exact, and never more memory than asked for."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import zstandard

import fedsz
from fedsz import lossless
from fedsz.registry import LosslessCodec, lossless_codec

IDS = [info.codec_id for info in fedsz.codecs().values() if info.kind == "lossless"]
RNG = np.random.default_rng(0)


@pytest.fixture(params=IDS)
def codec(request: pytest.FixtureRequest) -> LosslessCodec:
    return lossless_codec(request.param)


def decoded(codec: LosslessCodec, blob: bytes, nbytes: int, itemsize: int) -> bytes:
    out = bytearray(nbytes)
    codec.decode(memoryview(blob), memoryview(out), itemsize)
    return bytes(out)


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("items", [1, 2, 100, 70_000])
def test_exact(codec: LosslessCodec, itemsize: int, items: int) -> None:
    for data in (RNG.bytes(itemsize * items), bytes(itemsize * items), bytes(range(itemsize)) * items):
        blob = codec.encode(memoryview(data), itemsize)
        assert decoded(codec, blob, len(data), itemsize) == data


def test_another_length_than_stored_is_refused(codec: LosslessCodec) -> None:
    data = np.arange(1000, dtype="<f4").tobytes()
    blob = codec.encode(memoryview(data), 4)
    for nbytes in (0, 4, 3996, 4004, 1 << 20):
        with pytest.raises(fedsz.PayloadError):
            decoded(codec, blob, nbytes, 4)


def test_cut_and_prolonged_streams_are_refused(codec: LosslessCodec) -> None:
    data = RNG.normal(size=500).astype("<f4").tobytes()
    blob = codec.encode(memoryview(data), 4)
    for damaged in (blob[:-1], blob[: len(blob) // 2], b"", blob + b"\0"):
        with pytest.raises(fedsz.PayloadError):
            decoded(codec, damaged, len(data), 4)


def test_a_bomb_is_refused_by_its_claim(codec: LosslessCodec) -> None:
    bomb = codec.encode(memoryview(b"\x01\x02\x03\x04" + bytes(4 << 20)), 4)
    with pytest.raises(fedsz.PayloadError):
        decoded(codec, bomb, 4096, 4)


def test_zstd_frame_without_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(4096))
    with pytest.raises(fedsz.PayloadError, match="zstd frame claims"):
        lossless.zstd_decompress_into(memoryview(frame), memoryview(bytearray(4096)))


def test_blosc_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lossless, "_BLOSC_PIECE", 4096)
    codec, data = lossless_codec("blosc-lz"), RNG.bytes(10_000)
    blob = codec.encode(memoryview(data), 4)
    assert decoded(codec, blob, len(data), 4) == data
    (first,) = struct.unpack_from("<I", blob, 12)
    with pytest.raises(fedsz.PayloadError):
        decoded(codec, blob[:first], len(data), 4)


def test_planes_layout() -> None:
    """A varint before each plane: 0 raw, 1 constant, otherwise frame length + 2."""
    blob = lossless_codec("zstd-planes").encode(memoryview(b"\x01\x02\x05\x03\x02\x05"), 3)
    assert blob == b"\x00\x01\x03\x01\x02\x01\x05"
