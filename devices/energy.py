"""What a round costs a device's battery: an estimate from its power figures and the time split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from devices.profile import DeviceProfile

Radio = Literal["none", "wifi", "lte", "3g"]


@dataclass(frozen=True, slots=True)
class RadioPower:
    """Power while transferring: ``base_w + w_per_mbit_s * throughput``, over the device's idle power."""

    base_w: float
    up_w_per_mbit_s: float
    down_w_per_mbit_s: float


# Huang et al., "A Close Examination of Performance and Power Characteristics of 4G LTE Networks", MobiSys 2012, table
# 4; measured on phones of 2011 at up to some 10 Mbit/s, so throughput above that is taken as 10.
RADIOS: dict[str, RadioPower] = {
    "wifi": RadioPower(0.13286, 0.28317, 0.13701),
    "lte": RadioPower(1.28804, 0.43839, 0.05197),
    "3g": RadioPower(0.81788, 0.86898, 0.12212),
}
_FITTED_UP_TO_MBIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Split:
    """A client's round, in seconds on the device, and the payload it moved, in bytes.

    Attributes:
        train_s: all cores busy.
        code_s: compression and decompression, one core busy.
        uplink_s, downlink_s: transferring, otherwise idle.
        wait_s: idle.
    """

    train_s: float = 0.0
    code_s: float = 0.0
    uplink_s: float = 0.0
    downlink_s: float = 0.0
    wait_s: float = 0.0
    uplink_bytes: int = 0
    downlink_bytes: int = 0


@dataclass(frozen=True, slots=True)
class EnergyEstimate:
    """Joules by cause; each includes the idle power of its time. An estimate, not a measurement.

    Attributes:
        train_j, code_j, radio_j, wait_j: None where the profile has no power figures.
        basis: how the figures came about, for a footnote.
    """

    train_j: float | None
    code_j: float | None
    radio_j: float | None
    wait_j: float | None
    basis: str

    @property
    def total_j(self) -> float | None:
        """Sum, None where a part is unknown."""
        if self.train_j is None or self.code_j is None or self.radio_j is None or self.wait_j is None:
            return None
        return self.train_j + self.code_j + self.radio_j + self.wait_j


def energy_j(profile: DeviceProfile, split: Split, radio: Radio = "none") -> EnergyEstimate:
    """Estimate what *split* costs on *profile*.

    Training draws the device's busy power, coding idle power and one core's share of what busy adds, transfers idle
    power and the radio's. Screens, chargers and the radio's tail after a transfer are left out.
    """
    if profile.idle_w is None or profile.busy_w is None:
        return EnergyEstimate(None, None, None, None, f"estimate: no power figures for {profile.name}")
    idle = profile.idle_w
    one_core = idle + (profile.busy_w - idle) / profile.cores
    radio_j = idle * (split.uplink_s + split.downlink_s)
    if radio != "none":
        power = RADIOS[radio]
        radio_j += _transfer_j(power.base_w, power.up_w_per_mbit_s, split.uplink_s, split.uplink_bytes)
        radio_j += _transfer_j(power.base_w, power.down_w_per_mbit_s, split.downlink_s, split.downlink_bytes)
    return EnergyEstimate(
        train_j=profile.busy_w * split.train_s,
        code_j=one_core * split.code_s,
        radio_j=radio_j,
        wait_j=idle * split.wait_s,
        basis=f"estimate: {idle:g} W idle, {profile.busy_w:g} W busy, radio {radio}",
    )


def _transfer_j(base_w: float, w_per_mbit_s: float, seconds: float, payload: int) -> float:
    if seconds <= 0:
        return 0.0
    throughput = min(payload * 8 / 1e6 / seconds, _FITTED_UP_TO_MBIT_S)
    return (base_w + w_per_mbit_s * throughput) * seconds
