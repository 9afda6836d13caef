"""Whether a client compresses in a round: always, never, or when the closed form says that it pays."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from netem.tcp import HEADER_BYTES, MSS
from testbed.coding import CodecSettings
from testbed.round import ClientOutcome
from testbed.scenario import Compression, Fleet, Scenario
from testbed.work import Model, Workbench


def settings_of(compression: Compression) -> CodecSettings:
    """What `fedsz` is asked for where a scenario's compression is on."""
    return CodecSettings(compression.codec, compression.bound, compression.lossless, compression.partition)


class Policy:
    """The decisions of one cell.

    ``auto`` takes the codec with the least ``t_C + t_D + 8 S' / g``, where that is less than ``t_N + 8 S / g``: t_C and
    t_D are the measured times to compress and decompress on this device and server, t_N the same for the uncompressed
    state, S' and S the bytes that both make, g the goodput of the client's last upload. All but g come from compressing
    the model that the client has just received, which has the size and nearly the distribution of what it will send.
    Where updates are coded against a reference, that model would say nothing; then the client's last update does, with
    the model that it began from, and before there is one, the model without a reference. Before the first upload g is
    the rate of the link less headers. What deciding takes is not part of the round: a device would decide once, from
    what it has measured before.
    """

    def __init__(self, scenario: Scenario, bench: Workbench) -> None:
        self._scenario, self._bench = scenario, bench
        # What it has learnt, by client; checkpoints keep it.
        self.goodput_bps: dict[str, float] = {}  # of the last upload
        self.last: dict[str, tuple[Model, Model]] = {}  # the last update, and what that began from

    def settings(self, client: str, fleet: Fleet, model: Model, rng: np.random.Generator) -> CodecSettings:
        """What *client* does with its next update, given the *model* that it received."""
        wanted = self._scenario.compression
        coded = settings_of(wanted)
        raw = replace(coded, codec="none")
        if wanted.policy == "never":
            return raw
        if wanted.policy == "always" or (wanted.codec == "none" and not wanted.among):
            return coded
        goodput_bps = self.goodput_bps.get(client, fleet.uplink.rate_bps * MSS / (MSS + HEADER_BYTES))
        ways = [raw, *(settings_of(one) for one in wanted.candidates)]
        sample, held = self.last.get(client, (model, None))
        return min(ways, key=lambda way: self._expected_s(fleet, sample, held, way, goodput_bps, rng))

    def trained(self, client: str, update: Model, before: Model) -> None:
        """Take note of an update: where it is coded against what it began from, the next one will be much like it."""
        wanted = self._scenario.compression
        if wanted.policy == "auto" and wanted.reference:
            self.last[client] = update, before

    def learn(self, client: str, outcome: ClientOutcome) -> None:
        """Take note of the goodput that the client's upload had."""
        if outcome.uplink is not None and outcome.uplink.ok and outcome.uplink.seconds > 0:
            self.goodput_bps[client] = 8 * outcome.uplink.flow.payload_bytes / outcome.uplink.seconds

    def _expected_s(
        self,
        fleet: Fleet,
        model: Model,
        reference: Model | None,
        settings: CodecSettings,
        goodput_bps: float,
        rng: np.random.Generator,
    ) -> float:
        held = None if settings.codec == "none" else reference
        encoded = self._bench.encode(self._scenario, fleet, model, settings, held, rng)
        digest = hashlib.sha256(encoded.value).hexdigest()
        decoded = self._bench.decode(encoded.value, digest, settings.codec, held, model, rng)
        return encoded.seconds + decoded.seconds + 8 * len(encoded.value) / goodput_bps
