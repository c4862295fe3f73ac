"""The preflight, against real servers and broken ones: at most five requests, and a sentence that says what to do."""

import asyncio
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins.leash_parts import write_scenario
from plugins.peers import Peer, Talk
from plugins.stubs import UNKNOWN, Stub, pending_forever
from plugins.verbs import CARRIED_OUT, Said

from loadtest.contract import REQUESTS, RequestKind
from loadtest.preflight.__main__ import in_seconds
from loadtest.preflight.__main__ import main as look
from loadtest.preflight.client import TargetClient
from loadtest.record.run_info import Preflight
from loadtest.report.__main__ import main as report
from loadtest.scenario import load_scenario
from loadtest.targets import PreflightOrder

SECRET = "not-to-be-shown-anywhere"
Verb = Callable[..., Said]


def table(text: str) -> dict[str, tuple[str, str]]:
    """Result and words of each check, by its name."""
    lines = [line.split(maxsplit=2) for line in text.splitlines()[1:7]]
    return {name: (result, words) for name, result, words in lines}


@pytest.fixture(autouse=True)
def _nobodys_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller's environment holds is not meant for these servers."""
    for name in ("WORKFLOW_API_KEYS", "WORKFLOW_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def looked(folder: Path, url: str) -> Preflight:
    """What a preflight for ``s.toml`` finds, in this process."""
    order = PreflightOrder(url=url, listed=False, scenario=load_scenario(folder / "s.toml").effective)
    return msgspec.json.decode(look(order), type=Preflight)


def test_the_reference_api_passes_every_check(loadtest: Verb, tmp_path: Path, api: str) -> None:
    """The command prints a table of them."""
    write_scenario(tmp_path, operation="sync_run")
    done = loadtest("preflight", "s.toml", "--host", api)
    assert done.code == 0, done.err
    found = table(done.out)
    assert list(found) == ["reachable", "API", "key", "workflow", "answer", "clock"]
    assert {result for result, _ in found.values()} == {"ok"}
    assert done.out.startswith(f"Preflight of {api}: 2 requests.\n")


@pytest.mark.parametrize("operation", ["async_run", "retrieval"])
def test_other_kinds_of_scenarios_pass_every_check(tmp_path: Path, api: str, operation: str) -> None:
    """With one request more: for the job."""
    write_scenario(tmp_path, operation=operation)
    found = looked(tmp_path, api)
    assert [check.name for check in found.checks] == ["reachable", "API", "key", "workflow", "answer", "clock"]
    assert {check.result for check in found.checks} == {"ok"}
    assert len(found.sent) == 3


def test_at_most_five_requests_whatever_the_number_of_keys(loadtest, tmp_path, stub):
    """Three keys are tried, and what was sent carries product, key and endpoint."""
    server = stub(pending_forever)
    write_scenario(tmp_path)
    keys = ",".join(f"{SECRET}{n}" for n in range(9))
    done = loadtest("preflight", "s.toml", "--host", server.url, WORKFLOW_API_KEYS=keys)
    assert done.code == 0, done.err
    assert table(done.out)["key"] == ("ok", "3 of 9 keys tried, none rejected")
    assert len(server.asked) == 5
    assert SECRET not in done.out + done.err
    assert all(headers["user-agent"].startswith("workflow-loadtest/") for _, _, headers in server.asked)
    assert all(headers["x-wf-endpoint"] == "local" for _, _, headers in server.asked)


def test_a_key_that_gets_no_answer_is_not_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stub: Callable[..., Stub]
) -> None:
    """The preflight ends there, and says which key it was."""
    server = stub(lambda *asked: UNKNOWN if asked[-1] == 1 else (-1, {}))
    write_scenario(tmp_path)
    monkeypatch.setenv("WORKFLOW_API_KEYS", f"{SECRET},other")
    failure = looked(tmp_path, server.url).failure
    assert failure is not None
    assert (failure.name, failure.words) == ("key", "key 2 of 2: no answer in HTTP (RemoteProtocolError)")
    assert len(server.asked) == 2


def refuses(status: int, **body: str) -> Callable[..., Any]:
    return lambda *_: (status, {"error": "No", "code": "no", "details": {}, **body})


def after_404(status: int, body: Any) -> Callable[..., Any]:
    """Answers as the API does to an unknown job, and otherwise as given."""
    return lambda method, *_: UNKNOWN if method == "GET" else (status, body)


