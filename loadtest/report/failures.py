"""What was not ok, in sentences for people: errors by name, and the stage in which most operations did not end well.

A code or a reason is data; here it is said what it means, and where a name was misspelt, which one was meant.
"""

from typing import Final

from loadtest import words
from loadtest.analysis.anomalies import ErrorGroup
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationStage
from loadtest.contract import (
    OPERATIONS,
    POLLED_OPERATIONS,
    THROTTLED_STATUS,
    ErrorCode,
    Operation,
    Outcome,
    Reason,
    RequestKind,
)
from loadtest.reference_settings import BUILT_IN_WORKFLOWS

_NAMED: Final = 0.01
"""Share of an entry's operations in a stage that have to fail or time out for a sentence to speak of it."""


def named_errors(findings: Findings, operation: Operation | None = None) -> str:
    """The most frequent error, by its name: ``all 30 runs got 404 unknown_workflow; there is no workflow …``.

    Returns:
        A clause; empty where there is none but 429s.
    """
    kinds = OPERATIONS[operation] if operation is not None else tuple(RequestKind)
    groups = [group for group in findings.errors if group.status != THROTTLED_STATUS and group.kind in kinds]
    if not groups:
        return ""
    group = groups[0]
    kind = RequestKind(group.kind)
    sent = requests_sent(findings, kind) or group.count
    who = f"{words.count(group.count)} of {words.count(sent)} {kind.several}"
    if group.count >= sent:
        who = f"the only {kind.one}" if sent == 1 else f"all {words.count(sent)} {kind.several}"
    return f"{who} {_what(group)}{_meant(findings, group)}"


def requests_sent(findings: Findings, kind: RequestKind) -> int | None:
    """How many requests of a kind were sent; None where the record has more than are looked at one by one."""
    return int((findings.record.requests["kind"] == kind).sum()) if findings.record.sent.complete else None


def _what(group: ErrorGroup) -> str:
    """What came of a request, with the explanation of its reason where no code says it."""
    if group.code and group.reason == Reason.WRONG_SHAPE:
        return f"got {group.status} in another shape than the documented one: {group.code}"
    if group.status is not None and group.code:
        return f"got {group.status} {group.code}"
    reason = "" if group.reason is None else group.reason
    known = next((word.sentence for word in Reason if word == reason), "")
    explained = f": {known[0].lower()}{known[1:].rstrip('.')} ({reason})" if known else f" ({reason})" if reason else ""
    if group.status is not None and reason == Reason.UNEXPECTED_STATUS:
        return f"got {group.status}"
    return f"failed{explained}" if group.status is None else f"got {group.status} and failed{explained}"


def _meant(findings: Findings, group: ErrorGroup) -> str:
    """What to do about a name that the target does not know."""
    if group.code != ErrorCode.UNKNOWN_WORKFLOW:
        return ""
    plan = findings.record.info.traffic.get(group.traffic)
    if plan is None or plan.workflow is None:
        return ""
    missing = f"; there is no workflow “{plan.workflow}”"
    near = words.nearest(plan.workflow, BUILT_IN_WORKFLOWS)
    return f"{missing}, did you mean {near}?" if near and findings.record.info.target.embedded else missing


def worst_stage(findings: Findings, told: set[tuple[str, str]]) -> str:
    """Where most operations failed or were never seen to end: ``48.8 % of 2 400 jobs in “above” timed out``.

    Args:
        findings: of the run.
        told: traffic entries and stages whose outcomes a reader knows already.

    Returns:
        A clause; empty where no stage that is left had any to speak of.
    """
    found = [
        (part.operations.failed + part.operations.timed_out, name, stage, part)
        for name, figures in findings.metrics.traffic.items()
        for stage, part in figures.stages.items()
        if (name, stage) not in told and (part.error_rate or 0.0) >= _NAMED
    ]
    if not found:
        return ""
    _, name, stage, part = max(found, key=lambda one: one[0])
    left = len(found) - 1
    more = f" (in {left} other stage{'s' if left > 1 else ''} 1\u00a0% or more failed or timed out)" if left else ""
    plan = findings.record.info.traffic[name]
    called = plan.operation.called(part.operations.sent)
    ends = {Outcome.TIMED_OUT: "were never seen to end", Outcome.FAILED: "failed"}
    if plan.operation not in POLLED_OPERATIONS:
        ends[Outcome.TIMED_OUT] = "timed out"
    shares = " and ".join(
        f"{words.share(_part(part, outcome) / part.operations.sent)} {text}"
        for outcome, text in ends.items()
        if _part(part, outcome)
    )
    return f"of {words.count(part.operations.sent)} {called} of “{name}” sent in “{stage}” {shares}{more}"


def _part(part: OperationStage, outcome: Outcome) -> int:
    return part.operations.timed_out if outcome == Outcome.TIMED_OUT else part.operations.failed
