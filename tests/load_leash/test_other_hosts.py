"""A host that is not loopback, for real: a network namespace of the test's own, whose only other end is this process.

The command line runs inside the namespace; the server is at the outer end of its cable.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from leash_parts import write_entry, write_scenario
from plugins.processes import clean_environment
from plugins.stubs import Stub, pending_forever

# By the process, so that two at once on one machine stay apart.
_NET = f"10.213.{os.getpid() % 250}"
OUTER, INNER = f"{_NET}.1", f"{_NET}.2"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def inside() -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    """Run ``loadtest`` in a namespace from which nothing but ``OUTER`` can be reached."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    name, outer, inner = f"lt-{os.getpid()}", f"lto{os.getpid() % 100000}", f"lti{os.getpid() % 100000}"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        ip("link", "set", inner, "netns", name)
        ip("addr", "add", f"{OUTER}/30", "dev", outer)
        ip("link", "set", outer, "up")
        ip("-n", name, "addr", "add", f"{INNER}/30", "dev", inner)
        ip("-n", name, "link", "set", inner, "up")
        ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        ip("netns", "del", name)
        pytest.skip(f"a veth pair cannot be made here: {error.stderr.strip()}")

    def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["ip", "netns", "exec", name, sys.executable, "-m", "loadtest.cli", *arguments],
            cwd=cwd,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    yield run
    # Both ends of the cable go with it.
    ip("netns", "del", name)


def test_another_host_is_loaded_with_an_entry_only_and_inside_its_leash(
    inside: Callable[..., "subprocess.CompletedProcess[str]"], stub: Callable[..., Stub], tmp_path: Path
) -> None:
    """Refused without one, by URL; with one, by URL too, not one request beyond its budget."""
    server = stub(pending_forever, OUTER)
    write_scenario(tmp_path, rate="5/s", seconds=2)
    refused = inside("run", "s.toml", "--host", server.url, cwd=tmp_path)
    assert refused.returncode == 2
    assert f"'{OUTER}' is not a loopback address, and no entry in targets.toml has the scheme, host" in refused.stderr
    assert server.asked == []
    write_entry(tmp_path, server.url, "max_share = 1\nmax_requests = 30")
    loaded = inside("run", "s.toml", "--host", server.url, cwd=tmp_path)
    assert loaded.returncode == 7, loaded.stdout + loaded.stderr
    assert f"Load goes to {server.url}, within the leash of 'here' in targets.toml (test, team-x)." in loaded.stdout
    assert len(server.asked) == 30
    info = json.loads((tmp_path / "reports" / "latest" / "run.json").read_text())
    assert info["target"]["leash"]["used"]["requests"] == 30
    assert "all 30 requests that max_requests allows were sent" in info["end_reason"]
