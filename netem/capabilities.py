"""What this machine can do for the emulated network, found out by trying it in a namespace that vanishes at once."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netem.errors import CapabilityError
from netem.link import Topology
from netem.real_time import real_time as allowed_real_time

_TRY_S = 20.0


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that the emulation needs or could use.

    Attributes:
        costs_you: what cannot be done without it.
        fix: how to get it.
        detail: what was found, for the reader of ``testbed check``.
    """

    name: str
    ok: bool
    costs_you: str
    fix: str
    detail: str = ""

    def require(self, needed_for: str = "") -> None:
        """Raise `CapabilityError` unless this is there."""
        if not self.ok:
            detail = f" ({self.detail})" if self.detail else ""
            raise CapabilityError(f"{self.name}{detail}", needed_for or self.costs_you, self.fix)


def capabilities() -> list[Capability]:
    """Everything that `MininetNetwork` may need, each tried out; takes a few hundredths of a second."""
    return [
        root(),
        namespaces(),
        mnexec(),
        mininet(),
        iproute2(),
        htb(),
        tbf(),
        cls_bpf(),
        netem(),
        real_time(),
        bridge(),
        openvswitch(),
        *(congestion_control(name) for name in ("cubic", "bbr", "reno")),
    ]


def root() -> Capability:
    return Capability(
        "root",
        os.geteuid() == 0,
        "emulated networks; `network: {engine: model}` needs no root",
        "run it with sudo",
    )


def namespaces() -> Capability:
    ok, detail = _try(["unshare", "--net", "true"])
    return Capability(
        "network namespaces",
        ok,
        "emulated networks",
        "run as root on a kernel with CONFIG_NET_NS; in a container add --privileged",
        detail,
    )


def mnexec() -> Capability:
    return Capability(
        "mnexec",
        shutil.which("mnexec") is not None,
        "emulated networks",
        "install Mininet's helper: `apt install mininet`",
    )


def mininet() -> Capability:
    found = importlib.util.find_spec("mininet") is not None
    distutils = importlib.util.find_spec("distutils") is not None
    return Capability(
        "Python module mininet",
        found and distutils,
        "emulated networks",
        "`pip install mininet setuptools` (setuptools brings the distutils that Mininet imports)",
        "" if found else "mininet is not installed",
    )


def iproute2() -> Capability:
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    return Capability(
        "iproute2",
        not missing,
        "emulated networks",
        "`apt install iproute2`",
        f"no {', '.join(missing)}" if missing else "",
    )


def htb() -> Capability:
    ok, detail = _try_in_namespace("tc", "qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb")
    return Capability("htb", ok, "shaped links", _module_fix("sch_htb"), detail)


def tbf() -> Capability:
    ok, detail = _try_in_namespace(
        "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1gbit", "burst", "1514b", "limit", "15kb"
    )
    return Capability("tbf", ok, "shaped links", _module_fix("sch_tbf"), detail)


def cls_bpf() -> Capability:
    ok, detail = _try_in_namespace(
        "tc",
        "-batch",
        "-",
        given="qdisc add dev lo root handle 1: htb\n"
        "filter add dev lo parent 1: protocol ip bpf bytecode '1,6 0 0 65537'\n",
    )
    return Capability(
        "cls_bpf",
        ok,
        "a server's link that its clients share in turns; `sharing: queue` works",
        _module_fix("cls_bpf"),
        detail,
    )


def real_time() -> Capability:
    with allowed_real_time() as ok:
        pass
    return Capability(
        "real-time scheduling",
        ok,
        "links that stay true while other work runs on this machine",
        "in a container add --cap-add SYS_NICE; in a control group give it cpu.rt_runtime_us",
        "" if ok else "not permitted",
    )


def netem() -> Capability:
    ok, detail = _try_in_namespace("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    return Capability(
        "netem", ok, "delay, jitter, loss and reordering on emulated links", _module_fix("sch_netem"), detail
    )


def bridge() -> Capability:
    ok, detail = _try_in_namespace("ip", "link", "add", "name", "fzprobe", "type", "bridge")
    return Capability("bridge", ok, "the default switch of emulated networks", _module_fix("bridge"), detail)


def openvswitch() -> Capability:
    if shutil.which("ovs-vsctl") is None:
        ok, detail = False, "no ovs-vsctl"
    else:
        ok, detail = _try(["ovs-vsctl", "--timeout=5", "show"])
        if ok and not Path("/sys/module/openvswitch").exists():
            ok, detail = False, "the kernel module openvswitch is not loaded"
    return Capability(
        "Open vSwitch",
        ok,
        "`switch: ovs`; the Linux bridge does the same work here",
        "`apt install openvswitch-switch`, start its service and `modprobe openvswitch`",
        detail,
    )


def congestion_control(name: str) -> Capability:
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text(encoding="ascii").split()
    return Capability(
        f"congestion control {name}",
        name in known,
        f"transfers with `congestion_control: {name}`",
        f"`modprobe tcp_{name}`",
        "" if name in known else f"this kernel has {', '.join(known)}",
    )


def require_for(topology: Topology, congestion: str, switch: str, *, turns: bool = True) -> None:
    """Raise `CapabilityError` for the first thing that emulating *topology* needs and this machine lacks."""
    needed = [root(), namespaces(), mnexec(), mininet(), iproute2(), htb(), tbf()]
    if turns:
        needed.append(cls_bpf())
    needed.append(openvswitch() if switch == "ovs" else bridge())
    needed.append(congestion_control(congestion))
    for capability in needed:
        capability.require("an emulated network")
    accesses = {"server": topology.server, **topology.clients}
    wanting = [
        f"{name}.{direction}"
        for name, access in accesses.items()
        for direction, spec in (("uplink", access.uplink), ("downlink", access.downlink))
        if spec.needs_netem
    ]
    if wanting:
        more = f" and {len(wanting) - 1} more" if len(wanting) > 1 else ""
        netem().require(f"delay, jitter, loss or reordering on {wanting[0]}{more}")


def _module_fix(module: str) -> str:
    return f"`modprobe {module}`; without such a module, install the distribution's full kernel (linux-modules-extra)"


def _try(argv: Sequence[str], given: str = "") -> tuple[bool, str]:
    try:
        done = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=_TRY_S, check=False)
    except FileNotFoundError:
        return False, f"no {argv[0]}"
    except subprocess.TimeoutExpired:
        return False, f"{argv[0]} did not answer within {_TRY_S:g} s"
    return done.returncode == 0, " ".join(done.stderr.split())[:200] if done.returncode else ""


def _try_in_namespace(*argv: str, given: str = "") -> tuple[bool, str]:
    return _try(["unshare", "--net", *argv], given)
