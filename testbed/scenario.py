"""A scenario: what is learned, on which devices, over which links, with which codec, and what is swept.

`load` reads YAML into these frozen dataclasses; it is the one place that raises `ScenarioErrors`. Every default stands
here and nowhere else, and `Scenario.to_yaml` shows them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from devices.energy import Radio
from devices.profile import DeviceProfile
from fedsz.bound import ErrorBound
from fedsz.partition import Partition
from netem.link import AccessLink, LinkSpec, Topology
from testbed.availability import Availability

if TYPE_CHECKING:
    from testbed.cells import Cell

Engine = Literal["mininet", "model"]
SERVER_LINK = AccessLink(uplink=LinkSpec(10e9), downlink=LinkSpec(10e9))
DEFAULT_BOUND = ErrorBound("REL", 1e-2)  # what the FedSZ paper recommends


@dataclass(frozen=True)
class Dirichlet:
    """Uneven split of the data: each class is spread over the clients by a draw from Dirichlet(alpha).

    Attributes:
        alpha: above 0; 0.1 gives clients with one or two classes, 100 nearly the same mix everywhere.
    """

    alpha: float


@dataclass(frozen=True)
class Learning:
    """What the clients train.

    Attributes:
        max_steps: at most this many optimiser steps per client and round; None for all of ``local_epochs``.
        samples_per_client: at most this many; None for an equal share of everything.
        prox_mu: weight of FedProx's proximal term; 0 is plain FedAvg.
        test_samples: how many test images the accuracy is computed from; None for all.
        image_size: side in pixels to which images are resized; None keeps the data's own.
        checkpoint: keep the global model and all that going on takes after each round, in the result folder.
        fallback_data: used, and named in the output, where *data* cannot be had; None refuses instead.
    """

    model: str = "mobilenet_v2"
    data: str = "fashion-mnist"
    fallback_data: str | None = "digits"
    data_dir: str | None = None
    rounds: int = 1
    local_epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 64
    samples_per_client: int | None = None
    split: Literal["iid"] | Dirichlet = "iid"
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    prox_mu: float = 0.0
    test_samples: int | None = None
    image_size: int | None = None
    evaluate: bool = True
    checkpoint: bool = False


@dataclass(frozen=True)
class NetworkSpec:
    """Which engine carries the bytes, and the server's access link, which all clients share.

    Attributes:
        dilation: links run this many times faster and transfer times are multiplied by it; ``auto`` chooses it
            from the range that this host was measured to shape truthfully.
        timeout_s: wall-clock seconds after which a transfer that has not ended is a failure.
    """

    engine: Engine = "mininet"
    server: AccessLink = SERVER_LINK
    congestion_control: str = "cubic"
    dilation: Literal["auto"] | float = "auto"
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Fleet:
    """Clients that are alike: one device, one access link.

    Attributes:
        device: a name of `devices.catalogue`, or a profile that a calibration has written.
        limits: ``scale`` measures work at full speed and multiplies by the device's factors; ``quota`` has the
            kernel hold the worker process to the device's CPU share and memory.
        memory_bytes: ceiling of a client's memory; a client that exceeds it fails. None: all of the device's
            memory where *limits* is ``quota``, none where it is ``scale``.
        radio: what the device sends with, for the energy estimate; ``none`` leaves the radio out.
        availability: when the clients are there to be asked; None: always.
    """

    name: str
    count: int
    device: str | DeviceProfile
    uplink: LinkSpec
    downlink: LinkSpec
    limits: Literal["scale", "quota"] = "scale"
    memory_bytes: int | None = None
    radio: Radio = "none"
    availability: Availability | None = None

    @property
    def profile(self) -> DeviceProfile:
        """What the clients are, seen from the catalogue's reference host."""
        if isinstance(self.device, DeviceProfile):
            return self.device
        from devices.catalogue import profile  # reads the catalogue

        return profile(self.device)

    @property
    def device_name(self) -> str:
        """The device in one word."""
        return self.device if isinstance(self.device, str) else self.device.name

    @property
    def ceiling_bytes(self) -> int | None:
        """The memory ceiling that the kernel enforces; None for none."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        return self.profile.memory_bytes if self.limits == "quota" else None

    @property
    def held(self) -> bool:
        """Whether the kernel holds its clients' work to a limit, which takes root."""
        return self.limits == "quota" or self.memory_bytes is not None

    @property
    def client_names(self) -> list[str]:
        """``pi-0`` ... ``pi-9``, or ``pi-00`` ... ``pi-11``: sorted by name is sorted by number."""
        return [f"{self.name}-{index:0{self.number_width}d}" for index in range(self.count)]

    @property
    def number_width(self) -> int:
        """Digits of a client's number."""
        return len(str(self.count - 1))

    @property
    def link(self) -> AccessLink:
        return AccessLink(uplink=self.uplink, downlink=self.downlink)


