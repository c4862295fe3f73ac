"""What answers tell of a limit, in each form that can be asked for. Limits here know no boundary of the clock."""

import re
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

RUN, JOBS = "/v1/workflows/run", "/v1/workflows/jobs"
HELLO = {"name": "say-hello"}
LOG = ("--algorithm", "sliding-log")


def exceed(client: httpx.Client) -> httpx.Response:
    """Two runs, of which the second is one too many."""
    assert client.post(RUN, json=HELLO).status_code == 200
    rejected = client.post(RUN, json=HELLO)
    assert rejected.status_code == 429
    return rejected


def ahead(response: httpx.Response) -> float:
    """How many seconds after its own Date an answer's Retry-After is."""
    when = (parsedate_to_datetime(response.headers[name]) for name in ("retry-after", "date"))
    return (next(when) - next(when)).total_seconds()


@pytest.mark.parametrize(
    ("factor", "least", "most"), [("1", 3500, 3600), ("2", 7000, 7200), ("0.5", 1750, 1800), ("0", 0, 0)]
)
def test_retry_after_in_seconds_can_be_off_by_a_factor(in_process, factor, least, most):
    """A whole number, rounded up, until the first request has been there for an hour; too late, too early, at once."""
    options = ("--limit", "sync_run=1/1h", "--retry-after", "seconds", "--retry-after-factor", factor)
    told = exceed(in_process(*LOG, *options).client()).headers["retry-after"]
    assert re.fullmatch(r"\d+", told)
    assert least <= int(told) <= most


def test_retry_after_as_a_date_is_honest(in_process: Any) -> None:
    """An HTTP date that lies as far ahead of the answer's own as the limiter needs, rounded up."""
    rejected = exceed(in_process(*LOG, "--limit", "sync_run=1/1h", "--retry-after", "date").client())
    assert rejected.headers["retry-after"].endswith(" GMT")
    assert 3500 < ahead(rejected) <= 3601


def test_answers_that_drew_tell_of_the_limit(in_process: Any) -> None:
    """With x-ratelimit: limit, remaining, seconds until all is whole; in 200s, errors and 429s, each for its limit."""
    options = ("--limit", "sync_run=3/1h", "--limit", "retrieval=7/30min", "--rate-headers", "x-ratelimit")
    client = in_process(*LOG, *options).client()
    answers = [client.post(RUN, json=HELLO), client.post(RUN, content=b"{"), *(client.post(RUN) for _ in range(2))]
    assert [answer.status_code for answer in answers] == [200, 400, 400, 429]
    assert [answer.headers["x-ratelimit-limit"] for answer in answers] == ["3"] * 4
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert all(3500 < int(answer.headers["x-ratelimit-reset"]) <= 3600 for answer in answers)
    retrieval = client.get(JOBS + "/x").headers
    assert (retrieval["x-ratelimit-limit"], retrieval["x-ratelimit-remaining"]) == ("7", "6")


def test_answers_that_drew_on_nothing_tell_nothing(in_process: Any) -> None:
    """Without a key, off the routes, and where only valid requests draw, there is no state to tell of."""
    served = in_process(*LOG, "--rate-headers", "x-ratelimit", "--draws", "valid")
    answers = [served.client(key="nobody").post(RUN), served.client().get("/nowhere"), served.client().get("/healthz")]
    answers.append(served.client().post(RUN, content=b"{"))
    assert [answer.status_code for answer in answers] == [401, 404, 200, 400]
    assert not any(name.startswith("x-ratelimit") for answer in answers for name in answer.headers)
    assert "x-ratelimit-limit" in served.client().post(RUN, json=HELLO).headers


def test_the_ietf_drafts_pair(in_process: Any) -> None:
    """One policy with quota and window, and its remaining requests and seconds, as structured fields."""
    client = in_process(*LOG, "--limit", "sync_run=2/1min", "--rate-headers", "ietf").client()
    answers = [client.post(RUN, json=HELLO) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit-policy"] for answer in answers] == ['"default";q=2;w=60'] * 3
    told = [re.fullmatch(r'"default";r=(\d);t=(\d+)', answer.headers["ratelimit"]) for answer in answers]
    assert [match and match[1] for match in told] == ["1", "0", "0"]
    assert all(match and 0 < int(match[2]) <= 60 for match in told)


def test_a_concurrency_limit_is_told_in_its_own_unit(in_process: Any) -> None:
    """It has neither window nor time; a second is what its 429s guess."""
    options = ("--algorithm", "concurrency", "--limit", "sync_run=2/1s", "--rate-headers", "ietf")
    answer = in_process(*options).client().post(RUN, json=HELLO)
    assert answer.headers["ratelimit-policy"] == '"default";q=2;qu="concurrent-requests"'
    assert answer.headers["ratelimit"] == '"default";r=1'
