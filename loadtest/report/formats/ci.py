"""The files that CI systems read about runs and comparisons.

A run gets ``junit.xml`` and two files whose numbers are computed from every sample:

* ``load-performance.json`` has the form of k6's summary export. GitLab's merge-request widget reads the file and
  compares four figures with those of the merge request's target branch: checks passed, p90 and p95 of the time to the
  first byte, and requests per second (GitLab's documentation, "Load Performance Testing").
* ``stats.csv`` has the form of Locust's ``_stats.csv``. Jenkins' Performance plugin reads it.

A comparison gets JUnit and OpenMetrics files, and GitHub's annotations and outputs.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from loadtest.analysis.columns import StageKey
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import CountedFigures
from loadtest.analysis.run_record import Record
from loadtest.analysis.verdict import Judged, amount, sentence
from loadtest.compare import amounts
from loadtest.compare.measurements import NATURES
from loadtest.compare.results import ComparisonVerdict, MetricComparison, RunComparison
from loadtest.foreign_text import csv_text, visible
from loadtest.stats.order_statistics import rank
from loadtest.words import NOTHING

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""
_VOID: Final = ("invalid", "aborted")
"""The thresholds of runs with these verdicts are not judged."""


_CaseOutcome = tuple[Literal["failure", "error", "skipped"], str, str]
"""The element, type and message of a test case that did not pass. The type is empty if the case was skipped."""


class _Case(NamedTuple):
    """A test case, which passed if it has no outcome."""

    group: str
    name: str
    outcome: _CaseOutcome | None = None
    output: str = ""


def _junit(name: str, started: str, properties: dict[str, str], cases: Sequence[_Case], seconds: float) -> str:
    """Return a JUnit file with one suite.

    ``started`` is a time in ISO 8601, or empty if the time is unknown.
    """
    root = Element("testsuites")
    suite = SubElement(root, "testsuite", {"name": _clean(name), **({"timestamp": started} if started else {})})
    listed = SubElement(suite, "properties")
    for key, value in properties.items():
        SubElement(listed, "property", name=key, value=_clean(value))
    for one in cases:
        case = SubElement(suite, "testcase", classname=_clean(one.group), name=_clean(one.name))
        if one.outcome is not None:
            tag, kind, message = one.outcome
            SubElement(case, tag, {"type": kind} if kind else {}, message=_clean(message))
        if one.output:
            SubElement(case, "system-out").text = _clean(one.output)
    suite.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", f"{seconds:.3f}")
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """Escape invisible characters, and replace characters that XML 1.0 does not allow."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", visible(text))


