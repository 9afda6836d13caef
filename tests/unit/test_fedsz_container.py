"""The frame around the blocks: what it costs, and that every lie in it is called one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fuzz_fedsz import sealed, unpacked_directory

import fedsz
from fedsz import ErrorBound, Partition, Reference
from fedsz.container import HEAD, read_directory

RNG = np.random.default_rng(0)
STATE: dict[str, Any] = {
    "conv.weight": RNG.normal(0, 0.02, (64, 32, 3, 3)).astype("f4"),
    "bn.bias": RNG.normal(size=64).astype("f4"),
    "bn.num_batches_tracked": np.array(391),
}


def test_byte_for_byte_without_compression() -> None:
    """The whole version 1 frame, written out by hand as docs/format.md has it."""
    payload = fedsz.compress({"w": np.float32([1, 2])}, codec="none")
    directory = (
        b"\x00" + struct.pack("<d", 0.01) + b"\x00\x00"  # REL 1e-2, no lossy codec, no lossless codec
        b"\x01\x01w\x0b\x01\x02"  # 1 tensor, name of 1 byte, "w", float32, 1 dimension, of 2
        b"\x00"  # routes: exact
        b"\x01\x00\x00\x01\x08"  # 1 block: raw, no flags, 1 tensor, 8 bytes
    )
    body = (
        b"FDSZ\x01\x00\x00\x00"
        + struct.pack("<2f", 1, 2)
        + directory
        + struct.pack("<II", *[len(directory)] * 2)
    )
    assert payload == body + struct.pack("<I", zlib.crc32(body))


def mobilenet_like() -> dict[str, Any]:
    """314 tensors with names like MobileNetV2's."""
    state: dict[str, Any] = {}
    for block in range(52):
        base = f"features.{block // 3}.conv.{block % 3}"
        state[f"{base}.0.weight"] = RNG.normal(0, 0.02, (96, 20)).astype("f4")
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{base}.1.{name}"] = RNG.normal(size=32).astype("f4")
        state[f"{base}.1.num_batches_tracked"] = np.array(60)
    return state | {"classifier.1.weight": np.zeros((10, 128), "f4"), "classifier.1.bias": np.zeros(10, "f4")}


def test_the_header_is_small_and_smaller_with_a_reference() -> None:
    state = mobilenet_like()
    assert len(state) == 314
    alone = fedsz.inspect(fedsz.compress(state, codec="sz3"))
    assert alone.header_bytes < 1300
    reference = Reference(state)
    payload = fedsz.compress(state, codec="sz3", reference=reference)
    assert fedsz.inspect(payload, reference=reference).header_bytes < 350


def test_small_exact_tensors_share_blocks_by_kind() -> None:
    rows = fedsz.inspect(fedsz.compress(mobilenet_like(), codec="sz3")).tensors
    exact = {row.block for row in rows if not row.lossy}
    assert len(exact) == 5
    for kind in ("running_mean", "running_var"):
        assert len({row.block for row in rows if row.name.endswith(kind)}) == 1


def test_inspection_tells_what_is_in_a_payload() -> None:
    payload = fedsz.compress(STATE, ErrorBound("ABS", 1e-3), codec="sz3", lossless="zlib")
    seen = fedsz.inspect(payload)
    assert (seen.codec, seen.lossless, seen.bound) == ("sz3", "zlib", ErrorBound("ABS", 1e-3))
    assert seen.raw_bytes == fedsz.update_bytes(STATE) == 18432 * 4 + 64 * 4 + 8
    assert seen.payload_bytes == len(payload)
    assert fedsz.compression_ratio(STATE, payload) == seen.raw_bytes / len(payload)
    assert [(row.name, row.dtype, row.shape, row.lossy, row.method) for row in seen.tensors] == [
        ("conv.weight", "float32", (64, 32, 3, 3), True, "sz3"),
        ("bn.bias", "float32", (64,), False, "raw"),
        ("bn.num_batches_tracked", "int64", (), False, "raw"),
    ]
    assert sum(row.stored_bytes for row in seen.tensors) + seen.header_bytes == pytest.approx(len(payload))
    assert fedsz.inspect(fedsz.compress(STATE, codec="none")).codec == "none"


def test_an_inspection_does_not_need_memory_for_the_tensors() -> None:
    directory = fedsz.compress({"weight": np.zeros((3, 4), "f4")}, codec="none")
    blocks, raw = unpacked_directory(directory)
    lie = sealed(
        directory[:8], bytes(blocks), bytes(raw).replace(b"\x02\x03\x04", b"\x02\x03\xff\xff\xff\xff\x7f")
    )
    assert fedsz.inspect(lie).raw_bytes == 3 * ((1 << 35) - 1) * 4
    with pytest.raises(fedsz.PayloadTooLargeError, match="max_bytes allows 4294967296"):
        fedsz.decompress(lie)


