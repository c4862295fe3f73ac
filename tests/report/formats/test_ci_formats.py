"""What CI systems read of a run: JUnit XML, GitLab's load-performance.json, Locust's stats.csv."""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from plugins import record_maker as maker

from loadtest.report.page import Page
from loadtest.report.run import make


def made(directory: Path) -> tuple[dict[str, Any], ET.Element, dict[str, Any], dict[str, dict[str, str]]]:
    """metrics.json, the JUnit suite, the metrics of load-performance.json, and the rows of stats.csv by name."""
    make(directory, plots=False)
    return read(directory)


def read(directory: Path) -> tuple[dict[str, Any], ET.Element, dict[str, Any], dict[str, dict[str, str]]]:
    """What ``made`` gives, of a report that was made before."""
    metrics = json.loads((directory / "metrics.json").read_text())
    suite = ET.parse(directory / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    performance = json.loads((directory / "load-performance.json").read_text())["metrics"]
    with (directory / "stats.csv").open(newline="") as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    return metrics, suite, performance, rows


def test_the_same_numbers_in_every_form(toured: tuple[Path, Page]) -> None:
    """Counts, rates and percentiles of metrics.json are those of the tables that CI systems read."""
    metrics, suite, performance, rows = read(toured[0])
    overall = metrics["overall"]["requests"]
    assert performance["http_reqs"] == {"count": overall["sent"], "rate": overall["sent_rate"]}
    assert int(rows["Aggregated"]["Request Count"]) == overall["sent"]
    assert sum(int(row["Request Count"]) for row in rows.values()) == 2 * overall["sent"]
    for name, cell in metrics["traffic"].items():
        block, row = cell["service_time_ms"], rows[name]
        assert float(row["50%"]) == float(row["Median Response Time"]) == block["p50"]
        assert float(row["95%"]) == block["p95"]
        assert float(row["100%"]) == float(row["Max Response Time"]) == block["max"]
        assert int(row["Failure Count"]) == cell["requests"]["failed"]
    unexpected = [cell["stages"]["within"]["requests"]["throttled"] for cell in metrics["traffic"].values()]
    assert overall["failed"] == overall["errors"] + sum(unexpected)
    assert int(rows["Aggregated"]["Failure Count"]) == performance["http_req_failed"]["passes"] == overall["failed"]
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["failed_requests"] == str(overall["failed"])
    held = sum(one["judgement"] == "pass" for one in metrics["thresholds"])
    held += sum(check["ok"] and check["judged"] for check in metrics["validity"])
    assert (performance["checks"]["passes"], performance["checks"]["fails"]) == (held, 0)
    assert suite.get("skipped") == str(sum(not check["judged"] for check in metrics["validity"]))
    assert len(suite.findall("testcase")) == len(metrics["thresholds"]) + len(metrics["validity"])
    text = (toured[0] / "report.html").read_text()
    assert metrics["sentence"].partition(": ")[2].partition(" ")[2] in text


def test_a_threshold_is_a_test_case(tmp_path: Path) -> None:
    """One that fails is a failure with its value, one that can't be judged is skipped with the reason."""
    thresholds = [
        {"require": "requests.throttled == 0", "traffic": "greetings", "stage": "within"},
        {"require": "response_time.p50 < 1ms", "traffic": "greetings", "stage": "within"},
        {"require": "response_time.p99 < 9s", "traffic": "greetings", "stage": "within"},
    ]
    _, suite, _, _ = made(maker.tour(tmp_path / "run", only="greetings", thresholds=thresholds))
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    failure = cases["response_time.p50 < 1ms"].find("failure")
    assert "but it was" in str(failure.get("message"))
    skipped = cases["response_time.p99 < 9s"].find("skipped")
    assert "too few samples for p99: 80" in str(skipped.get("message"))
    evenness = cases["evenness"].find("skipped")
    assert evenness.get("message") == "not judged: there were too few arrivals to judge their evenness"


def test_an_invalid_run_judges_nothing(tmp_path: Path) -> None:
    """The broken check is an error; every threshold is skipped, whatever its value would be."""
    thresholds = [{"require": "response_time.p50 < 9s", "traffic": "greetings"}]
    metrics, suite, _, _ = made(maker.tour(tmp_path / "run", only="greetings", thresholds=thresholds, samples=1))
    assert metrics["verdict"] == "invalid"
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    skipped = [case.get("classname") for case in suite.iter("testcase") if case.find("skipped") is not None]
    assert [name for name in skipped if name != "validity"] == ["threshold.greetings"]


@pytest.mark.parametrize("rows", [0, 1])
def test_there_is_a_file_of_each_form_for_next_to_nothing(tmp_path: Path, rows: int) -> None:
    """No operation or a single one: no figure is made up for what nobody measured."""
    entry = maker.plan("sync_run", [maker.stage("within", 0, 3, 0.5)], offered=rows)
    both = maker.both("t", 0, 0, 5) if rows else []
    _, suite, performance, found = made(maker.save(tmp_path / "run", maker.info({"t": entry}), both))
    assert ("http_req_duration" in performance) == bool(rows)
    assert found["t"]["95%"] == ("5.0" if rows else "N/A")
    assert suite.get("errors") == str(1 - rows)


def test_what_xml_cannot_hold_is_replaced(tmp_path: Path) -> None:
    """A control character or half a surrogate in a server's words breaks no file; the widget fails, too."""
    rows = maker.both("t", 0, 0, 5)
    run = maker.info({"t": maker.plan("sync_run", [maker.stage("within", 0, 3, 1)], offered=1)})
    run.end, run.end_reason = "aborted", "\x00 <&> \x1b[31m"
    _, suite, performance, _ = made(maker.save(tmp_path / "run", run, rows))
    assert performance["checks"]["fails"] == int(suite.get("errors")) == 1
    error = suite.find("testcase/error")
    assert "<&>" in str(error.get("message"))
