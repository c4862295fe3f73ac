"""``loadtest run`` as a process: what it leaves behind, however it ends, and what it never shows."""

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from plugins.launched import metrics_at
from plugins.processes import Fixture, until
from plugins.records import runs_in
from plugins.verbs import CARRIED_OUT

from loadtest.prepare import endpoint_digest

ROOT = Path(__file__).parents[2]
MARKER = "s3cr3t-marker-0451"


@pytest.fixture
def shipped(loadtest: Fixture, tmp_path: Path) -> Fixture:
    """Run one of the scenarios that are shipped, in this process."""
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    return lambda *arguments: loadtest("run", *arguments, "--output-dir", str(tmp_path / "out"))


def begun(run: Any, reports: Path) -> bool:
    """Whether the epoch has come."""
    assert run.process.poll() is None, run.complained
    return any(found.epoch for found in runs_in(reports))


def test_no_key_is_shown_anywhere(launch: Fixture, serve: Fixture, tiny: Fixture, tmp_path: Path) -> None:
    """A key from the environment is in no file of the run, no output and no process's arguments, and it was used."""
    url = serve(WORKFLOW_API_KEYS=MARKER, WORKFLOW_ENDPOINT="e2e").url
    run = launch(
        *("loadtest.cli", "run", tiny(), "--host", url, "--output-dir", str(tmp_path / "out")),
        *("--target-version", "2.31.0"),
        WORKFLOW_API_KEYS=MARKER,
        WORKFLOW_ENDPOINT="e2e",
    )
    seen: dict[int, list[str]] = {}
    ended = False
    while not ended:
        for process in run.family():
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                seen.setdefault(process.pid, process.cmdline())
        with contextlib.suppress(subprocess.TimeoutExpired):
            ended = run.process.wait(0.05) is not None
    assert run.code in CARRIED_OUT, run.complained
    assert len(seen) >= 3, "the load and the report were seen as processes"
    assert not [arguments for arguments in seen.values() if MARKER in " ".join(arguments)]
    assert MARKER not in run.said + run.complained
    (found,) = runs_in(tmp_path / "out")
    found.check_conservation()
    assert {row["status"] for row in found.operations} == {200}, "the key was accepted"
    info = found.info
    assert (info.target_version, info.target.endpoint_digest) == ("2.31.0", endpoint_digest("e2e"))
    assert info.generators[0].cpu_loop.before_ms
    files = [path for path in found.directory.rglob("*") if path.is_file()]
    assert {"run.json", "samples.arrows", "metrics.json", "measurements.json", "report.html"} <= {
        path.name for path in files
    }
    assert not [path for path in files if MARKER.encode() in path.read_bytes()]


def test_an_interrupted_run_is_still_reported(launch, tiny, tmp_path, free_port):
    """SIGTERM as Ctrl-C: the record is closed, the report made, the exit code 130, and no process is left. Until then
    `--metrics-port` serves its figures, to own names only.
    """
    options = ("--output-dir", str(tmp_path / "out"), "--metrics-port", str(free_port))
    run = launch("loadtest.cli", "run", tiny("60s"), *options)
    until(lambda: begun(run, tmp_path / "out"))
    until(lambda: metrics_at(free_port).get("loadtest_requests_total", 0) > 0)
    assert metrics_at(free_port, Host="evil.example") == metrics_at(free_port, "/") == {}
    family = run.family()
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 130
    (found,) = runs_in(tmp_path / "out")
    found.check_conservation()
    assert found.info.end == "interrupted"
    assert (found.directory / "report.html").is_file()
    assert "Traceback" not in run.said + run.complained
    assert "Interrupted" in run.said
    until(lambda: not [process for process in family if process.is_running()])


def test_a_second_interrupt_kills_the_load(launch: Fixture, tmp_path: Path) -> None:
    """A second interrupt ends the drain: the report covers the record so far, exit code 130."""
    path = tmp_path / "slow.toml"
    path.write_text(
        'title = "t"\ndrain = "60s"\n[traffic.t]\noperation = "sync_run"\nworkflow = "sleep"\n'
        'parameters = { ms = 50000 }\ntimeout = "60s"\nstages = [{ name = "s", rate = "5/s", duration = "60s" }]\n'
        '[traffic.quick]\noperation = "sync_run"\nworkflow = "say-hello"\n'
        'stages = [{ name = "s", rate = "5/s", duration = "60s" }]\n'
    )
    run = launch("loadtest.cli", "run", str(path), "--output-dir", str(tmp_path / "out"))
    until(lambda: begun(run, tmp_path / "out"))
    load = run.find("loadtest.load")
    (found,) = runs_in(tmp_path / "out")
    # By then slow requests are in flight, and the drain waits for them.
    until(lambda: found.operations)
    run.process.send_signal(signal.SIGINT)
    until(lambda: "draining" in run.said)
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 130
    assert not load.is_running()
    assert not found.info.complete
    assert (found.directory / "report.html").is_file()
    assert "Traceback" not in run.said + run.complained


