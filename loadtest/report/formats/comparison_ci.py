"""A comparison in the forms that CI systems read: JUnit, OpenMetrics, GitHub's annotations and outputs."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from loadtest.compare import amounts
from loadtest.compare.measurements import NATURES
from loadtest.compare.results import ComparisonVerdict, MetricComparison, RunComparison
from loadtest.report.formats.ci import CaseOutcome, Suite
from loadtest.words import NOTHING

PAGE: Final = "comparison.html"
MARKDOWN: Final = "comparison.md"
_SUITE: Final = "regression"
_VOID: Final = ("not comparable", "invalid")
"""Verdicts of comparisons that judge no metric."""


def render_junit(comparison: RunComparison) -> str:
    """Return suite ``regression``: whether the sides are comparable, then a test case per judged metric.

    A metric fails only if the whole comparison is ``regressed``, so that the file agrees with the exit code. Metrics
    that cannot be judged are skipped with their minimum detectable change. Sides that are not comparable, or an invalid
    run, are an *error* of the first case, and all metrics are skipped.
    """
    started = comparison.head_runs[-1].started if comparison.head_runs else ""
    properties = {
        "scenario": comparison.scenario,
        "verdict": comparison.word,
        "sentence": comparison.sentence,
        "run": comparison.runs[-1] if comparison.runs else "",
    }
    suite, group = Suite(_SUITE, started.removesuffix("Z").split("+")[0], properties), f"{_SUITE}.{comparison.scenario}"
    void = comparison.word in _VOID
    suite.case(group, "can be compared", ("error", comparison.word, _all(comparison)) if void else None)
    for one in amounts.gated(comparison):
        outcome = _outcome(one, comparison.word)
        suite.case(f"{group}.{one.traffic}", f"{one.nature.name} ({one.stage})", outcome, _words(one))
    return suite.text(0.0)


def _outcome(one: MetricComparison, word: ComparisonVerdict) -> CaseOutcome | None:
    if word in _VOID:
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
    change = [
        f"{amounts.value(one.metric, one.base)} to {amounts.value(one.metric, one.head)}",
        amounts.difference(one.metric, one.difference),
    ]
    if interval := amounts.difference_interval(one):
        change[1] += f" ({interval})"
    if not amounts.is_share(one):
        change.append(amounts.change(one))
    return f"{one.traffic} {one.nature.name}: {', '.join(change)}"


def _all(comparison: RunComparison) -> str:
    return " ".join((comparison.sentence, *comparison.reasons))


_UNITS: Final = {"ms": ("seconds", 1e-3), "share": ("ratio", 1.0), "1/s": ("per_second", 1.0)}


def render_openmetrics(comparison: RunComparison) -> str:
    """Return the head's values for GitLab's ``reports:metrics``, which compares them with the target branch.

    In OpenMetrics' base units: seconds and ratios.
    """
    lines = []
    for metric, nature in NATURES.items():
        suffix, factor = _UNITS[nature.unit]
        family = f"loadtest_{metric.replace('.', '_')}_{suffix}"
        found = [one for one in comparison.metrics if one.metric == metric and one.head is not None]
        if found:
            lines += [f"# TYPE {family} gauge", f"# UNIT {family} {suffix}"]
        for one in found:
            labels = f'traffic="{_label(one.traffic)}",stage="{_label(one.stage)}"'
            lines.append(f"{family}{{{labels}}} {(one.head or 0.0) * factor:.6g}")
    regressed = sum(one.verdict == "regressed" for one in amounts.gated(comparison))
    lines += ["# TYPE loadtest_regressed_metrics gauge", f"loadtest_regressed_metrics {regressed}"]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


_LEVELS: Final[dict[ComparisonVerdict, str]] = {
    "regressed": "error",
    "not comparable": "error",
    "invalid": "error",
    "inconclusive": "warning",
    "learning": "notice",
}


def annotations(comparison: RunComparison) -> list[str]:
    """Return GitHub workflow commands: one per finding, else one for the verdict; none for a pass."""
    level = _LEVELS.get(comparison.word)
    if level is None:
        return []
    title = _escaped(f"{comparison.scenario}: {comparison.word}", more=":,")
    sentences = [finding.sentence for finding in comparison.findings] if comparison.word == "regressed" else []
    return [f"::{level} title={title}::{_escaped(text)}" for text in sentences or [_all(comparison)]]


def _escaped(text: str, more: str = "") -> str:
    """As the runner's own toolkit does: per cent, line ends, and in properties colon and comma."""
    return re.sub(rf"[%\r\n{more}]", lambda found: f"%{ord(found[0]):02X}", text)


def tell_github(comparison: RunComparison, directory: Path, environment: Mapping[str, str] = os.environ) -> None:
    """In a GitHub job print annotations, and append to its outputs and its summary; elsewhere nothing.

    ``environment`` has ``GITHUB_ACTIONS``, ``GITHUB_OUTPUT`` and ``GITHUB_STEP_SUMMARY``.
    """
    if environment.get("GITHUB_ACTIONS") == "true":
        for line in annotations(comparison):
            print(line)
    values = {name: str(getattr(comparison, name)) for name in ("exit_code", "sentence")}
    values = {"verdict": comparison.word, **values, "page": str(directory / PAGE)}
    texts = {
        "GITHUB_OUTPUT": "".join(f"{name}={' '.join(value.split())}\n" for name, value in values.items()),
        "GITHUB_STEP_SUMMARY": (directory / MARKDOWN).read_text(encoding="utf-8"),
    }
    for name, text in texts.items():
        if path := environment.get(name):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(text)
