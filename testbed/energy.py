"""What a client's round costs its battery: `devices.energy` applied to the split that was played. An estimate."""

from __future__ import annotations

from typing import Any

from devices.energy import Split, energy_j
from testbed.round import ClientOutcome, ClientPlan
from testbed.scenario import Fleet

# What of a row says so, in the order of its fields; the first is the sum of the others.
FIELDS = ("energy_j", "energy_train_j", "energy_code_j", "energy_radio_j", "energy_wait_j")


def of_round(fleet: Fleet, plan: ClientPlan, outcome: ClientOutcome) -> dict[str, Any]:
    """The row's energy fields, in joules; all None for a device without power figures.

    What the server does (packing, decoding, averaging) is waiting for the client. A transfer that failed counts as
    long as it lasted, at the rate that its bytes would have had.
    """
    seconds = outcome.seconds
    pack_s = min(plan.pack_s, seconds["compress"])
    unpack_s = min(plan.unpack_s, seconds["decompress"])
    served_s = pack_s + seconds["decompress"] - unpack_s + seconds["aggregate"]
    sized = plan.sized()
    assert isinstance(sized.uplink, int)
    assert isinstance(sized.downlink, int)
    found = energy_j(
        fleet.profile,
        Split(
            train_s=seconds["train"],
            code_s=seconds["compress"] - pack_s + unpack_s,
            uplink_s=seconds["uplink"],
            downlink_s=seconds["downlink"],
            wait_s=seconds["wait"] + served_s,
            uplink_bytes=sized.uplink,
            downlink_bytes=sized.downlink,
        ),
        fleet.radio,
    )
    values = (found.total_j, found.train_j, found.code_j, found.radio_j, found.wait_j)
    return dict(zip(FIELDS, values, strict=True))