def reseal(payload: bytes, change: Callable[[bytearray, bytearray, bytearray], None]) -> bytes:
    """The payload after *change* of head, blocks and directory, with the checksum made right again."""
    blocks, directory = unpacked_directory(payload)
    head = bytearray(payload[: HEAD.size])
    change(head, blocks, directory)
    return sealed(bytes(head), bytes(blocks), bytes(directory))


def set_byte(part: int, at: int, value: int) -> Callable[..., None]:
    def change(*parts: bytearray) -> None:
        parts[part][at] = value

    return change


def append(part: int, data: bytes) -> Callable[..., None]:
    def change(*parts: bytearray) -> None:
        parts[part].extend(data)

    return change


@pytest.mark.parametrize(
    ("change", "kind", "what"),
    [
        (set_byte(0, 0, 0x50), fedsz.MalformedPayloadError, "payload begins with b'PDSZ', not b'FDSZ'"),
        (set_byte(0, 4, 2), fedsz.VersionError, "container version 2; this build reads version 1"),
        (set_byte(0, 5, 2), fedsz.MalformedPayloadError, "flags 0x02"),
        (set_byte(0, 5, 4), fedsz.MalformedPayloadError, "flags 0x04"),
        (set_byte(0, 7, 1), fedsz.MalformedPayloadError, "reserved 0x0100"),
        (append(1, b"\0"), fedsz.MalformedPayloadError, "the payload holds"),
        (append(2, b"\0"), fedsz.MalformedPayloadError, "directory has 1 bytes too many"),
        (set_byte(2, 0, 3), fedsz.MalformedPayloadError, "bound mode number 3"),
        (set_byte(2, 8, 0xFF), fedsz.MalformedPayloadError, "error bound: value is a finite number >= 0"),
    ],
)
def test_lies_with_a_right_checksum(change: Callable[..., None], kind: type[Exception], what: str) -> None:
    payload = reseal(fedsz.compress(STATE, codec="sz3"), change)
    with pytest.raises(kind, match=what):
        fedsz.decompress(payload)


# The directory of {"w": float32 (2,)} without compression, from the routes on: route bits, blocks, methods, flags,
# tensors, lengths.
@pytest.mark.parametrize(
    ("tail", "what"),
    [
        (b"\x02\x01\x00\x00\x01\x08", "padding of the route bits"),
        (b"\x00\x02\x00\x00\x00\x00\x01\x01\x04\x04", "2 blocks for 1 tensors"),
        (b"\x00\x01\x00\x00\x02\x08", "blocks hold 2 tensors, the layout 1"),
        (b"\x00\x00", "blocks hold 0 tensors, the layout 1"),
        (b"\x00\x01\x00\x00\x01\x07", "blocks of 7 bytes"),
        (b"\x00\x01\x63\x00\x01\x08", "unknown codec number 99"),
        (b"\x00\x01\x00\x40\x01\x08", "block flags 0x40"),
        (b"\x00\x01\x00\x01\x01\x08", "flags of a lossy block on an exact one"),
        (b"\x00\x01\x00\x02\x01\x08", "a raw block of 8 bytes for 8"),
        (b"\x00\x01\x03\x02\x01\x08", "zstd: "),
        (b"\x00\x01\x01\x00\x01\x08", "a constant block holds one value"),
        (b"\x00\x01\x11\x00\x01\x08", "codec sz3 on a tensor that is marked exact"),
        (b"\x01\x01\x11\x02\x01\x08", "coded against a tensor that the reference does not have"),
        (b"\x01\x01\x11\x04\x01\x08", "codec sz3 does not group"),
        (b"\x01\x01\x11\x01\x01\x08", "patched block ends"),
        (b"\x01\x01\x10\x00\x01\x08", "SZ2 codes at least 21"),
    ],
)
def test_lies_about_blocks(tail: bytes, what: str) -> None:
    directory = b"\x00" + struct.pack("<d", 0.01) + b"\x00\x00\x01\x01w\x0b\x01\x02"
    payload = sealed(b"FDSZ\x01\x00\x00\x00", struct.pack("<2f", 1e38, 2), directory + tail)
    with pytest.raises(fedsz.MalformedPayloadError, match=what):
        fedsz.decompress(payload)


