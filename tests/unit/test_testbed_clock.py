"""The clock against a pure SimPy run, a scripted network, and late completions."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import pytest
import simpy

from netem.flow import Direction, FlowRequest, FlowResult
from testbed.clock import EmulatedEnvironment, FixedDilation, FlowEnvironment, ModelledEnvironment

Process = Generator[Any, Any, None]


def ended(request: FlowRequest, started_s: float, finished_s: float) -> FlowResult:
    return FlowResult(
        flow_id=request.flow_id,
        client=request.client,
        direction=request.direction,
        status="ok",
        started_s=started_s,
        finished_s=finished_s,
        payload_bytes=len(request.payload),
        wire_bytes=None,
        digest="",
    )


class ScriptedModel:
    """Flows take one second a byte, whatever else is in flight."""

    def __init__(self) -> None:
        self.running: list[tuple[float, float, FlowRequest]] = []

    def start(self, request: FlowRequest, at_s: float) -> None:
        self.running.append((at_s + len(request.payload), at_s, request))

    def next_completion_s(self) -> float:
        return min((end for end, _, _ in self.running), default=math.inf)

    def advance(self, to_s: float) -> list[FlowResult]:
        done = sorted((r for r in self.running if r[0] <= to_s), key=lambda r: r[:2])
        self.running = [r for r in self.running if r[0] > to_s]
        return [ended(request, start, end) for end, start, request in done]


class ScriptedLinks:
    """Flows take 10 ms of a made-up wall clock a byte; *notice_s* passes until a completion is told."""

    def __init__(self, notice_s: float = 0.0) -> None:
        self.wall_s = 1000.0
        self.notice_s = notice_s
        self.running: list[tuple[float, float, FlowRequest]] = []

    def now(self) -> float:
        return self.wall_s

    def start(self, request: FlowRequest) -> None:
        self.running.append((self.wall_s + 0.01 * len(request.payload), self.wall_s, request))

    def wait(self, timeout_s: float) -> list[FlowResult]:
        told_s = min((end for end, _, _ in self.running), default=math.inf) + self.notice_s
        if told_s > self.wall_s + timeout_s:
            self.wall_s += timeout_s
            return []
        self.wall_s = max(self.wall_s, told_s)
        done = [r for r in self.running if r[0] + self.notice_s <= self.wall_s]
        self.running = [r for r in self.running if r not in done]
        return [ended(request, start, end) for end, start, request in done]


def work_only(env: simpy.Environment, trace: list[tuple[float, str]]) -> None:
    def client(name: str, times: list[float]) -> Process:
        for seconds in times:
            yield env.timeout(seconds)
            trace.append((env.now, name))

    env.process(client("a", [1.0, 0.5, 3.25]))
    env.process(client("b", [0.25, 1.25, 0.0]))


@pytest.mark.parametrize(
    "make", [lambda: ModelledEnvironment(ScriptedModel()), lambda: EmulatedEnvironment(ScriptedLinks())]
)
def test_without_flows_the_trace_is_that_of_plain_simpy(make: Any) -> None:
    plain: list[tuple[float, str]] = []
    ours: list[tuple[float, str]] = []
    env, reference = make(), simpy.Environment()
    work_only(reference, plain)
    work_only(env, ours)
    reference.run()
    env.run()
    assert ours == plain


def send(
    env: FlowEnvironment, log: dict[str, tuple[float, float]], name: str, at_s: float, size: int
) -> Process:
    yield env.timeout(at_s)
    transfer = yield env.transfer(name, "uplink", b"x" * size)
    log[name] = (transfer.started_s, env.now)


def test_model_completions_come_in_order_among_timeouts() -> None:
    env = ModelledEnvironment(ScriptedModel())
    log: dict[str, tuple[float, float]] = {}
    env.process(send(env, log, "a", 1.0, 5))
    env.process(send(env, log, "b", 2.0, 1))
    env.run()
    assert log == {"a": (1.0, 6.0), "b": (2.0, 3.0)}
    assert env.in_flight == 0


@pytest.mark.parametrize("dilation", [0.25, 1.0, 50.0])
def test_emulated_transfer_time_is_wall_time_times_dilation(dilation: float) -> None:
    links = ScriptedLinks()
    env = EmulatedEnvironment(links, dilation=dilation, wall=links.now)
    log: dict[str, tuple[float, float]] = {}
    env.process(send(env, log, "a", 3.0, 100))
    env.run()
    assert log["a"] == (3.0, pytest.approx(3.0 + 1.0 * dilation))
    assert env.flows_wall_s == pytest.approx(1.0)


def test_a_client_that_is_ready_later_starts_into_the_other_transfer() -> None:
    links = ScriptedLinks()
    env = EmulatedEnvironment(links, dilation=2.0, wall=links.now)
    log: dict[str, tuple[float, float]] = {}
    env.process(send(env, log, "first", 0.0, 100))  # 1 s of wall, 2 s emulated
    env.process(send(env, log, "second", 1.5, 10))
    env.process(send(env, log, "after", 10.0, 10))  # leaps: nothing is in flight any more
    env.run()
    assert log["first"] == (0.0, pytest.approx(2.0))
    assert log["second"] == (1.5, pytest.approx(1.7))
    assert log["after"] == (10.0, pytest.approx(10.2))
    assert links.wall_s == pytest.approx(1000.0 + 1.0 + 0.1)


def test_a_completion_told_late_keeps_its_instant_unless_time_has_passed_it() -> None:
    links = ScriptedLinks(notice_s=0.2)
    env = EmulatedEnvironment(links, wall=links.now)
    ends: list[Any] = []

    def sender() -> Process:
        transfer = yield env.transfer("a", "uplink", b"x" * 100)
        ends.append((transfer.finished_s, transfer.late_s))
        transfer = yield env.transfer("a", "uplink", b"x" * 100)
        ends.append((transfer.finished_s, transfer.late_s))

    def other() -> Process:
        yield env.timeout(2.1)  # after the second flow's end (2.0), before anybody is told of it (2.2)

    env.process(sender())
    env.process(other())
    env.run()
    assert ends[0] == (pytest.approx(1.0), 0.0)
    assert ends[1][0] >= ends[0][0] + 1.0
    assert ends[1][1] == pytest.approx(ends[1][0] - 2.0)


def test_an_event_processed_behind_the_wall_clock_is_measured() -> None:
    links = ScriptedLinks()
    env = EmulatedEnvironment(links, dilation=3.0, wall=links.now)

    def slow_host() -> Process:
        yield env.timeout(0.3)
        links.wall_s += 0.5  # the host did something else
        yield env.timeout(0.3)

    env.transfer("a", "uplink", b"x" * 1000)
    env.process(slow_host())
    env.run(until=1.0)
    assert env.worst_event_lag_s == pytest.approx(3.0 * 0.5 - 0.3)


@pytest.mark.parametrize("dilation", [0.0, -1.0, math.nan, math.inf])
def test_dilation_must_be_positive_and_finite(dilation: float) -> None:
    with pytest.raises(ValueError, match="dilation is a positive number"):
        EmulatedEnvironment(ScriptedLinks(), dilation=dilation).transfer("a", "uplink", b"x")


def test_dilation_may_change_when_nothing_is_in_flight() -> None:
    links = ScriptedLinks()
    asked: list[str] = []

    class Dilate(FixedDilation):
        def __call__(self, request: FlowRequest) -> float:
            asked.append(request.client)
            return {"a": 2.0, "c": 10.0}[request.client]

    env = EmulatedEnvironment(links, dilation=Dilate(1.0), wall=links.now)
    ends: dict[str, float] = {}

    def client(name: str, at_s: float) -> Process:
        yield env.timeout(at_s)
        yield env.transfer(name, "uplink", b"x" * 100)
        ends[name] = env.now

    for name, at_s in (("a", 0.0), ("b", 1.0), ("c", 5.0)):
        env.process(client(name, at_s))
    env.run()
    assert asked == ["a", "c"]
    assert ends == {"a": pytest.approx(2.0), "b": pytest.approx(3.0), "c": pytest.approx(15.0)}


@pytest.mark.parametrize("until_s", [3.0, 30.0])
def test_a_flow_that_waits_begins_at_its_instant_and_ends_in_its_order(until_s: float) -> None:
    """The upload is due in the middle of two downloads; one k-th of the wall time later it flies, alone."""
    links = ScriptedLinks()
    together: list[int] = []

    class Dilate(FixedDilation):
        def __call__(self, request: FlowRequest) -> float:
            together.append(env.in_flight)
            return {"downlink": 10.0, "uplink": 0.5}[request.direction]

        def waits(self, request: FlowRequest, flying: FlowRequest) -> bool:
            return request.direction != flying.direction

    env: EmulatedEnvironment = EmulatedEnvironment(links, dilation=Dilate(1.0), wall=links.now)
    ends: list[tuple[str, float, float]] = []

    def client(name: str, direction: Direction, at_s: float, size: int) -> Process:
        yield env.timeout(at_s)
        transfer = yield env.transfer(name, direction, b"x" * size)
        ends.append((name, env.now, transfer.start_lag_s))

    env.process(client("a", "downlink", 0.0, 100))
    env.process(client("b", "downlink", 1.0, 30))
    env.process(client("c", "uplink", 2.0, 100))
    env.run(until=until_s)
    expected = [("c", 2.5), ("b", 4.0), ("a", 10.0)]
    assert ends == [(name, pytest.approx(at_s), 0.0) for name, at_s in expected if at_s < until_s]
    assert together == [1, 1]
    assert links.now() - env.flows_wall_s == pytest.approx(1000.0)
