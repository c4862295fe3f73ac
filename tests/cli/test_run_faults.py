"""Runs against an embedded target that misbehaves on purpose."""

from pathlib import Path

import pytest
from plugins.processes import Fixture
from plugins.records import runs_in

FAULTY = """
title = "Faulty"
drain = "3s"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "only", rate = "40/s", duration = "%s" }]
[breakers]
server_errors = false
[target]
enforce = { sync_run = "100000/1s" }
[[target.fault]]
kind = "error"
status = 503
start = "1s"
duration = "1s"
"""


@pytest.mark.heavy
def test_faults_count_from_the_epoch_and_are_told(launch: Fixture, tiny: Fixture, tmp_path: Path) -> None:
    """A fault from 1 s for 1 s hits what is sent then and nothing else; run.json and report.html speak of it."""
    run = launch("loadtest.cli", "run", tiny("3s", FAULTY), "--output-dir", str(tmp_path / "out"))
    assert run.wait() in {1, 3}, run.complained  # 1: unexpected errors; 3: this machine was too busy for a valid run
    (found,) = runs_in(tmp_path / "out")
    found.check_conservation()
    rows = found.requests
    near = 0.2e9  # error of the epoch on the wall clock
    hit = [row for row in rows if row["status"] == 503]
    spared = [row for row in rows if row["status"] == 200]
    assert hit
    assert [row for row in spared if row["end"] < 1e9]
    assert [row for row in spared if row["start"] > 2e9]
    assert len(hit) + len(spared) == len(rows) == 120
    assert not [row for row in hit if row["end"] < 1e9 - near or row["start"] > 2e9 + near]
    assert not [row for row in spared if row["start"] > 1e9 + near and row["end"] < 2e9 - near]
    (fault,) = found.info.target.faults
    assert (fault.text, fault.words) == ("error,status=503,start=1s,duration=1s", "error 503 from 1 s for 1 s")
    assert "Deliberate faults" in (found.directory / "report.html").read_text()
    assert "faults: error 503 from 1 s for 1 s" in (found.directory / "target.log").read_text()


def test_faults_are_listed_before_anything_is_sent(loadtest: Fixture, tiny: Fixture) -> None:
    """By ``validate`` and by ``plan``."""
    path = tiny("3s", FAULTY)
    checked, planned = loadtest("validate", path), loadtest("plan", path)
    assert (checked.code, planned.code) == (0, 0)
    assert "1 fault of the target" in checked.out
    assert "error 503 from 1 s for 1 s" in " ".join(planned.out.split())
