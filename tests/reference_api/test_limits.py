"""Limits as a client meets them. No assertion depends on the second in which a test starts."""

from collections import Counter
from typing import Any

import httpx
import pytest
from plugins.openapi_answers import expect_error
from plugins.processes import until

RUN, JOBS = "/v1/workflows/run", "/v1/workflows/jobs"
HELLO = {"name": "say-hello"}


def statuses(responses: list[httpx.Response]) -> Counter[int]:
    return Counter(response.status_code for response in responses)


@pytest.fixture
def small(in_process: Any) -> Any:
    """At most 4 runs a minute; a test may meet one boundary, so 8 may pass at most."""
    return in_process("--limit", "sync_run=4/60s", "--limit", "async_submit=3/60s", "--limit", "retrieval=2/60s")


def test_more_than_the_limit_is_429_without_retry_after(small: Any) -> None:
    """Of 9 runs at least 4 and at most 8 pass; the others are 429 with the documented body and no hint by default."""
    client = small.client(key="alpha")
    responses = [client.post(RUN, json=HELLO) for _ in range(9)]
    assert set(statuses(responses)) == {200, 429}
    assert 4 <= statuses(responses)[200] <= 8
    rejected = next(response for response in responses if response.status_code == 429)
    assert expect_error(rejected, 429, "rate_limit_exceeded") == {"limit": "sync_run", "allowed": "4/60s"}
    assert "retry-after" not in rejected.headers


def test_limits_are_apart_by_name_and_by_key(in_process: Any) -> None:
    """Using up one limit leaves the key's other limits, and the other key's same limit, untouched."""
    served = in_process("--limit", "sync_run=1/1h", "--limit", "async_submit=1/1h", "--limit", "retrieval=1/1h")
    alpha, beta = served.client(key="alpha"), served.client(key="beta")
    while alpha.post(RUN, json=HELLO).status_code != 429:
        pass
    assert beta.post(RUN, json=HELLO).status_code == 200
    assert alpha.post(JOBS, json=HELLO).status_code == 202
    assert alpha.get(JOBS + "/x").status_code == 404


def test_what_is_refused_before_the_limit_draws_nothing(in_process: Any) -> None:
    """Bad keys, missing endpoints, wrong routes and methods leave the allowance whole."""
    served = in_process("--limit", "sync_run=1/1h")
    client = served.client()
    for _ in range(3):
        assert served.client(key="nobody").post(RUN, json=HELLO).status_code == 401
        assert served.client(endpoint=None).post(RUN, json=HELLO).status_code == 400
        assert client.get(RUN).status_code == 405
        assert client.post(RUN + "/x", json=HELLO).status_code == 404
    assert client.post(RUN, json=HELLO).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [("POST", RUN, b"{", 400), ("POST", JOBS, b'{"name":"nope"}', 404), ("GET", JOBS + "/x", b"", 404)],
)
def test_what_is_refused_after_the_limit_draws_on_it(small, method, path, body, status):
    """Bad bodies, unknown workflows and unknown jobs cost a request like any other."""
    client = small.client(key="beta")
    responses = [client.request(method, path, content=body) for _ in range(9)]
    assert set(statuses(responses)) == {status, 429}


def test_an_allowance_comes_back(in_process: Any) -> None:
    """With a window of 1 s, a key that was rejected passes again."""
    client = in_process("--limit", "sync_run=2/1s").client()
    until(lambda: client.post(RUN, json=HELLO).status_code == 429)
    until(lambda: client.post(RUN, json=HELLO).status_code == 200)


def test_no_second_sees_more_than_its_limit(in_process: Any) -> None:
    """Over some windows of 1 s, no second of the server's own `Date` sees more than 3 accepted."""
    client = in_process("--limit", "retrieval=3/1s").client()
    accepted: Counter[str] = Counter()

    def ask() -> bool:
        response = client.get(JOBS + "/x")
        if response.status_code == 404:
            accepted[response.headers["date"]] += 1
        return len(accepted) >= 3

    until(ask)
    assert max(accepted.values()) == 3


LOG = ("--algorithm", "sliding-log")
"""An algorithm that knows no boundary: what these tests count doesn't depend on the second in which they start."""


def test_one_limit_for_all_requests_of_a_key(in_process: Any) -> None:
    """With the scope `key`, its runs, submits and retrievals draw on one limit, and another key's on another."""
    served = in_process(*LOG, "--limit-scope", "key", "--limit", "all=3/1h")
    alpha, beta = served.client(key="alpha"), served.client(key="beta")
    assert alpha.post(RUN, json=HELLO).status_code == 200
    assert alpha.post(JOBS, json=HELLO).status_code == 202
    assert alpha.get(JOBS + "/x").status_code == 404
    for rejected in (alpha.post(RUN, json=HELLO), alpha.post(JOBS, json=HELLO), alpha.get(JOBS + "/x")):
        assert expect_error(rejected, 429, "rate_limit_exceeded") == {"limit": "all", "allowed": "3/3600s"}
    assert beta.post(RUN, json=HELLO).status_code == 200


