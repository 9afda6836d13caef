"""Modelled against emulated transfers on this machine, for docs/network-model.md. Needs root, takes about two minutes.

PYTHONPATH=. python scripts/measure_agreement.py [cubic|reno|bbr ...]
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from netem.agreement import PlannedFlow, compare, staggered, summarise
from netem.link import AccessLink, LinkSpec, Topology
from netem.tcp import CONGESTION_CONTROLS, CongestionControl
from netem.trace import read_trace

TRACES = Path(__file__).parents[1] / "scenarios" / "traces"
NAMES = [f"c{i}" for i in range(6)]


@dataclass(frozen=True)
class Case:
    what: str
    topology: Topology
    schedule: list[PlannedFlow]
    dilation: float = 1.0


def star(uplink: LinkSpec, downlink: LinkSpec, server_up: float = 1e9, server_down: float = 1e9) -> Topology:
    access = AccessLink(uplink, downlink)
    return Topology(AccessLink(LinkSpec(server_up), LinkSpec(server_down)), dict.fromkeys(NAMES, access))


def cases() -> list[Case]:
    dsl, fast = LinkSpec(10e6), LinkSpec(50e6)
    alone = staggered(NAMES, "uplink", 1_000_000, 0.1)
    alone += [replace(flow, at_s=flow.at_s + 2) for flow in staggered(NAMES, "downlink", 3_000_000, 0.1)]
    shared = star(dsl, fast, server_down=20e6)
    broad = star(fast, LinkSpec(100e6), server_up=100e6, server_down=100e6)
    phone = star(LinkSpec(10e6, trace=read_trace(TRACES / "commute.csv")), fast)
    return [
        Case("nobody meets: 10 up, 50 Mbit/s down", star(dsl, fast), alone),
        Case(
            "uplinks of 10 on a shared 20 Mbit/s, every 0.7 s",
            shared,
            staggered(NAMES, "uplink", 2_000_000, 0.7),
        ),
        Case(
            "the same, 9 MB every 2 s, dilation 10",
            shared,
            staggered(NAMES, "uplink", 9_000_000, 2.0),
            10.0,
        ),
        Case(
            "uplinks of 50 on a shared 100 Mbit/s, every 0.5 s",
            broad,
            staggered(NAMES, "uplink", 9_000_000, 0.5),
        ),
        Case(
            "downlinks of 100 on a shared 100 Mbit/s, every 0.3 s",
            broad,
            staggered(NAMES, "downlink", 5_000_000, 0.3),
        ),
        Case(
            "downlinks on a shared 100 Mbit/s, at once", broad, staggered(NAMES, "downlink", 3_000_000, 0.0)
        ),
        Case("phones on a train (commute.csv)", phone, staggered(NAMES, "uplink", 6_000_000, 1.0)),
    ]


def main(controls: list[CongestionControl]) -> None:
    with tempfile.TemporaryDirectory() as state:
        for control in controls:
            print(f"{control}: differences of modelled from emulated durations")
            for case in cases():
                rows = compare(
                    case.topology,
                    case.schedule,
                    state_dir=Path(state),
                    congestion_control=control,
                    dilation=case.dilation,
                )
                found = summarise(rows)
                each = " ".join(f"{row.difference:+.1%}" for row in rows)
                print(
                    f"  {case.what:52s} median {found.median:6.2%} worst {found.worst:6.2%}  [{each}]",
                    flush=True,
                )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["cubic"]
    if not set(wanted) <= set(CONGESTION_CONTROLS):
        sys.exit(f"congestion control: {', '.join(CONGESTION_CONTROLS)}")
    main(cast(list[CongestionControl], wanted))
