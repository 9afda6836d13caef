"""The report's section on devices: what turned this machine's seconds into theirs, and what a round costs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from devices.profile import WORKS
from netem.units import format_rate, format_size
from testbed.markup import Html, element, table
from testbed.row import Row
from testbed.split import Summary, codec_name, summarise
from testbed.tables import joules_text


def devices(manifest: Mapping[str, Any], *, carried: bool) -> list[Html]:
    """Factors with their doubt, memory and power of each device; nothing for runs that did not keep them."""
    record = manifest.get("devices", {})
    profiles: Mapping[str, Any] = record.get("profiles", {})
    if not profiles:
        return []
    head = ["device", "train", "compress", "lossless", "cores", "memory", "idle (W)", "busy (W)"]
    body = [
        [
            name,
            *(f"{profile['factors'][work]:.2f} {_doubt(profile['spreads'][work])}".strip() for work in WORKS),
            profile["cores"],
            format_size(profile["memory_bytes"], 3),
            *("-" if profile[key] is None else f"{profile[key]:g}" for key in ("idle_w", "busy_w")),
        ]
        for name, profile in profiles.items()
    ]
    text = (
        "Seconds on the device for a second of one core of the machine that ran this; \u00d7/\u00f7 is the stated "
        "doubt (95 %), which the crossovers' intervals "
        + ("carry." if carried else "do not carry; `testbed report RUN --doubt` makes them.")
    )
    return [element("h2", "Devices"), table(head, body), element("p", text, class_="quiet")]


def energy(rows: Sequence[Row]) -> list[Html]:
    """Joules by cause for each point of the sweep, folded; nothing where no device has power figures."""
    points = [item for item in summarise(rows) if item.energy_j is not None]
    if not points:
        return []
    raw = {_place(item): sum(item.energy_j) for item in points if item.codec.id == "none" and item.energy_j}
    head = ["fleet", "uplink", "codec", "training", "coding", "transfers", "waiting", "sum", "less than raw"]
    body = []
    for item in points:
        assert item.energy_j is not None
        before = raw.get(_place(item))
        total = sum(item.energy_j)
        saved = "-" if not before or item.codec.id == "none" else f"{100 * (1 - total / before):.1f} %"
        body.append(
            [
                item.fleet,
                format_rate(item.rate_bps, 3),
                codec_name(item.codec),
                *(joules_text([part]) for part in item.energy_j),
                joules_text(item.energy_j),
                saved,
            ]
        )
    text = (
        "An estimate, not a measurement: the device's published watts times the seconds of the split (busy while it "
        "trains, one core's share while it codes, at rest otherwise), with a radio's where the fleet names one. Means "
        "of a client's round, in joules."
    )
    folded = element(
        "details", element("summary", "Every point of the sweep"), table(head, body, text_columns=3)
    )
    return [
        element("h2", "Energy of a client in a round, estimated"),
        element("p", text, class_="quiet"),
        folded,
    ]


def _place(item: Summary) -> tuple[object, ...]:
    return item.fleet, item.setting, item.rate_bps


def _doubt(spread: float) -> str:
    return f"\u00d7/\u00f7 {spread:.2f}" if spread > 1 else ""
