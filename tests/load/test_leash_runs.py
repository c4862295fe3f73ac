"""Whole runs that end early: nothing more is sent, and the report is still made."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugins.leash_parts import ABORTED, write_entry, write_scenario
from plugins.processes import until
from plugins.stubs import Stub, pending_forever
from plugins.verbs import Said

from loadtest.targets import choose

STUBBORN = (500, {"error": "No", "code": "internal", "details": {}})
ABORTS = '[breakers]\nserver_errors = false\n[[threshold]]\ntraffic = "t"\nrequire = "error_rate < 5%"\nabort = true'


def record(folder: Path) -> dict[str, Any]:
    """Return run.json of the latest run."""
    return json.loads((folder / "reports" / "latest" / "run.json").read_text())


def aborted(folder: Path, done: Said) -> str:
    """Check that a run was aborted with its report; gives the reason."""
    assert done.code in ABORTED, done.out + done.err
    info = record(folder)
    assert info["end"] == "aborted"
    assert f"borted: {info['end_reason']}." in " ".join(done.out.split())
    assert (folder / "reports" / "latest" / "report.html").is_file()
    assert "Traceback" not in done.out + done.err
    return str(info["end_reason"])


def test_polls_spend_the_budget_and_nothing_is_sent_beyond_it(loadtest, tmp_path, stub):
    """Preflight, submits, polls: not one more than max_requests; what is left pending is listed with its cost."""
    server = stub(pending_forever)
    write_entry(tmp_path, server.url, "max_share = 1\nmax_requests = 40\nprice_per_execution = 0.25\nmax_cost = 10")
    write_scenario(tmp_path, rate="5/s", seconds=3)
    done = loadtest("run", "s.toml", "--target", "here")
    assert aborted(tmp_path, done) == (
        "the request budget of target 'here' ended the run: all 40 requests that max_requests allows were sent"
    )
    assert len(server.asked) == 40
    info = record(tmp_path)
    jobs = (tmp_path / "reports" / "latest" / "pending_jobs.txt").read_text().splitlines()
    assert all(re.fullmatch(r"job-\d+\t0", line) for line in jobs)
    assert info["pending_jobs"] == len(jobs) > 0
    leash = info["target"]["leash"]
    assert leash["used"]["requests"] == 40
    assert leash["used"]["executions"] == len(jobs) + 1, "the preflight's own job is not the run's"
    assert leash["owner"] == "team-x"
    (left,) = [line for line in done.out.splitlines() if "left pending" in line and "pending_jobs.txt" in line]
    assert left.startswith(f"{len(jobs)} jobs were left pending, listed in reports/")
    assert left.endswith(f"/pending_jobs.txt: they may still cost {len(jobs) * 0.25:g} (0.25 each).")


@pytest.mark.parametrize(("keys", "scope"), [("local-dev-key", "key-and-name"), ("k1,k2", "name")])
def test_polls_stay_within_the_share_of_the_retrieval_limit(offer, tmp_path, stub, keys, scope):
    """The run keeps to a share that no plan can check, because it depends on how long jobs take.

    Keys that share the limit share its share, too.
    """
    server = stub(pending_forever)
    write_entry(tmp_path, server.url, f'max_share = "5%"\nlimit_scope = "{scope}"')
    write_scenario(tmp_path, rate="4/s", seconds=3)
    chosen = choose(None, "here", tmp_path / "targets.toml")
    run = offer((tmp_path / "s.toml").read_text(), chosen=chosen, keys=keys).wait()
    assert run.info.end == "aborted"
    assert "25 requests per 60 s that max_share allows of the retrieval limit" in run.info.end_reason
    assert sum(method == "GET" for method, _, _ in server.asked) == 26


def test_seeding_spends_the_budget_too(loadtest, tmp_path, stub):
    """A run that ends before its epoch is aborted all the same, and knows what it left."""
    server = stub(pending_forever)
    write_entry(tmp_path, server.url, "max_share = 1\nmax_requests = 3")
    write_scenario(tmp_path, operation="retrieval", rate="1/s", seconds=1, more="seed_jobs = 1")
    done = loadtest("run", "s.toml", "--target", "here", "--no-preflight")
    assert "all 3 requests" in aborted(tmp_path, done)
    assert len(server.asked) == 3
    assert record(tmp_path)["pending_jobs"] == 1


@pytest.mark.parametrize(
    ("answer", "operation", "breaker"),
    [
        (pending_forever, "async_run", ("[breakers]\npending_jobs = 5", "more than 5 jobs were pending at once")),
        (
            lambda *_: STUBBORN,
            "sync_run",
            (ABORTS, "a threshold with abort = true failed: t: error_rate < 5%, but it was 100 %"),
        ),
    ],
    ids=["pending", "threshold"],
)
def test_breakers_end_a_run_on_loopback_too(tmp_path, offer, stub, *, answer, operation, breaker):
    """Long before its schedule is over, and what waits is not sent."""
    top, reason = breaker
    server = stub(answer)
    write_scenario(tmp_path, operation=operation, rate="20/s", seconds=30, top=top)
    run = offer((tmp_path / "s.toml").read_text(), server.url).wait()
    assert run.info.end == "aborted"
    assert run.info.end_reason.startswith(reason)
    assert run.info.elapsed_s < 30
    posted = sum(method == "POST" for method, _, _ in server.asked)
    assert posted < 100
    assert posted == sum(row["kind"] != "poll" for row in run.requests)


def test_a_stop_file_ends_a_run(tmp_path: Path, offer: Any, stub: Callable[..., Stub]) -> None:
    """Whoever has no terminal to it can end it."""
    server = stub(pending_forever)
    write_scenario(tmp_path, operation="sync_run", rate="5/s", seconds=60)
    run = offer((tmp_path / "s.toml").read_text(), server.url)
    until(lambda: len(server.asked) >= 4)
    (run.directory / "STOP").touch()
    run.wait()
    assert run.process.returncode == 0
    assert run.info.end == "aborted"
    assert run.info.end_reason.startswith("the stop file ")
