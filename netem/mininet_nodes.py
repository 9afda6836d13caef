"""Mininet's nodes without a shell each, and its links made in batches.

Mininet starts an interactive bash on a pseudo-terminal for every node and talks to it one command at a time. These
nodes are Mininet nodes with a namespace and a process that holds it (``mnexec -n cat``), which is what the rest of
Mininet needs; commands run through ``mnexec -a`` when somebody asks. The holders read a pipe whose only writer is
this process: when it dies, however it died, they end and their namespaces go with everything in them.
"""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import warnings
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

with warnings.catch_warnings():
    # Mininet 2.3 imports distutils, which says that it is deprecated; nothing here can change that.
    warnings.simplefilter("ignore", DeprecationWarning)
    from mininet.link import Intf, Link
    from mininet.net import Mininet
    from mininet.node import Host, OVSBridge
    from mininet.nodelib import LinuxBridge

from netem.errors import CommandError

# Mininet's own logger prints to the terminal from its first line on.
logging.getLogger("mininet").setLevel(logging.CRITICAL)

_HOLDER = ["mnexec", "-n", "-p", "cat"]  # options act in order: the number is printed from the new namespace


class Holders:
    """Starts the processes that hold namespaces, and ends them all at once."""

    def __init__(self, started: Callable[[int], None]) -> None:
        self._note_start = started
        self._lifeline, self._ours = os.pipe2(os.O_CLOEXEC)
        self._waiting: list[subprocess.Popen[bytes]] = []

    def prepare(self, count: int) -> None:
        """Start *count* processes, side by side; each in a new network namespace when this returns."""
        started = [self._start() for _ in range(count)]
        for process in started:
            assert process.stdout is not None
            with process.stdout:
                if not process.stdout.readline():
                    raise CommandError(_HOLDER, process.wait(), "no namespace came")
            self._waiting.append(process)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            _HOLDER,
            stdin=self._lifeline,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the owner, who then cleans up
        )
        self._note_start(process.pid)
        return process

    def take(self) -> subprocess.Popen[bytes]:
        """One of those that were prepared."""
        if not self._waiting:
            self.prepare(1)
        return self._waiting.pop(0)

    def close(self) -> None:
        """Let go of every holder, and reap those that no node took."""
        for end in (self._ours, self._lifeline):
            os.close(end)
        for process in self._waiting:
            process.wait()


class _Lean:
    """What our nodes do differently from `mininet.node.Node`. Mixed in before a Mininet node class."""

    holders: ClassVar[Holders]  # set on a subclass made for one network
    shell: subprocess.Popen[bytes] | None
    inNamespace: bool
    name: str
    pid: int

    @classmethod
    def setup(cls) -> None:
        """Mininet would look for programs that are not needed here, and end the whole process without them."""

    def startShell(self, mnopts: str | None = None) -> None:
        self.shell = self.holders.take() if self.inNamespace else None
        self.pid = self.shell.pid if self.shell is not None else os.getpid()

    def cmd(self, *args: object, **_kwargs: object) -> str:
        """Run a shell command in this node's namespace and return what it printed."""
        words = args[0] if len(args) == 1 and isinstance(args[0], list) else args
        command = ["sh", "-c", " ".join(str(word) for word in words)]
        if self.shell is not None:
            command = ["mnexec", "-a", str(self.pid), *command]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.stdout.decode("utf-8", "replace")

    def terminate(self) -> None:
        if self.shell is not None:
            self.shell.kill()
            self.shell.wait()
            self.shell = None


class LeanHost(_Lean, Host):  # type: ignore[misc]  # Mininet has no types
    """A Mininet host whose interface was set up in a batch."""

    def config(self, **_params: object) -> dict[str, object]:
        return {}


class LeanBridge(_Lean, LinuxBridge):  # type: ignore[misc]
    """A Linux bridge in a namespace of its own, where neither names nor the host's firewall can meet it."""

    def start(self, _controllers: object) -> None:
        """The bridge was made with its ports."""

    def stop(self, deleteIntfs: bool = True) -> None:
        """The bridge goes with its namespace."""


class LeanOpenVSwitch(_Lean, OVSBridge):  # type: ignore[misc]
    """An Open vSwitch that learns addresses by itself. Its kernel half knows the host's namespace only."""

    def start(self, _controllers: object) -> None:
        """One transaction: the bridge with all its ports, or nothing."""
        words = ["add-br", self.name, "--", "set-fail-mode", self.name, "standalone"]
        for interface in self.intfList():
            if interface.name != "lo":
                words += ["--", "add-port", self.name, interface.name]
        run_program("ovs-vsctl", "--timeout=30", *words)

    def stop(self, deleteIntfs: bool = True) -> None:
        run_program("ovs-vsctl", "--timeout=30", "--if-exists", "del-br", self.name)

    @classmethod
    def batchStartup(cls, switches: object, run: object = None) -> object:
        return switches  # Mininet would run commands that were never queued

    @classmethod
    def batchShutdown(cls, switches: object, run: object = None) -> object:
        return ()  # Mininet would hang up the process whose number the switch has, which is this one


class LeanIntf(Intf):  # type: ignore[misc]
    """An interface that was set up in a batch and goes with its namespace."""

    def config(self, **_params: object) -> dict[str, object]:
        return {}

    def delete(self) -> None:
        self.node.delIntf(self)
        self.link = None


class LeanLink(Link):  # type: ignore[misc]
    """A veth pair that exists already when this object is made."""

    @classmethod
    def makeIntfPair(cls, *_args: object, **_kwargs: object) -> None:
        """The pair was made in a batch."""

    def intfName(self, node: Any, n: int) -> str:
        return f"{node.name}-{n}"


class LeanMininet(Mininet):  # type: ignore[misc]
    """Mininet without its changes to the host: it would set a dozen sysctls of the machine for good."""

    inited = True

    @staticmethod
    def raise_file_limit(needed: int) -> None:
        """Room for *needed* more descriptors in this process."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = min(needed + 1024, hard) if hard != resource.RLIM_INFINITY else needed + 1024
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_batch(program: str, lines: Iterable[str], pid: int | None = None) -> None:
    """Feed *lines* to ``ip -batch``, inside the namespace of *pid* if one is given.

    Raises:
        CommandError: the program stopped at a line; its message names the number and the lines are shown.
    """
    text = "".join(f"{line}\n" for line in lines)
    argv = [program, "-batch", "-"]
    if pid is not None:
        argv = ["mnexec", "-a", str(pid), *argv]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(argv, done.returncode, f"{done.stderr.strip()} in\n{text}")


def run_program(*argv: str) -> None:
    """Run a program; `CommandError` if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(argv, done.returncode, done.stderr)


__all__ = [
    "Holders",
    "LeanBridge",
    "LeanHost",
    "LeanIntf",
    "LeanLink",
    "LeanMininet",
    "LeanOpenVSwitch",
    "run_batch",
    "run_program",
]
