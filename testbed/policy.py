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
    Before its first upload g is the rate of its link less headers. What deciding takes is not part of the round: a
    device would decide once, from what it has measured before.
    """

    def __init__(self, scenario: Scenario, bench: Workbench) -> None:
        self._scenario, self._bench = scenario, bench
        self.goodput_bps: dict[str, float] = {}  # client -> goodput of its last upload

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
        return min(ways, key=lambda settings: self._expected_s(fleet, model, settings, goodput_bps, rng))

    def learn(self, client: str, outcome: ClientOutcome) -> None:
        """Take note of the goodput that the client's upload had."""
        if outcome.uplink is not None and outcome.uplink.ok and outcome.uplink.seconds > 0:
            self.goodput_bps[client] = 8 * outcome.uplink.flow.payload_bytes / outcome.uplink.seconds

    def _expected_s(
        self,
        fleet: Fleet,
        model: Model,
        settings: CodecSettings,
        goodput_bps: float,
        rng: np.random.Generator,
    ) -> float:
        encoded = self._bench.encode(self._scenario, fleet, model, settings, None, rng)
        digest = hashlib.sha256(encoded.value).hexdigest()
        decoded = self._bench.decode(encoded.value, digest, settings.codec, None, model, rng)
        return encoded.seconds + decoded.seconds + 8 * len(encoded.value) / goodput_bps
