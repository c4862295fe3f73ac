"""Limits that hold a request, and limits that a request holds: over sockets, with clients that leave."""

import time
from signal import SIGTERM
from typing import Any

import httpx
import pytest
from plugins.openapi_answers import expect_error
from plugins.processes import until
from plugins.wire import RUN, connect, post, read_all

JOBS = "/v1/workflows/jobs"
HELLO = {"name": "say-hello"}


def sleep(seconds: float) -> dict[str, Any]:
    return {"name": "sleep", "parameters": {"ms": seconds * 1000}}


class Asking:
    """One request on a connection of its own, sent at once and answered later."""

    def __init__(self, served: Any, path: str, body: Any, *, sent: int | None = None) -> None:
        request = post(body, "connection: close", path=path)
        self.socket = connect(served)
        self.socket.sendall(request[:sent])
        self._rest = request[len(request) if sent is None else sent :]

    def go_on(self) -> None:
        """Send what was left out."""
        self.socket.sendall(self._rest)

    def status(self) -> int:
        """Read the whole answer."""
        with self.socket:
            return int(read_all(self.socket).split(b" ", 2)[1])

    def hang_up(self) -> None:
        """Leave without an answer."""
        self.socket.close()


QUEUE = ("--limit", "sync_run=5/2s", "--limit", "async_submit=5/2s", "--algorithm", "leaky-queue", "--burst", "3")
"""A leaky queue for 3, one every 0.4 s."""


def test_a_leaky_queue_lets_them_out_one_by_one(launch: Any) -> None:
    """Of ten at once the first three pass, in 0, 0.4 and 0.8 s at the earliest; others find it full."""
    queue = launch(*QUEUE)
    begin = time.monotonic()
    asking = [Asking(queue, RUN, HELLO) for _ in range(10)]
    passed = [time.monotonic() - begin for each in asking if each.status() == 200]
    assert 3 <= len(passed) < 10
    assert all(took >= 0.4 * place - 0.001 for place, took in enumerate(passed))


def test_what_comes_while_a_request_is_held_is_not_lost(launch: Any) -> None:
    """A body that comes in two pieces, while its request waits for its turn, is read whole."""
    queue = launch(*QUEUE)
    assert queue.client().post(RUN, json=HELLO).status_code == 200  # takes the turn
    held = Asking(queue, RUN, {"name": "echo", "parameters": {"text": "x" * 40_000}}, sent=20_000)
    held.go_on()
    assert held.status() == 200


@pytest.mark.parametrize("draws", ["all", "valid"])
def test_a_client_that_hangs_up_while_it_is_held_leaves_no_work(launch: Any, draws: str) -> None:
    """The only worker is free when the next one's turn comes."""
    served = launch(*QUEUE, "--workers", "1", "--queue", "0", "--draws", draws)
    assert served.client().post(JOBS, json=HELLO).status_code == 202  # takes the turn
    Asking(served, JOBS, sleep(600)).hang_up()
    assert Asking(served, JOBS, HELLO).status() == 202


def test_a_stopping_server_answers_those_that_it_holds(launch: Any) -> None:
    """A request whose turn is far away is told that the server stops."""
    served = launch("--limit", "sync_run=1/1h", "--algorithm", "leaky-queue", "--burst", "3")
    client = served.client()
    assert client.post(RUN, json=HELLO).status_code == 200
    held = Asking(served, RUN, HELLO)
    until(lambda: 'decisions_total{decision="allowed",limit="sync_run"} 2.0' in client.get("/metrics").text)
    served.signal(SIGTERM)
    assert held.status() == 503


@pytest.fixture(scope="module")
def narrow(launch: Any) -> Any:
    """One run at a time."""
    return launch("--algorithm", "concurrency", "--limit", "sync_run=1/1s", "--run-timeout", "1.5")


def busy(client: httpx.Client) -> bool:
    return client.post(RUN, json=HELLO).status_code == 429


def free(client: httpx.Client) -> bool:
    return client.post(RUN, json=HELLO).status_code == 200


def test_a_concurrency_limit_has_room_again_when_a_request_ends(narrow: Any) -> None:
    """While one runs, the next is refused; whoever has an answer finds room."""
    client = narrow.client()
    running = Asking(narrow, RUN, sleep(0.4))
    until(lambda: busy(client))
    assert running.status() == 200
    assert free(client)


def test_every_end_of_a_request_makes_room(narrow: Any) -> None:
    """Refused bodies, unknown workflows, failed and overlong runs hold nothing after their answers."""
    client = narrow.client()
    for _ in range(2):
        expect_error(client.post(RUN, content=b"{"), 400, "invalid_json")
        expect_error(client.post(RUN, json={"name": "nope"}), 404, "unknown_workflow")
        expect_error(client.post(RUN, json={"name": "fail"}), 500, "workflow_failed")
    expect_error(client.post(RUN, json=sleep(60)), 500, "run_timeout")
    assert free(client)


def test_a_client_that_hangs_up_makes_room(launch: Any) -> None:
    """Its run is stopped, and its place is free, long before the run would have ended; whole or half sent."""
    served = launch("--algorithm", "concurrency", "--limit", "sync_run=1/1s")
    client = served.client()
    for sent in (None, 140):
        running = Asking(served, RUN, sleep(600), sent=sent)
        until(lambda: busy(client))
        running.hang_up()
        until(lambda: free(client))
