"""The profiles that ship with the package, read from ``catalogue.yaml``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from devices.errors import ProfileError, UnknownDeviceError
from devices.profile import DeviceProfile
from devices.profile_file import read_profile, read_yaml
from devices.scores import (
    SCORES,
    Conversion,
    Factor,
    Scores,
    compress_factor,
    fit,
    lossless_factor,
    train_factor,
)

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
SCHEMA = 1


def catalogue() -> Mapping[str, DeviceProfile]:
    """All devices by name, in the order of the file."""
    return _load(CATALOGUE)[0]


def profile(name: str) -> DeviceProfile:
    """One device: by name, or from a file that a calibration wrote (a name that ends in ``.yaml``).

    Raises: UnknownDeviceError, with the names there are; ProfileError where the file is not a profile.
    """
    if name.endswith((".yaml", ".yml")):
        return read_profile(Path(name))
    known = catalogue()
    if name not in known:
        raise UnknownDeviceError(name, tuple(known))
    return known[name]


def reference() -> str:
    """The machine whose time the factors multiply, in words."""
    return _load(CATALOGUE)[1]


@cache
def _load(file: Path) -> tuple[Mapping[str, DeviceProfile], str]:
    raw = read_yaml(file)
    if raw.get("schema") != SCHEMA:
        raise ProfileError(str(file), f"schema {raw.get('schema')!r}; this build reads {SCHEMA}")
    sources: dict[str, str] = raw["sources"]
    pairs = raw["geekbench6"]
    conversion = Conversion(*(fit([(x, y) for x, y, _ in pairs[score]]) for score in ("sevenzip", "hpl")))
    host, _ = _scores(f"{file}: reference", raw["reference"]["scores"], sources)
    devices = {
        name: _device(f"{file}: {name}", name, entry, host, conversion, sources)
        for name, entry in raw["devices"].items()
    }
    return MappingProxyType(devices), f"{raw['reference']['name']}: {raw['reference']['description']}"


def _scores(where: str, raw: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[Scores, list[str]]:
    values: dict[str, float] = {}
    doubt: dict[str, float] = {}
    cited: list[str] = []
    for key, entry in raw.items():
        if key not in SCORES:
            raise ProfileError(where, f"unknown score {key!r}; known: {', '.join(SCORES)}")
        value, source, *extra = entry
        values[key] = float(value)
        if extra:
            doubt[key] = float(extra[0])
        cited.append(f"{key} {value:g}: {_cite(where, source, sources)}")
    return Scores(**values, doubt=doubt), cited


def _cite(where: str, source: str, sources: Mapping[str, str]) -> str:
    """A URL stands for itself; otherwise the first word names an entry of `sources`."""
    if source.startswith("http"):
        return source
    key, _, place = source.partition(" ")
    if key not in sources:
        raise ProfileError(where, f"source {key!r} is neither a URL nor one of: {', '.join(sources)}")
    separator = "" if sources[key].endswith("/") else " "
    return f"{sources[key]}{separator}{place}".strip()


def _device(
    where: str,
    name: str,
    raw: Mapping[str, Any],
    host: Scores,
    conversion: Conversion,
    sources: Mapping[str, str],
) -> DeviceProfile:
    allowed = {"description", "cores", "memory_mib", "scores", "power", "notes"}
    unknown = set(raw) - allowed
    if unknown:
        raise ProfileError(where, f"unknown keys {sorted(unknown)}; allowed: {sorted(allowed)}")
    scores, cited = _scores(where, raw["scores"], sources)
    if scores == host:  # the reference host itself: no proxy, no doubt
        train = compress = lossless = Factor(1.0, 1.0, "being the reference host")
    else:
        train = _need(where, "train", train_factor, scores, host, conversion)
        compress = _need(where, "compress", compress_factor, scores, host, conversion)
        lossless = _need(where, "lossless", lossless_factor, scores, host, conversion)
    power = raw.get("power", {})
    if power:
        cited.append(f"power: {_cite(where, power['source'], sources)} {power.get('note', '')}".strip())
    how = f"factors: train from {train.how}, compress from {compress.how}, lossless from {lossless.how}"
    return DeviceProfile(
        name=name,
        description=raw["description"],
        cores=raw["cores"],
        memory_bytes=raw["memory_mib"] << 20,
        train_factor=train.value,
        compress_factor=compress.value,
        lossless_factor=lossless.value,
        train_spread=train.spread,
        compress_spread=compress.spread,
        lossless_spread=lossless.spread,
        idle_w=power.get("idle_w"),
        busy_w=power.get("busy_w"),
        core_speed=1 / lossless.value,
        copy_speed=None if scores.memcpy is None or host.memcpy is None else scores.memcpy / host.memcpy,
        sources=(*cited, how, *([raw["notes"]] if "notes" in raw else [])),
    )


def _need(
    where: str,
    work: str,
    rule: Callable[[Scores, Scores, Conversion], Factor | None],
    scores: Scores,
    host: Scores,
    conversion: Conversion,
) -> Factor:
    factor = rule(scores, host, conversion)
    if factor is None:
        raise ProfileError(where, f"no score from which the {work} factor could be derived")
    return factor