def render_junit(findings: Findings) -> str:
    """Return one suite with a test case for each check of validity and each threshold.

    A threshold that cannot be judged is skipped with a reason. If the run is invalid or aborted, all thresholds are
    skipped and the cause is an error.
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
    name, started = f"loadtest {info.scenario.name}", info.started.rstrip("Z")
    return _junit(name, started, properties, list(_cases(findings)), findings.record.covered_s)


def _cases(findings: Findings) -> Iterator[_Case]:
    for check in findings.checks:
        outcome: _CaseOutcome | None = None if check.judged else ("skipped", "", f"not judged: {check.words}")
        if not check.ok:
            outcome = "error", "invalid", f"{check.words} ({check.value}, allowed {check.limit})"
        yield _Case("validity", check.name, outcome)
    if findings.record.info.end == "aborted":
        yield _Case("run", "came to its end", ("error", "aborted", findings.verdict.statement))
    for one in findings.judged:
        marginal = f", {one.judgement} marginally" if one.marginal and one.judgement != "inconclusive" else ""
        output = f"value {amount(one)}, n {NOTHING if one.n is None else one.n}{marginal}"
        yield _Case(f"threshold.{one.scope}", one.require, _outcome(one, findings.verdict.word), output)


def _outcome(one: Judged, verdict: str) -> _CaseOutcome | None:
    if verdict in _VOID:
        return "skipped", "", f"not judged: the run is {verdict}"
    if one.judgement == "inconclusive":
        return "skipped", "", f"inconclusive: {one.why}"
    return ("failure", "threshold", sentence(one)) if one.judgement == "fail" else None


def render_gitlab(findings: Findings) -> str:
    """Return the text of ``load-performance.json``. Times are in ms, of requests that were ok or timed out.

    The file's checks are the test cases of ``junit.xml`` that are not skipped.
    """
    record, requests = findings.record, findings.metrics.overall.requests
    stage_indices = record.stage_indices(record.stages())
    outcomes = [case.outcome for case in _cases(findings)]
    passed, failed = outcomes.count(None), sum(each is not None and each[0] != "skipped" for each in outcomes)
    metrics: dict[str, Any] = {
        "checks": {"passes": passed, "fails": failed, "value": passed / (passed + failed)},
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


def _trend(values: Distribution) -> dict[str, float]:
    median, p90, p95 = values.at([rank(values.n, quantile) for quantile in (0.5, 0.9, 0.95)]).tolist()
    ends = {"min": values.least, "med": median, "max": values.most}
    return {"avg": values.mean or 0.0, **ends, "p(90)": p90, "p(95)": p95}


_PERCENTILES: Final = (0.5, 0.66, 0.75, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999, 1.0)
_HEAD: Final = (
    "Type", "Name", "Request Count", "Failure Count", "Median Response Time", "Average Response Time",
    "Min Response Time", "Max Response Time", "Average Content Size", "Requests/s", "Failures/s",
    *(f"{quantile * 100:g}%" for quantile in _PERCENTILES),
)  # fmt: skip


def render_locust_csv(findings: Findings) -> str:
    """Return the text of ``stats.csv``: a row per traffic entry, and a total of all requests.

    As in Locust, a response time is the time of a single request, which is called service time elsewhere. An error or
    a 429 is a failure, unless its status was expected.
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
    requests = figures.requests
    stage_indices = record.stage_indices(stages)
    times = record.times["service_time_ms"].get(stage_indices)
    trend = _trend(times) if times.n else {}
    return [
        kind, csv_text(name), requests.sent, requests.failed,
        *(trend.get(statistic, 0.0) for statistic in ("med", "avg", "min", "max")),
        round(record.means.mean(stage_indices, "bytes") or 0), requests.sent_rate or 0.0,
        requests.failed / figures.seconds if figures.seconds else 0.0,
        *(times.at([rank(times.n, quantile)])[0] if times.n else "N/A" for quantile in _PERCENTILES),
    ]  # fmt: skip


PAGE: Final = "comparison.html"
MARKDOWN: Final = "comparison.md"
_SUITE: Final = "regression"
_NOT_JUDGED: Final = ("not comparable", "invalid")
"""Comparisons with these verdicts judge no metric."""


def render_comparison_junit(comparison: RunComparison) -> str:
    """Return the suite ``regression``: a case for the comparability of the sides, then a case for each judged metric.

    A metric fails only if the whole comparison is ``regressed``, so that the file agrees with the exit code. It
    passes if it is unchanged or improved, and else is skipped with its minimum detectable change, if known. If the
    sides are not comparable or a run is invalid, the first case is an *error*, and all metrics are skipped.
    """
    started = comparison.head_runs[-1].started if comparison.head_runs else ""
    properties = {
        "scenario": comparison.scenario,
        "verdict": comparison.word,
        "sentence": comparison.sentence,
        "run": comparison.runs[-1] if comparison.runs else "",
    }
    group, void = f"{_SUITE}.{comparison.scenario}", comparison.word in _NOT_JUDGED
    cases = [_Case(group, "can be compared", ("error", comparison.word, _all(comparison)) if void else None)]
    for one in amounts.gated(comparison):
        name = f"{one.nature.name} ({one.stage})"
        outcome = _metric_outcome(one, comparison.word)
        cases.append(_Case(f"{group}.{one.traffic}", name, outcome, _words(one)))
    return _junit(_SUITE, started.removesuffix("Z").split("+")[0], properties, cases, 0.0)


