"""What a sweep varied besides codec and rate, in words for tables, pictures and the report."""

from __future__ import annotations

from collections.abc import Iterable

# Most fields' names say enough without their section, and the value of a rate or a kind says that it is one.
_SECTIONS = ("compression", "learning", "network", "fleets")
_SAID = ("rate", "kind")
_WORDS = {"None": "not set", "True": "on", "False": "off"}


def setting_words(axis: str, value: str) -> str:
    """``network.server.downlink.rate``, ``20 Mbit/s`` -> ``server downlink 20 Mbit/s``; ``rounds_policy.take``,
    ``None`` -> ``rounds take not set``."""
    names = axis.split(".")
    if names[0] in _SECTIONS and len(names) > 1:
        names = names[1:]
    if names[-1] in _SAID and len(names) > 1:
        names = names[:-1]
    if names[0] == "rounds_policy":
        names[0] = "rounds"
    return " ".join([*names, _WORDS.get(value, value)])


def setting_text(setting: Iterable[tuple[str, str]], separator: str = ", ") -> str:
    """All of a setting; empty where nothing else was swept."""
    return separator.join(setting_words(axis, value) for axis, value in setting)
