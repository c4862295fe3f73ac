"""Network namespaces of a test's own: hosts that are not loopback, joined by cables that can be cut.

All addresses are in one private network, by the process, so that two at once on one machine stay apart.
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
    """A namespace, or this process's own network where ``name`` is empty."""

    name: str = ""

    def command(self, *command: str) -> list[str]:
        """What runs a command there."""
        return ["ip", "netns", "exec", self.name, *command] if self.name else list(command)

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` for it."""
        _run("ip", *(("-n", self.name) if self.name else ()), *arguments)


OUTSIDE = Host()


@dataclass(frozen=True)
class Cable:
    """Two ends, each of a host."""

    near: Host
    near_end: str
    near_address: str
    far: Host
    far_end: str

    def lead_to(self, address: str) -> None:
        """Let the far host reach another address of the near one."""
        self.far.ip("route", "add", f"{address}/32", "via", self.near_address)

    def cut(self) -> None:
        """Let nothing pass. Taken down at the near end, so that the far one keeps its routes."""
        self.near.ip("link", "set", self.near_end, "down")

    def mend(self) -> None:
        """Let everything pass again."""
        self.near.ip("link", "set", self.near_end, "up")

    def delay(self, ms: int) -> bool:
        """Delay what the far host sends; whether the kernel can do that."""
        command = ("tc", "qdisc", "add", "dev", self.far_end, "root", "netem", "delay", f"{ms}ms")
        return not subprocess.run(self.far.command(*command), check=False, capture_output=True).returncode


class Network:
    """Makes hosts and cables, and takes them down."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []
        self._cables = 0

    def host(self) -> Host:
        """A new one, with nothing but a loopback interface; the test is skipped where there can be none."""
        host = Host(f"lt{os.getpid()}-{next(_numbers)}")
        try:
            OUTSIDE.ip("netns", "add", host.name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        self._hosts.append(host)
        host.ip("link", "set", "lo", "up")
        return host

    def cable(self, near: Host, far: Host) -> Cable:
        """Join two hosts; the test is skipped where the kernel has no such cables."""
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
        """Take all hosts down, and their cables with them."""
        for host in self._hosts:
            OUTSIDE.ip("netns", "del", host.name)


@pytest.fixture
def network() -> Iterator[Network]:
    """Hosts and cables for one test; what runs in them has to end with it."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    made = Network()
    yield made
    made.close()