def test_integers_cannot_be_marked_lossy() -> None:
    directory = b"\x00" + struct.pack("<d", 0.01) + b"\x00\x00\x01\x01w\x05\x01\x02\x01\x01\x11\x00\x01\x08"
    with pytest.raises(fedsz.MalformedPayloadError, match="tensor of dtype int32 is marked lossy"):
        fedsz.decompress(sealed(b"FDSZ\x01\x00\x00\x00", bytes(8), directory))


def test_a_decoders_own_gap_is_the_payloads_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsz.sz3 import Sz3

    payload = fedsz.compress(STATE, codec="sz3")

    def gap(self: Sz3, blob: memoryview, count: int, dtype: Any, **rest: Any) -> Any:
        return [][1]

    monkeypatch.setattr(Sz3, "decode", gap)
    with pytest.raises(
        fedsz.MalformedPayloadError, match="decoder failed on this block: IndexError"
    ) as caught:
        fedsz.decompress(payload)
    assert isinstance(caught.value.__cause__, IndexError)


def test_an_empty_tensor_cannot_be_lossy() -> None:
    directory = b"\x00" + struct.pack("<d", 0.01) + b"\x00\x00\x01\x01w\x0b\x01\x00\x01\x01\x11\x00\x01\x08"
    with pytest.raises(fedsz.MalformedPayloadError, match="a lossy block of an empty tensor"):
        fedsz.decompress(sealed(b"FDSZ\x01\x00\x00\x00", bytes(8), directory))


def test_damage_is_told_from_cuts_and_lies() -> None:
    payload = fedsz.compress(STATE)
    with pytest.raises(fedsz.TruncatedPayloadError, match="payload of 19 bytes; the shortest has 20"):
        fedsz.decompress(payload[:19])
    with pytest.raises(fedsz.ChecksumError):
        fedsz.decompress(payload[:-1])
    with pytest.raises(fedsz.ChecksumError):
        fedsz.decompress(payload + b"\0")


def test_a_directory_bomb_is_refused_by_its_claim() -> None:
    bomb = fedsz.lossless.zstd_compress(bytes(64 << 20), 3)
    payload = sealed(b"FDSZ\x01\x00\x00\x00", b"", bomb, claimed=64 << 20)
    with pytest.raises(fedsz.MalformedPayloadError, match="directory of 67108864 bytes"):
        fedsz.decompress(payload)


def test_patches_that_lie_are_refused() -> None:
    state = {"weight": np.where(np.arange(2000) % 500 == 3, np.nan, RNG.normal(size=2000)).astype("f4")}
    payload = fedsz.compress(state, codec="sz3")
    assert fedsz.inspect(payload).tensors[0].patched
    assert np.isnan(fedsz.decompress(payload)["weight"]).sum() == 4
    blocks, directory = unpacked_directory(payload)
    for positions in ([5000], [0, 0], [1 << 63, 1 << 63]):
        gaps = np.array(positions, "<u8").view("u1").reshape(-1, 8).T.tobytes()
        patch = fedsz.wire.write_varints([len(positions)])
        patch += fedsz.lossless.zstd_compress(gaps + bytes(4 * len(positions)), 3)
        decoded = np.zeros(2000, "f4")
        with pytest.raises(fedsz.MalformedPayloadError, match="positions do not ascend"):
            fedsz.verify.apply_patch(memoryview(patch), decoded)
        assert not decoded.any()
    with pytest.raises(fedsz.MalformedPayloadError, match="patch of 0 values"):
        fedsz.verify.apply_patch(memoryview(b"\0"), np.zeros(3, "f4"))
    assert blocks
    assert directory


def test_payload_may_be_any_bytes_object() -> None:
    payload = fedsz.compress(STATE)
    for kind in (bytearray, memoryview, lambda data: np.frombuffer(data, "u1")):
        assert list(fedsz.decompress(kind(payload))) == list(STATE)


def test_zero_bound_is_lossless_and_a_number_is_no_bound() -> None:
    back = fedsz.decompress(fedsz.compress(STATE, ErrorBound("REL", 0)))
    assert all(np.array_equal(back[name], STATE[name]) for name in STATE)
    with pytest.raises(fedsz.InvalidBoundError, match="bound is an ErrorBound"):
        fedsz.compress(STATE, 1e-2)  # type: ignore[arg-type]


MOVED = {name: array + array.dtype.type(1) for name, array in STATE.items()}


