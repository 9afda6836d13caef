"""Devices of a scenario: names, files and whole profiles; this machine's own profile; what `run.json` keeps."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from devices import profile
from devices.profile_file import write_profile
from testbed import device_record
from testbed.errors import ScenarioErrors
from testbed.scenario import DeviceOptions, loads

BASE = """
name: d
fleets:
  - {{name: a, count: 1, device: {device}, uplink: 1 Mbit/s, downlink: 1 Mbit/s}}
"""
MINE = replace(profile("raspberry-pi-5"), name="mine", single_train_factor=4.0, train_factor=2.0)


def refusal(text, name="s.yaml"):
    """The problems of a scenario, unwrapped."""
    with pytest.raises(ScenarioErrors) as caught:
        loads(text, name)
    return " ".join(str(caught.value).split())


@pytest.fixture
def beside(tmp_path):
    """A scenario's name in a folder with a calibrated profile."""
    write_profile(MINE, tmp_path / "mine.yaml")
    return str(tmp_path / "s.yaml")


def test_a_file_beside_the_scenario_is_a_device_and_is_saved_with_it(beside):
    scenario = loads(BASE.format(device="./mine.yaml"), beside)
    (fleet,) = scenario.fleets
    assert (fleet.device, fleet.device_name, fleet.profile) == (MINE, "mine", MINE)
    assert loads(json.dumps(scenario.to_dict()), "elsewhere.json") == scenario
    assert loads(f"{BASE.format(device='laptop')}sweep: {{device: [laptop, ./mine.yaml]}}", beside).cells()[
        1
    ].label == ("device mine")


def test_a_device_may_be_written_out():
    short = "{name: box, cores: 2, memory_bytes: 1000000000, train_factor: 3, compress_factor: 2, lossless_factor: 2}"
    assert loads(BASE.format(device=short)).fleets[0].profile.train_factor == 3
    with pytest.raises(
        ScenarioErrors, match=r"fleets\[0\].device.cores \(a\): got '0'; a whole number from 1"
    ):
        loads(BASE.format(device=short.replace("cores: 2", "cores: 0")))
    with pytest.raises(ScenarioErrors, match=r"idle 9.0 W and busy 1.0 W are not in order"):
        loads(BASE.format(device=short.replace("cores: 2", "cores: 2, idle_w: 9, busy_w: 1")))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("none.yaml", "none.yaml: cannot be read: No such file"),
        ("s.yaml", "s.yaml: no device profile of schema 1"),
        ("rasperry-pi-4", "unknown device 'rasperry-pi-4'; did you mean 'raspberry-pi-4'?"),
        ("[a]", "got a list; the name of a device is expected, or of a file that testbed calibrate wrote"),
    ],
)
def test_what_is_no_device_is_refused_with_its_place(tmp_path, device, message):
    (tmp_path / "s.yaml").write_text("schema: 7\n")
    said = refusal(BASE.format(device=device), str(tmp_path / "s.yaml"))
    assert message in said
    assert "s.yaml:4:33: fleets[0].device (a): " in said


def test_two_devices_of_one_name_are_refused(beside):
    text = BASE.format(device="mine.yaml") + (
        "  - {name: b, count: 1, device: {name: mine, cores: 1, memory_bytes: 1000000000, train_factor: 1, "
        "compress_factor: 1, lossless_factor: 1}, uplink: 1 Mbit/s, downlink: 1 Mbit/s}\n"
    )
    assert "two different devices are called 'mine'" in refusal(text, beside)


def test_this_machines_profile_converts_what_is_measured_on_it(beside):
    scenario = loads(
        BASE.format(device="raspberry-pi-4") + "devices: {host: mine.yaml, doubt: true}\n", beside
    )
    assert scenario.devices == DeviceOptions(MINE, True)
    seen, pi = scenario.profile_of(scenario.fleets[0]), profile("raspberry-pi-4")
    assert seen.train_factor == pytest.approx(pi.train_factor / 4.0)  # work here is measured with one thread
    assert seen.compress_factor == pytest.approx(pi.compress_factor / MINE.compress_factor)
    assert math.log(seen.compress_spread) == pytest.approx(
        math.hypot(math.log(pi.compress_spread), math.log(MINE.compress_spread))
    )


def test_a_machine_seen_from_itself_is_what_it_is():
    here = MINE.rebased(MINE)
    assert (here.compress_factor, here.compress_spread, here.lossless_factor) == (1.0, 1.0, 1.0)
    assert here.train_factor == 0.5  # two cores' worth of one measured thread
    assert here.single_train_factor == 1.0


def test_the_manifest_says_which_factors_turned_seconds_into_device_seconds(beside):
    plain = loads(BASE.format(device="raspberry-pi-4"))
    found = device_record.collect(plain)
    assert found["reference_host"].startswith("epyc-9004-vcpu: ")
    assert found["this_host"] == "taken for the reference host"
    assert found["profiles"]["raspberry-pi-4"]["factors"]["train"] == profile("raspberry-pi-4").train_factor
    manifest = json.loads(json.dumps({"devices": found, "scenario": plain.to_dict()}))
    assert (
        device_record.spreads(manifest)["raspberry-pi-4"]["train"] == profile("raspberry-pi-4").train_spread
    )
    assert device_record.doubt_of(manifest) == {}  # the scenario does not ask for it
    hosted = loads(BASE.format(device="mine.yaml") + "devices: {host: mine.yaml, doubt: true}\n", beside)
    found = device_record.collect(hosted)
    assert found["this_host"]["name"] == "mine"
    assert found["profiles"]["mine"]["factors"]["compress"] == 1.0
    asking = {**manifest, "scenario": hosted.to_dict()}
    assert device_record.doubt_of(asking) == device_record.spreads(manifest)
    assert device_record.doubt_of(asking, asked=False) == {}
    assert device_record.doubt_of(manifest, asked=True) == device_record.spreads(manifest)
    assert device_record.spreads({}) == {}  # a run that was recorded before this was kept


def test_a_ceiling_is_the_devices_memory_or_what_the_fleet_says():
    text = BASE.format(device="raspberry-pi-3")
    (free,) = loads(text).fleets
    assert (free.ceiling_bytes, free.held) == (None, False)
    (quota,) = loads(text.replace("count: 1", "count: 1, limits: quota")).fleets
    assert (quota.ceiling_bytes, quota.held) == (1 << 30, True)
    (less,) = loads(text.replace("count: 1", "count: 1, memory: 512 MB")).fleets
    assert (less.ceiling_bytes, less.held) == (512_000_000, True)
