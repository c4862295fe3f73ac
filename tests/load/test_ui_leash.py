"""The web UI, on the leash of the target that it was started for."""

import pytest
from plugins.leash_parts import write_entry, write_scenario
from plugins.processes import until
from plugins.records import runs_in
from plugins.stubs import pending_forever


@pytest.mark.heavy
def test_the_web_ui_loads_no_other_host_and_no_more_than_allowed(tmp_path, stub, web_ui):
    """Whatever is typed into its form; and each run in it has its budget, its preflight counted."""
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
