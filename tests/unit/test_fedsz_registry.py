"""Codecs by id: complete, unique, and clear about what is missing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

import fedsz
from fedsz import registry
from fedsz.registry import Codec, LosslessCodec, LossyCodec, lossless_codec, lossy_codec

# One byte format for ever: an id or number in this table never changes its meaning.
WIRE_IDS = {
    "blosc-lz": 2, "zstd": 3, "zlib": 4, "gzip": 5, "xz": 6, "zstd-planes": 7,
    "sz2": 16, "sz3": 17, "sz3-interp": 18, "sz3-nopred": 19, "zfp": 20,
    "szx": 21, "fedsz-q": 22, "fedsz-q-dither": 23,
}  # fmt: skip


def concrete(base: type[Codec]) -> set[type[Codec]]:
    """Every codec class that has an id and was made by this package."""
    below = {kind for child in base.__subclasses__() for kind in concrete(child) | {child}}
    return {kind for kind in below if "codec_id" in vars(kind) and kind.__module__.startswith("fedsz.")}


def test_every_codec_class_is_registered() -> None:
    found = concrete(LossyCodec) | concrete(LosslessCodec)
    assert {kind.codec_id for kind in found} | {"none"} == set(fedsz.codecs())


def test_numbers_on_the_wire_stay() -> None:
    assert {i: registry._BY_ID[i].wire_id for i in WIRE_IDS} == WIRE_IDS


def test_an_id_has_one_owner() -> None:
    class Impostor(LosslessCodec):
        codec_id: ClassVar[str] = "zstd"
        wire_id: ClassVar[int] = 250

        def encode(self, data: memoryview, itemsize: int) -> bytes:
            return b""

        def decode(self, blob: memoryview, out: memoryview, itemsize: int) -> None:
            return None

    with pytest.raises(ValueError, match="codec id 'zstd' or wire id 250 belongs to Zstd"):
        registry.register(Impostor)
    Impostor.wire_id = 1
    with pytest.raises(ValueError, match=r"outside 2\.\.255"):
        registry.register(Impostor)


def test_unknown_codec_lists_the_known() -> None:
    with pytest.raises(
        fedsz.UnknownCodecError, match=r"unknown codec 'sz4'; registered: none, sz2, sz3.*did you mean"
    ):
        lossy_codec("sz4")
    with pytest.raises(fedsz.UnknownCodecError, match=r"unknown codec 'sz2'; registered: blosc-lz, zstd"):
        lossless_codec("sz2")
    with pytest.raises(fedsz.UnknownCodecError):
        fedsz.compress({}, codec="zstd")


def test_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsz.sz3 import Sz3

    monkeypatch.setitem(registry._INSTANCES, Sz3, Sz3())
    monkeypatch.delitem(registry._INSTANCES, Sz3)
    monkeypatch.setitem(__import__("sys").modules, "pysz", None)
    info = fedsz.codecs()["sz3"]
    assert (info.available, info.kind) == (False, "lossy")
    assert "pip install 'pysz" in info.install
    with pytest.raises(fedsz.CodecUnavailableError, match=r"codec 'sz3' cannot be used here: .*install pysz"):
        fedsz.compress({"weight": np.zeros(4)}, codec="sz3")


def test_everything_is_available_here() -> None:
    assert [info.codec_id for info in fedsz.codecs().values() if not info.available] == []
