"""A profile as a YAML file: what a calibration writes and a scenario names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from devices.errors import ProfileError
from devices.profile import DeviceProfile

PROFILE_SCHEMA = 1


def write_profile(profile: DeviceProfile, file: Path) -> None:
    """Write a profile as YAML, under a temporary name first; FileExistsError where *file* is there already."""
    from ruamel.yaml import YAML

    fields = {field: getattr(profile, field) for field in DeviceProfile.__dataclass_fields__}
    fields["sources"] = list(profile.sources)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as out:
            YAML(typ="safe", pure=True).dump({"schema": PROFILE_SCHEMA, **fields}, out)
        os.link(draft, file)  # unlike a rename, never replaces
    finally:
        draft.unlink(missing_ok=True)


def read_profile(file: Path) -> DeviceProfile:
    """Read what `write_profile` wrote; ProfileError where it is something else, or cannot be read."""
    try:
        raw = read_yaml(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProfileError(str(file), f"cannot be read: {reason}") from error
    if not isinstance(raw, dict) or raw.get("schema") != PROFILE_SCHEMA:
        raise ProfileError(str(file), f"no device profile of schema {PROFILE_SCHEMA}")
    fields = {key: value for key, value in raw.items() if key != "schema"}
    unknown = fields.keys() - DeviceProfile.__dataclass_fields__.keys()
    if unknown:
        raise ProfileError(str(file), f"unknown keys: {', '.join(sorted(unknown))}")
    try:
        return DeviceProfile(**{**fields, "sources": tuple(fields.get("sources", ()))})
    except TypeError as error:
        raise ProfileError(str(file), str(error)) from error


def read_yaml(file: Path) -> Any:
    """Parse YAML 1.2; duplicate keys are an error."""
    from ruamel.yaml import YAML  # here: `devices.limits` must be importable with the standard library alone
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ProfileError(str(file), str(error)) from error
