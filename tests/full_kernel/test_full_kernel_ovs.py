"""Open vSwitch as the switch of the emulated network."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from looks import seen

from netem.capabilities import openvswitch
from netem.flow import FlowRequest, FlowResult
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.model_backend import ModelNetwork

pytestmark = pytest.mark.root

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


@pytest.fixture(scope="module")
def services() -> Iterator[None]:
    """A database server and a switch daemon of our own; the service scripts expect a whole system around them."""
    if shutil.which("ovs-vswitchd") is None:
        pytest.fail("not installed: openvswitch-switch; fix: apt-get install openvswitch-switch")
    run, base = Path("/run/openvswitch"), Path("/run/ovs")  # the first is where ovs-vsctl looks
    for folder in (run, base):
        folder.mkdir(exist_ok=True)
    os.environ |= {"OVS_LOGDIR": str(base), "OVS_DBDIR": str(base)}
    database, socket = base / "conf.db", f"unix:{run}/db.sock"
    subprocess.run(["ovsdb-tool", "create", database, _SCHEMA], check=True)
    # It wants to write to /tmp, which here is the host's and read-only: give it one of its own.
    server = (
        f"mount -t tmpfs tmpfs /tmp; exec ovsdb-server {database} --remote=p{socket} --log-file=/dev/null"
    )
    with ExitStack() as stack:
        for command in (
            ["unshare", "-m", "sh", "-c", server],
            ["ovs-vswitchd", "--log-file=/dev/null", socket],
        ):
            quiet = subprocess.DEVNULL
            daemon = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)
            subprocess.run(["ovs-vsctl", "--retry", "--timeout=20", "--no-wait", "init"], check=True)
        yield


def send(network: MininetNetwork, clients: Iterable[str], payload: bytes) -> list[FlowResult]:
    """Every client's upload of *payload*, all at once."""
    for flow_id, client in enumerate(clients):
        network.start(FlowRequest(flow_id, client, "uplink", payload))
    done: list[FlowResult] = []
    while network.transfers.in_flight:
        done += network.wait(10.0)
    return done


def bridges() -> list[str]:
    return subprocess.run(["ovs-vsctl", "list-br"], capture_output=True, text=True, check=True).stdout.split()


def test_a_network_around_an_open_vswitch_carries_what_the_model_says(services, tmp_path):
    assert openvswitch().ok, openvswitch()
    fast = LinkSpec(1e9)
    clients = {"a": AccessLink(LinkSpec(5e6), fast), "b": AccessLink(LinkSpec(2e6, delay_s=0.02), fast)}
    topology = Topology(AccessLink(fast, fast), clients)
    with ModelNetwork(topology) as model:
        for flow_id, client in enumerate(clients):
            model.start(FlowRequest(flow_id, client, "uplink", 200_000), 0.0)
        expected = {result.client: result.duration_s for result in model.run()}
    with MininetNetwork(topology, state_dir=tmp_path, switch="ovs") as network:
        assert len(bridges()) == 1
        send(
            network, clients, b"x"
        )  # a flow's first packet waits for the daemon, here on the kernel's one processor

        def look() -> dict[str, float]:
            results = send(network, clients, os.urandom(200_000))
            assert [result.status for result in results] == ["ok"] * len(clients), results
            return {result.client: result.duration_s for result in results}

        seen(look, lambda took_s: took_s == pytest.approx(expected, rel=0.1))
    assert bridges() == []
    assert list(tmp_path.iterdir()) == []
