"""``loadtest regression accept``, ``reject``, ``history`` and ``audit``, on recorded runs."""

import re
from pathlib import Path

import msgspec
import pytest
from plugins.history_parts import made_line, made_run, recorded
from plugins.processes import Fixture

from loadtest.compare import history_file
from loadtest.errors import ExitCode


@pytest.mark.parametrize("reason", ["…", "  ", "???", "why"])
def test_a_reason_needs_words(loadtest: Fixture, tmp_path: Path, reason: str) -> None:
    """A printed command with a placeholder does not work before a user edits it."""
    history_file.append(tmp_path / "regression.jsonl", made_line(1))
    said = loadtest("regression", "accept", made_run(1).run, "--reason", reason, "--history", str(tmp_path))
    assert (said.code, "Give the reason in words" in said.err) == (ExitCode.USAGE, True)


def test_accepting_shows_its_effect_and_the_way_back(loadtest: Fixture, tmp_path: Path) -> None:
    history_file.append(tmp_path / "regression.jsonl", *(made_line(day, sd=0.02) for day in range(7)))
    history_file.append(tmp_path / "regression.jsonl", made_line(8, "inconclusive", factors={"greetings": 1.6}))
    said = loadtest(
        "regression", "accept", made_run(8).run, "--reason", "新しいパーサーを承認", "--history", str(tmp_path)
    )
    assert re.search(
        r"Minimum detectable change of the next check \(median\): \+[\d.]+ % before, \+[\d.]+ % now", said.out
    )
    assert f"regression reject {made_run(8).run} --reason 'accepted by mistake' --history {tmp_path}" in said.out
    again = ("--reason", "a new parser", "--new-segment", "--history", str(tmp_path))
    said = loadtest("regression", "accept", made_run(5).run, *again)
    assert f"regression accept {made_run(5).run} --reason 'keep the old baseline'" in said.out, "it was evidence before"


def test_deciding_about_runs(tmp_path: Path, loadtest: Fixture) -> None:
    """By id or directory, with a reason; a run that was never recorded joins; what is not there is an error."""
    place = tmp_path / "baselines"
    lines = [made_line(day) for day in range(3)]
    history_file.append(place / "regression.jsonl", *lines)
    options = ("--history", str(place))
    said = loadtest("regression", "reject", made_run(1).run, "--reason", "the wrong branch", *options)
    assert said.code == 0
    assert [run.status for run in recorded(place).runs] == ["accepted", "rejected", "accepted"]
    said = loadtest("regression", "accept", made_run(2).run, "--reason", "a new server", "--new-segment", *options)
    assert "starts a new baseline period" in said.out
    assert [run.new_segment for run in recorded(place).runs] == [False, False, True]
    (directory := tmp_path / "reports" / made_run(5).run).mkdir(parents=True)
    (directory / "run.json").write_text("{}")
    (directory / "measurements.json").write_bytes(msgspec.json.encode(made_run(5, host="https://elsewhere")))
    said = loadtest("regression", "accept", directory.name, "--reason", "known good", *options)
    assert said.code == 0
    assert "the target's host differs: https://staging.example.com:443 before, https://elsewhere now" in said.out
    assert recorded(place).runs[-1].line.verdict == "not judged"
    for run, reason in (("nobody", "why not"),):
        assert loadtest("regression", "reject", run, "--reason", reason, *options).code == ExitCode.USAGE


def test_a_run_whose_rerun_is_invalid(tmp_path: Path, loadtest: Fixture) -> None:
    """It can be decided about; its rerun cannot, and is not."""
    place = tmp_path / "baselines"
    suspect, rerun = made_line(1, "inconclusive"), made_line(2, "invalid", confirms=made_run(1).run, valid=False)
    history_file.append(place / "regression.jsonl", suspect, rerun)
    options = ("--reason", "a slow night", "--history", str(place))
    said = loadtest("regression", "accept", rerun.run.run, *options)
    assert (said.code, f"{rerun.run.run} is invalid" in said.err) == (ExitCode.USAGE, True)
    assert loadtest("regression", "accept", suspect.run.run, *options).code == 0
    assert [(run.status, run.new_segment) for run in recorded(place).runs] == [("accepted", False), ("invalid", False)]


def test_showing_and_exporting_a_history(tmp_path: Path, loadtest: Fixture) -> None:
    """A table of all runs; CSV of the valid runs; an audit with its bound."""
    place = tmp_path / "baselines"
    for verb in ("history", "audit"):
        said = loadtest("regression", verb)
        assert (said.code, "there is no history in reports/baselines" in said.err) == (ExitCode.USAGE, True)
    history_file.append(place / "regression.jsonl", *(made_line(day, sd=0.02) for day in range(12)))
    history_file.append(place / "regression.jsonl", made_line(12, valid=False), made_line(13, "regressed"))
    history_file.append(place / "smoke.jsonl", made_line(1))
    options = ("--history", str(place))
    said = loadtest("regression", "history", *options)
    assert "regression.jsonl: 14 runs, 12 accepted, 1 waiting" in said.out
    assert "smoke.jsonl: 1 run," in said.out
    assert all(made_run(day).run in said.out for day in range(14))
    assert loadtest("regression", "history", "--to", "otava", *options).code == ExitCode.USAGE, "which of the two"
    said = loadtest("regression", "history", "regression", "--to", "otava", *options)
    head, *rows = said.out.splitlines()
    assert head.startswith("time,run,commit,version,greetings/steady/response_time.p50,")
    assert len(rows) == 13
    for gone in ("bmf", "benchmark-action"):
        said = loadtest("regression", "history", "regression", "--to", gone, *options)
        assert (said.code, "--to otava" in said.err) == (ExitCode.USAGE, True)
    said = loadtest("regression", "audit", "regression", *options)
    assert "0 of 12 replayed checks ended in a false alarm" in said.out
    assert "at most 22.1\u00a0%" in said.out, "1 − 0.05^(1/12)"
    assert loadtest("regression", "audit", "none", *options).code == ExitCode.USAGE
