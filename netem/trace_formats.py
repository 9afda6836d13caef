"""Files of bandwidth over time, as the field writes them, read into (seconds, bit/s) points.

Every reader yields points that start at 0 s and the length of the recording. An error names file, line, what stood
there and what belongs there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NoReturn

from netem.errors import NetemError
from netem.flow import Direction

TraceFormat = Literal["csv", "ms-kbit", "hsdpa", "ucc", "mahimahi"]

# A line of a Mahimahi file is one chance to send one 1500-byte IP packet; on our links, whose rates count Ethernet
# headers, such a packet takes 1514 bytes.
MAHIMAHI_PACKET_BITS = 8 * 1514
# Chances to send are single packets; a rate needs an interval. Mahimahi's own plots use half a second, but outages of
# a cell are shorter than that.
MAHIMAHI_BIN_MS = 100


class TraceError(NetemError, ValueError):
    """A trace file that cannot be read, with the place."""

    def __init__(self, path: str, line: int, what: str) -> None:
        super().__init__(path, line, what)
        self.path, self.line, self.what = path, line, what

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}" if self.line else f"{self.path}: {self.what}"


@dataclass(frozen=True, slots=True)
class Points:
    """What a reader found: *rates_bps[i]* holds from *times_s[i]* on; the recording lasts *length_s*."""

    times_s: list[float]
    rates_bps: list[float]
    length_s: float


class _Lines:
    """The lines of one file that carry data, each with its number, so that an error can say where."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.number = 0
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise TraceError(self.path, 0, error.strerror or "cannot be read") from error
        except UnicodeDecodeError as error:
            raise TraceError(self.path, 0, "not a text file") from error
        numbered = enumerate(text.splitlines(), start=1)
        self._lines = [(i, s.strip()) for i, s in numbered if s.strip() and not s.lstrip().startswith("#")]

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        for number, line in self._lines:
            self.number = number
            yield line

    @property
    def head(self) -> str:
        """The first line with data."""
        if not self._lines:
            raise TraceError(self.path, 0, "no data; a trace has at least one line")
        return self._lines[0][1]

    def fail(self, what: str) -> NoReturn:
        raise TraceError(self.path, self.number, what)

    def field(self, text: str, meaning: str) -> float:
        """A finite number that is at least zero."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0.0 <= value < math.inf:
            self.fail(f"got {text!r}; {meaning} is a number, 0 or above")
        return value


class _Points:
    """Points under construction: strictly later each time, shifted to start at 0."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._start_s = 0.0
        self.times_s: list[float] = []
        self.rates_bps: list[float] = []

    def add(self, at_s: float, rate_bps: float) -> None:
        if not self.times_s:
            self._start_s = at_s
        at_s -= self._start_s
        if self.times_s and at_s <= self.times_s[-1]:
            self._lines.fail(f"time goes from {self.times_s[-1]:g} s to {at_s:g} s; each line is later")
        self.times_s.append(at_s)
        self.rates_bps.append(rate_bps)

    def done(self) -> Points:
        """The last point lasts as long as the one before it: these formats do not say when they end."""
        if not self.times_s:
            self._lines.fail("no usable line")
        last_s = self.times_s[-1] - self.times_s[-2] if len(self.times_s) > 1 else 1.0
        return Points(self.times_s, self.rates_bps, self.times_s[-1] + last_s)


def _columns(lines: _Lines, line: str, separator: str | None, count: int, shape: str) -> list[str]:
    fields = [text.strip() for text in line.split(separator)]
    if len(fields) != count:
        lines.fail(f"got {len(fields)} columns in {line!r}; a line is {shape}")
    return fields


def _is_header(line: str) -> bool:
    return any(character.isalpha() for character in re.sub(r"[eE][+-]?\d", "", line))


def _csv(lines: _Lines, _: Direction) -> Points:
    points = _Points(lines)
    for line in lines:
        if not points.times_s and _is_header(line):
            continue
        seconds, mbit = _columns(lines, line, ",", 2, "'seconds,Mbit/s'")
        points.add(lines.field(seconds, "seconds"), lines.field(mbit, "Mbit/s") * 1e6)
    return points.done()


def _ms_kbit(lines: _Lines, _: Direction) -> Points:
    points = _Points(lines)
    for line in lines:
        milliseconds, kbit = _columns(lines, line, None, 2, "'milliseconds kbit/s'")
        points.add(lines.field(milliseconds, "milliseconds") / 1e3, lines.field(kbit, "kbit/s") * 1e3)
    return points.done()


