"""Limits as a client meets them. No assertion depends on the second in which a test starts."""

from collections import Counter
from typing import Any

import httpx
import pytest

RUN, JOBS = "/v1/workflows/run", "/v1/workflows/jobs"
HELLO = {"name": "say-hello"}


def statuses(responses: list[httpx.Response]) -> Counter[int]:
    return Counter(response.status_code for response in responses)


@pytest.fixture(scope="module")
def small(launch: Any) -> Any:
    """At most 4 runs a minute; a test may meet one boundary, so 8 may pass at most."""
    return launch("--limit", "sync_run=4/60s", "--limit", "async_submit=3/60s", "--limit", "retrieval=2/60s")


def test_more_than_the_limit_is_429_without_retry_after(small: Any, expect_error: Any) -> None:
    """Of 9 runs at least 4 and at most 8 pass; the others are 429 with the documented body and no hint by default."""
    client = small.client(key="alpha")
    responses = [client.post(RUN, json=HELLO) for _ in range(9)]
    assert set(statuses(responses)) == {200, 429}
    assert 4 <= statuses(responses)[200] <= 8
    rejected = next(response for response in responses if response.status_code == 429)
    assert expect_error(rejected, 429, "rate_limit_exceeded") == {"limit": "sync_run", "allowed": "4/60s"}
    assert "retry-after" not in rejected.headers


def test_limits_are_apart_by_name_and_by_key(launch: Any) -> None:
    """Using up one limit leaves the key's other limits, and the other key's same limit, untouched."""
    served = launch("--limit", "sync_run=1/1h", "--limit", "async_submit=1/1h", "--limit", "retrieval=1/1h")
    alpha, beta = served.client(key="alpha"), served.client(key="beta")
    while alpha.post(RUN, json=HELLO).status_code != 429:
        pass
    assert beta.post(RUN, json=HELLO).status_code == 200
    assert alpha.post(JOBS, json=HELLO).status_code == 202
    assert alpha.get(JOBS + "/x").status_code == 404


def test_what_is_refused_before_the_limit_draws_nothing(launch: Any) -> None:
    """Bad keys, missing endpoints, wrong routes and methods leave the allowance whole."""
    served = launch("--limit", "sync_run=1/1h")
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
def test_what_is_refused_after_the_limit_draws_on_it(
    small: Any, method: str, path: str, body: bytes, status: int
) -> None:
    """Bad bodies, unknown workflows and unknown jobs cost a request like any other."""
    client = small.client(key="beta")
    responses = [client.request(method, path, content=body) for _ in range(9)]
    assert set(statuses(responses)) == {status, 429}


def test_an_allowance_comes_back(launch: Any, until: Any) -> None:
    """With a window of 1 s, a key that was rejected passes again."""
    client = launch("--limit", "sync_run=2/1s").client()
    until(lambda: client.post(RUN, json=HELLO).status_code == 429)
    until(lambda: client.post(RUN, json=HELLO).status_code == 200)


def test_no_second_sees_more_than_its_limit(launch: Any, until: Any) -> None:
    """Over some windows of 1 s, no second of the server's own `Date` sees more than 3 accepted."""
    client = launch("--limit", "retrieval=3/1s").client()
    accepted: Counter[str] = Counter()

    def ask() -> bool:
        response = client.get(JOBS + "/x")
        if response.status_code == 404:
            accepted[response.headers["date"]] += 1
        return len(accepted) >= 3

    until(ask)
    assert max(accepted.values()) == 3


def test_retry_after_can_be_switched_on(launch: Any, until: Any) -> None:
    """It is a whole number of seconds, at least 1, that reaches the end of the window."""
    client = launch("--limit", "sync_run=1/60s", "--retry-after", "seconds").client()
    rejected: httpx.Response = until(lambda: (r := client.post(RUN, json=HELLO)).status_code == 429 and r)
    assert 1 <= int(rejected.headers["retry-after"]) <= 60
