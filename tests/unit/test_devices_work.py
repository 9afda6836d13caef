"""Device time from host time, energy estimates, calibration: the arithmetic, without root."""

import statistics

import pytest

import devices
from devices import LimitError, Limits, Took, Worker
from devices.calibrate import Kernel, Timing, builtin_kernels, calibrate, measure
from devices.energy import Split, energy_j
from devices.errors import ProfileError
from devices.kernels import copy_memory, quantise_and_code, shuffle_and_deflate, training_step
from devices.limits import ControlGroup, Controller
from devices.probe import burn
from devices.profile_file import read_profile, write_profile
from devices.work import device_time, limits_for, run_as

PI = devices.profile("raspberry-pi-4")


def test_scaled_time_is_multiplied_and_its_doubt_carried():
    time = device_time(Took(2.0, 2.0, 1), PI, "train")
    assert time.seconds == pytest.approx(2 * PI.train_factor)
    assert time.low == pytest.approx(time.seconds / PI.train_spread)
    assert time.high == pytest.approx(time.seconds * PI.train_spread)


def test_cpu_time_can_be_scaled_instead():
    assert device_time(Took(9.0, 2.0, 1), PI, "train", clock="cpu").seconds == pytest.approx(
        2 * PI.train_factor
    )


def test_time_under_a_quota_is_the_devices_already():
    assert device_time(Took(2.0, 0.5, 1), PI, "train", "quota").seconds == 2.0


def test_a_device_faster_than_the_host_has_no_quota():
    with Worker() as worker, pytest.raises(LimitError, match=r"iphone-14-pro does train .* use mode: scale"):
        run_as(worker, devices.profile("iphone-14-pro"), "train", "training", burn, 0.0, mode="quota")


def test_scale_mode_runs_the_work_and_returns_its_result():
    with Worker() as worker:
        stall, time = run_as(worker, PI, "compress", "compressing", burn, 0.05)
    assert stall < 10
    assert time.took.cpu_s >= 0.05
    assert time.seconds == time.took.wall_s * PI.compress_factor


def test_limits_stand_for_the_device():
    limits = limits_for(PI, "quota", cpus=(0,))
    assert limits == Limits(cpu_share=1.0, cpus=(0,), memory_bytes=4 << 30)
    assert limits_for(PI, "scale", memory_bytes=1 << 29) == Limits(memory_bytes=1 << 29)


@pytest.mark.parametrize(
    ("share", "period", "expected"),
    [
        (0.5, 0.010, (5_000, 10_000)),
        (0.1, 0.010, (1_000, 10_000)),
        (0.05, 0.010, (1_000, 20_000)),
        (0.001, 0.010, (1_000, 1_000_000)),
        (2.0, 0.010, (20_000, 10_000)),
    ],
)
def test_quota_and_period(share, period, expected):
    assert Limits(cpu_share=share, period_s=period).quota_us() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cpu_share": 0.0}, "limit cpu_share: got 0.0"),
        ({"cpu_share": -1}, "limit cpu_share"),
        ({"cpus": ()}, "limit cpus"),
        ({"memory_bytes": 1000}, "limit memory_bytes: got 1000"),
        ({"period_s": 2.0}, "limit period_s"),
    ],
)
def test_impossible_limits_are_refused_when_built(arguments, message):
    with pytest.raises(LimitError, match=message):
        Limits(**arguments)


def test_energy_is_power_times_time_by_cause():
    split = Split(train_s=10, code_s=4, uplink_s=2, downlink_s=1, wait_s=100)
    cost = energy_j(PI, split)
    assert cost.train_j == pytest.approx(7.2 * 10)
    assert cost.code_j == pytest.approx((1.6 + (7.2 - 1.6) / 4) * 4)
    assert cost.radio_j == pytest.approx(1.6 * 3)
    assert cost.wait_j == pytest.approx(160)
    assert cost.total_j == pytest.approx(72 + 12 + 4.8 + 160)
    assert cost.basis.startswith("estimate")


