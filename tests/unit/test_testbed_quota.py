"""The check before a run with quotas: what holds, what a busy host may explain, and what ends the run."""

from __future__ import annotations

import pytest

from devices import LimitError
from devices.probe import CpuProbe
from testbed import quota
from testbed.scenario import loads

BASE = """
name: q
fleets:
  - {name: pi, count: 2, device: raspberry-pi-4, limits: quota, uplink: 1 Mbit/s, downlink: 1 Mbit/s}
  - {name: phone, count: 1, device: pixel-6, uplink: 1 Mbit/s, downlink: 1 Mbit/s}
"""


def probing(*errors: float):
    """A probe that finds these errors in turn, for each share anew, the last one for ever."""
    asked: list[float] = []

    def probe(share, *, wall_s, ledger):
        assert wall_s > 0
        assert ledger is None
        error = errors[min(asked.count(share), len(errors) - 1)]
        asked.append(share)
        return CpuProbe(share, share * (1 + error), 0.01)

    return probe, asked


def test_every_share_of_every_held_device_is_probed_once_where_it_holds():
    probe, asked = probing(0.02)
    (found,) = quota.check(loads(BASE), None, probe)
    pi = loads(BASE).fleets[0].profile
    assert asked == sorted(pi.cpu_share(work) for work in ("train", "compress", "lossless"))
    assert found.device == "raspberry-pi-4"
    assert not found.doubt
    assert [probe["ok"] for probe in found.to_dict()["probes"]] == [True] * 3


def test_a_busy_moment_is_looked_at_again():
    probe, asked = probing(-0.3, -0.05)
    (found,) = quota.check(loads(BASE), None, probe)
    assert len(asked) == 6
    assert not found.doubt


def test_a_host_that_stays_busy_makes_the_work_untrusted():
    probe, asked = probing(-0.3, -0.2, -0.4)
    (found,) = quota.check(loads(BASE), None, probe)
    assert len(asked) == 3 * quota.ATTEMPTS
    assert found.doubt.startswith(
        "CPU quota of raspberry-pi-4: asked for 0.291 of a core, work got 0.233 at best of 4 probes; asked for 0.29"
    )
    assert found.doubt.endswith("the host is too busy")


def test_a_kernel_that_gives_more_than_asked_ends_the_run():
    probe, _ = probing(0.3)
    with pytest.raises(
        LimitError, match=r"asked for 0.291 of a core, and work gets 0.378; the kernel does not"
    ):
        quota.check(loads(BASE), None, probe)


def test_a_device_faster_than_this_machine_has_no_quota():
    scenario = loads(BASE.replace("device: raspberry-pi-4", "device: laptop"))
    with pytest.raises(
        LimitError, match=r"laptop does train 2.\d+ times as fast as this host, .* `limits: scale`"
    ):
        quota.require(scenario)
    quota.require(loads(BASE))


def test_devices_of_later_cells_are_looked_at_before_the_first():
    swept = loads(f"{BASE}sweep:\n  fleets.pi.device: [raspberry-pi-4, raspberry-pi-3]\n")
    assert [device.name for device in quota.held_devices(swept)] == ["raspberry-pi-4", "raspberry-pi-3"]
