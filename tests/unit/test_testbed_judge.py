"""Which transfers are believed: by their length, by what chance may do to them, by probes and by the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netem.flow import FlowResult
from netem.link import AccessLink, LinkSpec, Topology
from netem.sampling import Strain
from testbed.clock import Transfer
from testbed.dilation import TruthfulRange
from testbed.fidelity import TransferCheck, verdict
from testbed.judge import Judge
from testbed.round import ClientOutcome, RoundOutcome

CLEAN = Strain(1.0, 0.5, 0.1, 0.0, 0, 0.0, 1.0, {}, {}, {}, (), ())
BYTES = 1_250_000  # a second at 10 Mbit/s, headers not counted


def transfer(seconds: float, *, lag_s: float = 0.0, dilation: float = 1.0) -> Transfer:
    flow = FlowResult(0, "a", "uplink", "ok", 0.0, seconds / dilation, BYTES, None, "")
    return Transfer(flow, 0.0, seconds, lag_s, 0.0, dilation)


def outcome(uplink: Transfer) -> RoundOutcome:
    return RoundOutcome(uplink.seconds, (ClientOutcome("a", status="ok", uplink=uplink),))


def judge(uplink: LinkSpec | None = None, **changes: Any) -> Judge:
    access = AccessLink(uplink or LinkSpec(10e6), LinkSpec(10e6))
    wide = AccessLink(LinkSpec(1e9), LinkSpec(1e9))
    values = {
        "congestion_control": "cubic",
        "host": TruthfulRange(),
        "beside": lambda client, direction: ["a"],
        "strain": CLEAN,
    } | changes
    return Judge(Topology(wide, {"a": access}), **values)


def why(judged: Judge, seen: Transfer, expected_s: float = 1.0) -> str:
    untrusted, checks = judged.round(outcome(seen), {("a", "uplink"): expected_s})
    late = "behind the clock" in untrusted.get("a", "")
    held = bool(judged.strain and (judged.strain.reasons or judged.strain.held_up))
    assert [bool(item.disturbed) for item in checks] == [
        late or held
    ]  # how far it is from the model is no reason
    assert [item.trusted for item in checks] == [not untrusted]
    return untrusted.get("a", "")


@pytest.mark.parametrize(
    ("link", "control", "inside", "outside"),
    [
        (LinkSpec(10e6), "cubic", (0.951, 1.049), (0.94, 1.06)),
        (LinkSpec(10e6, delay_s=0.02), "cubic", (0.91, 1.09), (0.89, 1.11)),
        (LinkSpec(10e6, delay_s=0.02), "bbr", (0.81, 1.19), (0.79, 1.21)),
    ],
)
def test_bands(link: LinkSpec, control: str, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    judged = judge(link, congestion_control=control)
    assert all(why(judged, transfer(seconds)) == "" for seconds in inside)
    assert all("the model expects 1 s" in why(judged, transfer(seconds)) for seconds in outside)


@pytest.mark.parametrize(
    "link",
    [
        LinkSpec(10e6, loss=0.01),
        LinkSpec(10e6, delay_s=0.01, jitter_s=0.01),
        LinkSpec(10e6, 0.01, reorder=0.1),
    ],
)
def test_chance_may_make_a_transfer_long_but_never_shorter_than_its_bytes(link: LinkSpec) -> None:
    judged = judge(link)
    assert why(judged, transfer(7.0), expected_s=2.0) == ""
    assert why(judged, transfer(1.05), expected_s=2.0) == ""
    assert why(judged, transfer(0.9), expected_s=2.0) == "uplink took 0.9 s, its bytes alone take 1.046 s"


def test_what_the_host_was_up_to_explains(tmp_path: object) -> None:
    busy = replace(CLEAN, remarks=("the processor was busy 100% of the time",))
    assert why(judge(strain=busy), transfer(1.0)) == ""
    assert why(judge(strain=busy), transfer(1.2)) == (
        "uplink took 1.2 s, the model expects 1 s; the processor was busy 100% of the time"
    )


def test_packets_that_waited_explain_and_are_no_reason() -> None:
    waited = replace(CLEAN, packets_waited_s=0.1)
    assert why(judge(strain=waited), transfer(1.0)) == ""
    assert why(judge(strain=waited), transfer(1.2)) == (
        "uplink took 1.2 s, the model expects 1 s; the kernel's threads for packets waited 100 ms for a processor"
    )


def test_a_host_that_was_held_back_is_a_reason_by_itself() -> None:
    held = replace(CLEAN, reasons=("the hypervisor took the processor away for 5.0% of the time",))
    assert (
        why(judge(strain=held), transfer(1.0))
        == "the hypervisor took the processor away for 5.0% of the time"
    )


def test_a_probe_that_failed_is_a_reason_by_itself() -> None:
    class Doubtful:
        def doubt(self, *_: object) -> str:
            return "probe before the round: 3.0% slower than theory in 3 looks (band 1%)"

    gate: Any = Doubtful()
    assert why(judge(gate=gate), transfer(1.0)).startswith("uplink probe before the round: 3.0% slower")


def test_late_and_beyond_the_hosts_range() -> None:
    assert "0.2 s behind the clock" in why(judge(), transfer(1.0, lag_s=0.2))
    fast = judge(host=TruthfulRange(link_bps=50e6))
    assert why(fast, transfer(1.0, dilation=5.0)) == ""
    assert "this host is truthful up to 50" in why(fast, transfer(1.0, dilation=6.0))


def test_without_samples_or_probes_only_lengths_count() -> None:
    assert why(judge(strain=None), transfer(1.0)) == ""


def test_the_engines_are_compared_where_the_host_did_not_disturb() -> None:
    def item(difference: float, disturbed: str = "") -> TransferCheck:
        return TransferCheck("a", "uplink", 1e6, 1, 1.0, 1.0 + difference, 1.0, 0.0, True, disturbed)

    good, text = verdict([item(0.01), item(-0.02), item(0.5, "was late")])
    assert good
    assert text == (
        "2 transfers: median difference 1.50% (goal 3%), worst 2.00% (goal 10%); 1 more may have been disturbed by "
        "the host; the engines agree"
    )
    assert not verdict([item(0.01), item(0.02), item(0.5)])[0]
    good, text = verdict([item(0.5, "was late")])
    assert not good
    assert text.endswith("worst 50.00% (goal 10%); no transfer was left alone by this host: nothing follows")
    # Where all of them agree, none need be looked away from.
    assert verdict([item(0.01, "was late"), item(0.02)])[1].startswith("2 transfers: median difference 1.50%")
