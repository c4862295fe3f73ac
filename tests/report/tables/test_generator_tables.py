"""The report shows what generator processes know of themselves, and metrics.json has it, too."""

import json
from pathlib import Path

import jsonschema_rs
from plugins import record_maker as maker

from loadtest.analysis.findings import Findings, as_json, schema_text
from loadtest.record.run_info import CpuSample, GeneratorInfo, PauseInfo, PoolInfo
from loadtest.report.page import Table
from loadtest.report.tables import generator_tables

SCHEMA = json.loads(schema_text())


def found(directory: Path, generators: list[GeneratorInfo], cpu: list[CpuSample]) -> Findings:
    """A run of one operation, made by these."""
    rows = [maker.request("t", 0, 0, 5), maker.operation("t", 0, 0, 5, start_ms=0)]
    plan = {"t": maker.plan("sync_run", [maker.stage("within", 0, 1, 1)], offered=1)}
    return maker.findings(directory, maker.info(plan, generators=generators, cpu=cpu), rows)


def texts(table: Table) -> list[list[str]]:
    """Its cells."""
    return [[cell.text for cell in row] for row in table.rows]


def test_each_process_and_each_pool_has_a_row(tmp_path: Path) -> None:
    """A master and a worker that was lost: CPU by process, pauses, and what its pool went through."""
    pool = PoolInfo(started=10, size=30, cap=30, waited=7, longest_wait_ms=120.4, full_s=0.25)
    generators = [
        GeneratorInfo(worker=1, pools={"t": pool}, stalls=PauseInfo(count=2, longest_ms=80, total_ms=140), lost=True),
        GeneratorInfo(worker=0),
    ]
    cpu = [CpuSample(t_s=float(k), percent=10.0 * k, worker=1, machine=50.0 + k) for k in range(1, 4)]
    one = found(tmp_path / "run", generators, cpu)
    processes, pools = generator_tables(one)
    assert texts(processes) == [
        ["master", "–", "–", "–", "–", "0", "–", "0", "–"],
        ["worker 1", "20", "30", "52", "53", "2", "80", "0", "–"],
    ]
    assert [row[0].detail for row in processes.rows] == ["", "lost"]
    assert texts(pools) == [["t", "worker 1", "10", "30", "30", "7", "120", "0.25"]]
    metrics = json.loads(as_json(one))
    assert [each["cpu_peak"] for each in metrics["generators"]] == [None, 30]
    assert list(jsonschema_rs.Draft202012Validator(SCHEMA).iter_errors(metrics)) == []


def test_older_records_have_no_such_tables(tmp_path: Path) -> None:
    """What was not watched is not shown as calm."""
    assert generator_tables(found(tmp_path / "run", [], [])) == ()
