"""Who is there when: schedules against a brute-force reading of the same intervals, traces, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_testbed_carrier import contended, plans
from testbed_bench import Speed, SteadyBench
from testbed_links import VirtualLinks

from testbed.availability import Availability, Presence, Schedule
from testbed.carrier import MininetCarrier, ModelCarrier
from testbed.errors import NobodyAvailableError, ScenarioErrors
from testbed.experiment import Experiment
from testbed.scenario import Scenario, loads
from testbed.schema_availability import read_availability


@st.composite
def schedules(draw: Any) -> Schedule:
    """Up to four intervals of whole seconds, repeated or not, seen from a whole second."""
    edges = sorted(draw(st.sets(st.integers(0, 20), min_size=2, max_size=8)))
    edges = edges[: len(edges) // 2 * 2]
    intervals = tuple((float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
    every = draw(st.none() | st.integers(edges[-1], 25))
    return Schedule(
        intervals,
        None if every is None else float(every),
        0.0 if every is None else float(draw(st.integers(0, every))),
    )


@given(schedules(), st.integers(0, 60))
def test_a_schedule_answers_as_one_that_looks_at_every_second_does(schedule: Schedule, at: int) -> None:
    def there(second: int) -> bool:
        """In the second from *second* on."""
        instant = second + 0.5 + schedule.offset_s
        if schedule.every_s is not None:
            instant %= schedule.every_s
        return any(start <= instant < end for start, end in schedule.intervals)

    horizon = range(at, at + 120)
    assert schedule.there(at) == there(at)
    assert schedule.returns_s(at) == next((second for second in horizon if there(second)), math.inf)
    if there(at):
        assert schedule.leaves_s(at) == next((second for second in horizon if not there(second)), math.inf)


def test_where_the_intervals_touch_nobody_leaves() -> None:
    assert Schedule(((0.0, 10.0),), 10.0).leaves_s(3.0) == math.inf
    assert Schedule(((0.0, 4.0), (6.0, 10.0)), 10.0).leaves_s(7.0) == 14.0


@pytest.mark.parametrize("period_s", [0.1, 1 / 3, 7.7])
def test_at_the_instant_of_return_a_client_is_there(period_s: float) -> None:
    """Sums of floats must not send the server from one instant to the same one for ever."""
    schedule = Availability(period_s=period_s, duty=0.3).of(0, 0.77)
    at_s = 0.0
    for _ in range(1000):
        back_s = schedule.returns_s(at_s)
        assert schedule.there(back_s)
        gone_s = schedule.leaves_s(back_s)
        assert gone_s > back_s
        assert not schedule.there(gone_s)
        at_s = gone_s
    assert at_s == pytest.approx(1000 * period_s, rel=0.01)


FLEET = """
name: away
seed: 3
learning: {{rounds: {rounds}}}
network: {{engine: model}}
fleets: [{{name: a, count: 6, device: cloud-vm, uplink: 10 Mbit/s, downlink: 100 Mbit/s, availability: {availability}}}]
rounds_policy: {policy}
"""


def scenario(availability: str, rounds: int = 1, policy: str = "{}") -> Scenario:
    return loads(FLEET.format(availability=availability, rounds=rounds, policy=policy))


def rows_of(found: Scenario) -> list[Any]:
    bench: Any = SteadyBench({"none": Speed(0.003, 0.003, 1.0), "sz2": Speed(0.015, 0.008, 0.14)})
    return Experiment("test", bench, ModelCarrier()).cell(found.cells()[0])[0]


def test_a_drawn_phase_keeps_the_share_of_clients_near_the_duty() -> None:
    presence = Presence(replace_count(scenario("{period: 1 h, duty: 30 %}"), 2000), 1)
    shares = [len(presence.there(at_s)) / 2000 for at_s in (0.0, 500.0, 3000.0, 7000.0)]
    assert all(0.25 < share < 0.35 for share in shares)
    assert len(set(shares)) > 1


def replace_count(found: Scenario, count: int) -> Scenario:
    return replace(found, fleets=tuple(replace(fleet, count=count) for fleet in found.fleets))


def test_a_trace_gives_each_client_its_own_and_the_saved_scenario_needs_no_file(tmp_path: Path) -> None:
    (tmp_path / "who.csv").write_text(
        "# two clients\nclient,from_s,to_s\n1,5,6\n0,0,10\n0,20,30.5\n", encoding="utf-8"
    )
    assert read_availability(tmp_path / "who.csv") == (((0.0, 10.0), (20.0, 30.5)), ((5.0, 6.0),))
    found = loads(
        FLEET.format(availability="{trace: who.csv, every: 40 s}", rounds=1, policy="{}"), str(tmp_path / "s")
    )
    (tmp_path / "who.csv").unlink()
    assert loads(found.to_yaml()) == found
    presence = Presence(found, 1)
    assert presence.there(45.5) == [f"a-{index}" for index in range(6)]
    assert presence.there(42.0) == ["a-0", "a-2", "a-4"]


def test_only_those_who_are_there_are_asked_and_the_server_waits_for_the_first_to_return() -> None:
    rows = rows_of(scenario("{intervals: [[0 s, 2 s]], every: 60 s, leaving: finish}", rounds=3))
    assert [row.started_s for row in rows if row.client == "a-0"] == [0.0, 60.0, 120.0]
    assert {row.status for row in rows} == {"ok"}


def test_who_leaves_in_the_middle_is_dropped_and_the_round_goes_on(tmp_path: Path) -> None:
    (tmp_path / "who.csv").write_text(
        "client,from_s,to_s\n0,0,100\n1,0,1.0\n2,0,100\n3,50,60\n4,0,100\n5,0,2.5\n", encoding="utf-8"
    )
    found = loads(FLEET.format(availability="who.csv", rounds=1, policy="{}").replace("who.csv", "{trace: who.csv}"),
                  str(tmp_path / "s"))  # fmt: skip
    rows = {row.client: row for row in rows_of(found)}
    assert set(rows) == {"a-0", "a-1", "a-2", "a-4", "a-5"}
    assert {name: row.status for name, row in rows.items()} == {
        "a-0": "ok", "a-1": "dropped", "a-2": "ok", "a-4": "ok", "a-5": "dropped"
    }  # fmt: skip
    assert rows["a-1"].reason.startswith("left while it was at: ")
    assert rows["a-1"].busy_s == pytest.approx(1.0)


def test_a_run_that_nobody_can_finish_says_from_when_on() -> None:
    with pytest.raises(NobodyAvailableError, match="no client is available from "):
        rows_of(scenario("{intervals: [[0 s, 2 s]]}", rounds=100))


@pytest.mark.parametrize(
    ("availability", "message"),
    [
        ("{}", "exactly one of 'period', 'intervals' and 'trace' says when clients are there"),
        ("{period: 1 h, intervals: [[0 s, 1 s]]}", "exactly one of 'period', 'intervals' and 'trace'"),
        ("{period: 1 h, phase: 2 h}", "availability.phase (a): is shorter than the period"),
        ("{period: 1 h, every: 2 h}", "availability.every (a): belongs to 'intervals' and 'trace'"),
        ("{intervals: [[2 s, 1 s]]}", "intervals[0] (a): two durations are expected"),
        ("{intervals: [[0 s, 5 s], [4 s, 6 s]]}", "begins at 4 s, before the one before it ends at 5 s"),
        ("{intervals: [[0 s, 5 s]], every: 4 s}", "is not shorter than the last interval's end, 5 s"),
        ("{trace: nowhere.csv}", "nowhere.csv: No such file or directory"),
        ("{duty: 0 %}", "duty (a): got '0 %'; a fraction here is above 0"),
    ],
)
def test_what_says_nothing_clear_is_refused(availability: str, message: str) -> None:
    with pytest.raises(ScenarioErrors) as caught:
        scenario(availability)
    assert message in " ".join(str(caught.value).split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "the first line is client,from_s,to_s"),
        ("client,from_s,to_s\n0,1\n", "line 2: got '0,1'; a line is a client, from_s and to_s"),
        ("client,from_s,to_s\n0,5,4\n", "line 2: got '0,5,4'; a client from 0, and 0 <= from_s < to_s"),
        ("client,from_s,to_s\n1,0,4\n", "clients are numbered from 0 without a gap"),
        ("client,from_s,to_s\n0,0,4\n0,3,9\n", "client 0: an interval begins at 3 s, before"),
        ("client,from_s,to_s\n0,nan,4\n", "line 2: got '0,nan,4'"),
        ("", "the first line is client,from_s,to_s"),
    ],
)
def test_a_trace_that_cannot_be_read_says_where(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "who.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r".") as caught:
        read_availability(tmp_path / "who.csv")
    assert message in str(caught.value)


# --- the same on either clock -----------------------------------------------------------------------------


@pytest.mark.parametrize("dilation", ["1", "10", "auto"])
def test_crashes_and_departures_free_the_link_for_the_others_on_either_clock(
    dilation: str, tmp_path: Path
) -> None:
    """near-0 dies in the middle of its upload, near-1 leaves in the middle of its own, both in contention."""
    asked = contended(dilation)
    mine = [
        replace(plan, crash_after_bytes=150_000)
        if plan.client == "near-0"
        else replace(plan, leaves_after_s=0.33)
        if plan.client == "near-1"
        else plan
        for plan in plans(asked)
    ]
    links = VirtualLinks(asked.topology())
    carrier = MininetCarrier(asked, tmp_path, wall=links.now)
    network: Any = links
    carrier.network = network
    followed = carrier.play(asked, mine, 0.05)
    computed = ModelCarrier().play(asked, mine, 0.05)
    whole = ModelCarrier().play(asked, plans(asked), 0.05)
    for seen, model in zip(followed.outcome.clients, computed.outcome.clients, strict=True):
        assert (seen.status, seen.reason) == (model.status, model.reason)
        assert seen.seconds == pytest.approx(model.seconds, rel=1e-6, abs=1e-6)
        assert sum(seen.seconds.values()) == pytest.approx(followed.outcome.round_s)
    near_0, near_1, *far = computed.outcome.clients
    assert (near_0.status, near_0.reason) == (
        "failed",
        "uplink: connection lost after 150000 of 400000 bytes",
    )
    assert (near_1.status, near_1.reason) == ("dropped", "left while it was at: uplink")
    for seen in (near_1.uplink, followed.outcome.clients[1].uplink):
        assert seen is not None  # the judge counts what it had of the links
        assert 0 < seen.flow.payload_bytes < 450_000
    assert [client.status for client in far] == ["ok", "ok"]
    assert computed.outcome.round_s <= whole.outcome.round_s
    assert followed.untrusted == {}
