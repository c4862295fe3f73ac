"""A host that is not loopback, for real: a network namespace of the test's own, whose only other end is this process.

The command line runs inside the namespace; the server is at the outer end of its cable.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.leash_parts import ABORTED, write_entry, write_scenario
from plugins.namespaces import OUTSIDE, Cable, Network
from plugins.processes import PATIENCE, clean_environment
from plugins.stubs import pending_forever


@pytest.fixture
def cable(network: Network) -> Cable:
    """From this process to a host from which nothing but its near end can be reached."""
    return network.cable(OUTSIDE, network.host())


@pytest.fixture
def inside(cable: Cable) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run ``loadtest`` at the far end."""

    def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            cable.far.command(sys.executable, "-m", "loadtest.cli", *arguments),
            cwd=cwd,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    return run


@pytest.mark.heavy
def test_another_host_is_loaded_with_an_entry_only_and_inside_its_leash(cable, inside, stub, tmp_path):
    """Refused without one, by URL; with one, by URL too, not one request beyond its budget."""
    server = stub(pending_forever, cable.near_address)
    write_scenario(tmp_path, rate="5/s", seconds=2)
    refused = inside("run", "s.toml", "--host", server.url, cwd=tmp_path)
    assert refused.returncode == 2
    said = f"'{cable.near_address}' is not a loopback address, and no entry in targets.toml matches the scheme, host"
    assert said in refused.stderr
    assert server.asked == []
    write_entry(tmp_path, server.url, "max_share = 1\nmax_requests = 30")
    loaded = inside("run", "s.toml", "--host", server.url, cwd=tmp_path)
    assert loaded.returncode in ABORTED, loaded.stdout + loaded.stderr
    assert (
        f"Load goes to {server.url}, within the request budget of 'here' in targets.toml (test, team-x)."
        in loaded.stdout
    )
    assert len(server.asked) == 30
    info = json.loads((tmp_path / "reports" / "latest" / "run.json").read_text())
    assert info["target"]["leash"]["used"]["requests"] == 30
    assert "all 30 requests that max_requests allows were sent" in info["end_reason"]
