"""Quantities with units, read once at the boundary: decimal bits per second, seconds, bytes, fractions.

``10 Mbit/s`` is 10,000,000 bit/s. Other spellings (``Mb``, ``Mbps``, ``MB/s`` for a rate) are refused with what was
probably meant, because a factor of eight is the size of the effects that we measure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from netem.errors import UnitError

__all__ = [
    "UnitError",
    "format_duration",
    "format_rate",
    "format_size",
    "parse_duration",
    "parse_fraction",
    "parse_rate",
    "parse_size",
]

_QUANTITY = re.compile(
    r"\s*(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)\s*(?P<unit>\S*)\s*", re.ASCII
)

_RATES = {
    "bit/s": Decimal(1),
    "kbit/s": Decimal(10) ** 3,
    "Mbit/s": Decimal(10) ** 6,
    "Gbit/s": Decimal(10) ** 9,
}
_DURATIONS = {
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
}
_SIZES = {
    "B": Decimal(1),
    "kB": Decimal(10) ** 3,
    "MB": Decimal(10) ** 6,
    "GB": Decimal(10) ** 9,
    "KiB": Decimal(2) ** 10,
    "MiB": Decimal(2) ** 20,
    "GiB": Decimal(2) ** 30,
}
_FRACTIONS = {"%": Decimal("0.01")}

_RATE_MEANING = "a rate is a number and bit/s, kbit/s, Mbit/s or Gbit/s, for example '10 Mbit/s'"
_DURATION_MEANING = "a duration is a number and us, ms, s, min or h, for example '20 ms'"
_SIZE_MEANING = "a size is a number and B, kB, MB, GB, KiB, MiB or GiB, for example '512 MB'"
_FRACTION_MEANING = (
    "a fraction is a number from 0 to 100 and %, for example '1 %', or a plain number from 0 to 1"
)

# What people write when they mean one of ours. Only spellings with one likely reading are here.
_RATE_SLIPS = {
    "bps": "bit/s",
    "b/s": "bit/s",
    "bit": "bit/s",
    **{
        slip.format(letter): f"{prefix}bit/s"
        for prefix, letters in {"k": "kK", "M": "mM", "G": "gG"}.items()
        for letter in letters
        for slip in ("{0}bit/s", "{0}bit", "{0}bits", "{0}bits/s", "{0}bps", "{0}bs", "{0}b", "{0}b/s", "{0}")
    },
}
_DURATION_SLIPS = {
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "S": "s",
    "msec": "ms",
    "Ms": "ms",
    "MS": "ms",
    "usec": "us",
    "minute": "min",
    "minutes": "min",
    "m": "min",
    "hour": "h",
    "hours": "h",
}
_SIZE_SLIPS = {
    "KB": "kB",
    "kb": "kB",
    "mb": "MB",
    "Mb": "MB",
    "gb": "GB",
    "Gb": "GB",
    "K": "kB",
    "k": "kB",
    "M": "MB",
    "G": "GB",
    "b": "B",
    "bytes": "B",
    "byte": "B",
    "kiB": "KiB",
    "Mib": "MiB",
    "Gib": "GiB",
}


def _parse(given: object, units: Mapping[str, Decimal], slips: Mapping[str, str], meaning: str) -> Decimal:
    match = _QUANTITY.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise UnitError(given, meaning)
    number, unit = match["number"], match["unit"]
    if unit not in units:
        hint = f"{number} {slips[unit]}" if unit in slips else ""
        raise UnitError(given, meaning, hint)
    return Decimal(number) * units[unit]


def parse_rate(given: object) -> float:
    """``"10 Mbit/s"`` -> 10_000_000.0 bit/s. Zero is refused: a link that carries nothing is a cut link."""
    value = float(_parse(given, _RATES, _RATE_SLIPS, _RATE_MEANING))
    if value <= 0:
        raise UnitError(given, f"{_RATE_MEANING}, and above zero")
    return value


def parse_duration(given: object) -> float:
    """``"20 ms"`` -> 0.02 s."""
    return float(_parse(given, _DURATIONS, _DURATION_SLIPS, _DURATION_MEANING))


def parse_size(given: object) -> int:
    """``"512 MB"`` -> 512_000_000 bytes; ``"512 MiB"`` -> 536_870_912. Part of a byte is refused."""
    value = _parse(given, _SIZES, _SIZE_SLIPS, _SIZE_MEANING)
    if value != value.to_integral_value():
        raise UnitError(given, f"{_SIZE_MEANING}, and a whole number of bytes")
    return int(value)


def parse_fraction(given: object) -> float:
    """``"1 %"`` -> 0.01; a number from 0 to 1 stands for itself."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        value = float(given)
    else:
        value = float(_parse(given, _FRACTIONS, {}, _FRACTION_MEANING))
    if not 0.0 <= value <= 1.0:
        raise UnitError(given, _FRACTION_MEANING)
    return value


def _format(value: float, units: Mapping[str, Decimal], digits: int | None) -> str:
    """The largest unit that leaves a number of at least one; exact unless *digits* asks for fewer digits."""
    exact = Decimal(repr(value))
    name, scale = next(
        ((name, scale) for name, scale in reversed(list(units.items())) if exact >= scale),
        next(iter(units.items())),
    )
    number = exact / scale
    if digits is not None:
        number = Decimal(f"{number:.{digits}g}")
    return f"{number.normalize():f} {name}"


def format_rate(rate_bps: float, digits: int | None = None) -> str:
    """10_000_000.0 -> ``"10 Mbit/s"``; `parse_rate` reads back the same number when *digits* is None."""
    return _format(rate_bps, _RATES, digits)


def format_duration(duration_s: float, digits: int | None = None) -> str:
    """0.02 -> ``"20 ms"``; never minutes or hours, so that columns of a table compare by eye."""
    return _format(duration_s, {name: _DURATIONS[name] for name in ("us", "ms", "s")}, digits)


def format_size(size_bytes: int, digits: int | None = None) -> str:
    """512_000_000 -> ``"512 MB"`` (decimal)."""
    return _format(size_bytes, {name: _SIZES[name] for name in ("B", "kB", "MB", "GB")}, digits)