def test_radio_energy_follows_the_published_model():
    split = Split(uplink_s=8.0, uplink_bytes=5_000_000)  # 5 Mbit/s
    with_radio, without = energy_j(PI, split, "lte"), energy_j(PI, split)
    assert with_radio.radio_j - without.radio_j == pytest.approx((1.28804 + 0.43839 * 5) * 8)
    fast = energy_j(PI, Split(uplink_s=1.0, uplink_bytes=100_000_000), "wifi")
    assert fast.radio_j == pytest.approx(1.6 + 0.13286 + 0.28317 * 10)  # held at the range of the fit


def test_no_power_figures_no_estimate():
    cost = energy_j(devices.profile("pixel-6"), Split(train_s=1))
    assert cost.total_j is None
    assert "no power figures for pixel-6" in cost.basis


def test_kernels_are_repeatable():
    for kernel in (training_step, quantise_and_code, shuffle_and_deflate, copy_memory):
        assert kernel() == kernel()
    assert quantise_and_code() < (1 << 22)  # under a byte a value


def test_factors_come_from_medians_over_reference_times():
    kernel = Kernel("burn", "compress", burn, reference_s=0.1)
    timing = Timing(kernel, (0.2, 0.3, 0.25))
    assert timing.factor == pytest.approx(2.5)
    assert timing.scatter > 1


def test_calibration_measures_and_its_profile_survives_the_file(tmp_path):
    real = Kernel("real codec", "compress", burn, reference_s=0.01, args=(0.02,))
    here = calibrate("bench", [real], repeats=3, threads=1, idle_w=1.0, busy_w=2.0)
    assert here.compress_factor >= 1.9  # the built-in compression kernel is out, the real one counts
    assert any("copy_memory" in line for line in here.sources)
    assert not any("quantise_and_code" in line for line in here.sources)
    file = tmp_path / "profiles" / "bench.yaml"
    write_profile(here, file)
    assert read_profile(file) == here
    assert devices.profile(str(file)) == here
    with pytest.raises(FileExistsError):
        write_profile(here, file)
    assert [path.name for path in file.parent.iterdir()] == ["bench.yaml"]


def test_kernels_are_measured_in_turn():
    first, second = measure(builtin_kernels()[1:3], repeats=3, on_cpu_time=True)
    assert len(first.seconds) == len(second.seconds) == 3
    assert first.median_s == statistics.median(first.seconds)
    with pytest.raises(ProfileError, match="at least 3"):
        measure([], repeats=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema: 9", "no device profile of schema 1"),
        ("schema: 1\nname: x", "missing"),
        ("schema: 1\ncolour: red", "unknown keys: colour"),
        ("a: 1\na: 2", "duplicate key"),
    ],
)
def test_damaged_profiles_are_refused_by_name(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ProfileError, match=message) as caught:
        read_profile(file)
    assert str(file) in str(caught.value)


def test_what_is_written_under_cgroup_v2(tmp_path):
    """Plain files take what a kernel would: CPU sets need two processors, and the full kernel of the tests has one."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    mounted = {name: Controller(name, 2, tmp_path) for name in ("cpu", "cpuset", "memory")}
    limits = Limits(cpu_share=0.25, cpus=(0, 2), memory_bytes=64 << 20)
    with ControlGroup("fz-test", limits, mounted=mounted) as group:
        folder = tmp_path / "fz-test"
        group.add(1234)
        written = {file.name: file.read_text() for file in folder.iterdir()}
        assert written == {
            "cpu.max": "2500 10000",
            "cpuset.cpus": "0,2",
            "memory.max": "67108864",
            "cgroup.procs": "1234",
        }
        assert (tmp_path / "cgroup.subtree_control").read_text() in ("+cpuset", "+memory")  # cpu was enabled
        group.let_run()
        assert (folder / "cpu.max").read_text() == "max"
        group.hold_back()
        assert (folder / "cpu.max").read_text() == "2500 10000"
        for file in folder.iterdir():  # a kernel's files go with the folder
            file.unlink()
    assert not folder.exists()
