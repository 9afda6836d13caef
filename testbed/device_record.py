"""What ``run.json`` says of the devices: the factors that turned this machine's time into theirs, and their doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from devices.catalogue import reference
from devices.profile import WORKS, DeviceProfile, Work
from testbed.quota import QuotaCheck
from testbed.scenario import Scenario

Spreads = Mapping[str, Mapping[Work, float]]  # device -> work -> spread of its factor


def collect(scenario: Scenario, quotas: Sequence[QuotaCheck] = ()) -> dict[str, Any]:
    """Plain data; the key ``devices`` of the manifest."""
    found: dict[str, DeviceProfile] = {}
    for cell in scenario.cells():
        for fleet in cell.scenario.fleets:
            found.setdefault(fleet.device_name, cell.scenario.profile_of(fleet))
    host = scenario.devices.host
    return {
        "reference_host": reference(),
        "this_host": "taken for the reference host" if host is None else _plain(host) | {"name": host.name},
        "profiles": {name: _plain(profile) for name, profile in found.items()},
        "quota_checks": [check.to_dict() for check in quotas],
    }


def _plain(profile: DeviceProfile) -> dict[str, Any]:
    return {
        "description": profile.description,
        "cores": profile.cores,
        "memory_bytes": profile.memory_bytes,
        "factors": {work: profile.factor(work) for work in WORKS},
        "spreads": {work: profile.spread(work) for work in WORKS},
        "idle_w": profile.idle_w,
        "busy_w": profile.busy_w,
    }


def doubt_of(manifest: Mapping[str, Any], *, asked: bool | None = None) -> Spreads:
    """The doubt that a run wants in its intervals; empty where it wants none, and for runs that did not record it.

    Args:
        asked: True or False instead of what the run's scenario says.
    """
    if asked is None:
        asked = bool(manifest.get("scenario", {}).get("devices", {}).get("doubt", False))
    return spreads(manifest) if asked else {}


def spreads(manifest: Mapping[str, Any]) -> Spreads:
    """The doubt of every device's factors in a run; empty for runs that did not record it."""
    profiles = manifest.get("devices", {}).get("profiles", {})
    return {name: profile["spreads"] for name, profile in profiles.items()}
