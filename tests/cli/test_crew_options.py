"""``loadtest run`` on several processes, from its command line to its report."""

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from plugins.processes import PATIENCE, Fixture, until
from plugins.records import RunDirectory, runs_in

TEXT = """
title = "Two processes"
seed = 1
drain = "3s"
[target.enforce]
sync_run = "100000/min"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "only", rate = "40/s", duration = "%s" }]
[[threshold]]
traffic = "greetings"
require = "error_rate < 1%%"
"""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--processes", "2", "--master", "--host", "http://127.0.0.1:1"), "exclude each other"),
        (("--bind", "127.0.0.1:5557"), "Add --master"),
        (("--expect-workers", "2"), "Add --master"),
        (("--master",), "--master needs a running target"),
        (("--master", "--bind", "nowhere:port", "--host", "http://127.0.0.1:1"), "not HOST:PORT"),
        (("--processes", "-1"), "--processes"),
    ],
)
def test_what_makes_no_sense_is_refused(loadtest: Fixture, tmp_path: Path, arguments: Any, sentence: str) -> None:
    """A sentence and exit code 2; nothing is recorded."""
    (tmp_path / "s.toml").write_text(TEXT % "1s")
    done = loadtest("run", str(tmp_path / "s.toml"), "--output-dir", str(tmp_path / "out"), *arguments)
    assert done.code == 2
    assert sentence in done.err
    assert not (tmp_path / "out").exists()


def test_a_worker_without_a_master_says_so(loadtest: Fixture) -> None:
    """An invalid address ends the worker at once."""
    done = loadtest("worker", "--master", ":0", "--scenario-dir", ".")
    assert done.code == 2
    assert "not HOST:PORT" in done.err


def test_a_busy_port_is_named(loadtest: Fixture, open_api: Any, tmp_path: Path) -> None:
    """The master cannot listen where the target does."""
    (tmp_path / "s.toml").write_text(TEXT % "1s")
    bound = ":".join(map(str, open_api.address))
    done = loadtest("run", "s.toml", "--host", open_api.url, "--no-preflight", "--master", "--bind", bound)
    assert done.code == 2
    assert f"--bind {bound}: cannot listen there" in done.err
    assert "Traceback" not in done.err


def on_processes(reports: Path) -> tuple[str, ...]:
    """Return the options of a run on two processes."""
    return "--output-dir", str(reports), "--processes", "2"


def running(run: Any, reports: Path, operations: int) -> RunDirectory:
    """Wait until a run has recorded more operations than these."""
    until(lambda: (found := runs_in(reports)) and found[0].epoch and len(found[0].operations) > operations)
    assert run.process.poll() is None, run.complained
    return runs_in(reports)[0]


@pytest.mark.heavy
def test_a_killed_process_makes_a_run_invalid(launch: Fixture, tmp_path: Path) -> None:
    """Exit code 3. The report names a lost worker and its arrivals; of a killed master it shows what was recorded."""
    (tmp_path / "s.toml").write_text(TEXT % "10s")
    (tmp_path / "longer.toml").write_text(TEXT % "300s")

    longer, short = (
        launch("loadtest.cli", "run", str(tmp_path / f"{name}.toml"), *on_processes(tmp_path / name))
        for name in ("longer", "s")
    )

    found = running(short, tmp_path / "s", 20)
    children = psutil.Process(short.process.pid).children(recursive=True)
    workers = [each for each in children if "loadtest.load.distributed" in each.cmdline()]
    workers[0].send_signal(signal.SIGKILL)
    assert short.wait() == 3
    assert "was lost" in short.said
    assert found.check_conservation(lost=True)["lost"] > 0
    report = (found.directory / "report.md").read_text()
    assert "worker" in report
    assert "lost" in report

    found = running(longer, tmp_path / "longer", 60)
    children = psutil.Process(longer.process.pid).children()
    master = next(each for each in children if "loadtest.load" in each.cmdline())
    workers = master.children()
    master.kill()
    assert longer.wait() == 3
    assert not found.info.complete
    assert "incomplete" in (found.directory / "report.md").read_text()
    assert psutil.wait_procs(workers, PATIENCE)[1] == []


@pytest.mark.heavy
def test_runs_on_processes_end_in_a_report_however_they_end(launch: Fixture, tmp_path: Path) -> None:
    """The embedded target and two workers make one record, and a report that names both workers.

    The first signal lets all workers finish their requests, the second ends them at once; both runs are reported.
    """
    runs = {}
    for whole in (True, False):
        workflow = f'"sleep"\nparameters = {{ ms = {100 if whole else 4000} }}\nmax_users = 30'
        (path := tmp_path / f"{whole}.toml").write_text((TEXT % "300s").replace('"say-hello"', workflow))
        runs[whole] = launch("loadtest.cli", "run", str(path), *on_processes(tmp_path / f"{whole}"))
    for whole, run in runs.items():
        reports = tmp_path / f"{whole}"
        until(lambda reports=reports: (found := runs_in(reports)) and found[0].epoch)
        (found,) = runs_in(reports)
        if whole:
            until(lambda found=found: {row["worker"] for row in found.operations} == {1, 2})
        family = run.family()
        for number in [signal.SIGTERM] if whole else [signal.SIGINT, signal.SIGTERM]:
            run.process.send_signal(number)
        assert run.wait() == 130
        assert found.info.complete == whole
        if whole:
            assert found.check_conservation(ragged=True).keys() == {"ok"}
        assert ("interrupted" if whole else "incomplete") in (found.directory / "report.md").read_text()
        assert psutil.wait_procs([each for each in family if each.pid != run.process.pid], PATIENCE)[1] == []

    (tmp_path / "s.toml").write_text(TEXT % "2s")
    run = launch("loadtest.cli", "run", str(tmp_path / "s.toml"), *on_processes(tmp_path / "out"))
    code = run.wait()
    (found,) = runs_in(tmp_path / "out")
    assert found.check_conservation() == {"ok": 80}
    assert code in {0, 3}, run.complained  # a machine that is busy may have sent late
    assert found.info.workers == 2
    assert "2 workers" in (found.directory / "report.md").read_text()
