"""Names, dtypes and shapes on the wire, and the numbers they are made of."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import fedsz
from fedsz.arrays import BIG_ENDIAN, DTYPES
from fedsz.errors import MalformedPayloadError, PayloadTooLargeError, UnsupportedTensorError
from fedsz.layout import MAX_NAME_BYTES, MAX_TENSORS, Layout
from fedsz.wire import Reader, write_varints

NAMES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2",
]  # fmt: skip


def read(data: bytes, max_bytes: int = 1 << 40) -> Layout:
    return Layout.read(Reader(data, "layout"), max_bytes)


def test_dtype_numbers_stay() -> None:
    assert [str(dtype) for dtype in DTYPES] == NAMES


def test_layout_of_a_state_comes_back() -> None:
    arrays = {
        "a.weight": np.zeros((3, 4), "float32"),
        "": np.zeros((), ">f8"),
        "ä\ud800": np.zeros((0, 5), ml_dtypes.bfloat16),
        "deep": np.zeros((1,) * 64, "int8"),
    }
    layout = Layout.of(arrays)
    again = read(layout.write())
    assert again == layout
    assert again.counts == (12, 1, 0, 1)
    assert again.nbytes == (48, 8, 0, 1)
    assert [again.dtype(at) for at in range(4)] == [array.dtype for array in arrays.values()]


def test_columns_byte_for_byte() -> None:
    arrays = {"w": np.zeros((2, 300), "float32"), "ab": np.zeros((), ">i8")}
    assert Layout.of(arrays).write() == b"\x02\x01\x02wab\x0b\x87\x02\x00\x02\xac\x02"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (write_varints([MAX_TENSORS + 1]), "65537 tensors"),
        (b"\x02\x01\x01aa\x0b\x0b\x00\x00", "occurs twice"),
        (b"\x01\x01\xff\x0b\x00", "not UTF-8"),
        (b"\x01\x01a\x11\x00", "unknown dtype number"),
        (b"\x01\x01a\x81\x00", "unknown dtype number"),  # one-byte items have no byte order
        (b"\x01\x01a\x0b\x41", "more than 64 dimensions"),
        (b"\x01" + write_varints([MAX_NAME_BYTES + 1]) + bytes(5000), "longer than 4096"),
        (b"\x01\x01a\x0b\x02" + write_varints([1 << 62, 0]), r"more than 2\*\*60 values"),
        (b"\x7f\x01", "claims 127 numbers in 1 bytes"),
        (b"\x01\x05a", "ends 4 bytes early"),
        (b"\x01\x81\x00", "shortest form"),
        (b"\x01" + b"\x80" * 10, "more than 63 bits"),
        (b"\x01\x80", "ends within a number"),
    ],
)
def test_lies_are_refused(data: bytes, what: str) -> None:
    with pytest.raises(MalformedPayloadError, match=what):
        read(data)


def test_decoded_size_is_checked_before_anything_is_made() -> None:
    data = Layout.of({"a": np.zeros((10, 10), "float32"), "b": np.zeros(1, "int8")}).write()
    assert read(data, 401).nbytes == (400, 1)
    with pytest.raises(PayloadTooLargeError, match="claims 401 decoded bytes; max_bytes allows 400"):
        read(data, 400)
    huge = b"\x01\x01a\x0b\x01" + write_varints([1 << 59])
    with pytest.raises(PayloadTooLargeError):
        fedsz.layout.Layout.read(Reader(huge, "layout"), 1 << 40)


def test_what_the_format_cannot_hold_is_refused_when_writing() -> None:
    with pytest.raises(UnsupportedTensorError, match="at most 4096 bytes"):
        Layout.of({"x" * 5000: np.zeros(1)})
    with pytest.raises(UnsupportedTensorError, match="'65536': a state has at most 65536 tensors"):
        Layout.of({str(i): np.zeros(1) for i in range(MAX_TENSORS + 1)})


def test_numbers() -> None:
    values = [0, 1, 127, 128, 300, (1 << 63) - 1]
    reader = Reader(write_varints(values), "numbers")
    assert reader.varints(len(values)) == values
    reader.end()
    with pytest.raises(MalformedPayloadError, match="numbers has 1 bytes too many"):
        Reader(b"\0", "numbers").end()


def test_big_endian_is_a_flag() -> None:
    layout = Layout.of({"a": np.zeros(1, ">f4")})
    assert layout.codes == (NAMES.index("float32") | BIG_ENDIAN,)
    assert layout.dtype(0) == np.dtype(">f4") != layout.native_dtype(0)


def test_a_layout_that_was_read_before_is_found_by_its_bytes_and_checked_again() -> None:
    one = Layout.of({"a": np.zeros((2, 3), "f4"), "b": np.zeros(5, ">i8")})
    other = Layout.of({"a": np.zeros((2, 4), "f4"), "b": np.zeros(5, ">i8")})
    reader = Reader(one.write() + b"rest", "layout")
    first = Layout.read(reader, 1000)
    assert reader.remaining() == 4
    again = Reader(one.write() + b"rest", "layout")
    assert Layout.read(again, 1000) is first
    assert again.take(4) == b"rest"
    assert Layout.read(Reader(other.write(), "layout"), 1000) == other
    with pytest.raises(PayloadTooLargeError):
        Layout.read(Reader(one.write(), "layout"), 63)
    for size in range(100):  # none of these is kept for long
        Layout.read(Reader(Layout.of({str(size): np.zeros(1)}).write(), "layout"), 1000)
    assert Layout.read(Reader(one.write(), "layout"), 1000) is not first
