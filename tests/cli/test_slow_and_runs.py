"""``loadtest slow`` and ``loadtest runs``: what a run's slowest operations were, and which runs there are."""

import fcntl
import json
import os
import time
from pathlib import Path

import msgspec
import pytest
from plugins import history_parts
from plugins import record_maker as maker

from loadtest.cli import main
from loadtest.errors import ExitCode
from loadtest.record import run_directory
from loadtest.report import run as run_page


def make(parent: Path, day: int, *, report: bool = True) -> Path:
    """A run of that day of July 2025."""
    name = f"202507{day:02}T082640Z-tour-0a1b2c"
    rows = [maker.request("t", 0, 0, 5), maker.operation("t", 0, 0, 5, request_id="ab" * 16)]
    entry = maker.plan("sync_run", [maker.stage("within", 0, 3, 0.5)], offered=1)
    info = maker.info({"t": entry}, id=name, started=f"2025-07-{day:02}T08:26:40Z")
    directory: Path = maker.save(parent / name, info, rows)
    if report:
        run_page.make(directory, plots=False)
    return directory


def test_slow_lists_operations_with_their_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Response time, outcome, trace id and each request; the same as JSON."""
    directory = make(tmp_path, 20)
    assert main(["slow", str(directory)]) == 0
    printed = capsys.readouterr().out
    assert "5.0 ms  ok  arrival 0, stage within, at 0.000 s" in printed
    assert f"trace id {'ab' * 16}" in printed
    assert "run: 200, 5.0 ms" in printed
    assert main(["slow", str(directory), "--json", "--traffic", "t", "--count", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["t"][0]["phases"][0]["status"] == 200


def test_slow_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No report yet, an entry that is not there, or a damaged metrics.json: a sentence with the remedy."""
    bare = make(tmp_path, 20, report=False)
    assert main(["slow", str(bare)]) == ExitCode.USAGE
    assert f"loadtest report {bare}" in capsys.readouterr().err
    directory = make(tmp_path, 21)
    assert main(["slow", str(directory), "--traffic", "x"]) == ExitCode.USAGE
    assert "the run has t" in capsys.readouterr().err
    metrics = directory / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"end_ms"', '"begin_ms"'))
    assert main(["slow", str(directory)]) == ExitCode.INVALID
    assert f"loadtest report {directory}" in capsys.readouterr().err


def test_runs_lists_the_newest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its start, verdict and name; a copy under another name is none."""
    for day in (20, 22, 21):
        make(tmp_path, day, report=day != 21)
    make(tmp_path, 23).rename(tmp_path / "example")
    newest = tmp_path / "20250722T082640Z-tour-0a1b2c"
    (newest / "comparison.json").write_text('{"word": "regressed"}')
    (newest / "notes").symlink_to("nowhere")
    assert main(["runs", "--output-dir", str(tmp_path)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[-5:] == ["p95", "ms", "429", "MB", "Run"]
    assert [line.split()[0] for line in lines] == [f"2025-07-{day}T08:26:40" for day in (22, 21, 20)]
    assert lines[0].split()[1:6] == ["pass", "regressed", "–", "–", "0.0"], "one operation carries no percentile"
    assert lines[1].split()[1:7] == ["no", "report", "–", "–", "–", "–"]
    assert lines[2].split()[1:3] == ["pass", "–"]
    assert main(["runs", "--output-dir", str(tmp_path / "nowhere"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_pruning_keeps_the_newest_and_whatever_is_no_run(tmp_path: Path) -> None:
    """Only runs go, the oldest first; the example, other files, and a run that goes on stay."""
    old, new = make(tmp_path, 20), make(tmp_path, 22)
    (tmp_path / "baselines").mkdir()
    example = make(tmp_path, 19).rename(tmp_path / "example")
    going = make(tmp_path, 18)
    info = run_directory.load(going)
    info.end = "running"
    run_directory.save(info, going)
    lock = os.open(going, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert main(["runs", "--output-dir", str(tmp_path), "--keep", "1", "--yes"]) == 0
    assert not old.exists()
    assert all(path.is_dir() for path in (new, example, going, tmp_path / "baselines"))
    os.close(lock)
    past = time.time() - 3600
    for path in going.iterdir():
        os.utime(path, (past, past))
    assert main(["runs", "--output-dir", str(tmp_path), "--keep", "1", "--yes"]) == 0
    assert not going.exists()
    assert new.is_dir()


def test_nothing_in_a_record_can_act_on_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Control characters in a record and a history reach no terminal: every verb prints them escaped."""
    evil = "\x1b]0;title\x07\x1b[2J\u202e\x00"
    name = "20250720T082640Z-tour-0a1b2c"
    rows = maker.both("t", 0, 0, 5, outcome="failed", status=500, error_code=evil, request_id=evil)
    entry = maker.plan("sync_run", [maker.stage("within", 0, 3, 0.5)], offered=1)
    info = maker.info({"t": entry}, id=name, end="aborted", end_reason=evil, versions={"locust": evil})
    info.target.url += evil
    info.scenario.title = info.scenario.name = evil
    run = str(maker.save(tmp_path / name, info, rows))
    (tmp_path / name / "comparison.json").write_bytes(msgspec.json.encode({"word": evil}))
    history = tmp_path / "history.jsonl"
    made = history_parts.made_line(1, "regressed")
    made = msgspec.structs.replace(made, sentence=evil)
    history.write_bytes(msgspec.json.encode(made) + b"\n")
    for verb in (
        ["report", run, "--full", "--no-plots"],
        ["runs", "--output-dir", str(tmp_path)],
        ["runs", "--output-dir", str(tmp_path), "--json"],
        ["slow", run],
        ["regression", "history", "--history", str(history)],
        ["plan", str(tmp_path / f"{evil[:-1]}.toml")],
    ):
        main(verb)
        printed = "".join(capfd.readouterr())
        assert r"\x1b" in printed or r"\u001b" in printed, verb
        assert not set("\x1b\x07\u202e\x00") & set(printed), verb
