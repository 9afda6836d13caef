"""What a device is: cores, memory, power, and how much slower than the host each kind of work runs on it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Literal, Self

from devices.errors import ProfileError

Work = Literal["train", "compress", "lossless"]
WORKS: tuple[Work, ...] = ("train", "compress", "lossless")


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One kind of client.

    A factor turns host time into device time: ``device_s = host_s * factor``, host time being that of one
    thread on the reference host (`devices.catalogue.reference`) or on the host that `rebased` was given. Training
    uses all of the device's cores, compression and lossless coding one. Factors below 1 mean a faster device.

    Attributes:
        cores: CPU cores that an application may use.
        memory_bytes: main memory; what of it an application gets is the caller's decision.
        train_factor, compress_factor, lossless_factor: see above.
        train_spread, compress_spread, lossless_spread: multiplicative uncertainty (95 %): the true factor lies in
            ``factor / spread`` to ``factor * spread``. 1.0 means measured on the spot.
        idle_w, busy_w: electrical power at rest and under full load, of the whole device; None where no source says.
        sources: where each figure comes from, one line each.
        core_speed: speed of one core relative to the reference host's, for integer work; None where not known.
        copy_speed: memory copy bandwidth of one core relative to the reference host's; None where not known.
        single_train_factor: like *train_factor*, but of one thread instead of all cores: what a measurement on this
            machine is worth, where it is the host of others (`rebased`). None where not known.
    """

    name: str
    description: str
    cores: int
    memory_bytes: int
    train_factor: float
    compress_factor: float
    lossless_factor: float
    idle_w: float | None
    busy_w: float | None
    sources: tuple[str, ...]
    train_spread: float = 1.0
    compress_spread: float = 1.0
    lossless_spread: float = 1.0
    core_speed: float | None = None
    copy_speed: float | None = None
    single_train_factor: float | None = None

    def __post_init__(self) -> None:
        where = f"device {self.name}"
        if not self.name or self.cores < 1 or self.memory_bytes < 1 << 20:
            raise ProfileError(where, "needs a name, at least one core and at least 1 MiB of memory")
        for work in WORKS:
            if not (math.isfinite(self.factor(work)) and self.factor(work) > 0):
                raise ProfileError(
                    where, f"{work}_factor is {self.factor(work)!r}; it must be finite and above 0"
                )
            if not (math.isfinite(self.spread(work)) and self.spread(work) >= 1):
                raise ProfileError(
                    where, f"{work}_spread is {self.spread(work)!r}; it must be finite, at least 1"
                )
        single = self.single_train_factor
        if single is not None and not (math.isfinite(single) and single > 0):
            raise ProfileError(where, f"single_train_factor is {single!r}; it must be finite and above 0")
        if self.idle_w is not None and self.busy_w is not None and not 0 <= self.idle_w <= self.busy_w:
            raise ProfileError(where, f"idle {self.idle_w} W and busy {self.busy_w} W are not in order")

    def factor(self, work: Work) -> float:
        """Device time per host time for this kind of work."""
        return float(getattr(self, f"{work}_factor"))

    def spread(self, work: Work) -> float:
        """Multiplicative uncertainty of `factor`."""
        return float(getattr(self, f"{work}_spread"))

    def bounds(self, work: Work) -> tuple[float, float]:
        """Lowest and highest plausible factor."""
        return self.factor(work) / self.spread(work), self.factor(work) * self.spread(work)

    def cpu_share(self, work: Work) -> float:
        """Share of one host core at which this work takes as long as on the device; above 1: no quota can."""
        return 1.0 / self.factor(work)

    def drawn(self, seed: int) -> Self:
        """This device with factors drawn from their uncertainty (log-normal), to carry it into results.

        The same seed gives the same device on every machine. A factor and its spread come back as a
        plain factor with spread 1.
        """
        source = random.Random(f"{self.name}/{seed}")  # noqa: S311  # a repeatable draw, not a secret
        drawn = {
            work: self.factor(work) * math.exp(source.gauss(0.0, math.log(self.spread(work)) / 1.96))
            for work in WORKS
        }
        return replace(
            self,
            train_factor=drawn["train"],
            compress_factor=drawn["compress"],
            lossless_factor=drawn["lossless"],
            train_spread=1.0,
            compress_spread=1.0,
            lossless_spread=1.0,
        )

    def rebased(self, host: DeviceProfile) -> Self:
        """This device seen from another host, whose profile says how it compares with the reference host.

        Work on the host is measured with one thread, so training is compared with its *single_train_factor*.
        Uncertainties add as squares of their logarithms, as independent errors do; a machine seen from itself has none.
        """
        joint = _independent if self != host else _none
        host_train = host.single_train_factor or host.train_factor
        single = self.single_train_factor
        return replace(
            self,
            train_factor=self.train_factor / host_train,
            single_train_factor=None if single is None else single / host_train,
            compress_factor=self.compress_factor / host.compress_factor,
            lossless_factor=self.lossless_factor / host.lossless_factor,
            train_spread=joint(self.train_spread, host.train_spread),
            compress_spread=joint(self.compress_spread, host.compress_spread),
            lossless_spread=joint(self.lossless_spread, host.lossless_spread),
            sources=(*self.sources, f"seen from host {host.name}"),
        )


def _independent(first: float, second: float) -> float:
    return math.exp(math.hypot(math.log(first), math.log(second)))


def _none(_first: float, _second: float) -> float:
    return 1.0
