"""The web UI, on the leash of the target that it was started for."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from leash_parts import write_entry, write_scenario
from plugins.processes import clean_environment
from plugins.stubs import pending_forever


def post(url: str, host: str) -> tuple[int, str]:
    """Ask the web UI to start a run."""
    body = f"user_count=1&spawn_rate=1&host={host}".encode()
    try:
        with urllib.request.urlopen(f"{url}/swarm", body, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.heavy
def test_the_web_ui_loads_no_other_host_and_no_more_than_allowed(tmp_path, stub, free_port):
    """Whatever is typed into its form; and each run in it has its budget, its preflight counted."""
    server = stub(pending_forever)
    write_entry(tmp_path, server.url, "max_share = 1\nmax_requests = 20")
    write_scenario(tmp_path, rate="5/s", seconds=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.cli", "ui", "s.toml", "--target", "here", "--port", str(free_port)],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert f"Load goes to {server.url}, within the request budget of 'here'" in process.stdout.readline()
        url, deadline = f"http://127.0.0.1:{free_port}", time.monotonic() + 30
        while True:
            try:
                code, said = post(url, "http://127.0.0.1:1")
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert (code, "is not the target 'here'" in said) == (200, True)
        assert not server.asked, "each start makes its own preflight, and this one was refused before it"
        assert '"success": true' in post(url, server.url)[1]
        lines = iter(process.stdout.readline, "")
        assert any(
            re.search(r"Aborted: the request budget of target 'here' ended the run: all 20 requests", x) for x in lines
        )
        assert any("jobs were left pending" in line for line in lines)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert len(server.asked) == 20
    info = json.loads((tmp_path / "reports" / "latest" / "run.json").read_text())
    assert len(info["preflight"]) == 3