def _hsdpa(lines: _Lines, _: Direction) -> Points:
    """Riiser et al. (MMSys 2013) and the 4G logs of Ghent: bytes and milliseconds *since the line before*."""
    times_s: list[float] = []
    rates_bps: list[float] = []
    end_ms = 0.0
    shape = "'unix-time milliseconds latitude longitude bytes elapsed-milliseconds'"
    for line in lines:
        fields = _columns(lines, line, None, 6, shape)
        received = lines.field(fields[4], "bytes received")
        elapsed_ms = lines.field(fields[5], "milliseconds elapsed")
        if elapsed_ms == 0.0:
            lines.fail("no time elapsed; a line covers more than 0 ms")
        times_s.append(end_ms / 1e3)
        rates_bps.append(8e3 * received / elapsed_ms)
        end_ms += elapsed_ms
    return Points(times_s, rates_bps, end_ms / 1e3)


def _ucc(lines: _Lines, direction: Direction) -> Points:
    """Raca et al. (MMSys 2018 and 2020): G-NetTrack logs, kbit/s, one line a second, some seconds twice.

    Lines in state ``I`` (idle) are passed over: nothing was asked of the cell, so its bitrate is no bandwidth. The
    rate before them holds until the next line. ``UL_bitrate`` of these logs is what downloads sent upwards (ACKs).
    """
    column = "DL_bitrate" if direction == "downlink" else "UL_bitrate"
    names: list[str] = []
    points = _Points(lines)
    last = ""
    for line in lines:
        fields = [text.strip() for text in line.split(",")]
        if not names:
            names = fields
            missing = sorted({"Timestamp", column} - set(names))
            if missing:
                lines.fail(f"no column {' and '.join(missing)} in the header")
            continue
        if len(fields) != len(names):
            lines.fail(f"got {len(fields)} columns; the header has {len(names)}")
        row: Mapping[str, str] = dict(zip(names, fields, strict=True))
        if row.get("State") == "I" or row[column] in ("-", "") or row["Timestamp"] == last:
            continue
        last = row["Timestamp"]
        try:
            at = datetime.strptime(last, "%Y.%m.%d_%H.%M.%S")
        except ValueError:
            lines.fail(f"got {last!r}; a time is written 2019.11.28_07.27.30")
        # Seconds since a fixed day, not `timestamp()`: that would read the host's time zone and its leaps.
        points.add((at - datetime(2000, 1, 1)).total_seconds(), lines.field(row[column], column) * 1e3)
    return points.done()


def _mahimahi(lines: _Lines, _: Direction) -> Points:
    """One line a packet: the millisecond at which it may leave. Counted per interval of `MAHIMAHI_BIN_MS`."""
    counts: dict[int, int] = {}
    last = 0
    for line in lines:
        if not line.isdecimal():
            lines.fail(f"got {line!r}; a line is one whole number of milliseconds")
        at = int(line)
        if at < last:
            lines.fail(f"time goes from {last} ms to {at} ms; it never goes back")
        last = at
        # Mahimahi's clock starts at 1 ms: a packet at 100 belongs to the interval that ends there.
        bin_ = max(at - 1, 0) // MAHIMAHI_BIN_MS
        counts[bin_] = counts.get(bin_, 0) + 1
    if last == 0:
        lines.fail("the last packet leaves at 0 ms; its time is the length of the trace")
    times_s, rates_bps = [], []
    for start_ms in range(0, last, MAHIMAHI_BIN_MS):
        length_ms = min(MAHIMAHI_BIN_MS, last - start_ms)
        times_s.append(start_ms / 1e3)
        rates_bps.append(counts.get(start_ms // MAHIMAHI_BIN_MS, 0) * MAHIMAHI_PACKET_BITS * 1e3 / length_ms)
    return Points(times_s, rates_bps, last / 1e3)


_READERS: Mapping[TraceFormat, Callable[[_Lines, Direction], Points]] = {
    "csv": _csv,
    "ms-kbit": _ms_kbit,
    "hsdpa": _hsdpa,
    "ucc": _ucc,
    "mahimahi": _mahimahi,
}


def _sniff(lines: _Lines) -> TraceFormat:
    head = lines.head
    if "DL_bitrate" in head or "UL_bitrate" in head:
        return "ucc"
    if head.count(",") == 1:
        return "csv"
    by_columns: dict[int, TraceFormat] = {1: "mahimahi", 2: "ms-kbit", 6: "hsdpa"}
    columns = len(head.split())
    if "," in head or columns not in by_columns:
        raise TraceError(
            lines.path,
            1,
            f"cannot tell the format from {head[:60]!r}; known: 'seconds,Mbit/s', 'ms kbit/s', HSDPA (six columns), "
            "UCC 4G/5G (a header with DL_bitrate), Mahimahi (one number a line)",
        )
    return by_columns[columns]


def read_points(path: Path, format_: TraceFormat | None, direction: Direction) -> Points:
    """The points of the file at *path*, its format found from the first line where *format_* is None."""
    lines = _Lines(path)
    kind = _sniff(lines) if format_ is None else format_
    if kind not in _READERS:
        raise TraceError(str(path), 0, f"no format {kind!r}; known: {', '.join(_READERS)}")
    return _READERS[kind](lines, direction)
