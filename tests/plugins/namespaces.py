"""Network namespaces for a test: hosts that are not loopback, and cables between them that can be cut.

Each process has its own private network, so that two processes on one machine do not disturb each other.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest

_NET = f"10.213.{os.getpid() % 250}"
_numbers = count(1)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Host:
    """A network namespace. If ``name`` is empty, it is the network of this process."""

    name: str = ""

    def command(self, *command: str) -> list[str]:
        """Return the command line that runs a command on this host."""
        return ["ip", "netns", "exec", self.name, *command] if self.name else list(command)

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` for this host."""
        _run("ip", *(("-n", self.name) if self.name else ()), *arguments)


OUTSIDE = Host()


@dataclass(frozen=True)
class Cable:
    """A cable with an end at each of two hosts."""

    near: Host
    near_end: str
    near_address: str
    far: Host
    far_end: str

    def lead_to(self, address: str) -> None:
        """Let the far host reach another address of the near host."""
        self.far.ip("route", "add", f"{address}/32", "via", self.near_address)

    def cut(self) -> None:
        """Let nothing pass. Only the near end is taken down, so that the far host keeps its routes."""
        self.near.ip("link", "set", self.near_end, "down")

    def mend(self) -> None:
        """Let everything pass again."""
        self.near.ip("link", "set", self.near_end, "up")

    def delay(self, ms: int) -> bool:
        """Delay the far host's packets. Return False if the kernel cannot do that."""
        command = ("tc", "qdisc", "add", "dev", self.far_end, "root", "netem", "delay", f"{ms}ms")
        return not subprocess.run(self.far.command(*command), check=False, capture_output=True).returncode


class Network:
    """Makes hosts and cables, and removes them."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []
        self._cables = 0

    def host(self) -> Host:
        """Return a new host with only a loopback interface. If namespaces are not available, skip the test."""
        host = Host(f"lt{os.getpid()}-{next(_numbers)}")
        try:
            OUTSIDE.ip("netns", "add", host.name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        self._hosts.append(host)
        host.ip("link", "set", "lo", "up")
        return host

    def cable(self, near: Host, far: Host) -> Cable:
        """Connect two hosts. If the kernel has no such cables, skip the test."""
        at = 4 * self._cables
        self._cables += 1
        number = f"{os.getpid() % 100000}-{next(_numbers)}"
        cable = Cable(near, f"lto{number}", f"{_NET}.{at + 1}", far, f"lti{number}")
        try:
            OUTSIDE.ip("link", "add", cable.near_end, "type", "veth", "peer", "name", cable.far_end)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"a veth pair cannot be made here: {error.stderr.strip()}")
        for host, end, address in ((near, cable.near_end, at + 1), (far, cable.far_end, at + 2)):
            if host.name:
                OUTSIDE.ip("link", "set", end, "netns", host.name)
            host.ip("addr", "add", f"{_NET}.{address}/30", "dev", end)
            host.ip("link", "set", end, "up")
        return cable

    def close(self) -> None:
        """Remove all hosts with their cables."""
        for host in self._hosts:
            OUTSIDE.ip("netns", "del", host.name)


@pytest.fixture
def network() -> Iterator[Network]:
    """Hosts and cables for one test. Processes in them must end before the test ends."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    made = Network()
    yield made
    made.close()
