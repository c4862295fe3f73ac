"""``loadtest probe`` over real HTTP: the reference API, and servers that cannot be probed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from plugins import workers
from plugins.peers import Peer, resets
from plugins.served import KEYS, Served
from plugins.stubs import UNKNOWN, Answer, Stub
from plugins.verbs import Said

from loadtest.limits.probing.results import PROBE_FILE, PROBE_SCHEMA, LimitFinding, ProbeResult
from loadtest.record.run_directory import read_versioned

ENVIRONMENT = {"WORKFLOW_API_KEYS": ",".join(KEYS[:2]), "WORKFLOW_ENDPOINT": "tests"}
Verb = Callable[..., Said]
LIMIT = ("retrieval", "--documented", "retrieval=30/2s")


def only_finding(loadtest: Verb, host: str, folder: Path) -> LimitFinding:
    """Return a probe's finding from its probe.json; the exit code and the page have to match."""
    done = loadtest("probe", *LIMIT, "--host", host, "--output-dir", folder, **ENVIRONMENT)
    assert not done.err
    place = max(folder.iterdir())
    (found,) = read_versioned(place / PROBE_FILE, ProbeResult, PROBE_SCHEMA).findings
    assert done.code == (0 if found.stated else 6)
    page = (place / "probe.html").read_text()
    assert found.verdict in done.out
    assert f"{sum(each.passed for each in found.bursts)} of {sum(each.sent for each in found.bursts)} requests" in page
    assert all(each.limiter in page for each in found.fits)
    return found


def stands(found: LimitFinding, algorithm: str, count: int) -> bool:
    """Whether a limiter stands; on a busy machine other limiters may stand as well."""
    return any(each.algorithm == algorithm and each.count[0] <= count <= each.count[1] for each in found.standing)


def test_the_reference_apis_limiter_stands(serve: Callable[..., Served], loadtest: Verb, tmp_path: Path) -> None:
    """The server's algorithm and count stand after a probe over real HTTP, and its waits are not contradicted.

    No wrong scope is stated. The findings are in probe.json, and each limiter's fit is on the page.
    """
    options = ("--limit", "retrieval=30/2s", "--algorithm", "sliding-log", "--retry-after", "seconds")
    api = serve(*options, WORKFLOW_API_KEYS=ENVIRONMENT["WORKFLOW_API_KEYS"])
    found = only_finding(loadtest, api.url, tmp_path)
    if not stands(found, "sliding-log", 30):
        # Beside other tests answers may come too late to tell anything.
        assert found.why
        with workers.alone():
            found = only_finding(loadtest, api.url, tmp_path / "alone")
    assert stands(found, "sliding-log", 30)
    assert found.scope in {None, "key-and-name"}
    assert found.requests <= 5.5 * 30
    assert found.executed == 0
    assert set(found.statuses) == {429}
    assert "none is contradicted" in found.retry_after


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b"<html>Welcome</html>"), "200 instead of JSON of the Workflow API"),
        ((401, {"error": "No such key", "code": "invalid_api_key"}), "the key was rejected with 401"),
    ],
    ids=["another server", "wrong key"],
)
def test_what_cannot_be_probed_is_said(stub: Callable[..., Stub], loadtest: Verb, answer: Answer, words: str) -> None:
    """Exit code 5 after one request, with what to do, and no traceback."""
    server = stub(lambda *_: answer)
    done = loadtest("probe", *LIMIT, "--host", server.url, **ENVIRONMENT)
    assert done.code == 5
    assert words in done.err
    assert "Traceback" not in done.err
    assert len(server.asked) == 1


def test_a_dead_host_and_one_that_resets_are_named(peer: Callable[..., Peer], loadtest: Verb) -> None:
    """Exit code 5 and a sentence of each; nothing listens on port 9 of the loopback."""
    done = loadtest("probe", *LIMIT, "--host", "http://127.0.0.1:9", **ENVIRONMENT)
    assert (done.code, done.err.splitlines()[0]) == (5, "loadtest: http://127.0.0.1:9 refuses connections")
    resetting = peer(resets)
    done = loadtest("probe", *LIMIT, "--host", f"http://127.0.0.1:{resetting.port}", **ENVIRONMENT)
    assert (done.code, done.err.splitlines()[0]) == (5, "loadtest: a request got no answer: the connection was reset")
    assert len(resetting.requests) == 1


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (
            'max_share = "50%"',
            (
                "mine.max_share allows 50 % of each limit, but a probe exhausts it\n"
                "  Ask me whether you may set max_share to 100 %.\n"
            ),
        ),
        (
            'max_share = "100%"\nmax_requests = 30',
            "mine.max_requests is 30, but at least 31 are planned\n  Probe fewer limits at a time.\n",
        ),
    ],
)
def test_a_budget_below_the_whole_limit_allows_no_probe(
    stub: Callable[..., Stub], tmp_path: Path, loadtest: Verb, budget: str, said: str
) -> None:
    """The key and a remedy that a probe has are named before anything is sent."""
    server = stub(lambda *_: UNKNOWN)
    entry = f'[mine]\nurl = "{server.url}"\nenvironment = "test"\nowner = "me"\n{budget}\n'
    (tmp_path / "targets.toml").write_text(entry)
    done = loadtest("probe", *LIMIT, "--target", "mine", **ENVIRONMENT)
    assert done.code == 2
    assert done.err.endswith(said)
    assert not server.asked
