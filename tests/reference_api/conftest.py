"""The reference API as it is used, every answer held against its own document."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from faulty_server import Faulty
from openapi_answers import problems
from plugins.served import KEYS, NO_LIMITS, Served

UNDOCUMENTED = {"--answer", "--fault", "--pending-execution-time"}
"""Options that make a server answer otherwise than its document says."""


class Documented(Served):
    """A server whose clients hold each answer against ``openapi.yaml``, unless it was told to answer otherwise."""

    def client(self, key: str | None = KEYS[0], endpoint: str | None = "tests") -> httpx.Client:
        """A keep-alive client that sends these headers."""
        client = super().client(key, endpoint)
        if not UNDOCUMENTED & set(self.process.args):
            client.event_hooks = {"response": [_documented]}
        return client


def _documented(response: httpx.Response) -> None:
    request = response.request
    wrong = problems(request.method, request.url.path, response.status_code, dict(response.headers), response.read())
    assert not wrong, f"openapi.yaml and the server disagree: {wrong}\n{response.text[:1000]}"


Launch = Callable[..., Served]


@pytest.fixture(scope="session")
def launch(launch: Launch) -> Launch:
    """Start servers with two keys; each must exit with 0 at its end, and must have printed no traceback."""
    return lambda *arguments, **options: launch(*arguments, kind=Documented, **options)


@pytest.fixture(scope="session")
def server(launch: Launch) -> Served:
    """A server without limits that matter, for what doesn't need one of its own."""
    return launch(*NO_LIMITS)


@pytest.fixture(scope="session")
def expect_error() -> Callable[[httpx.Response, int, str], dict[str, Any]]:
    """Check that an answer is the documented error with this status and code; gives its details."""

    def check(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
        assert (response.status_code, response.json().get("code")) == (status, code), response.text
        body = response.json()
        assert set(body) == {"error", "code", "details"}
        assert isinstance(body["error"], str)
        assert isinstance(body["details"], dict)
        assert "Traceback" not in response.text
        assert ".py" not in response.text
        assert response.headers["content-type"] == "application/json"
        assert "date" in response.headers
        details: dict[str, Any] = body["details"]
        return details

    return check


@pytest.fixture(scope="session")
def one_faulty(launch: Launch) -> Iterator[Faulty]:
    """A server whose faults can be set; made once, since each test sets its own."""
    faulty = Faulty(launch("--control-port", "0", "--workers", "2", *NO_LIMITS))
    yield faulty
    faulty.set()
    faulty.close()


@pytest.fixture
def faulty(one_faulty: Faulty) -> Faulty:
    """The server without a fault, seen to work."""
    one_faulty.set()
    answer = one_faulty.run(n=1)
    assert answer.json()["result"] == {"n": 1}
    assert not [name for name in answer.headers if name.startswith("x-loadtest")]
    return one_faulty
