"""What we rely on in other people's codecs, one test per fact: run these on upgrades."""

from __future__ import annotations

import ctypes

import h5py
import hdf5plugin
import numpy as np
import pysz
import pytest
import zfpy
import zstandard

from fedsz import sz2
from fedsz.registry import CannotEncodeError, lossy_codec

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(0, 0.02, 5000).astype("f4")


def hdf5(path: str) -> h5py.File:
    return h5py.File(path, "w", driver="core", backing_store=False)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sz2_streams_are_those_of_the_hdf5_filter(dtype: str) -> None:
    """Other HDF5 programs can read ours, and we read theirs; the compressed sizes agree to a byte or two."""
    values, codec = WEIGHTS.astype(dtype), lossy_codec("sz2")
    ours = codec.encode(values, 1e-3)
    with hdf5("belief") as file:
        filtered = file.create_dataset(
            "a", data=values, chunks=values.shape, compression=hdf5plugin.SZ(absolute=1e-3)
        )
        theirs = filtered.id.read_direct_chunk((0,))[1]
        read_by_filter = filtered[:]
        empty = file.create_dataset(
            "b", values.shape, dtype, chunks=values.shape, compression=hdf5plugin.SZ(absolute=1e-3)
        )
        empty.id.write_direct_chunk((0,), ours)
        ours_by_filter = empty[:]
    assert abs(len(ours) - len(theirs)) <= 8
    assert np.array_equal(codec.decode(memoryview(theirs), values.size, values.dtype), read_by_filter)
    assert np.array_equal(ours_by_filter, read_by_filter)


def test_sz2_leaves_a_field_uninitialised_and_we_do_not() -> None:
    codec, streams = lossy_codec("sz2"), set()
    for size in range(40):
        codec.encode(RNG.normal(size=100 + size), 1e-3)  # leaves other bytes on the heap
        streams.add(codec.encode(WEIGHTS, 1e-3))
    assert len(streams) == 1


def test_sz2_returns_short_input_as_it_is() -> None:
    """And its decoder then frees what it did not allocate: hence the least count."""
    library, size = sz2._library(), ctypes.c_size_t()
    values = WEIGHTS[:20].copy()
    pointer = library.compress(0, values.ctypes.data, ctypes.byref(size), 0, 1e-3, 0.0, 0.0, 0, 0, 0, 0, 20)
    assert ctypes.string_at(pointer, size.value) == values.tobytes()
    library.free(pointer)
    codec = lossy_codec("sz2")
    with pytest.raises(CannotEncodeError):
        codec.encode(values, 1e-3)
    for count in (21, 22, 100):
        back = codec.decode(memoryview(codec.encode(WEIGHTS[:count], 1e-3)), count, np.dtype("f4"))
        assert np.abs(back - WEIGHTS[:count]).max() <= 1e-3


def test_sz2_keeps_nothing_between_calls() -> None:
    """Its settings are globals; another tensor's bound and type must not leak into the next."""
    codec = lossy_codec("sz2")
    alone = codec.encode(WEIGHTS, 1e-3)
    codec.encode(RNG.normal(size=3000), 0.5)
    codec.decode(memoryview(codec.encode(RNG.normal(size=500), 1e-6)), 500, np.dtype("f8"))
    assert codec.encode(WEIGHTS, 1e-3) == alone


def test_pysz_checks_the_count_in_the_stream() -> None:
    config = pysz.szConfig(WEIGHTS.shape)
    config.errorBoundMode, config.absErrorBound = 0, 1e-3
    stream, _ = pysz.sz.compress(WEIGHTS, config)
    with pytest.raises(ValueError, match="holds 6000 values, the compressed data 5000"):
        pysz.sz.decompress(stream, np.float32, (6000,))


def test_pysz_mode_0_is_absolute() -> None:
    assert pysz.szErrorBoundMode.ABS == 0
    for codec_id in ("sz3", "sz3-interp", "sz3-nopred"):
        codec = lossy_codec(codec_id)
        back = codec.decode(memoryview(codec.encode(WEIGHTS, 1e-3)), WEIGHTS.size, WEIGHTS.dtype)
        assert 0.5e-3 < np.abs(back - WEIGHTS).max() <= 1.001e-3


def test_zfpy_decodes_without_its_header() -> None:
    stream = zfpy.compress_numpy(WEIGHTS, tolerance=1e-3, write_header=False)
    out = np.empty_like(WEIGHTS)
    zfpy._decompress(memoryview(stream), zfpy.type_float, WEIGHTS.shape, out=out, tolerance=1e-3)
    assert np.abs(out - WEIGHTS).max() <= 1e-3


def test_zstandard_trusts_the_frame_over_max_output_size() -> None:
    """Which is why the frame's own claim is checked first."""
    frame = zstandard.compress(bytes(1 << 20))
    assert len(zstandard.ZstdDecompressor().decompress(frame, max_output_size=10)) == 1 << 20
