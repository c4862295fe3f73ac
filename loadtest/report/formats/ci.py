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
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from loadtest.analysis.columns import StageKey
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.record import Record
from loadtest.analysis.results import Figures
from loadtest.analysis.verdict import Judged, amount, sentence
from loadtest.foreign_text import csv_text, visible
from loadtest.stats import rank

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""


_VOID: Final = ("invalid", "aborted")
"""Verdicts of runs by which nothing is judged."""


def render_junit(findings: Findings) -> str:
    """One suite: validity first, then the thresholds. What could not be judged is skipped, with the reason.

    An invalid or aborted run judges nothing: its thresholds are skipped, and the check that says why is an error.
    """
    info, verdict = findings.record.info, findings.verdict
    suite = Element("testsuite", name=clean(f"loadtest {info.scenario.name}"), timestamp=info.started.rstrip("Z"))
    properties = SubElement(suite, "properties")
    for name, value in (
        ("run", info.id),
        ("verdict", verdict.word),
        ("sentence", verdict.sentence),
        ("scenario_hash", info.scenario.hash),
        ("seed", str(info.seed)),
        ("target", info.target.url),
        ("failed_requests", str(findings.metrics.overall.requests.failed)),
    ):
        SubElement(properties, "property", name=name, value=clean(value))
    for check in findings.checks:
        case = junit_case(suite, "validity", check.name)
        if not check.ok:
            words = f"{check.words} ({check.value}, allowed {check.limit})"
            SubElement(case, "error", type="invalid", message=clean(words))
        elif not check.judged:
            SubElement(case, "skipped", message=clean(f"not judged: {check.words}"))
    if info.end == "aborted":
        SubElement(
            junit_case(suite, "run", "came to its end"), "error", type="aborted", message=clean(verdict.statement)
        )
    void = verdict.word if verdict.word in _VOID else None
    for one in findings.judged:
        _threshold(junit_case(suite, f"threshold.{one.scope}", one.require), one, void)
    return junit_file(suite, findings.record.covered_s)


def junit_case(suite: Element, group: str, name: str) -> Element:
    """A test case of a suite; whoever judges it gives it its failure, error or reason to be skipped."""
    return SubElement(suite, "testcase", classname=clean(group), name=clean(name))


def _threshold(case: Element, one: Judged, void: str | None) -> None:
    if void is not None:
        SubElement(case, "skipped", message=f"the run is {void}, so that nothing is judged by it")
    elif one.judgement == "inconclusive":
        SubElement(case, "skipped", message=clean(f"inconclusive: {one.why}"))
    elif one.judgement == "fail":
        SubElement(case, "failure", type="threshold", message=clean(sentence(one)))
    marginal = f", {one.judgement} marginally" if one.marginal and one.judgement != "inconclusive" else ""
    SubElement(case, "system-out").text = clean(f"value {amount(one)}, n {'–' if one.n is None else one.n}{marginal}")


def junit_file(suite: Element, seconds: float) -> str:
    """The text of a file with one suite, whose cases are counted here; it took so many seconds."""
    suite.set("tests", str(len(suite.findall("testcase"))))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", f"{seconds:.3f}")
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def clean(text: str) -> str:
    """Text that XML 1.0 can hold, with what is not seen of it escaped."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", visible(text))


def render_gitlab(findings: Findings) -> str:
    """The file's text: times are in ms and of all requests.

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
    """The file's text: a row for each traffic entry, and one for all requests together.

    Response times are Locust's: of single requests, which are service times here. Failures are Locust's, too: errors,
    and 429s in stages of which none is expected.
    """
    record = findings.record
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(_HEAD)
    for name, figures in findings.metrics.traffic.items():
        rows.writerow(_row(record.info.traffic[name].operation, name, figures, record, record.stages(traffic=name)))
    rows.writerow(_row("", "Aggregated", findings.metrics.overall, record, record.stages()))
    return text.getvalue()


def _row(kind: str, name: str, figures: Figures, record: Record, stages: list[StageKey]) -> list[object]:
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
