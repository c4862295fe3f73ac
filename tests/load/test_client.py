"""The client against peers that speak HTTP but not quite this API: what each answer means, and what is sent."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from loadtest.credentials import credentials
from loadtest.errors import InputError
from loadtest.load.client import Answer, Endpoint, WorkflowClient, interpret
from loadtest.load.connection import Address
from loadtest.load.exchange import HttpExchange, Timeouts
from loadtest.load.payloads import Bodies

TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
DONE = {"jobId": "j1", "status": "completed", "result": {"a": 1}, "executionTime": 12.5}


def answered(kind: Any, status: int, body: Any, job_id: str | None = None) -> Answer:
    """What the client makes of an answer; ``body`` is bytes, or something that JSON can carry."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return interpret(kind, HttpExchange(start=1, end=2, status=status, body=raw), job_id)


GOOD = {
    "a run": ("run", 200, {"result": {}, "executionTime": 3}, None),
    "a run with more than is documented": ("run", 200, {"result": {"x": [1]}, "executionTime": 0.5, "more": 1}, None),
    "a submit": ("submit", 202, {"jobId": "j1", "status": "pending"}, None),
    "a completed job": ("poll", 200, DONE, "j1"),
    "a failed job": ("retrieve", 200, {"jobId": "j1", "status": "failed", "error": "no", "executionTime": 1}, "j1"),
    "a pending job": ("retrieve", 200, {"jobId": "j1", "status": "pending"}, "j1"),
    "a job in a state that is not documented": ("poll", 200, {"jobId": "j1", "status": "paused"}, "j1"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_documented_answer_is_ok(name: str) -> None:
    """Every answer of the contract, and more fields than it names, are ok without a reason."""
    kind, status, body, job_id = GOOD[name]
    answer = answered(kind, status, body, job_id)
    assert (answer.outcome, answer.reason) == ("ok", None)


def test_execution_time_and_job_are_taken_over() -> None:
    """executionTime of runs and terminal retrievals, state and id of jobs; none of a pending one."""
    assert answered("run", 200, {"result": {}, "executionTime": 3}).execution_time_ms == 3
    job = answered("poll", 200, DONE, "j1")
    assert (job.execution_time_ms, job.job_state, job.job_id) == (12.5, "completed", "j1")
    pending = answered("poll", 200, {"jobId": "j1", "status": "pending", "executionTime": 5}, "j1")
    assert pending.execution_time_ms is None
    submit = answered("submit", 202, {"jobId": "j9", "status": "pending"})
    assert (submit.job_id, submit.job_state) == ("j9", "pending")


BAD = {
    "not JSON": ("run", 200, b"<html>", "invalid_json"),
    "no body": ("run", 200, b"", "invalid_json"),
    "half of it": ("run", 200, b'{"result": {', "invalid_json"),
    "bytes that are no text": ("poll", 200, b'{"jobId": "\xff\xfe"}', "invalid_json"),
    "half a surrogate pair": ("poll", 200, b'{"jobId": "j1", "status": "\\ud800"}', "invalid_json"),
    "too deep": ("run", 200, b'{"result": {"a":' + b"[" * 100_000, "invalid_json"),
    "a list": ("run", 200, [], "wrong_shape"),
    "null": ("submit", 202, None, "wrong_shape"),
    "no result": ("run", 200, {"executionTime": 1}, "wrong_shape"),
    "a result that is no object": ("run", 200, {"result": [1], "executionTime": 1}, "wrong_shape"),
    "no executionTime": ("run", 200, {"result": {}}, "wrong_shape"),
    "an executionTime that is a string": ("run", 200, {"result": {}, "executionTime": "1"}, "wrong_shape"),
    "an executionTime below zero": ("run", 200, {"result": {}, "executionTime": -1}, "wrong_shape"),
    "an executionTime beyond all numbers": ("run", 200, b'{"result": {}, "executionTime": 1e999}', "wrong_shape"),
    "no jobId": ("submit", 202, {"status": "pending"}, "wrong_shape"),
    "an empty jobId": ("submit", 202, {"jobId": "", "status": "pending"}, "wrong_shape"),
    "a jobId that no address can hold": ("submit", 202, {"jobId": "x" * 2000, "status": "pending"}, "wrong_shape"),
    "another job": ("poll", 200, {**DONE, "jobId": "j2"}, "wrong_job"),
    "completed without a result": ("poll", 200, {**DONE, "result": None}, "wrong_shape"),
    "completed without executionTime": ("poll", 200, {**DONE, "executionTime": None}, "wrong_shape"),
    "failed without an error": ("poll", 200, {"jobId": "j1", "status": "failed", "executionTime": 1}, "wrong_shape"),
    "200 for a submit": ("submit", 200, {"jobId": "j1", "status": "pending"}, "unexpected_status"),
    "202 for a run": ("run", 202, {"result": {}, "executionTime": 1}, "unexpected_status"),
    "204": ("run", 204, b"", "unexpected_status"),
    "500": ("run", 500, b"oops", "unexpected_status"),
    "a redirect": ("retrieve", 307, b"", "redirect"),
}


@pytest.mark.parametrize("name", BAD)
def test_any_other_answer_is_failed_with_a_reason(name: str) -> None:
    """Whatever a service sends, it is an outcome with a stable word, never an exception."""
    kind, status, body, reason = BAD[name]
    answer = answered(kind, status, body, "j1")
    assert (answer.outcome, answer.reason) == ("failed", reason)


@pytest.mark.parametrize(
    ("name", "amiss"),
    {
        "a list": "no object",
        "no result": "without result",
        "a result that is no object": "result: expected object, got array",
        "an executionTime below zero": "executionTime: expected float >= 0.0",
        "completed without executionTime": "completed without executionTime",
        "another job": None,
    }.items(),
)
def test_what_is_amiss_with_an_answer_is_named(name: str, amiss: str | None) -> None:
    """Missing keys, or the field that is not as documented; never in the words of the service."""
    kind, status, body, _ = BAD[name]
    assert answered(kind, status, body, "j1").error_code == amiss


def test_every_missing_key_is_named() -> None:
    """Not only the first one."""
    assert answered("run", 200, {"output": {}}).error_code == "without result and executionTime"
    assert answered("poll", 200, {}).error_code == "without jobId and status"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": "no", "code": "rate_limited", "details": {}}, "rate_limited"),
        ({"error": "no"}, None),
        ({"code": 7}, None),
        ({"code": "x" * 5000}, None),
        (b"Too many requests", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_429_is_throttled_whatever_its_body(body: Any, code: str | None) -> None:
    """The status alone throttles; the code is taken from the documented body where there is one."""
    answer = answered("submit", 429, body)
    assert (answer.outcome, answer.reason, answer.error_code) == ("throttled", "throttled", code)


def test_failed_exchanges_keep_their_reason() -> None:
    """A wire's failure is the answer's reason; a time-out is an outcome of its own."""
    cut = HttpExchange(start=1, end=2, status=200, body=b'{"result"', failure="truncated")
    assert (interpret("run", cut).outcome, interpret("run", cut).reason) == ("failed", "truncated")
    late = HttpExchange(start=1, end=2, failure="timeout", timed_out=True)
    assert (interpret("run", late).outcome, interpret("run", late).reason) == ("timed_out", "timeout")


def endpoint_at(port: int, **changes: Any) -> Endpoint:
    """An endpoint with two keys."""
    arguments: dict[str, Any] = {
        "host": f"127.0.0.1:{port}",
        "prefix": "/base",
        "keys": ["key-a", "key-b"],
        "workflow_endpoint": "tests",
        "user_agent": "agent/1 (run x)",
    }
    return Endpoint(Address("127.0.0.1", port), **{**arguments, **changes})


def echo_ok(talk: Any) -> None:
    """Answer every request with an empty run."""
    body = b'{"result": {}, "executionTime": 1}'
    while talk.read():
        talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


def hanging_up_once(talk: Any) -> None:
    """Answer one request, then close a connection that is in use."""
    talk.read()
    body = json.dumps(DONE).encode()
    talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    talk.read()


def answering_jobs(talk: Any) -> None:
    """Answer every request with a completed job."""
    body = json.dumps(DONE).encode()
    while talk.read():
        talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


def test_a_retrieval_is_sent_again_where_an_idle_connection_was_closed(peer: Callable[..., Any]) -> None:
    """Once, on a new connection, in the same time and out of the same budget: no failure of the service's."""
    server = peer(hanging_up_once, answering_jobs)
    endpoint = endpoint_at(server.port)
    client = WorkflowClient(endpoint, Timeouts(10.0))
    answers = [client.get("poll", "j1", 0, TRACE) for _ in range(2)]
    client.connection.close()
    assert [answer.outcome for answer in answers] == ["ok", "ok"]
    assert not answers[1].exchange.reused
    assert answers[1].exchange.connect_ms is not None
    assert len(server.requests) == endpoint.budget.used.requests == 3


def test_a_post_is_never_sent_again(peer: Callable[..., Any]) -> None:
    """It may have been received, and run: its failure has a word of its own, and the server saw it once."""
    server = peer(hanging_up_once, echo_ok)
    client = WorkflowClient(endpoint_at(server.port), Timeouts(10.0))
    client.get("poll", "j1", 0, TRACE)
    answer = client.post("submit", b"{}", 0, TRACE)
    client.connection.close()
    assert (answer.outcome, answer.reason) == ("failed", "hung_up")
    assert [request[:4] for request in server.requests] == [b"GET ", b"POST"]


def test_requests_are_as_documented(peer: Callable[..., Any]) -> None:
    """Path, both headers, traceparent and body of each request, with the key that was asked for."""
    server = peer(echo_ok)
    endpoint = endpoint_at(server.port)
    client = WorkflowClient(endpoint, Timeouts(10.0))
    client.post("run", Bodies("say-hello", {"name": "Jürgen"}).of(0), 1, TRACE)
    client.post("submit", Bodies("echo", {}).of(0), 0, TRACE)
    client.get("poll", "j1", 1, TRACE)
    client.connection.close()
    run, submit, poll = server.requests
    assert run.startswith(b"POST /base/v1/workflows/run HTTP/1.1\r\n")
    assert submit.startswith(b"POST /base/v1/workflows/jobs HTTP/1.1\r\n")
    assert poll.startswith(b"GET /base/v1/workflows/jobs/j1 HTTP/1.1\r\n")
    for request, key in ((run, b"key-b"), (submit, b"key-a"), (poll, b"key-b")):
        head = request.partition(b"\r\n\r\n")[0]
        assert re.findall(rb"\r\nx-api-key: (.*)\r\n", head) == [key]
        assert b"\r\nx-wf-endpoint: tests\r\n" in head
        assert head.endswith(b"\r\ntraceparent: " + TRACE.encode())
    assert json.loads(run.partition(b"\r\n\r\n")[2]) == {"name": "say-hello", "parameters": {"name": "Jürgen"}}


@pytest.mark.parametrize(
    ("job_id", "quoted"),
    [
        ("a/../b", b"a%2F..%2Fb"),
        ("x HTTP/1.1\r\nevil: 1\r\n\r\n", b"x%20HTTP%2F1.1%0D%0Aevil%3A%201%0D%0A%0D%0A"),
        ("?q=1#f", b"%3Fq%3D1%23f"),
        ("%2e%2e", b"%252e%252e"),
        ("ключ\0", b"%D0%BA%D0%BB%D1%8E%D1%87%00"),
    ],
)
def test_a_job_id_stays_within_its_place(peer: Callable[..., Any], job_id: str, quoted: bytes) -> None:
    """An id comes from the service: whatever it holds, it is one segment of the path and adds no header."""
    server = peer(echo_ok)
    client = WorkflowClient(endpoint_at(server.port), Timeouts(10.0))
    client.get("retrieve", job_id, 0, TRACE)
    client.connection.close()
    line, _, rest = server.requests[0].partition(b"\r\n")
    assert line == b"GET /base/v1/workflows/jobs/" + quoted + b" HTTP/1.1"
    assert b"evil" not in rest


def test_headers_of_the_entry_are_sent_with_every_request() -> None:
    """With runs, submits and retrievals, in one line each."""
    endpoint = endpoint_at(1, headers={"x-tenant": "blue", "accept-encoding": "gzip"})
    kinds = (
        endpoint.post("run", b"", 0, TRACE),
        endpoint.post("submit", b"", 1, TRACE),
        endpoint.get("poll", "j", 0, TRACE),
    )
    for request in kinds:
        assert request.count(b"\r\nx-tenant: blue\r\n") == request.count(b"\r\naccept-encoding: gzip\r\n") == 1


def test_nothing_of_a_run_can_add_a_header() -> None:
    """A run's id holds its scenario's file name, and a base URL a path: neither breaks out of its line."""
    endpoint = endpoint_at(1, user_agent="agent (run träffic\r\nevil: 日本)", prefix="/a b\r\nevil: 1")
    request = endpoint.get("retrieve", "j1", 0, TRACE)
    lines = request.decode("ascii").split("\r\n")
    assert lines[0] == "GET /a%20b%0D%0Aevil:%201/v1/workflows/jobs/j1 HTTP/1.1"
    assert [line.partition(":")[0] for line in lines[1:-2]] == [
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "x-api-key",
        "x-wf-endpoint",
        "traceparent",
    ]


@pytest.mark.parametrize("name", ["WORKFLOW_API_KEYS", "WORKFLOW_ENDPOINT"])
def test_credentials_that_no_header_can_carry_are_refused_unseen(name: str) -> None:
    """A line break, a space or a letter beyond ASCII in a key is refused without showing the key."""
    for value in ("s3cret\r\nevil: 1", "s3 cret", "s3crét"):
        with pytest.raises(InputError) as refused:
            credentials({name: value})
        assert "s3" not in str(refused.value)


def test_several_keys_are_read_in_order() -> None:
    """Commas separate keys; blanks around them and empty ones are nothing."""
    assert list(credentials({"WORKFLOW_API_KEYS": " a, b,,c "})[0]) == ["a", "b", "c"]