def _metric_outcome(one: MetricComparison, word: ComparisonVerdict) -> _CaseOutcome | None:
    if word in _NOT_JUDGED:
        return "skipped", "", f"not judged: {word}"
    if one.verdict == word == "regressed":
        return "failure", "regressed", _words(one)
    if one.verdict in ("unchanged", "improved"):
        return None
    seen = amounts.detectable(one)
    least = "" if seen == NOTHING else f"; minimum detectable change {seen}"
    settled = one.verdict != "regressed" and not one.suspect
    return "skipped", "", f"{one.verdict if settled else 'suspected'}{f': {one.why}' if one.why else ''}{least}"


def _words(one: MetricComparison) -> str:
    text = f"{one.traffic} {one.nature.name}: {amounts.value(one.metric, one.base)} to "
    text += f"{amounts.value(one.metric, one.head)}, {amounts.difference(one.metric, one.difference)}"
    if interval := amounts.difference_interval(one):
        text += f" ({interval})"
    return text if amounts.is_share(one) else f"{text}, {amounts.change(one)}"


def _all(comparison: RunComparison) -> str:
    return " ".join((comparison.sentence, *comparison.reasons))


def render_openmetrics(comparison: RunComparison) -> str:
    """Return the head's values as OpenMetrics text, with times in seconds and shares as ratios.

    GitLab's ``reports:metrics`` reads the text and compares the values with those of the merge request's target branch.
    """
    lines = []
    for metric, nature in NATURES.items():
        suffix, factor = {"ms": ("seconds", 1e-3), "share": ("ratio", 1.0), "1/s": ("per_second", 1.0)}[nature.unit]
        family = f"loadtest_{metric.replace('.', '_')}_{suffix}"
        found = [(one, one.head) for one in comparison.metrics if one.metric == metric and one.head is not None]
        lines += [f"# TYPE {family} gauge", f"# UNIT {family} {suffix}"] if found else []
        for one, head in found:
            traffic, stage = (json.dumps(name, ensure_ascii=False) for name in (one.traffic, one.stage))
            lines.append(f"{family}{{traffic={traffic},stage={stage}}} {head * factor:.6g}")
    regressed = sum(one.verdict == "regressed" for one in amounts.gated(comparison))
    lines += ["# TYPE loadtest_regressed_metrics gauge", f"loadtest_regressed_metrics {regressed}"]
    return "\n".join([*lines, "# EOF"]) + "\n"


_LEVELS: Final[dict[ComparisonVerdict, str]] = {
    "regressed": "error",
    "not comparable": "error",
    "invalid": "error",
    "inconclusive": "warning",
    "learning": "notice",
}


def annotations(comparison: RunComparison) -> list[str]:
    """Return a GitHub workflow command for each finding of a regression, or else for the verdict; empty for a pass."""
    level = _LEVELS.get(comparison.word)
    if level is None:
        return []
    title = _escaped(f"{comparison.scenario}: {comparison.word}", more=":,")
    sentences = [finding.sentence for finding in comparison.findings] if comparison.word == "regressed" else []
    return [f"::{level} title={title}::{_escaped(text)}" for text in sentences or [_all(comparison)]]


def _escaped(text: str, more: str = "") -> str:
    """Escape per cent signs, line ends, and (in properties) colons and commas, like the GitHub runner's toolkit."""
    return re.sub(rf"[%\r\n{more}]", lambda found: f"%{ord(found[0]):02X}", text)


def tell_github(comparison: RunComparison, directory: Path, environment: Mapping[str, str] = os.environ) -> None:
    """In a GitHub job, print annotations and append to the job's outputs and summary. Elsewhere, do nothing."""
    if environment.get("GITHUB_ACTIONS") == "true":
        for line in annotations(comparison):
            print(line)
    values = {
        "verdict": comparison.word,
        "exit_code": str(comparison.exit_code),
        "sentence": comparison.sentence,
        "page": str(directory / PAGE),
    }
    texts = {
        "GITHUB_OUTPUT": "".join(f"{name}={' '.join(value.split())}\n" for name, value in values.items()),
        "GITHUB_STEP_SUMMARY": (directory / MARKDOWN).read_text(encoding="utf-8"),
    }
    for name, text in texts.items():
        if path := environment.get(name):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(text)