def test_who_is_killed_leaves_nobody_behind(launch: Fixture, tiny: Fixture, tmp_path: Path) -> None:
    """SIGKILL of `loadtest run`: load and target end by themselves, and the load closes its record."""
    run = launch("loadtest.cli", "run", tiny("60s"), "--output-dir", str(tmp_path / "out"))
    until(lambda: begun(run, tmp_path / "out"))
    children = run.family()[1:]
    assert len(children) == 2
    run.process.kill()
    until(lambda: not [child for child in children if child.is_running()])
    (found,) = runs_in(tmp_path / "out")
    found.check_conservation()
    assert found.info.end == "interrupted"


def test_an_embedded_target_that_dies_is_said_and_its_keys_nowhere(launch, tiny, tmp_path):
    """If the embedded target ends, the run reports it as the cause of the failures. Only the environments of a run's
    processes hold its keys.

    By the way: a scenario's file may be called anything. Its name is in the run's id, and no header carries it.
    """
    path = Path(tiny("1200ms")).rename(tmp_path / "träffic 日本.toml")
    run = launch("loadtest.cli", "run", str(path), "--output-dir", str(tmp_path / "out"), PYTHONIOENCODING="utf-8")
    until(lambda: begun(run, tmp_path / "out"))
    keys, family = run.find("loadtest.load").environ()["WORKFLOW_API_KEYS"], run.family()
    (found,) = runs_in(tmp_path / "out")
    until(lambda: 200 in {row["status"] for row in found.operations})
    run.find("serve").kill()
    run.wait()
    found.check_conservation()
    assert "connection_refused" in {row["reason"] for row in found.operations}
    assert run.said.splitlines()[0].endswith(", an embedded target on this machine.")
    assert "the embedded target ended during the run" in run.complained
    assert run.process.returncode == 3, "a target of ours that died makes a run invalid, whatever its thresholds say"
    assert len(keys) >= 24
    assert keys not in run.said + run.complained
    assert not [path for path in found.directory.rglob("*") if path.is_file() and keys.encode() in path.read_bytes()]
    assert not [process for process in family if process.is_running()]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("no-such-scenario",), 2, "there is no scenario"),
        (("smoke", "--host", "http://127.0.0.1:1"), 5, "http://127.0.0.1:1"),
        (("smoke", "--host", "http://192.0.2.1"), 2, "loopback"),
        (("smoke", "--host", "http://key@127.0.0.1:1"), 2, "user name or password"),
        (("smoke", "--host", "ftp://127.0.0.1"), 2, "is not a base URL"),
        (("smoke", "--set", "traffic.greetings.timeot=5s"), 2, "did you mean 'timeout'"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_sent(shipped, tmp_path, arguments, code, sentence):
    """A sentence, an exit code, no traceback and no run directory."""
    done = shipped(*arguments)
    assert done.code == code
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_a_misspelt_workflow_is_known_before_anything_starts(shipped: Fixture, tmp_path: Path) -> None:
    """Exit code 2, the key of the scenario, and the likely name."""
    done = shipped("smoke", "--set", "traffic.lookups.workflow=say-helo")
    assert done.code == 2
    assert "traffic.lookups.workflow: the reference API has no workflow 'say-helo'" in done.err
    assert "Did you mean say-hello?" in done.err
    assert not (tmp_path / "out").exists()


def test_a_run_that_cannot_begin_ends_with_the_loads_sentence(shipped: Fixture) -> None:
    """Parameters that a workflow does not take: seeding is refused, exit code 5, and no report."""
    done = shipped("smoke", "--set", "traffic.lookups.workflow=cpu", "--set", "traffic.lookups.parameters.no-such=1")
    assert done.code == 5
    assert "could not be seeded" in done.err
    assert "Traceback" not in done.err