UNKNOWN_JOB = "API: an unknown job id was answered with "


@pytest.mark.parametrize(
    ("answer", "broken"),
    [
        (refuses(401), ("sync_run", "key: the key was rejected with 401 (no)", "Check WORKFLOW_API_KEYS.")),
        (refuses(403), ("sync_run", "key: the key was rejected with 403 (no)", "Check WORKFLOW_API_KEYS.")),
        (lambda *_: (200, b"<html>hello</html>"),
         ("sync_run", f"{UNKNOWN_JOB}200 instead of 404 with an error body", "check the URL")),
        (lambda *_: (404, b"nothing here"), ("sync_run", f"{UNKNOWN_JOB}404 instead", "URL")),
        (lambda *_: (302, b""), ("sync_run", f"{UNKNOWN_JOB}302 instead", "check the URL")),
        (refuses(503), ("sync_run", f"{UNKNOWN_JOB}503 (no) instead", "check the URL")),
        (after_404(404, {"error": "x", "code": "unknown_workflow"}),
         ("sync_run", "workflow: say-hello was answered with 404 (unknown_workflow)",
          "Check the workflow's name and WORKFLOW_")),
        (after_404(400, {"error": "x", "code": "y"}),
         ("async_run", "was answered with 400 (y)", "Check the parameters")),
        (after_404(200, {"result": {}}),
         ("sync_run", "answer: a run's answer lacks executionTime; it has result", "compare")),
        (after_404(202, {"id": "x"}),
         ("async_run", "answer: a submit's answer lacks jobId and status; it has id", "compare")),
        (after_404(202, {"jobId": "x", "status": "pending"}),
         ("async_run", "answer: retrieval of the new job: 404 (unknown_job)", "compare")),
    ],
)  # fmt: skip
def test_a_target_that_cannot_be_loaded_fails_a_check(monkeypatch, tmp_path, stub, answer, broken):
    """One sentence, and what to do, after at most three requests."""
    operation, says, do = broken
    server = stub(answer)
    write_scenario(tmp_path, operation=operation)
    monkeypatch.setenv("WORKFLOW_API_KEYS", SECRET)
    failure = looked(tmp_path, server.url).failure
    assert says in f"{failure.name}: {failure.words}"
    assert do in failure.remedy
    assert SECRET not in failure.words + failure.remedy
    assert len(server.asked) <= 3


def test_a_check_that_failed_ends_a_run_before_it_begins(loadtest, tmp_path, stub):
    """Exit code 5, the sentence, what to do, and no run directory."""
    server = stub(refuses(401))
    write_scenario(tmp_path, operation="sync_run")
    done = loadtest("run", "s.toml", "--host", server.url, WORKFLOW_API_KEYS=SECRET)
    said = done.out + done.err
    assert done.code == 5
    assert f"loadtest: preflight of {server.url}, key: the key was rejected with 401 (no)" in said
    assert "Check WORKFLOW_API_KEYS." in said
    assert SECRET not in said
    assert not (tmp_path / "reports").exists()


def test_a_server_that_talks_no_http_or_not_at_all_is_unreachable(loadtest, tmp_path, stub):
    """And the table says what it could not look at."""
    server = stub(pending_forever)
    server.close()
    write_scenario(tmp_path)
    done = loadtest("preflight", "s.toml", "--host", server.url)
    assert done.code == 5
    found = table(done.out)
    assert found.pop("reachable") == ("failed", "refuses connections")
    assert set(found.values()) == {("unknown", "not checked")}
    assert re.search(r"Start the server at 127\.0\.0\.1:\d+, or choose another target with --host\.\n$", done.out)


def test_a_limit_that_is_used_up_does_not_fail_it(loadtest: Verb, tmp_path: Path, stub: Callable[..., Stub]) -> None:
    """Two runs in one minute are no mistake."""
    server = stub(refuses(429))
    write_scenario(tmp_path)
    done = loadtest("preflight", "s.toml", "--host", server.url)
    assert done.code == 0
    assert table(done.out)["API"] == ("unknown", "429: the retrieval limit is exhausted")


