"""Plain Locust and the web UI keep to the request budget of their target."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.leash_parts import write_entry, write_scenario
from plugins.processes import PATIENCE, clean_environment, until
from plugins.records import runs_in
from plugins.stubs import Stub, pending_forever


@pytest.mark.heavy
def test_locust_loads_no_other_host_and_no_more_than_allowed(tmp_path, stub, web_ui):
    """The target counts, whatever --host or the form says. Each run has its budget, which its preflight uses, too."""
    spend_a_budget_headless(tmp_path / "headless", stub)
    server = stub(pending_forever)
    write_entry(tmp_path, server.url, "max_share = 1\nmax_requests = 20")
    write_scenario(tmp_path, rate="5/s", seconds=1)
    text = (tmp_path / "s.toml").read_text()
    up = web_ui(text, "--target", "here", "--targets", str(tmp_path / "targets.toml"))
    assert f"Load goes to {server.url}, within the request budget of 'here'" in up.started.said
    refused = up.ask("POST", "/swarm", data={"host": "http://127.0.0.1:1"}).json()
    assert (refused["success"], "is not the target 'here'" in refused["message"]) == (False, True)
    assert not server.asked, "each start makes its own preflight, and this one was refused before it"
    assert up.ask("POST", "/swarm", data={"host": server.url}).json()["success"] is True
    until(lambda: "jobs were left pending" in up.started.said)
    assert "Aborted: the request budget of target 'here' ended the run: all 20 requests" in up.started.said
    up.end()
    assert len(server.asked) == 20
    (run,) = runs_in(up.reports)
    assert len(run.info.preflight) == 3


def spend_a_budget_headless(folder: Path, stub: Callable[..., Stub]) -> None:
    """LOADTEST_TARGET names the entry."""
    folder.mkdir()
    server = stub(pending_forever)
    write_entry(folder, server.url, 'max_share = 1\nmax_requests = 15\nendpoint = "blue"')
    write_scenario(folder, rate="5/s", seconds=1)
    done = locust(folder, "--host", "http://127.0.0.1:1", LOADTEST_TARGET="here")
    assert "Aborted: the request budget of target 'here' ended the run: all 15 requests" in done.stderr
    assert len(server.asked) == 15
    assert {headers["x-wf-endpoint"] for _, _, headers in server.asked} == {"blue"}
    (run,) = runs_in(folder / "reports")
    assert run.info.end == "aborted"


def locust(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run plain locust without its web UI."""
    locustfile = Path(__file__).parents[2] / "loadtest" / "load" / "locustfile.py"
    return subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", *arguments],
        cwd=folder,
        env=clean_environment(LOADTEST_SCENARIO="s.toml", **environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
