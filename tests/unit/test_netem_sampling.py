"""What speaks against a measurement, from two looks at the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netem.sampling import HostSample, QueueWatch, sample, strain
from netem.traffic_control import QueueState

QUIET = HostSample(
    10.0,
    {
        "user": 5.0,
        "nice": 0.0,
        "system": 2.0,
        "idle": 90.0,
        "iowait": 1.0,
        "irq": 0.0,
        "softirq": 2.0,
        "steal": 0.0,
    },
    softnet_dropped=3,
    throttled_s=0.5,
    load=0.2,
)


def later(**changes: float) -> HostSample:
    """Two seconds on two cores later; what was not used was idle."""
    cpu_s = {kind: QUIET.cpu_s[kind] + changes.pop(kind, 0.0) for kind in QUIET.cpu_s}
    cpu_s["idle"] += 4.0 - (sum(cpu_s.values()) - sum(QUIET.cpu_s.values()))
    return replace(QUIET, at_s=12.0, cpu_s=cpu_s, **changes)


def test_a_quiet_host_gives_no_reason_for_doubt():
    seen = strain(QUIET, later(user=1.0, softirq=0.4))
    assert (seen.seconds, seen.busy, seen.softirq) == (2.0, pytest.approx(0.35), pytest.approx(0.1))
    assert seen.reasons == ()


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (later(steal=0.4), "the hypervisor took the processor away for 10.0% of the time"),
        (
            later(softnet_dropped=5),
            "the kernel dropped 2 packets before any link saw them (net.core.netdev_max_backlog)",
        ),
        (later(throttled_s=0.75), "this process's control group was held back for 0.25 s"),
    ],
)
def test_each_doubt_has_its_reason(after, reason):
    assert strain(QUIET, after).reasons == (reason,)


def test_a_busy_processor_explains_and_is_no_reason():
    """Transfers have precedence over other work; whether they were held up is seen from how long they took."""
    seen = strain(QUIET, later(user=4.0))
    assert (seen.reasons, seen.remarks) == ((), ("the processor was busy 100% of the time",))


def test_packets_that_waited_for_a_processor_may_have_held_a_transfer_up():
    """Ten milliseconds are nothing in two seconds and much in a tenth of one."""
    assert strain(QUIET, later(packets_waited_s=0.01)).held_up == ""
    seen = strain(QUIET, replace(later(packets_waited_s=0.01), at_s=10.1))
    assert seen.held_up == "the kernel's threads for packets waited 10 ms for a processor"
    assert seen.reasons == ()


@pytest.mark.parametrize("kind", ["steal", "user"])
def test_one_tick_of_the_kernels_counter_says_nothing(kind):
    """Fifty milliseconds on one core: a single tick is a fifth of it, and may be all rounding."""
    cpu_s = {name: QUIET.cpu_s[name] + (0.04 if name == "softirq" else 0.0) for name in QUIET.cpu_s}
    cpu_s[kind] += 0.01
    seen = strain(QUIET, replace(QUIET, at_s=10.05, cpu_s=cpu_s))
    assert (seen.reasons, seen.remarks) == ((), ())


def queue(kind: str, drops: int, backlog_bytes: int = 0) -> QueueState:
    return QueueState(1, kind, 1, 0, 0, drops, backlog_bytes, 0, {})


def test_drops_are_counted_once_and_are_no_fault():
    before = {"a.uplink": [queue("htb", 1), queue("tbf", 1)], "b.uplink": [queue("tbf", 0)]}
    after = {"a.uplink": [queue("htb", 4), queue("tbf", 4)], "b.uplink": [queue("tbf", 0)]}
    seen = strain(QUIET, later(), before, after)
    assert seen.drops == {"a.uplink": 3}
    assert seen.reasons == ()


def test_what_still_stood_in_a_queue_is_a_reason():
    before = {"a.uplink": [queue("htb", 0, 9000), queue("tbf", 0, 9000)], "b.uplink": [queue("tbf", 0, 66)]}
    seen = strain(QUIET, later(), before, before, {"a.uplink": 20_000})
    assert seen.standing_bytes == {"a.uplink": 9000, "b.uplink": 66}
    assert seen.fullest_bytes == {"a.uplink": 20_000}
    assert seen.reasons == ("9000 bytes stood in the queue of a.uplink before the first transfer",)


def test_queues_are_looked_into_only_where_nothing_is_due(monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr("netem.sampling.time.monotonic", lambda: now_s[0])
    sizes = iter([5000, 9000, 7000])
    watch = QueueWatch(lambda: {"a.uplink": [queue("tbf", 0, next(sizes))]})
    watch.begin()
    for at_s, wait_s in ((100.1, 1.0), (101.0, 0.01), (101.1, 1.0), (101.2, 1.0), (102.0, 1.0), (103.0, 1.0)):
        now_s[0] = at_s
        watch.waits(wait_s)
    assert watch.fullest_bytes == {"a.uplink": 9000}
    assert next(sizes, None) is None  # three looks
    watch.begin()
    assert watch.fullest_bytes == {}


def test_this_host_can_be_looked_at():
    before, after = sample(), sample()
    assert set(before.cpu_s) == {"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"}
    assert after.at_s >= before.at_s
    assert strain(before, after).seconds >= 0


def test_counters_are_read_as_the_kernel_writes_them(tmp_path: Path):
    (tmp_path / "net").mkdir()
    (tmp_path / "self").mkdir()
    (tmp_path / "stat").write_text("cpu  100 0 50 1000 10 0 20 5 0 0\ncpu0 1 2 3\n")
    (tmp_path / "net" / "softnet_stat").write_text("0000ffff 00000010 0 0\n00000001 00000002 0 0\n")
    (tmp_path / "self" / "cgroup").write_text("4:memory:/\n")
    (tmp_path / "loadavg").write_text("1.50 1.0 0.5 2/100 12345\n")
    for number, name, waited_ns in (
        (14, "ksoftirqd/0", 3_000_000),
        (22, "ksoftirqd/1", 500_000),
        (99, "bash", 7),
    ):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "comm").write_text(f"{name}\n")
        (tmp_path / str(number) / "schedstat").write_text(f"1000 {waited_ns} 5\n")
    seen = sample(tmp_path)
    assert seen.cpu_s["user"] * 100 / seen.cpu_s["idle"] == pytest.approx(10.0)
    assert (seen.softnet_dropped, seen.throttled_s, seen.load) == (18, 0.0, 1.5)
    assert seen.packets_waited_s == pytest.approx(0.0035)
