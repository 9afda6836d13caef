"""Measure how true this host's emulated links are; prints the tables of docs/fidelity.md.

    sudo PYTHONPATH=. python scripts/measure_fidelity.py goodput short together busy scale

Needs root and some five minutes in all. Variants are interleaved, so that other work on the machine meets them alike.
"Mininet" is Mininet as it comes (`TCLink(bw=...)`, `LinuxBridge`), with the same transfer processes at its ends, in a
network namespace of its own so that nothing of it stands in the host's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from netem.flow import FlowRequest
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.model_backend import ModelNetwork
from netem.transfers import Endpoint, Transfers

OURS, WIDE_BUCKET, MININET = "this", "4 ms bucket", "Mininet"
LONGEST_BYTES = 400_000_000
Send = Callable[[float, int], float]  # (rate in bit/s, payload bytes) -> seconds
_WIDE = AccessLink(LinkSpec(40e9), LinkSpec(40e9))


def star(rate_bps: float, clients: int = 1) -> Topology:
    access = AccessLink(LinkSpec(rate_bps), LinkSpec(rate_bps))
    return Topology(_WIDE, {f"c{number}": access for number in range(clients)})


def theory_s(rate_bps: float, size: int) -> float:
    with ModelNetwork(star(rate_bps)) as model:
        model.start(FlowRequest(0, "c0", "uplink", size), 0.0)
        return model.run()[0].duration_s


@contextmanager
def shaped(state_dir: Path, burst_s: float | None, *, ordinary: bool = False) -> Iterator[Send]:
    """One client's uplink on our links; *ordinary*: with processes that are scheduled like any other."""
    with MininetNetwork(star(1e6), state_dir=state_dir, burst_s=burst_s, defer_digests=True) as network:
        if ordinary:
            for pid in network.transfers.pids.values():
                os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))

        def send(rate_bps: float, size: int) -> float:
            network.reshape(star(rate_bps))
            payload = bytes(size)
            network.prepare([payload])
            network.start(FlowRequest(0, "c0", "uplink", payload))
            while not (done := network.wait(60.0)):
                pass
            network.discard(0)
            if done[0].status != "ok":
                sys.exit(done[0].error)
            return done[0].duration_s

        yield send