def test_one_limit_for_all_keys(in_process: Any) -> None:
    """With the scope `name`, the keys share each limit, and the limits are apart."""
    served = in_process(*LOG, "--limit-scope", "name", "--limit", "sync_run=2/1h")
    alpha, beta = served.client(key="alpha"), served.client(key="beta")
    assert [client.post(RUN, json=HELLO).status_code for client in (alpha, beta)] == [200, 200]
    for client in (alpha, beta):
        details = expect_error(client.post(RUN, json=HELLO), 429, "rate_limit_exceeded")
        assert details == {"limit": "sync_run", "allowed": "2/3600s"}
        assert client.post(JOBS, json=HELLO).status_code == 202


def test_one_limit_for_everything(in_process: Any) -> None:
    """With the scope `global`, there is one for all requests of all keys."""
    served = in_process(*LOG, "--limit-scope", "global", "--limit", "all=2/1h")
    alpha, beta = served.client(key="alpha"), served.client(key="beta")
    assert alpha.post(RUN, json=HELLO).status_code == 200
    assert beta.post(JOBS, json=HELLO).status_code == 202
    assert alpha.get(JOBS + "/x").status_code == beta.post(RUN, json=HELLO).status_code == 429


@pytest.mark.parametrize(
    ("options", "passed"),
    [(("token-bucket", "--burst", "2"), [2, 0]), (("gcra",), [1, 0]), (("concurrency",), [9, 9])],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_other_algorithms_can_be_served(in_process: Any, options: tuple[str, ...], passed: list[int]) -> None:
    """Of 9 runs at 5 an hour a bucket lets its burst pass; one after the other, a concurrency limit lets all."""
    client = in_process("--limit", "sync_run=5/1h", "--algorithm", *options).client()
    assert [statuses([client.post(RUN, json=HELLO) for _ in range(9)])[200] for _ in passed] == passed


def test_rejected_requests_can_be_counted(in_process: Any) -> None:
    """A debt of two tokens, of which each is worth half an hour, is told by the time until one more passes."""
    options = (
        "--limit",
        "sync_run=2/1h",
        "--algorithm",
        "token-bucket",
        "--count-rejected",
        "--retry-after",
        "seconds",
    )
    client = in_process(*options).client()
    answers = [client.post(RUN, json=HELLO) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429]
    told = [int(answer.headers["retry-after"]) for answer in answers[2:]]
    assert [round(each / 1800) for each in told] == [2, 3, 3]


def test_only_valid_requests_draw_where_that_is_asked_for(in_process: Any) -> None:
    """Bad bodies, unknown workflows, parameters and jobs leave the allowance whole, and are told before the 429."""
    limits = [part for name in ("sync_run", "async_submit", "retrieval") for part in ("--limit", f"{name}=1/1h")]
    client = in_process(*LOG, *limits, "--draws", "valid").client()

    def refuse() -> None:
        for path in (RUN, JOBS):
            expect_error(client.post(path, content=b"{"), 400, "invalid_json")
            expect_error(client.post(path, json={"name": "nope"}), 404, "unknown_workflow")
            body = {"name": "sleep", "parameters": {"ms": "long"}}
            expect_error(client.post(path, json=body), 400, "invalid_parameters")
        expect_error(client.get(JOBS + "/x"), 404, "unknown_job")

    refuse()
    assert client.post(RUN, json=HELLO).status_code == 200
    job = client.post(JOBS, json=HELLO).json()["jobId"]
    assert client.get(f"{JOBS}/{job}").status_code == 200
    for rejected in (client.post(RUN, json=HELLO), client.post(JOBS, json=HELLO), client.get(f"{JOBS}/{job}")):
        expect_error(rejected, 429, "rate_limit_exceeded")
    refuse()


def test_a_submit_without_room_draws_only_where_all_do(in_process: Any) -> None:
    """Where only valid requests draw, a full queue costs nothing; else it costs a request as any other."""
    for draws, then in (("valid", [503, 503, 503]), ("all", [503, 429, 429])):
        served = in_process(*LOG, "--limit", "async_submit=2/1h", "--workers", "1", "--queue", "0", "--draws", draws)
        client = served.client()
        assert client.post(JOBS, json={"name": "sleep", "parameters": {"ms": 20_000}}).status_code == 202
        assert [client.post(JOBS, json=HELLO).status_code for _ in range(3)] == then
