"""How many client-rounds the modelled network plays a second and core, and in how much memory.

A client-round is a downlink, then an uplink of the same client. Processor time is counted, not wall time, so that other
work on the machine matters little; raw values are printed and nothing passes or fails.

    PYTHONPATH=. python tests/bench/bench_netem_model.py [CLIENTS]      # 1000000 for the memory figure
"""

from __future__ import annotations

import resource
import sys
import time

from netem.flow import FlowRequest
from netem.link import AccessLink, LinkSpec, Topology
from netem.model_backend import ModelNetwork


def play(name: str, clients: int, access: AccessLink, server_bps: float) -> None:
    """All clients start their downlink at once; each answers with an uplink as soon as its downlink is there."""
    server = AccessLink(LinkSpec(server_bps), LinkSpec(server_bps))
    topology = Topology(server, {f"client-{i}": access for i in range(clients)})
    began = time.process_time()
    with ModelNetwork(topology) as network:
        for i, client in enumerate(topology.clients):
            network.start(FlowRequest(i, client, "downlink", 9_000_000 + i % 1000), 0.0)
        flows, done = clients, 0
        while done < clients:
            for result in network.advance(network.next_completion_s()):
                if result.direction == "uplink":
                    done += 1
                    continue
                size = 1_300_000 + 997 * flows % 200_000
                network.start(FlowRequest(flows, result.client, "uplink", size), result.finished_s)
                flows += 1
    took_s = time.process_time() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:34s} {clients:8d} clients: {clients / took_s:8.0f} client-rounds/s, "
        f"process at most {peak_mb:.0f} MB",
        flush=True,
    )


def main(clients: int) -> None:
    def home(delay_s: float) -> AccessLink:
        return AccessLink(LinkSpec(10e6, delay_s), LinkSpec(50e6, delay_s))

    small = min(clients, 20_000)
    for _ in range(3):
        play("no contention", small, home(0.0), 1e12)
        play("no contention, 40 ms round trip", small, home(0.01), 1e12)
        play("server link short", small, home(0.0), 10e9)
        play("server link short, 40 ms", small, home(0.01), 10e9)
    if clients > small:
        # A terabit a second is the fastest link there is here: a million clients fit into it at 0.9 Mbit/s each.
        play("all at once", clients, AccessLink(LinkSpec(0.5e6, 0.01), LinkSpec(0.9e6, 0.01)), 1e12)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
