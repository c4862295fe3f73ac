"""The server as a process: how it starts, what it prints, how it stops."""

import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest
from plugins.wire import RUN, connect, post


def run_cli(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )


def send_run(served: Any, ms: int) -> socket.socket:
    """Send a sync run that sleeps, and return when the server has it."""
    connection = connect(served)
    connection.sendall(post({"name": "sleep", "parameters": {"ms": ms}}))
    # The loop takes events in order: once a later connection has its answer, this request has begun.
    assert served.client().get("/healthz").status_code == 200
    return connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(launch: Any, number: int) -> None:
    """Exit 0, nothing on standard error, idle connections and running jobs or not."""
    served = launch()
    client = served.client()
    assert client.post("/v1/workflows/jobs", json={"name": "sleep", "parameters": {"ms": 60_000}}).status_code == 202
    assert client.post("/v1/workflows/jobs", json={"name": "cpu", "parameters": {"ms": 60_000}}).status_code == 202
    code, rest, errors = served.stop(number)
    assert (code, errors) == (0, "")
    assert "sync_run 100/60s, async_submit 1000/60s, retrieval 500/60s" in rest


def test_a_quick_run_in_flight_gets_its_answer(launch: Any) -> None:
    """A run of 0.3 s that has begun ends with 200 although the signal came meanwhile."""
    served = launch()
    with send_run(served, 300) as connection:
        assert served.stop()[0] == 0
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_long_run_in_flight_is_told(launch: Any) -> None:
    """A run that would take a minute is answered with 503, and the process still exits with 0."""
    served = launch()
    with send_run(served, 60_000) as connection:
        code, _, errors = served.stop()
        answer = connection.recv(65536)
    assert (code, errors) == (0, "")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"shutting_down"' in answer


def test_it_ends_with_its_parent_when_asked_to(launch: Any) -> None:
    """With --exit-with-parent the end of standard input is the signal to stop."""
    served = launch("--exit-with-parent", stdin=subprocess.PIPE)
    assert served.client().get("/healthz").status_code == 200
    assert served.process.poll() is None
    served.process.stdin.close()
    assert served.process.wait(timeout=20) == 0


def test_a_port_in_use_is_one_clear_sentence(launch: Any) -> None:
    """Exit 2, naming the port; no traceback."""
    port = str(launch().address[1])
    done = run_cli("loadtest.cli", "serve", "--port", port)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_option_that_is_no_text_is_refused_in_words() -> None:
    """Exit 2, and no traceback: bytes that no encoding has can be shown, too."""
    done = run_cli("loadtest.cli", "serve", "--port", "0", "--answer", "queue_full=/\udcff")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a replacement" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_target_runs_without_the_harness() -> None:
    """`python -m loadtest.reference_api` takes the same options and gives the same exit codes."""
    done = run_cli("loadtest.reference_api", "--host", "192.0.2.1")
    assert done.returncode == 2
    assert "loopback only" in done.stderr


def test_keys_are_never_shown(launch: Any) -> None:
    """Keys from the environment are counted, not printed."""
    served = launch(env={"WORKFLOW_API_KEYS": "s3cret-one, s3cret-two"})
    assert served.client(key="s3cret-two").post(RUN, json={"name": "say-hello"}).status_code == 200
    _, rest, errors = served.stop()
    assert "2 from WORKFLOW_API_KEYS" in rest
    assert "s3cret" not in rest + errors


def test_without_keys_the_local_one_works_and_is_named(launch: Any) -> None:
    """A server without configuration says which key to use."""
    served = launch(env={"WORKFLOW_API_KEYS": " "})
    assert served.client(key="local-dev-key").post(RUN, json={"name": "say-hello"}).status_code == 200
    assert "API keys: local-dev-key" in served.stop()[1]


def test_help_does_not_load_the_server() -> None:
    """The verb's module imports no part of the server stack."""
    absent = "('uvicorn', 'uvloop', 'pydantic')"
    code = f"import sys, loadtest.reference_api.command; print(*[m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
