"""executionTime over time and beside what the client saw."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugins import record_maker as maker

from loadtest.analysis import reader, timelines


def found(directory: Path, said: list[tuple[float, float]], **more: Any) -> timelines.Executions:
    """Of sync runs, one a second, each with its (executionTime, service time) in ms."""
    rows = []
    for k, (execution, took) in enumerate(said):
        both = {"execution_time_ms": execution, **more}
        rows += maker.both("t", k, k * 1000.0, k * 1000.0 + took, **both)
    stages = [maker.stage("warmup", 0, 2, 1, warmup=True), maker.stage("within", 2, len(said) - 2, 1)]
    entry = maker.plan("sync_run", stages, offered=len(said))
    return maker.findings(directory, maker.info({"t": entry}), rows).executions["t"]


def test_dots_are_single_operations_and_those_that_cannot_be_are_apart(tmp_path: Path) -> None:
    """Each dot has its executionTime and what the client saw; one beyond it, or below zero, is marked."""
    said = [(8.0, 10.0), (9.0, 11.0), (7.0, 12.0), (40.0, 20.0), (-3.0, 5.0), (20.5, 20.0)]
    of = found(tmp_path / "run", said)
    assert (of.n, of.anomaly_count) == (5, 2)
    assert [column.tolist() for column in of.anomalous] == [[40.0, -3.0], [20.0, 5.0]]
    assert of.dots[1].tolist() == [8.0, 9.0, 7.0, 20.5], "half a millisecond more may be rounding"
    assert of.dots[2].tolist() == [10.0, 11.0, 12.0, 20.0]
    assert sum(each.n for each in of.series.bins()) == 5


def test_however_many_there_are_few_dots_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly picked over the run, whatever the chunks; percentiles of bins rest on all of them."""
    monkeypatch.setattr(reader, "_ROWS", 17)
    monkeypatch.setattr(timelines, "_EXECUTION_DOTS", 20)
    monkeypatch.setattr(timelines, "_ANOMALOUS_DOTS", 5)
    said = [(50.0 if k % 10 == 3 else 8.0, 10.0) for k in range(200)]
    of = found(tmp_path / "run", said)
    assert len(of.dots[1]) <= 20
    assert of.dots[0][0] < 20
    assert of.dots[0][-1] > 180
    assert (len(of.anomalous[0]), of.anomaly_count) == (5, 20)
    assert sum(each.n for each in of.series.bins()) == 200


def test_a_retrieval_executes_nothing(tmp_path: Path) -> None:
    """Its executionTime is that of a job before it: nothing to hold its time against."""
    rows = [
        maker.request("t", 0, 0, 2, kind="retrieve", operation="retrieval", execution_time_ms=90.0),
        maker.operation("t", 0, 0, 2, operation="retrieval", execution_time_ms=90.0),
    ]
    run = maker.info({"t": maker.plan("retrieval", [maker.stage("within", 0, 2, 1)], offered=1)})
    findings = maker.findings(tmp_path / "run", run, rows)
    assert findings.executions == {}
    assert findings.anomalies == []
    assert np.isnan(findings.metrics.traffic["t"].overhead_ms.mean or np.nan)


def test_what_was_wrong_on_purpose_is_no_dot_and_in_no_mean(tmp_path: Path) -> None:
    """It is ok where it is answered as documented, within a millisecond: that is no time of a run."""
    wrong: dict[str, Any] = {"mistake": "bad_key", "status": 401}
    rows = [
        maker.operation("t", k, k * 10, k * 10 + (1 if k % 2 else 100), **wrong if k % 2 else {}) for k in range(40)
    ]
    run = maker.info({"t": maker.plan("sync_run", [maker.stage("within", 0, 1, 40)], offered=40)})
    of = maker.findings(tmp_path / "run", run, rows)
    assert of.responses["t"].dots["ok"][1].tolist() == [100.0] * 20
    assert sum(each.n for each in of.responses["t"].series.bins()) == 20
    assert of.record.means.mean(0, "response") == 100.0
