"""``loadtest probe`` over real HTTP: the reference API, somebody else's limiter, and servers that cannot be probed."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from leash_parts import loadtest
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from plugins.served import KEYS, Served
from plugins.stubs import UNKNOWN, Answer, Stub

ENVIRONMENT = {"WORKFLOW_API_KEYS": ",".join(KEYS[:2]), "WORKFLOW_ENDPOINT": "tests"}
LIMIT = ("retrieval", "--documented", "retrieval=30/2s")
REFUSED = (429, {"error": "Too many", "code": "rate_limit_exceeded", "details": {}})


def only_finding(host: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """What a probe found, as JSON; its exit code says whether that is sure."""
    done = loadtest("probe", *LIMIT, "--host", host, "--json", *arguments, cwd=folder, **ENVIRONMENT)
    assert not done.stderr
    (found,) = json.loads(done.stdout)
    assert done.returncode == (6 if found["verdict"] == "can't tell" else 0)
    return dict(found)


def stands(found: dict[str, Any], algorithm: str, count: int) -> bool:
    """Whether a limiter is among those that stand; on a busy machine others may stand beside it."""
    return any(
        each["algorithm"] == algorithm and each["count"][0] <= count <= each["count"][1] for each in found["standing"]
    )


def test_the_reference_apis_limiter_stands(serve: Callable[..., Served], tmp_path: Path) -> None:
    """Algorithm, count and scope of the server are found over real HTTP, and its waits are not contradicted."""
    options = ("--limit", "retrieval=30/2s", "--algorithm", "sliding-log", "--retry-after", "seconds")
    api = serve(*options, WORKFLOW_API_KEYS=ENVIRONMENT["WORKFLOW_API_KEYS"])
    found = only_finding(api.url, tmp_path)
    assert stands(found, "sliding-log", 30)
    assert found["scope"] == "key-and-name"
    assert found["requests"] <= 120
    assert found["executed"] == 0
    assert set(found["statuses"]) == {"429"}
    assert "none is contradicted" in found["retry_after"]


def test_somebody_elses_limiter_stands(stub: Callable[..., Stub], tmp_path: Path) -> None:
    """The `limits` package's moving window is a sliding log; keys share it here, and names do."""
    limiter, lock = MovingWindowRateLimiter(MemoryStorage()), threading.Lock()

    def answer(_method: str, _path: str, _number: int) -> Answer:
        with lock:
            return UNKNOWN if limiter.hit(RateLimitItemPerSecond(30, 2)) else REFUSED

    found = only_finding(stub(answer).url, tmp_path)
    assert stands(found, "sliding-log", 30)
    assert found["scope"] == "global"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b"<html>Welcome</html>"), "not with JSON of the Workflow API"),
        ((401, {"error": "No such key", "code": "invalid_api_key"}), "the key was refused with 401"),
    ],
    ids=["another server", "wrong key"],
)
def test_what_cannot_be_probed_is_said(stub: Callable[..., Stub], tmp_path: Path, answer: Answer, words: str) -> None:
    """Exit code 5 after one request, with what to do, and no traceback."""
    server = stub(lambda *_: answer)
    done = loadtest("probe", *LIMIT, "--host", server.url, cwd=tmp_path, **ENVIRONMENT)
    assert done.returncode == 5
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(server.asked) == 1


def test_a_budget_below_the_whole_limit_allows_no_probe(stub: Callable[..., Stub], tmp_path: Path) -> None:
    """The entry's max_share is named before anything is sent."""
    server = stub(lambda *_: UNKNOWN)
    entry = f'[mine]\nurl = "{server.url}"\nenvironment = "test"\nowner = "me"\nmax_share = "50%"\n'
    (tmp_path / "targets.toml").write_text(entry)
    done = loadtest("probe", *LIMIT, "--target", "mine", cwd=tmp_path, **ENVIRONMENT)
    assert done.returncode == 2
    assert "mine.max_share" in done.stderr
    assert not server.asked