@dataclass(frozen=True)
class Candidate:
    """A codec that the policy ``auto`` may choose; *bound* None is the scenario's."""

    codec: str
    bound: ErrorBound | None = None


@dataclass(frozen=True)
class Compression:
    """How an update becomes bytes.

    Attributes:
        codec: an id of `fedsz.codecs()`; ``none`` sends raw values (container and checksum all the same).
        lossless: codec for the tensors that are not lossy; None for `fedsz`'s own choice.
        threshold: only tensors with more values than this go lossy.
        names: a lossy tensor's name contains one of these, or matches it where it holds ``*``, ``?`` or ``[``.
        by_data: so does any other tensor that lossless coding gains little on (`fedsz.Partition`).
        reference: code against the global model that both sides hold.
        downlink: compress what the server sends, too.
        policy: ``always``; ``never``; ``auto`` compresses when the closed form says that it pays.
        among: what ``auto`` chooses among, besides sending raw values; empty for *codec* alone.
    """

    codec: str = "sz2"
    bound: ErrorBound = DEFAULT_BOUND
    lossless: str | None = None
    threshold: int = 1024
    names: tuple[str, ...] = ("weight",)
    by_data: bool = False
    reference: bool = False
    downlink: bool = False
    policy: Literal["always", "never", "auto"] = "always"
    among: tuple[Candidate, ...] = ()

    @property
    def partition(self) -> Partition:
        """Which tensors go lossy."""
        return Partition(self.threshold, self.names, self.by_data)

    @property
    def candidates(self) -> tuple[Compression, ...]:
        """The ways to compress that ``auto`` chooses among."""
        if not self.among:
            return (self,)
        return tuple(replace(self, codec=one.codec, bound=one.bound or self.bound) for one in self.among)


@dataclass(frozen=True)
class Sweep:
    """What varies from cell to cell.

    Attributes:
        axes: path -> values, in the unit of the dataclasses (bit/s for rates). ``uplink.rate`` means every fleet's,
            ``fleets.pi.uplink.rate`` one fleet's; ``codec`` is ``compression.codec``.
        repeats: how often each variant is measured; under 6 no finite 95 % interval of a median exists.
        work: ``measured`` for every client, or ``drawn`` from measurements made once per device class.
        combine: ``grid`` for every combination of the axes, ``list`` to walk them side by side.
    """

    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    repeats: int = 1
    work: Literal["measured", "drawn"] = "measured"
    combine: Literal["grid", "list"] = "grid"


