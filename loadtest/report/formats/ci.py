"""A report in the files that CI systems read. The numbers are ours, from every sample.

* ``junit.xml``, which every CI system shows: a threshold or a check of validity is a test case.
* ``load-performance.json``, in the shape of k6's summary export, which GitLab's merge-request widget reads. It
  compares four figures of a branch with those of its target: checks passed, the 90th and 95th percentile of the time to
  the first byte, and requests per second (GitLab's documentation, "Load Performance Testing").
* ``stats.csv``, in the shape of Locust's ``_stats.csv``, which Jenkins' Performance plugin reads.
"""

import csv
import io
import json
import re
from typing import Any, Final, Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from loadtest.analysis.columns import StageKey
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import CountedFigures
from loadtest.analysis.run_record import Record
from loadtest.analysis.verdict import Judged, amount, sentence
from loadtest.foreign_text import csv_text, visible
from loadtest.stats.order_statistics import rank

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""
_VOID: Final = ("invalid", "aborted")
"""Verdicts of runs whose thresholds are not judged."""


class Suite:
    """A JUnit file with one suite of test cases; every text in it is cleaned of what XML cannot hold.

    Args:
        name: the suite's name.
        started: when what it is about began, in ISO 8601; empty if it is not known.
        properties: what else CI may know of it.
    """

    def __init__(self, name: str, started: str, properties: dict[str, str]) -> None:
        self._suite = Element("testsuite", name=_clean(name))
        if started:
            self._suite.set("timestamp", started)
        listed = SubElement(self._suite, "properties")
        for key, value in properties.items():
            SubElement(listed, "property", name=key, value=_clean(value))

    def case(self, group: str, name: str) -> "Case":
        """Add a test case, which passes unless marked otherwise."""
        return Case(SubElement(self._suite, "testcase", classname=_clean(group), name=_clean(name)))

    def text(self, seconds: float) -> str:
        """Return the file's text, with the suite's duration."""
        self._suite.set("tests", str(len(self._suite.findall("testcase"))))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            self._suite.set(attribute, str(len(self._suite.findall(f"testcase/{tag}"))))
        self._suite.set("time", f"{seconds:.3f}")
        root = Element("testsuites")
        root.append(self._suite)
        indent(root)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


class Case:
    """A test case of a suite."""

    def __init__(self, element: Element) -> None:
        self._element = element

    def skip(self, why: str) -> None:
        SubElement(self._element, "skipped", message=_clean(why))

    def fail(self, kind: str, message: str, *, tag: Literal["failure", "error"] = "failure") -> None:
        SubElement(self._element, tag, type=kind, message=_clean(message))

    def output(self, text: str) -> None:
        SubElement(self._element, "system-out").text = _clean(text)


