"""Every error that the server can answer with, as documented in ``openapi.yaml``, and otherwise where it is told to."""

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from plugins.openapi_answers import DOCUMENT, expect_error, problems, resolve
from plugins.wire import RUN, connect, post, read_all

from loadtest.contract import ERROR_CODES
from loadtest.reference_api.app import WorkflowApi
from loadtest.reference_api.execution import Workflow
from loadtest.reference_settings import ServerConfig

JOBS = "/v1/workflows/jobs"


@pytest.fixture(scope="module")
def tight(launch: Any) -> Any:
    """A server with one endpoint, one worker, no queue, and one retrieval an hour."""
    options = ("--workers", "1", "--queue", "0", "--limit", "retrieval=1/1h")
    return launch(*options, env={"WORKFLOW_ENDPOINT": "tests"})


def run(server: Any, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.client().post(RUN, content=content)


def full(server: Any) -> httpx.Response:
    client = server.client()
    client.post(JOBS, json={"name": "sleep", "parameters": {"ms": 60_000}})
    return client.post(JOBS, json={"name": "say-hello"})


def twice(server: Any) -> httpx.Response:
    client = server.client()
    client.get(JOBS + "/x")
    return client.get(JOBS + "/x")


def over_the_wire(server: Any, method: str, path: str, request: bytes, meanwhile: Callable[[], Any]) -> httpx.Response:
    with connect(server) as connection:
        connection.sendall(request)
        meanwhile()
        data = read_all(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    status, headers = int(start.split()[1]), dict(line.split(": ", 1) for line in lines)
    assert not problems(method, path, status, headers, body)
    return httpx.Response(status, headers=headers, content=body)


def zipped(server: Any) -> httpx.Response:
    request = post({}, "transfer-encoding: gzip, chunked").replace(b"content-length: 2", b"x: y")
    return over_the_wire(server, "", "", request, lambda: None)


def garbage(server: Any) -> httpx.Response:
    return over_the_wire(server, "GARBAGE", "", b"GARBAGE\r\n\r\n", lambda: None)


def broken(_server: Any) -> httpx.Response:
    async def work() -> Any:
        raise ZeroDivisionError

    async def ask() -> httpx.Response:
        api: Any = WorkflowApi(ServerConfig(), {"broken": Workflow("broken", lambda _: work, None)})
        headers = {"x-api-key": ServerConfig().keys[0], "x-wf-endpoint": "tests"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(api), base_url="http://x", headers=headers
        ) as client:
            return await client.post(RUN, json={"name": "broken"})

    answer = asyncio.run(ask())
    assert not problems("POST", RUN, answer.status_code, dict(answer.headers), answer.content)
    return answer


def late(launch: Any) -> httpx.Response:
    return run(launch("--run-timeout", "0.05"), {"name": "sleep", "parameters": {"ms": 60_000}})


def stopped(launch: Any) -> httpx.Response:
    server = launch()

    def stop() -> None:
        # What comes over a second connection is read after what was sent over the first: the run has begun.
        assert server.client().get("/healthz").status_code == 200
        server.stop(signal.SIGTERM)

    return over_the_wire(server, "POST", RUN, post({"name": "sleep", "parameters": {"ms": 60_000}}), stop)


CASES: dict[str, tuple[str, Callable[[Any], httpx.Response]]] = {
    "missing_api_key": ("server", lambda server: server.client(key=None).get(JOBS + "/x")),
    "invalid_api_key": ("server", lambda server: server.client(key="nobody").get(JOBS + "/x")),
    "missing_endpoint": ("server", lambda server: server.client(endpoint=None).get(JOBS + "/x")),
    "unknown_endpoint": ("tight", lambda server: server.client(endpoint="other").get(JOBS + "/x")),
    "malformed_http": ("server", garbage),
    "headers_too_large": ("server", lambda server: server.client().get("/", headers={"x": "y" * 70_000})),
    "unsupported_coding": ("server", zipped),
    "unknown_route": ("server", lambda server: server.client().get("/v1/workflows")),
    "method_not_allowed": ("server", lambda server: server.client().get(RUN)),
    "rate_limit_exceeded": ("tight", twice),
    "body_too_large": ("server", lambda server: run(server, b" " * 65_537)),
    "invalid_json": ("server", lambda server: run(server, b"{")),
    "invalid_request": ("server", lambda server: run(server, {})),
    "unknown_workflow": ("server", lambda server: run(server, {"name": "nope"})),
    "invalid_parameters": ("server", lambda server: run(server, {"name": "sleep", "parameters": {"ms": -1}})),
    "queue_full": ("tight", full),
    "unknown_job": ("server", lambda server: server.client().get(JOBS + "/x")),
    "workflow_failed": ("server", lambda server: run(server, {"name": "fail"})),
    "run_timeout": ("launch", late),
    "internal": ("server", broken),
    "shutting_down": ("launch", stopped),
}


@pytest.mark.parametrize("code", ERROR_CODES)
def test_every_error_can_be_met(request: pytest.FixtureRequest, code: str) -> None:
    """It has the documented body, and the status under which the document lists its code."""
    fixture, ask = CASES[code]
    answer = ask(request.getfixturevalue(fixture))
    expect_error(answer, answer.status_code, code)
    assert answer.status_code >= 400


def test_a_wrong_answer_would_be_seen() -> None:
    """The comparison with the document refuses what the document doesn't say."""
    headers = {"content-type": "application/json", "date": "Wed, 25 Nov 2026 10:00:00 GMT"}
    good = {"error": "e", "code": "unknown_job", "details": {}}
    assert not problems("GET", JOBS + "/x", 404, headers, json.dumps(good).encode())
    for status, changed, kept in (
        (410, good, headers),  # another status
        (404, {**good, "code": "unknown_workflow"}, headers),  # a code of another operation's
        (404, {**good, "hint": 1}, headers),  # something more
        (404, {"error": "e", "code": "unknown_job"}, headers),  # something less
        (404, {**good, "details": []}, headers),  # another type
        (404, {**good, "details": {"colour": "red"}}, headers),  # a detail that isn't known
        (404, good, {**headers, "content-type": "text/plain"}),
        (404, good, {"content-type": "application/json"}),  # no date
        (404, good, {**headers, "x-ratelimit-limit": "many"}),
    ):
        assert problems("GET", JOBS + "/x", status, kept, json.dumps(changed).encode())


def test_a_wrong_document_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that the document leaves out, or has otherwise, is a difference."""
    body = json.dumps({"jobId": "x", "status": "pending"}).encode()
    headers = {"content-type": "application/json", "date": "Wed, 25 Nov 2026 10:00:00 GMT"}
    assert not problems("POST", JOBS, 202, headers, body)
    answers = DOCUMENT["paths"][JOBS]["post"]["responses"]
    schema = {"required": ["jobId", "status", "eta"]}
    monkeypatch.setitem(resolve(answers["202"])["content"]["application/json"], "schema", schema)
    assert problems("POST", JOBS, 202, headers, body)
    monkeypatch.delitem(answers, "202")
    assert problems("POST", JOBS, 202, headers, body)


@pytest.fixture(scope="module")
def recoded(launch: Any) -> Any:
    """A server that answers these errors otherwise."""
    options = (
        "unknown_job=410",
        "workflow_failed=/execution_error",
        "malformed_http=422/bad_bytes",
        "missing_api_key=499",
    )
    return launch(*(part for option in options for part in ("--answer", option)))


def test_status_alone_code_alone_or_both_change(recoded: Any) -> None:
    """What is given changes, and what isn't stays: message, details, and other errors."""
    client = recoded.client()
    expect_error(client.get(JOBS + "/x"), 410, "unknown_job")
    failed = client.post(RUN, json={"name": "fail", "parameters": {"message": "no luck"}})
    assert expect_error(failed, 500, "execution_error")["workflow"] == "fail"
    expect_error(client.post(RUN, json={}), 400, "invalid_request")


def test_a_status_without_a_name_is_sent(recoded: Any) -> None:
    """Any status from 400 to 599 may be chosen, known to HTTP or not."""
    expect_error(recoded.client(key=None).get(JOBS + "/x"), 499, "missing_api_key")


def test_bytes_that_are_not_http_are_recoded_too(recoded: Any) -> None:
    """The answer that never becomes a request keeps to the same rule."""
    with connect(recoded) as connection:
        connection.sendall(b"GARBAGE\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b'"code":"bad_bytes"' in answer
