"""A server with faults says so; what is wrong with them is said before it serves; how it is controlled."""

import json
import socket
from typing import Any

import httpx
import pytest


def lines(served: Any) -> list[str]:
    """What it said after its first line."""
    return list(iter(served.process.stdout.readline, "  stop with Ctrl-C or SIGTERM\n"))


def test_a_server_with_faults_says_so(launch: Any) -> None:
    """In words, on a line of its own after the first."""
    said = lines(
        launch("--fault", "latency,ms=200,on=sync_run,start=10s,duration=30s,probability=0.1", "--fault", "reset")
    )
    words = "latency 200 ms on sync_run from 10 s for 30 s with probability 10 %; reset before execution"
    assert f"  faults: {words}\n" in said
    assert not [line for line in said if "control on" in line]


def test_a_server_without_faults_says_nothing_of_them(launch: Any) -> None:
    """Neither at its start nor in its answers."""
    served = launch()
    assert not [line for line in lines(served) if "fault" in line or "control" in line]
    answer = httpx.get(served.url + "/healthz", trust_env=False)
    assert not [name for name in answer.headers if name.startswith("x-loadtest")]


@pytest.fixture(scope="module")
def control(launch: Any) -> Any:
    served = launch("--control-port", "0", "--fault", "error,status=503", "--fault-clock", "epoch")
    (line,) = [line for line in lines(served) if line.startswith("  control on ")]
    with httpx.Client(base_url=line.split()[-1], trust_env=False) as client:
        client.headers["x-served"] = served.url
        yield client


def run_status(control: httpx.Client) -> int:
    headers = {"x-api-key": "alpha", "x-wf-endpoint": "e"}
    url = f"{control.headers['x-served']}/v1/workflows/run"
    return httpx.post(url, headers=headers, json={"name": "echo"}, trust_env=False).status_code


def test_faults_wait_for_the_epoch_and_are_set_and_removed(control: httpx.Client) -> None:
    """With --fault-clock epoch nothing is hit until the epoch was told; faults can be listed, added, removed."""
    (waiting,) = control.get("/faults").json()
    assert (waiting["fault"], waiting["words"], waiting["active"]) == ("error,status=503", "error 503", False)
    assert run_status(control) == 200
    assert control.post("/epoch", json={"unix_s": 4e9}).status_code == 200
    assert run_status(control) == 200
    assert control.post("/epoch", json={"unix_s": 1.0}).json() == {"faults": 1}
    assert run_status(control) == 503
    added = control.post("/faults", json=[{"kind": "latency", "ms": 1, "start": "1h"}, {"kind": "throttle"}])
    assert [each["fault"] for each in added.json()] == ["latency,ms=1,start=3600s", "throttle"]
    assert control.delete(f"/faults/{waiting['id']}").json() == {"removed": 1}
    assert run_status(control) == 429
    assert control.delete("/faults").json() == {"removed": 2}
    assert run_status(control) == 200
    jobs = control.get("/jobs").json()
    assert {"queued", "running", "completed", "failed"} <= set(jobs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"latncy", "kind: there is no fault 'latncy'"),
        (b"", "kind: is missing"),
        (b"\xff", "kind: there is no fault"),
        (b"{", "the body is not JSON"),
        (b"[" * 5000, "the body is not JSON"),
        (b"[1]", "a fault must be a JSON object"),
        (b'{"kind": "latency"}', "ms: is missing"),
        (b'[{"kind": "throttle"}, {"kind": "error", "key": 9}]', "key: there is no key 9"),
    ],
)
def test_what_cannot_be_set_is_refused_in_words(control: httpx.Client, content: bytes, message: str) -> None:
    """With 400, a sentence and a remedy; nothing is set."""
    before = len(control.get("/faults").json())
    answer = control.post("/faults", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)
    assert answer.json()["remedy"]
    assert len(control.get("/faults").json()) == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("PUT", "/faults", 404),
        ("DELETE", "/faults/99", 404),
        ("DELETE", "/faults/x", 404),
        ("DELETE", "/faults/²", 404),
        ("POST", "/epoch", 400),
    ],
)
def test_other_requests_are_refused(control: httpx.Client, method: str, path: str, status: int) -> None:
    """Each with a sentence of what there is."""
    answer = control.request(method, path)
    assert answer.status_code == status
    assert answer.json()["remedy"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "attacker.example"},
        {"host": "attacker.example:80"},
        {"host": "127.0.0.1.attacker.example"},
        {"origin": "http://attacker.example"},
        {"origin": "null"},
    ],
)
def test_web_pages_are_refused(control: httpx.Client, headers: dict[str, str]) -> None:
    """A page whose name was made to point here has its own Host; any page of others has its own Origin."""
    before = control.get("/faults").json()
    answer = control.post("/faults", content=json.dumps({"kind": "throttle"}), headers=headers)
    assert answer.status_code == 403
    assert control.get("/faults").json() == before


def test_a_large_body_is_refused(control: httpx.Client) -> None:
    """Nothing of it is kept."""
    assert control.post("/faults", content=b"x" * 100_000).status_code == 413


def test_half_a_body_sets_nothing(control: httpx.Client) -> None:
    """A client that hangs up in the middle of `latency,ms=200` has not asked for `latency,ms=20`."""
    before = control.get("/faults").json()
    with socket.create_connection((control.base_url.host, control.base_url.port or 0)) as connection:
        connection.sendall(b"POST /faults HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 14\r\n\r\nlatency,ms=20")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert control.get("/faults").json() == before