def _clean(text: str) -> str:
    """Escape characters that are invisible or not allowed in XML 1.0."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", visible(text))


def render_junit(findings: Findings) -> str:
    """Return one suite: validity, then thresholds. Thresholds that cannot be judged are skipped with a reason.

    An invalid or aborted run judges nothing: its thresholds are skipped, and the check that says why is an error.
    """
    info, verdict = findings.record.info, findings.verdict
    properties = {
        "run": info.id,
        "verdict": verdict.word,
        "sentence": verdict.sentence,
        "scenario_hash": info.scenario.hash,
        "seed": str(info.seed),
        "target": info.target.url,
        "failed_requests": str(findings.metrics.overall.requests.failed),
    }
    suite = Suite(f"loadtest {info.scenario.name}", info.started.rstrip("Z"), properties)
    for check in findings.checks:
        case = suite.case("validity", check.name)
        if not check.ok:
            case.fail("invalid", f"{check.words} ({check.value}, allowed {check.limit})", tag="error")
        elif not check.judged:
            case.skip(f"not judged: {check.words}")
    if info.end == "aborted":
        suite.case("run", "came to its end").fail("aborted", verdict.statement, tag="error")
    for one in findings.judged:
        _threshold(suite.case(f"threshold.{one.scope}", one.require), one, verdict.word)
    return suite.text(findings.record.covered_s)


def _threshold(case: Case, one: Judged, verdict: str) -> None:
    if verdict in _VOID:
        case.skip(f"the run is {verdict}, so that nothing is judged by it")
    elif one.judgement == "inconclusive":
        case.skip(f"inconclusive: {one.why}")
    elif one.judgement == "fail":
        case.fail("threshold", sentence(one))
    marginal = f", {one.judgement} marginally" if one.marginal and one.judgement != "inconclusive" else ""
    case.output(f"value {amount(one)}, n {'–' if one.n is None else one.n}{marginal}")


def render_gitlab(findings: Findings) -> str:
    """Return the file's text, with times in ms over all requests.

    Thresholds and checks of validity are its checks, but for those that could not be judged, which JUnit skips; of an
    aborted run that it did not come to its end is one that fails, as there.
    """
    record, requests = findings.record, findings.metrics.overall.requests
    stage_indices = record.stage_indices(record.stages())
    void = findings.verdict.word in _VOID
    judged = [one.judgement == "pass" for one in findings.judged if one.judgement != "inconclusive" and not void]
    judged += [check.ok for check in findings.checks if check.judged]
    judged += [False] if record.info.end == "aborted" else []
    passed = sum(judged)
    metrics: dict[str, Any] = {
        "checks": {"passes": passed, "fails": len(judged) - passed, "value": passed / len(judged)},
        "http_reqs": {"count": requests.sent, "rate": requests.sent_rate or 0.0},
        "http_req_failed": {
            "passes": requests.failed,
            "fails": requests.sent - requests.failed,
            "value": requests.failed / requests.sent if requests.sent else 0.0,
        },
    }
    for name, ours in (("http_req_waiting", "first_byte_ms"), ("http_req_duration", "service_time_ms")):
        values = record.times[ours].get(stage_indices)
        if values.n:
            metrics[name] = _trend(values)
    return json.dumps({"metrics": metrics}, indent=2) + "\n"


def _trend(values: Distribution) -> dict[str, float | None]:
    ranks = [rank(values.n, quantile) for quantile in (0.5, 0.9, 0.95)]
    median, p90, p95 = values.at(ranks).tolist()
    return {"avg": values.mean, "min": values.least, "med": median, "max": values.most, "p(90)": p90, "p(95)": p95}


_PERCENTILES: Final = (0.5, 0.66, 0.75, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999, 1.0)
_HEAD: Final = (
    "Type", "Name", "Request Count", "Failure Count", "Median Response Time", "Average Response Time",
    "Min Response Time", "Max Response Time", "Average Content Size", "Requests/s", "Failures/s",
    *(f"{quantile * 100:g}%" for quantile in _PERCENTILES),
)  # fmt: skip


def render_locust_csv(findings: Findings) -> str:
    """Return the file's text: a row per traffic entry, and a total of all requests.

    Response times are Locust's: of single requests, which are service times here. Failures are Locust's, too: errors,
    and 429s in stages where none are expected.
    """
    record = findings.record
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(_HEAD)
    for name, figures in findings.metrics.traffic.items():
        rows.writerow(_row(record.info.traffic[name].operation, name, figures, record, record.stages(traffic=name)))
    rows.writerow(_row("", "Aggregated", findings.metrics.overall, record, record.stages()))
    return text.getvalue()


def _row(kind: str, name: str, figures: CountedFigures, record: Record, stages: list[StageKey]) -> list[object]:
    requests, stage_indices = figures.requests, record.stage_indices(stages)
    times = record.times["service_time_ms"].get(stage_indices)
    failed = requests.failed
    seconds = figures.seconds
    return [
        kind, csv_text(name), requests.sent, failed, *_times(times),
        round(record.means.received(stage_indices)), requests.sent_rate or 0.0, failed / seconds if seconds else 0.0,
        *(times.at([rank(times.n, quantile)])[0] if times.n else "N/A" for quantile in _PERCENTILES),
    ]  # fmt: skip


def _times(times: Distribution) -> list[float]:
    if not times.n:
        return [0.0] * 4
    return [float(times.at([rank(times.n, 0.5)])[0]), times.mean or 0.0, times.least, times.most]
