"""The verdict as JUnit XML, which every CI system shows: a threshold or a check of validity is a test case."""

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from loadtest.analysis.findings import Findings
from loadtest.analysis.judgement import Judged
from loadtest.analysis.verdict import amount, sentence

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""


def render(findings: Findings) -> str:
    """One suite: validity first, then the thresholds. What could not be judged is skipped, with the reason.

    An invalid or aborted run judges nothing: its thresholds are skipped, and the check that says why is an error.
    """
    info, verdict = findings.record.info, findings.verdict
    suite = Element("testsuite", name=_clean(f"loadtest {info.scenario.name}"), timestamp=info.started.rstrip("Z"))
    properties = SubElement(suite, "properties")
    for name, value in (
        ("run", info.id),
        ("verdict", verdict.word),
        ("sentence", verdict.sentence),
        ("scenario_hash", info.scenario.hash),
        ("seed", str(info.seed)),
        ("target", info.target.url),
    ):
        SubElement(properties, "property", name=name, value=_clean(value))
    for check in findings.checks:
        case = _case(suite, "validity", check.name)
        if not check.ok:
            words = f"{check.words} ({check.value}, allowed {check.limit})"
            SubElement(case, "error", type="invalid", message=_clean(words))
    if info.end == "aborted":
        SubElement(_case(suite, "run", "came to its end"), "error", type="aborted", message=_clean(verdict.statement))
    void = verdict.word if verdict.word in ("invalid", "aborted") else None
    for one in findings.judged:
        _threshold(_case(suite, f"threshold.{one.threshold.scope}", one.threshold.text), one, void)
    _count(suite, findings.record.covered_s)
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _case(suite: Element, group: str, name: str) -> Element:
    return SubElement(suite, "testcase", classname=_clean(group), name=_clean(name))


def _threshold(case: Element, one: Judged, void: str | None) -> None:
    if void is not None:
        SubElement(case, "skipped", message=f"the run is {void}, so that nothing is judged by it")
    elif one.judgement == "inconclusive":
        SubElement(case, "skipped", message=_clean(f"inconclusive: {one.why}"))
    elif one.judgement == "fail":
        SubElement(case, "failure", type="threshold", message=_clean(sentence(one)))
    SubElement(case, "system-out").text = _clean(f"value {amount(one)}, n {'–' if one.n is None else one.n}")


def _count(suite: Element, seconds: float) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", f"{seconds:.3f}")


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
