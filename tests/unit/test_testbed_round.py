"""A round's parts, in the order and with the lengths that a reader can work out by hand."""

from __future__ import annotations

import pytest
from test_testbed_clock import ScriptedLinks, ScriptedModel

from testbed.clock import EmulatedEnvironment, FlowEnvironment, ModelledEnvironment
from testbed.round import ClientPlan, run_round


def plan(client: str, *, train_s: float = 1.0, uplink: bytes = b"x" * 4, fails: str = "") -> ClientPlan:
    """Two bytes down, so on a link of a second a byte the downlink takes 2 s."""
    return ClientPlan(client, b"xx", uplink, train_s=train_s, compress_s=0.5, decompress_s=0.25, fails=fails)


def modelled() -> FlowEnvironment:
    return ModelledEnvironment(ScriptedModel())


def test_the_parts_are_what_they_should_be_and_fast_clients_wait() -> None:
    outcome = run_round(modelled(), [plan("slow", train_s=10.0), plan("fast")], aggregate_s=0.125)
    slow, fast = outcome.clients
    assert outcome.round_s == 2 + 10 + 0.5 + 4 + 0.25 + 0.125
    assert slow.seconds == {
        "downlink": 2, "train": 10, "compress": 0.5, "uplink": 4, "decompress": 0.25, "aggregate": 0.125, "wait": 0
    }  # fmt: skip
    assert (
        fast.seconds["wait"] == 9.0
    )  # from 7.75, when it was decompressed, until 16.75, when the slow one was
    assert (slow.status, fast.status) == ("ok", "ok")


def test_the_server_decompresses_one_at_a_time() -> None:
    outcome = run_round(modelled(), [plan("a"), plan("b")], aggregate_s=0.0)
    assert sorted(c.seconds["wait"] for c in outcome.clients) == [0.25, 0.25]


@pytest.mark.parametrize("dilation", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("deadline_s", [None, 2.05])
@pytest.mark.parametrize("take", [None, 1])
def test_parts_add_up_to_the_round_on_either_clock(
    dilation: float, deadline_s: float | None, take: int | None
) -> None:
    links = ScriptedLinks()
    plans = [
        plan("a", train_s=0.3),
        plan("b", train_s=1.7),
        plan("c", fails="out of memory at 9 MB while training"),
    ]
    for env in (modelled(), EmulatedEnvironment(links, dilation=dilation, wall=links.now)):
        outcome = run_round(env, plans, aggregate_s=0.1, deadline_s=deadline_s, take=take)
        for client in outcome.clients:
            assert sum(client.seconds.values()) == pytest.approx(outcome.round_s, abs=1e-9)
            assert all(end > start for _, start, end in client.spans)


def test_a_deadline_drops_the_late_client_and_ends_the_round() -> None:
    outcome = run_round(
        modelled(), [plan("late", train_s=10.0), plan("fast")], aggregate_s=0.5, deadline_s=9.0
    )
    late, fast = outcome.clients
    assert (late.status, late.reason) == ("dropped", "missed the deadline of 9 s")
    assert fast.status == "ok"
    assert outcome.round_s == 9.5
    assert late.seconds["train"] == 7.0
    assert late.seconds["wait"] == 0.5


def test_over_selection_takes_the_first() -> None:
    outcome = run_round(modelled(), [plan("late", train_s=10.0), plan("fast")], aggregate_s=0.5, take=1)
    assert [c.status for c in outcome.clients] == ["dropped", "ok"]
    assert outcome.clients[0].reason == "came after the first 1"
    assert outcome.round_s == 2 + 1 + 0.5 + 4 + 0.25 + 0.5


def test_a_client_whose_work_fails_costs_only_its_own_update() -> None:
    outcome = run_round(modelled(), [plan("big", fails="out of memory"), plan("fast")], aggregate_s=0.5)
    assert [(c.status, c.reason) for c in outcome.clients] == [("failed", "out of memory"), ("ok", "")]
    assert outcome.clients[0].uplink is None


def test_a_round_in_which_nobody_arrives_ends() -> None:
    outcome = run_round(modelled(), [plan("a", fails="gone")], aggregate_s=0.5)
    assert outcome.round_s == 3.5
    assert outcome.clients[0].status == "failed"


def test_a_client_that_falls_silent_is_dropped_and_nobody_waits_for_it() -> None:
    silent = ClientPlan(
        "silent", b"xx", b"x" * 4, train_s=10.0, compress_s=0.5, decompress_s=0.25, silent_after_s=1.5
    )
    outcome = run_round(modelled(), [silent, plan("fast")], aggregate_s=0.5)
    assert outcome.clients[0].status == "dropped"
    assert outcome.clients[0].reason == "fell silent while training"
    assert outcome.clients[0].seconds["train"] == 1.5
    assert outcome.round_s == 2 + 1 + 0.5 + 4 + 0.25 + 0.5
    assert sum(outcome.clients[0].seconds.values()) == outcome.round_s
