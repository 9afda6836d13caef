"""A device in a scenario: a name of the catalogue, a file that `testbed calibrate` wrote, or the profile itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from devices.errors import ProfileError
from devices.profile import DeviceProfile
from devices.profile_file import read_profile
from testbed.schema import At, Integer, Kind, Known, ListOf, Number, Or, Text
from testbed.schema_record import Key, Record
from testbed.yaml_position import Scalar, Table, Tree

_FACTOR, _SPREAD = Number(0, above=True), Number(1)
_POWER = Or(None, Number(0))


class _Profile(Record):
    """A profile written out; whatever `DeviceProfile` refuses is a line of the scenario's errors."""

    def _built(self, tree: Table, at: At, values: dict[str, Any]) -> DeviceProfile:
        try:
            profile: DeviceProfile = super()._built(tree, at, values)
        except ProfileError as error:
            raise at.refuse(tree.place, str(error)) from error
        return profile


_INLINE = _Profile(
    DeviceProfile,
    [
        Key("name", Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name is letters, digits, '.', '_' and '-'"),
            "stands in tables and rows"),
        Key("description", Text(), "in words", default=""),
        Key("cores", Integer(1), "CPU cores that an application may use"),
        Key("memory_bytes", Integer(1 << 20), "main memory"),
        Key("train_factor", _FACTOR, "device time per reference host time, training on all cores"),
        Key("compress_factor", _FACTOR, "the same for lossy compression, one core"),
        Key("lossless_factor", _FACTOR, "the same for lossless coding, one core"),
        Key("train_spread", _SPREAD, "doubt (95 %) of the factor, both ways; 1 for none"),
        Key("compress_spread", _SPREAD, "the same for lossy compression"),
        Key("lossless_spread", _SPREAD, "the same for lossless coding"),
        Key("idle_w", _POWER, "watts at rest; null where not known", default=None),
        Key("busy_w", _POWER, "watts under full load; null where not known", default=None),
        Key("core_speed", Or(None, _FACTOR), "of one core, relative to the reference host"),
        Key("copy_speed", Or(None, _FACTOR), "of memory copies, relative to the reference host"),
        Key("single_train_factor", Or(None, _FACTOR), "like train_factor, one thread; used of a host"),
        Key("sources", ListOf(Text()), "where the figures come from", default=()),
    ],
)  # fmt: skip


class ProfileKind(Kind[DeviceProfile]):
    """A file beside the scenario, or the profile itself; written back as the latter, so that it needs no file."""

    meaning = (
        "a profile is the name of a file that `testbed calibrate` wrote (./my-device.yaml), or its content"
    )

    def read(self, tree: Tree, at: At) -> DeviceProfile:
        if isinstance(tree, Table):
            profile: DeviceProfile = _INLINE.read(tree, at)
            return profile
        if not (isinstance(tree, Scalar) and isinstance(tree.value, str) and is_file(tree.value)):
            raise self._wrong(tree, at)
        try:
            return read_profile(Path(tree.place.file).parent / tree.value)
        except ProfileError as error:
            raise at.refuse(tree.place, str(error)) from error

    def write(self, value: DeviceProfile) -> dict[str, Any]:
        return _INLINE.write(value)

    def show(self, value: DeviceProfile) -> str:
        return value.name

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": r"\.ya?ml$"}, _INLINE.json_schema()]}


class DeviceKind(Kind["str | DeviceProfile"]):
    """A name of the catalogue, or what `ProfileKind` takes."""

    def __init__(self, names: Known) -> None:
        self._names, self._profile = names, ProfileKind()
        self.meaning = (
            f"{names.meaning}, or of a file that testbed calibrate wrote (./my-device.yaml), or its content"
        )

    def read(self, tree: Tree, at: At) -> str | DeviceProfile:
        if isinstance(tree, Table) or (
            isinstance(tree, Scalar) and isinstance(tree.value, str) and is_file(tree.value)
        ):
            return self._profile.read(tree, at)
        if not isinstance(tree, Scalar):
            raise self._wrong(tree, at)
        return self._names.read(tree, at)

    def write(self, value: str | DeviceProfile) -> Any:
        return self._names.write(value) if isinstance(value, str) else self._profile.write(value)

    def show(self, value: str | DeviceProfile) -> str:
        return value if isinstance(value, str) else value.name

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [self._names.json_schema(), self._profile.json_schema()]}


def is_file(text: str) -> bool:
    """Whether a device's name stands for a file."""
    return text.endswith((".yaml", ".yml"))
