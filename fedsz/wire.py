"""Reading and writing numbers: LEB128 varints and bounded reads that never run past the end."""

from __future__ import annotations

from collections.abc import Iterable

from fedsz.errors import MalformedPayloadError

_MAX_SHIFT = 63


def write_varints(values: Iterable[int]) -> bytes:
    """Each value >= 0 as LEB128: seven bits a byte, least significant first, top bit set on all but the last."""
    values = tuple(values)
    if max(values, default=0) <= 0x7F:  # nearly always
        return bytes(values)
    out = bytearray()
    for value in values:
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


class Reader:
    """A cursor over bytes from a stranger; running out or an oversized number is MalformedPayloadError."""

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self._data, self._at, self._what = memoryview(data), 0, what

    def remaining(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._at

    def rest(self) -> memoryview:
        """What is not yet read, without reading it."""
        return self._data[self._at :]

    def skip(self, known: bytes) -> bool:
        """Read *known*, where that comes next; whether it did."""
        if self._data[self._at : self._at + len(known)] != known:
            return False
        self._at += len(known)
        return True

    def take(self, count: int) -> memoryview:
        """The next *count* bytes, not copied."""
        if count > self.remaining():
            raise MalformedPayloadError(f"{self._what} ends {count - self.remaining()} bytes early")
        self._at += count
        return self._data[self._at - count : self._at]

    def varint(self) -> int:
        """One LEB128 number below 2**63, in its shortest form."""
        return self.varints(1)[0]

    def varints(self, count: int) -> list[int]:
        """*count* numbers; at least one byte each, so a lying count fails before memory is taken."""
        if count > self.remaining():
            raise MalformedPayloadError(f"{self._what} claims {count} numbers in {self.remaining()} bytes")
        data, at, end = self._data, self._at, len(self._data)
        short = bytes(data[at : at + count])
        if max(short, default=0) <= 0x7F:
            self._at += count
            return list(short)
        values = []
        for _ in range(count):
            value = shift = 0
            while True:
                if at == end:
                    raise MalformedPayloadError(f"{self._what} ends within a number")
                byte = data[at]
                at += 1
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift >= _MAX_SHIFT:
                    raise MalformedPayloadError(f"{self._what} holds a number of more than 63 bits")
            if byte == 0 and shift:
                raise MalformedPayloadError(f"{self._what} holds a number that is not in its shortest form")
            values.append(value)
        self._at = at
        return values

    def end(self) -> None:
        """Everything has been read, or MalformedPayloadError."""
        if self.remaining():
            raise MalformedPayloadError(f"{self._what} has {self.remaining()} bytes too many")