@dataclass(frozen=True)
class RoundPolicy:
    """Who takes part in a round and how long the server waits.

    Attributes:
        kind: ``sync``, the server averages when all that it awaits have arrived (FedAvg); ``async``, clients train
            without waiting for each other and the server averages whenever *buffer* updates have arrived (FedBuff).
        deadline_s: the server stops waiting this long after the round's first byte; None waits for all.
        sample: fraction of all clients that is asked each round (at least one); None asks all or *ask*.
        ask: how many are asked; None for all. Not together with *sample*.
        take: the round ends with this many arrivals; the rest are dropped. None for all that were asked.
        dropout: chance that an asked client falls silent in this round.
        crash: chance that an asked client dies in the middle of its upload.
        crash_at: the share of the upload's bytes that arrives before; None draws it evenly for each crash.
        buffer, concurrency: of ``async``: updates in one average; how many clients are at work at any time (None: all).
        staleness_exponent: of ``async``: an update that was trained on a model tau versions old weighs
            (1 + tau) ** -staleness_exponent; 0.5 is FedBuff's, 0 takes no notice.
        server_lr: of ``async``: how far the model moves along the mean of the buffer.
    """

    kind: Literal["sync", "async"] = "sync"
    deadline_s: float | None = None
    sample: float | None = None
    ask: int | None = None
    take: int | None = None
    dropout: float = 0.0
    crash: float = 0.0
    crash_at: float | None = None
    buffer: int = 10
    concurrency: int | None = None
    staleness_exponent: float = 0.5
    server_lr: float = 1.0

    def asked(self, clients: int) -> int:
        """How many of *clients* are asked in a round."""
        if self.sample is not None:
            return max(1, min(clients, math.floor(self.sample * clients + 0.5)))
        return clients if self.ask is None else self.ask


@dataclass(frozen=True)
class DeviceOptions:
    """What holds for all devices.

    Attributes:
        host: the profile of the machine that runs the scenario, from `testbed calibrate`; work measured here is
            converted by it. None: this machine is taken for the catalogue's reference host.
        doubt: widen the crossovers' intervals by the stated doubt of the devices' factors.
    """

    host: DeviceProfile | None = None
    doubt: bool = False


@dataclass(frozen=True)
class Scenario:
    """A whole experiment; equal scenarios run the same. *source* (file it came from) is not compared."""

    name: str
    fleets: tuple[Fleet, ...]
    seed: int = 0
    description: str = ""
    learning: Learning = Learning()
    network: NetworkSpec = NetworkSpec()
    compression: Compression = Compression()
    rounds_policy: RoundPolicy = RoundPolicy()
    sweep: Sweep = field(default_factory=Sweep)
    devices: DeviceOptions = DeviceOptions()
    source: str = field(default="", compare=False)

    @property
    def client_names(self) -> list[str]:
        return [name for fleet in self.fleets for name in fleet.client_names]

    def fleet_of(self, client: str) -> Fleet:
        """The fleet of a client; KeyError if there is no such client."""
        name, _, number = client.rpartition("-")
        for fleet in self.fleets:
            # Not `client in fleet.client_names`: fleets of a million clients are asked once for each.
            well_formed = number.isascii() and number.isdecimal() and len(number) == fleet.number_width
            if fleet.name == name and well_formed and int(number) < fleet.count:
                return fleet
        raise KeyError(client)

    def profile_of(self, fleet: Fleet) -> DeviceProfile:
        """A fleet's device seen from the machine that runs the scenario."""
        return fleet.profile if self.devices.host is None else fleet.profile.rebased(self.devices.host)

    def topology(self) -> Topology:
        """The star that this scenario asks for."""
        links = {name: fleet.link for fleet in self.fleets for name in fleet.client_names}
        return Topology(self.network.server, links)

    def with_engine(self, engine: Engine) -> Scenario:
        return replace(self, network=replace(self.network, engine=engine))

    def cells(self) -> list[Cell]:
        """Every measurement of the sweep, in the order in which to make them."""
        from testbed.cells import cells  # cells build scenarios

        return cells(self)

    def to_dict(self) -> dict[str, Any]:
        """The filled-in form as plain data with units; `loads` takes its YAML or JSON back to an equal scenario."""
        from testbed.scenario_schema import SCENARIO

        return SCENARIO.write(self)

    def to_yaml(self) -> str:
        """The filled-in form as YAML 1.2."""
        from testbed.scenario_yaml import to_yaml

        return to_yaml(self.to_dict())


def load(path: str | Path) -> Scenario:
    """Read a scenario file; raises ScenarioErrors with everything that is wrong, OSError if it cannot be read."""
    path = Path(path)
    return loads(path.read_text(encoding="utf-8"), str(path))


def loads(text: str, name: str = "<scenario>") -> Scenario:
    """Read a scenario from text; *name* stands in messages and traces are looked for beside it."""
    from testbed.scenario_yaml import read

    return read(text, name)