def test_what_it_sent_is_in_the_record_and_in_the_replay(loadtest, tmp_path, serve):
    """It draws on the limits before the run does: the expected 429s must know of it."""
    write_scenario(tmp_path, operation="sync_run", rate="10/s", seconds=1)
    done = loadtest("run", "s.toml", "--host", serve("--limit", "sync_run=4/1h").url)
    assert done.code in CARRIED_OUT, done.err
    directory = (tmp_path / "reports" / "latest").resolve()
    info = json.loads((directory / "run.json").read_text())
    assert [(sent["kind"], sent["limit"]) for sent in info["preflight"]] == [
        ("retrieve", "retrieval"),
        ("run", "sync_run"),
    ]
    info["target"]["limits"]["sync_run"] = {"count": 4, "window_s": 3600.0}
    (directory / "run.json").write_text(json.dumps(info))
    assert report(["--no-plots", str(directory)]) == done.code
    overall = json.loads((directory / "metrics.json").read_text())["overall"]
    assert overall["operations"]["throttled"] == 7
    assert overall["expected_throttled_rate"] == 0.7


def test_what_is_odd_about_an_answer_is_said_within_the_same_requests(tmp_path, stub):
    """A job state that is not documented is no failure, and costs no further request."""

    def queued(method: str, path: str, *_: Any) -> tuple[int, Any]:
        if method == "GET":
            return (200, {"jobId": "x", "status": "running"}) if path.endswith("/x") else UNKNOWN
        return 202, {"jobId": "x", "status": "queued"}

    server = stub(queued)
    write_scenario(tmp_path, operation="async_run")
    found = looked(tmp_path, server.url)
    assert found.failure is None
    (answer,) = (check for check in found.checks if check.name == "answer")
    assert (answer.result, answer.words) == (
        "unknown", "job state 'queued', 'running' is not documented and counts as pending",
    )  # fmt: skip
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("execution", "took", "found"),
    [(0.25, 0.252, "252 ms"), (250.0, 0.252, None), (0.25, 2.0, None), (0, 0.2, None), (0.02, 0.02, None)],
)
def test_seconds_are_told_from_milliseconds(execution: float, took: float, found: str | None) -> None:
    """An executionTime whose thousandfold is about what the answer took is in seconds."""
    assert in_seconds(execution, took) == found


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_drips_has_an_end(peer: Callable[..., Peer], part: str) -> None:
    """The time is that of the whole exchange: a byte now and then does not make it longer."""

    def drip(talk: Talk) -> None:
        talk.read()
        talk.send(b"HTTP/1.1 200 OK\r\n" + (b"" if part == "head" else b"content-length: 9999\r\n\r\n"))
        while True:
            talk.send(b"x", b"x")

    order = PreflightOrder(url=f"http://127.0.0.1:{peer(drip).port}", listed=False, scenario={})
    reply = asyncio.run(TargetClient(order, "test").ask(REQUESTS[RequestKind.RETRIEVE], SECRET, 0.3))
    assert (reply.late, reply.failure) == (True, "no whole answer within 0.3 s")


def test_a_target_that_needs_longer_than_a_preflight_waits_may_be_loaded(monkeypatch, tmp_path, stub):
    """Where the scenario waits longer, too: the workflow is just not seen to work."""
    monkeypatch.setattr("loadtest.preflight.__main__.LONGEST", 0.3)
    done = threading.Event()

    def slow(method: str, *_: Any) -> tuple[int, Any]:
        if method == "POST":
            done.wait(30)
        return UNKNOWN

    server = stub(slow)
    write_scenario(tmp_path, operation="sync_run", more='timeout = "60s"')
    found = {check.name: check for check in looked(tmp_path, server.url).checks}
    done.set()
    assert found["workflow"].result == "unknown"
    assert found["workflow"].words == "say-hello: no whole answer within 0.3 s; the scenario waits 60 s"


def test_what_a_target_says_is_shown_escaped_and_without_our_keys(monkeypatch, tmp_path, stub):
    """It may echo the key in a job's state."""
    monkeypatch.setenv("WORKFLOW_API_KEYS", SECRET)
    answer = {"jobId": "x", "status": f"{SECRET}\x1b[2J"}

    def echo(method: str, path: str, _: int) -> tuple[int, Any]:
        return (202, answer) if method == "POST" else (200, answer) if path.endswith("/x") else UNKNOWN

    server = stub(echo)
    write_scenario(tmp_path, operation="async_run")
    words = {check.name: check.words for check in looked(tmp_path, server.url).checks}
    assert words["answer"].startswith("job state '[secret]\\x1b[2J'")