class TestReference:
    def test_missing_and_wrong_reference(self) -> None:
        payload = fedsz.compress(STATE, reference=MOVED)
        digest = Reference(MOVED).digest.hex()
        with pytest.raises(fedsz.ReferenceMismatchError, match=f"digest {digest}; none was given"):
            fedsz.decompress(payload)
        with pytest.raises(fedsz.ReferenceMismatchError, match="the one given has digest"):
            fedsz.decompress(payload, reference=STATE)
        with pytest.raises(fedsz.ReferenceMismatchError):
            fedsz.inspect(payload)

    def test_a_payload_without_one_ignores_the_one_given(self) -> None:
        assert list(fedsz.decompress(fedsz.compress(STATE), reference=MOVED)) == list(STATE)

    def test_other_names_shapes_and_dtypes_fall_back(self) -> None:
        other = {
            "conv.weight": STATE["conv.weight"],
            "bn.bias": STATE["bn.bias"].astype("f8"),
            "bn.num_batches_tracked": np.array([391]),
            "extra": np.zeros(3),
        }
        payload = fedsz.compress(STATE, ErrorBound("REL", 0), reference=other)
        rows = fedsz.inspect(payload, reference=other).tensors
        assert [row.conditional for row in rows] == [True, False, False]
        back = fedsz.decompress(payload, reference=other)
        assert all(np.array_equal(back[name], STATE[name]) for name in STATE)

    def test_an_unchanged_model_costs_next_to_nothing(self) -> None:
        state = mobilenet_like()
        reference = Reference(state)
        payload = fedsz.compress(state, ErrorBound("REL", 0), reference=reference)
        assert len(payload) < 600
        directory, blocks = read_directory(payload, reference, 1 << 30)
        assert len(blocks) < len(payload)
        assert directory.digest == reference.digest

    def test_digest_depends_on_everything_but_byte_order_of_memory(self) -> None:
        digests = {
            Reference(state).digest
            for state in (
                STATE,
                MOVED,
                dict(reversed(STATE.items())),
                STATE | {"bn.bias": STATE["bn.bias"].reshape(8, 8)},
                {name.upper(): array for name, array in STATE.items()},
                STATE | {"bn.num_batches_tracked": np.array(391, "i4")},
            )
        }
        assert len(digests) == 6
        assert Reference(STATE | {"conv.weight": np.asfortranarray(STATE["conv.weight"])}).digest in digests


def test_rel_state_takes_the_range_of_all_lossy_tensors() -> None:
    wide, narrow = RNG.normal(0, 1, 3000).astype("f4"), RNG.normal(0, 0.01, 3000).astype("f4")
    state = {"a.weight": wide, "b.weight": narrow, "huge": np.full(3000, 1e6, "f4")}
    back = fedsz.decompress(fedsz.compress(state, ErrorBound("REL_STATE", 1e-2), codec="sz3"))
    allowed = 1e-2 * (float(wide.max()) - float(wide.min()))
    assert 0.01 < np.abs(back["b.weight"] - narrow).max() <= allowed
    per_tensor = fedsz.decompress(fedsz.compress(state, ErrorBound("REL", 1e-2), codec="sz3"))
    assert np.abs(per_tensor["b.weight"] - narrow).max() < 0.001


def test_a_codec_that_breaks_the_bound_is_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsz.sz3 import Sz3

    honest = Sz3.decode

    def sloppy(self: Sz3, blob: memoryview, count: int, dtype: Any, **rest: Any) -> Any:
        values = honest(self, blob, count, dtype, **rest)
        values[::100] += 1.0
        return values

    monkeypatch.setattr(Sz3, "decode", sloppy)
    payload = fedsz.compress(STATE, ErrorBound("ABS", 1e-3), codec="sz3")
    assert fedsz.inspect(payload).tensors[0].patched
    back = fedsz.decompress(payload)
    assert np.abs(back["conv.weight"] - STATE["conv.weight"]).max() <= 1e-3
    trusting = fedsz.compress(STATE, ErrorBound("ABS", 1e-3), codec="sz3", verify=False)
    assert np.abs(fedsz.decompress(trusting)["conv.weight"] - STATE["conv.weight"]).max() > 0.9


def test_a_codec_that_is_nowhere_near_falls_back_to_lossless(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsz.sz3 import Sz3

    monkeypatch.setattr(Sz3, "decode", lambda self, blob, count, dtype, **rest: np.zeros(count, dtype))
    payload = fedsz.compress(STATE, ErrorBound("ABS", 1e-3), codec="sz3")
    row = fedsz.inspect(payload).tensors[0]
    assert (row.lossy, row.method) == (True, "zstd-planes")
    assert np.array_equal(fedsz.decompress(payload)["conv.weight"], STATE["conv.weight"])


def test_partition_routes() -> None:
    payload = fedsz.compress(STATE, partition=Partition(threshold=10, names=("bias",)), codec="sz3")
    assert [row.lossy for row in fedsz.inspect(payload).tensors] == [False, True, False]