@contextmanager
def plain_mininet() -> Iterator[Send]:
    """One host sending to another over Mininet as it comes, in a process of its own in a namespace of its own."""
    argv = ["unshare", "--net", sys.executable, __file__, "serve-mininet"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def send(rate_bps: float, size: int) -> float:
            asked.write(json.dumps([rate_bps, size]) + "\n")
            asked.flush()
            return float(answers.readline())

        yield send
        asked.close()


def serve_mininet() -> None:
    """Answer lines ``[rate, size]`` with seconds."""
    from mininet.link import TCLink
    from mininet.node import Host
    from mininet.nodelib import LinuxBridge

    from netem.mininet_nodes import LeanMininet  # Mininet, less its changes to the host's sysctls

    for line in sys.stdin:
        rate_bps, size = json.loads(line)
        net = LeanMininet(
            switch=LinuxBridge, host=Host, link=TCLink, controller=None, autoSetMacs=True, autoStaticArp=True
        )
        switch = net.addSwitch("s1")
        hosts = [net.addHost(name) for name in ("h1", "h2")]
        net.addLink(hosts[0], switch, bw=rate_bps / 1e6)
        net.addLink(hosts[1], switch)
        net.start()
        ends = [Endpoint(number, host.IP()) for number, host in enumerate(hosts)]
        with Transfers(
            lambda _: None,
            congestion_control="cubic",
            timeout_s=20.0,
            keep_received=False,
            defer_digests=True,
        ) as transfers:
            transfers.enter({number: host.pid for number, host in enumerate(hosts)}, ends)
            number = int(hosts[0].cmd("cat /sys/class/net/h1-eth0/ifindex"))
            payload = bytes(size)
            transfers.prepare([payload])
            transfers.start(FlowRequest(0, "h1", "uplink", payload), ends[0], ends[1], (0, number))
            while not (done := transfers.wait(60.0)):
                pass
        net.stop()
        print(done[0].duration_s if done[0].status == "ok" else float("nan"), flush=True)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n| {' | '.join(heading)} |\n|{' --- |' * len(heading)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


@dataclass(frozen=True)
class Variants:
    send: dict[str, Send]

    def errors(self, rate_bps: float, size: int, looks: int) -> list[str]:
        """For each variant the median over *looks* of measured against theory, interleaved."""
        seen: dict[str, list[float]] = {name: [] for name in self.send}
        for _ in range(looks):
            for name, send in self.send.items():
                if name != MININET or rate_bps <= 1e9:  # it refuses more and leaves the link unshaped
                    seen[name].append(send(rate_bps, size))
        expected = theory_s(rate_bps, size)
        return [
            f"{statistics.median(times) / expected - 1:+.1%}" if times else "refused"
            for times in seen.values()
        ]


def goodput(variants: Variants, looks: int) -> None:
    rates = (10e6, 50e6, 100e6, 500e6, 1e9, 2e9, 5e9, 10e9)
    rows = [
        [f"{rate / 1e6:g}", *variants.errors(rate, min(round(rate / 8), LONGEST_BYTES), looks)]
        for rate in rates
    ]
    print(
        f"\nTransfers of one second, at most {LONGEST_BYTES / 1e6:g} MB: duration against theory (positive is slower)."
    )
    table(["rate, Mbit/s", *variants.send], rows)


def short(variants: Variants, looks: int) -> None:
    rows = [
        [f"{rate / 1e6:g}", f"{ms:g}", *variants.errors(rate, round(rate / 8 * ms / 1000), looks)]
        for rate in (10e6, 100e6, 1e9)
        for ms in (5, 10, 30, 100, 300)
    ]
    print("\nShort transfers: duration against theory (negative is faster than the link).")
    table(["rate, Mbit/s", "length, ms", *variants.send], rows)


def together(state_dir: Path, looks: int) -> None:
    rows = []
    with MininetNetwork(star(1e6, 8), state_dir=state_dir, defer_digests=True) as network:
        for rate in (12.5e6, 62.5e6, 125e6, 250e6, 500e6, 1e9):
            network.reshape(star(rate, 8))
            payload = bytes(round(rate / 8 * 0.25))
            expected = theory_s(rate, len(payload))
            network.prepare([payload] * 8)
            longest = []
            for _ in range(looks):
                for number in range(8):
                    network.start(FlowRequest(number, f"c{number}", "uplink", payload))
                done = []
                while len(done) < 8:
                    done += network.wait(30.0)
                longest.append(max(result.duration_s for result in done))
                for result in done:
                    network.discard(result.flow_id)
            error = statistics.median(longest) / expected - 1
            rows.append([f"{rate / 1e6:g}", f"{8 * rate / 1e6:g}", f"{error:+.1%}"])
    print("\nEight clients at once, a quarter of a second each: the slowest against theory.")
    table(["rate each, Mbit/s", "together", "error"], rows)


def busy(state_dir: Path, looks: int) -> None:
    """What other work does, with the transfer processes scheduled in real time and as ordinary ones."""
    rates = (10e6, 100e6, 1e9, 5e9)
    spin = [sys.executable, "-c", "while True: pass"]
    rows = []
    with shaped(state_dir, None) as real_time, shaped(state_dir, None, ordinary=True) as ordinary:
        variants = Variants({"in real time": real_time, "ordinary": ordinary})
        for others in (0, os.cpu_count() or 1, 2 * (os.cpu_count() or 1)):
            spinning = [subprocess.Popen(spin) for _ in range(others)]
            try:
                for rate in rates:
                    errors = variants.errors(rate, min(round(rate / 8 * 0.3), LONGEST_BYTES), looks)
                    rows.append([str(others), f"{rate / 1e6:g}", *errors])
            finally:
                for process in spinning:
                    process.kill()
                    process.wait()
    print("\nTransfers of 0.3 s while others keep the cores busy: duration against theory.")
    table(["busy processes", "rate, Mbit/s", "in real time", "ordinary"], rows)


def scale(state_dir: Path) -> None:
    rows = []
    for clients in (10, 50, 200):
        began_s = time.perf_counter()
        with MininetNetwork(star(10e6, clients), state_dir=state_dir) as network:
            up_s = time.perf_counter() - began_s
            memory = process_bytes()
            began_s = time.perf_counter()
            network.reshape(star(20e6, clients))
            reshape_s = time.perf_counter() - began_s
            began_s = time.perf_counter()
        down_s = time.perf_counter() - began_s
        argv = ["unshare", "--net", sys.executable, __file__, "build-mininet", str(clients)]
        plain = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        rows.append(
            [
                str(clients),
                f"{up_s:.2f}",
                f"{memory / 1e6:.0f}",
                f"{reshape_s:.3f}",
                f"{down_s:.2f}",
                *plain,
            ]
        )
    print("\nSet-up, with every link shaped and read back; Mininet without static ARP.")
    heading = ["clients", "up, s", "processes, MB", "reshape, s", "down, s"]
    table([*heading, "Mininet up, s", "processes, MB", "down, s"], rows)


def process_bytes() -> int:
    """Memory that the processes below this one have to themselves."""
    return sum(int(child.memory_full_info().uss) for child in psutil.Process().children(recursive=True))


def build_mininet(clients: int) -> None:
    """Print how long Mininet takes to come up, what it holds, and how long it takes to go."""
    from mininet.link import TCLink
    from mininet.node import Host
    from mininet.nodelib import LinuxBridge

    from netem.mininet_nodes import LeanMininet

    began_s = time.perf_counter()
    net = LeanMininet(switch=LinuxBridge, host=Host, link=TCLink, controller=None)
    switch = net.addSwitch("s1")
    for number in range(clients + 1):
        net.addLink(net.addHost(f"h{number}"), switch, bw=10)
    net.start()
    up_s, memory = time.perf_counter() - began_s, process_bytes()
    began_s = time.perf_counter()
    net.stop()
    print(f"{up_s:.1f}", f"{memory / 1e6:.0f}", f"{time.perf_counter() - began_s:.1f}")


def main() -> None:
    if sys.argv[1:2] == ["serve-mininet"]:
        serve_mininet()
        return
    if sys.argv[1:2] == ["build-mininet"]:
        build_mininet(int(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=["goodput", "short", "together", "busy", "scale"])
    parser.add_argument(
        "--looks", type=int, default=5, help="how often each transfer is repeated (default 5)"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state_dir = Path(folder)
        print(
            f"{os.cpu_count()} cores, kernel {os.uname().release}, load {os.getloadavg()[0]:.2f} at the start"
        )
        if {"goodput", "short"} & set(chosen.what):
            with shaped(state_dir, None) as ours, shaped(state_dir, 0.004) as wide, plain_mininet() as plain:
                variants = Variants({OURS: ours, WIDE_BUCKET: wide, MININET: plain})
                if "goodput" in chosen.what:
                    goodput(variants, chosen.looks)
                if "short" in chosen.what:
                    short(variants, chosen.looks)
        if "together" in chosen.what:
            together(state_dir, chosen.looks)
        if "busy" in chosen.what:
            busy(state_dir, chosen.looks)
        if "scale" in chosen.what:
            scale(state_dir)
        print(f"\nload {os.getloadavg()[0]:.2f} at the end")


if __name__ == "__main__":
    main()
