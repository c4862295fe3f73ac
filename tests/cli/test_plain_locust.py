"""Plain ``locust`` in the checkout: the same runs, under Locust's own command line and exit codes."""

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fixture = Callable[..., Any]

LIMITED = """
title = "A limit of %s a second"
seed = 1
drain = "3s"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "only", rate = "40/s", duration = "1s"%s }]
"""


@pytest.fixture
def locust(launch: Fixture, tmp_path: Path) -> Fixture:
    """Start `locust --headless` with a scenario's text against a URL."""

    def start(text: str, url: str, *arguments: str, **environment: str) -> Any:
        path = tmp_path / f"plain{len(list(tmp_path.glob('plain*')))}.toml"
        path.write_text(text)
        variables = {
            "LOADTEST_SCENARIO": str(path),
            "LOADTEST_OUTPUT_DIR": str(tmp_path / "out"),
            "LOADTEST_PREFLIGHT": "0",
            **environment,
        }
        return launch("locust", "--headless", "--host", url, *arguments, **variables)

    return start


def test_it_runs_the_scenario_and_records_it(locust: Fixture, open_api: Any, runs_in: Fixture, tmp_path: Path) -> None:
    """Exit code 0, a whole record, the scenario's number of arrivals, and Locust's own table with fixed names.

    Async runs are not in its total: their requests are.
    """
    text = LIMITED % ("no", "") + (
        '[traffic.jobs]\noperation = "async_run"\nworkflow = "echo"\npolling = { interval = "50ms", give_up = "5s" }\n'
        'stages = [{ name = "only", rate = "20/s", duration = "1s" }]\n'
    )
    run = locust(text, open_api.url, "--csv", str(tmp_path / "csv"), "--csv-full-history")
    assert run.wait() == 0, run.complained
    (found,) = runs_in(tmp_path / "out")
    found.check_conservation()
    assert [row["outcome"] for row in found.operations] == ["ok"] * 60
    rows = (tmp_path / "csv_stats.csv").read_text().splitlines()
    counts = {tuple(row.split(",")[:2]): int(row.split(",")[2]) for row in rows[1:]}
    total, runs, polls = counts.pop(("", "Aggregated")), counts.pop(("async_run", "jobs")), counts[("poll", "jobs")]
    assert counts == {("run", "greetings"): 40, ("submit", "jobs"): 20, ("poll", "jobs"): polls}
    assert (total, runs) == (60 + polls, 20)
    assert "Traceback" not in run.complained


def test_an_expected_429_is_no_failure_and_another_one_is(
    locust: Fixture, serve: Fixture, runs_in: Fixture, tmp_path: Path
) -> None:
    """Where a 429 is expected Locust counts none as failed; where not, each is. The exit code is the verdict's."""
    text = (
        'title = "t"\ndrain = "3s"\n[[threshold]]\ntraffic = "jobs"\nrequire = "throttled_rate %s"\n'
        '[traffic.jobs]\noperation = "async_run"\nworkflow = "echo"\n'
        'stages = [{ name = "within", rate = "8/s", duration = "1s"%s }]\n'
    )
    runs = [
        locust(text % more, serve("--limit", "async_submit=3/1h").url, LOADTEST_OUTPUT_DIR=str(tmp_path / name))
        for name, more in (("expected", ("> 0", ", expect = [429]")), ("not", ("== 0", "")))
    ]
    assert [run.wait() for run in runs] == [0, 1], runs[0].complained
    for name in ("expected", "not"):
        (found,) = runs_in(tmp_path / name)
        assert [row["outcome"] for row in found.operations].count("throttled") == 5
    assert re.search(r"5\s+submit jobs 429: .*429 rate_limit_exceeded", runs[1].said + runs[1].complained)


def test_names_of_ours_are_names_for_traffic_too(
    locust: Fixture, open_api: Any, runs_in: Fixture, tmp_path: Path
) -> None:
    """Entries named like what the file itself uses run like any other."""
    text = 'title = "t"\ndrain = "1s"\n' + "".join(
        f'[traffic.{name}]\noperation = "sync_run"\nworkflow = "echo"\n'
        'stages = [{ name = "s", rate = "10/s", duration = "500ms" }]\n'
        for name in ("locust", "Engine", "Path", "logging", "WholePool")
    )
    run = locust(text, open_api.url)
    assert run.wait() == 0, run.complained
    (found,) = runs_in(tmp_path / "out")
    assert len(found.operations) == 25


def test_stopping_it_early_is_an_interrupted_run(
    locust: Fixture, open_api: Any, runs_in: Fixture, until: Fixture, tmp_path: Path
) -> None:
    """Ctrl-C or SIGTERM ends Locust; every arrival that was offered has an outcome."""
    text, url = (LIMITED % ("no", "")).replace('"1s"', '"60s"'), open_api.url
    runs = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        runs[number] = locust(text, url, LOADTEST_OUTPUT_DIR=str(tmp_path / number.name))
    for number, run in runs.items():
        until(lambda number=number: (all_ := runs_in(tmp_path / number.name)) and all_[0].info.epoch_unix_ns)
        run.process.send_signal(number)
    for number, run in runs.items():
        run.wait()
        (found,) = runs_in(tmp_path / number.name)
        found.check_conservation()
        assert found.info.end == "interrupted"


@pytest.mark.parametrize(
    ("text", "url", "sentence"),
    [
        ("", "http://192.0.2.1", "loopback"),
        ("title = 5", "http://127.0.0.1:1", "title"),
    ],
    ids=["not loopback", "bad scenario"],
)
def test_what_it_refuses(locust: Fixture, tmp_path: Path, *, text: str, url: str, sentence: str) -> None:
    """A sentence and exit code 2 instead of a traceback, and nothing is recorded."""
    run = locust(text or LIMITED % ("no", ""), url)
    assert run.wait() == 2
    assert sentence in run.complained
    assert "Traceback" not in run.complained
    assert not (tmp_path / "out").exists()


def test_a_key_that_no_header_can_carry_is_refused_unseen(locust: Fixture) -> None:
    """The sentence names the variable, not its value."""
    run = locust(LIMITED % ("no", ""), "http://127.0.0.1:1", WORKFLOW_API_KEYS="s3cret key")
    assert run.wait() == 2
    assert "WORKFLOW_API_KEYS" in run.complained
    assert "s3cret" not in run.complained + run.said


def test_a_run_that_cannot_begin_ends_locust(locust: Fixture, open_api: Any, tmp_path: Path) -> None:
    """Seeding refused, or nowhere to write: a sentence and our exit code, not a test without load that never ends."""
    text = (
        'title = "t"\n[traffic.looks]\noperation = "retrieval"\nworkflow = "no-such"\n'
        'stages = [{ name = "s", rate = "10/s", duration = "1s" }]\n'
    )
    url = open_api.url
    run = locust(text, url)
    assert run.wait() == 5
    assert "could not be seeded" in run.complained
    (tmp_path / "file").write_text("")
    run = locust(LIMITED % ("no", ""), url, LOADTEST_OUTPUT_DIR=str(tmp_path / "file"))
    assert run.wait() == 2
    assert "cannot make a run directory" in run.complained
