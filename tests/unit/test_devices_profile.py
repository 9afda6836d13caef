"""Profiles and the catalogue: every figure has a source, factors follow from scores, doubt is carried along."""

import dataclasses
import math
import pickle
import statistics

import pytest

import devices
from devices.catalogue import reference
from devices.errors import ProfileError, UnknownDeviceError
from devices.profile import WORKS, DeviceProfile
from devices.scores import Conversion, PowerLaw, Scores, compress_factor, fit, lossless_factor, train_factor

HOST = Scores(sevenzip=4000, memcpy=12_000, hpl=40)
LAWS = Conversion(sevenzip=PowerLaw(100, 0.5, 1.2), hpl=PowerLaw(0.02, 1.0, 1.5))


def plain(**changes: object) -> DeviceProfile:
    values: dict[str, object] = {
        "name": "thing",
        "description": "",
        "cores": 1,
        "memory_bytes": 1 << 30,
        "train_factor": 4.0,
        "compress_factor": 2.0,
        "lossless_factor": 2.0,
        "idle_w": 1.0,
        "busy_w": 2.0,
        "sources": (),
    }
    return DeviceProfile(**{**values, **changes})


def test_the_catalogue_has_the_devices_that_are_promised():
    known = devices.catalogue()
    assert len(known) >= 12
    promised = {
        "raspberry-pi-3",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "jetson-nano",
        "jetson-orin-nano",
        "pixel-6",
        "esp-gateway",
        "laptop",
        "cloud-vm",
    }
    assert promised <= known.keys()
    assert sum("phone" in device.description.lower() for device in known.values()) >= 2


@pytest.mark.parametrize("name", list(devices.catalogue()))
def test_every_figure_has_a_source(name):
    device = devices.profile(name)
    assert device.name == name
    cited = [
        line
        for line in device.sources
        if line.startswith(("sevenzip", "memcpy", "hpl", "geekbench", "power"))
    ]
    assert cited
    for line in cited:
        assert "https://" in line or "measured by this project" in line, line
    assert (device.idle_w is None) or any(line.startswith("power") for line in device.sources)


def test_the_reference_host_is_itself():
    host = devices.profile("cloud-vm")
    assert all(host.factor(work) == 1 and host.spread(work) == 1 for work in WORKS)
    assert "epyc" in reference()


def test_older_raspberry_pis_are_slower_in_everything():
    family = [devices.profile(f"raspberry-pi-{generation}") for generation in (3, 4, 5)]
    for work in WORKS:
        factors = [device.factor(work) for device in family]
        assert factors == sorted(factors, reverse=True)


def test_an_unknown_device_is_named_with_a_hint():
    with pytest.raises(
        UnknownDeviceError, match=r"unknown device 'rasberry-pi4'; did you mean 'raspberry-pi-4'\?"
    ):
        devices.profile("rasberry-pi4")


def test_errors_survive_pickling():
    for error in (
        UnknownDeviceError("x", ("a", "b")),
        ProfileError("here", "wrong"),
        devices.WorkerDiedError("training", -9, True, 512_000_000),
        devices.LimitError("cpus", "none"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert type(again) is type(error)
        assert type(error)(*error.args).args == error.args


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (512_000_000, "512 MB"),
        (512 << 20, "512 MiB"),
        (4_000_000_000, "4 GB"),
        (1_234_567, "1.2 MB"),
        (4 << 30, "4 GiB"),
    ],
)
def test_out_of_memory_says_at_how_much_and_while_doing_what(limit, text):
    error = devices.WorkerDiedError("compressing", -9, True, limit)
    assert str(error) == f"out of memory at {text} while compressing"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cores": 0}, "at least one core"),
        ({"train_factor": 0.0}, "train_factor is 0.0"),
        ({"compress_factor": math.nan}, "compress_factor is nan"),
        ({"lossless_spread": 0.9}, "lossless_spread is 0.9"),
        ({"idle_w": 3.0}, "not in order"),
    ],
)
def test_nonsense_profiles_are_refused(changes, message):
    with pytest.raises(ProfileError, match=message):
        plain(**changes)


def test_factors_follow_from_the_scores():
    device = Scores(sevenzip=1000, memcpy=1500, hpl=10)
    assert train_factor(device, HOST, LAWS).value == 4
    assert lossless_factor(device, HOST, LAWS).value == 4
    compress = compress_factor(device, HOST, LAWS)
    assert compress.value == pytest.approx(math.sqrt(4 * 8))
    assert compress.value * compress.spread >= 8  # the doubt reaches the slower of the two


def test_geekbench_stands_in_with_more_doubt():
    device = Scores(geekbench_single=400, geekbench_multi=1000)
    assert lossless_factor(device, HOST, LAWS).value == pytest.approx(4000 / 2000)
    assert train_factor(device, HOST, LAWS).value == pytest.approx(40 / 20)
    measured = Scores(sevenzip=2000, hpl=20)
    assert lossless_factor(device, HOST, LAWS).spread > lossless_factor(measured, HOST, LAWS).spread
    assert train_factor(device, HOST, LAWS).spread > train_factor(measured, HOST, LAWS).spread
    assert train_factor(Scores(sevenzip=1), HOST, LAWS) is None
    assert compress_factor(Scores(hpl=1), HOST, LAWS) is None


def test_a_score_of_a_sibling_adds_its_doubt():
    own, borrowed = Scores(hpl=10), Scores(hpl=10, doubt={"hpl": 1.5})
    assert train_factor(borrowed, HOST, LAWS).spread == pytest.approx(
        math.exp(math.hypot(math.log(train_factor(own, HOST, LAWS).spread), math.log(1.5)))
    )


def test_the_power_law_is_found_again():
    law = fit([(x, 3 * x**0.5) for x in (10.0, 100.0, 1000.0)])
    assert law.scale == pytest.approx(3)
    assert law.power == pytest.approx(0.5)
    assert law.spread == pytest.approx(1, abs=1e-6)


def test_drawn_devices_spread_as_stated_and_repeat():
    device = plain(train_spread=2.0)
    factors = [device.drawn(seed).train_factor for seed in range(2000)]
    assert factors[7] == device.drawn(7).train_factor
    inside = sum(2 <= factor <= 8 for factor in factors) / len(factors)
    assert 0.93 < inside < 0.97
    assert statistics.median(factors) == pytest.approx(4, rel=0.05)
    assert device.drawn(3).compress_factor == pytest.approx(2)
    assert device.drawn(3).spread("train") == 1


def test_rebasing_divides_factors_and_joins_doubts():
    slow_host = plain(name="host", train_factor=2.0, compress_factor=0.5, train_spread=1.5)
    seen = plain(train_spread=2.0).rebased(slow_host)
    assert seen.train_factor == 2
    assert seen.compress_factor == 4
    assert seen.train_spread == pytest.approx(math.exp(math.hypot(math.log(2), math.log(1.5))))


def test_a_profile_is_plain_data():
    device = devices.profile("raspberry-pi-4")
    assert pickle.loads(pickle.dumps(device)) == device
    assert dataclasses.asdict(device)["cores"] == 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.cores = 8
