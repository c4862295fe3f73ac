"""The answer of a run in one sentence that can be passed on: at most 20 words and three figures.

It is about one operation in one stage, within its limits if it was ever there. Errors have their names and the meaning
of their code or reason; a misspelt name comes with the name that was probably meant.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from loadtest.analysis.anomalies import ErrorGroup
from loadtest.analysis.findings import Findings
from loadtest.contract import THROTTLED_STATUS, ErrorCode, Reason, RequestKind
from loadtest.record.effective_scenario import polling
from loadtest.reference_settings import BUILT_IN_WORKFLOWS
from loadtest.report.answers import answer
from loadtest.report.deciding import MainEntry, stage_parts
from loadtest.report.limits import overdrawn
from loadtest.words import capital, count, counted, duration_ms, nearest, seconds, share

_NAMED: Final = 0.01
"""Minimum share of failed or timed-out operations of an entry in a stage that a sentence mentions."""


def headline(findings: Findings, entry: MainEntry | None) -> str:
    """Answer the scenario's question in a sentence of at most 20 words; ``No data, because …`` without an answer.

    Without comparisons, mistakes and bursts the answer is about the main entry.
    """
    info = findings.record.info
    if entry is None or not findings.metrics.overall.operations.sent:
        return f"No data, because {_nothing(findings)}."
    text = answer(findings) or _behaviour(findings, entry)
    if info.end != "finished":
        ended = info.end if info.end in ("interrupted", "aborted") else "killed"
        text = f"until it was {ended} after {seconds(findings.record.covered_s)}: {text}"
    if any(not check.ok and check.name != "something sent" for check in findings.checks):
        text = f"not reliable: {text}"
    return f"{capital(text)}{'' if text.endswith('?') else '.'}"


def _nothing(findings: Findings) -> str:
    info, dropped = findings.record.info, findings.metrics.overall.operations.dropped
    if not info.traffic:
        return "the scenario has no traffic"
    if dropped:
        return f"no operation was sent: no user was free for {counted(dropped, 'arrival')}"
    if info.end == "aborted":
        return f"the run was aborted before its first request: {info.end_reason or 'it was stopped'}"
    return "the run was interrupted before its first request" if info.end == "interrupted" else "no operation was sent"


def _behaviour(findings: Findings, entry: MainEntry) -> str:
    """Return the main operation's time, and the larger effect of 429s and errors."""
    if not entry.times.n:
        return _no_times(findings)
    times, (failed, failed_rate) = _times(findings, entry), _failed_stages(findings)
    rest, rate = overdrawn(findings, entry.operation)
    if failed_rate > rate:
        rest = failed
    elif not rate:
        rest += _errors(findings)
    return f"within limits {times}; {rest}" if entry.within else f"{rest}; {times}"


def _times(findings: Findings, entry: MainEntry) -> str:
    """Return ``p95 of sync runs is 480 ms``, with the polling interval for jobs."""
    info, name, n = findings.record.info, entry.part.traffic, entry.times.n
    if entry.quantile is None:
        return f"{count(n)} {entry.operation.called(n)} took at most {duration_ms(entry.times.max)}"
    statistic, found = entry.quantile
    alike = [plan.operation for plan in info.traffic.values()].count(entry.operation) > 1
    whose = f"{entry.operation.several}{f' of “{name}”' if alike else ''}"
    if found.at_least:
        timed_out = f"{count(entry.part.figures.operations.timed_out)} of {count(n)} timed out"
        return f"{statistic} of {whose} is at least {duration_ms(found.value)}, as {timed_out}"
    accepted, polled = "" if entry.within or entry.only else "other ", polling(info, name)
    return f"{statistic} of {accepted}{whose} is {duration_ms(found.most)}{f' ({polled})' if polled else ''}"


def _errors(findings: Findings) -> str:
    """Return the share of operations that failed or timed out."""
    counts, cut = findings.metrics.overall.operations, findings.record.cut_off(findings.record.stages())
    if counts.sent == 1:
        return ""
    if bad := counts.failed + counts.timed_out - cut:
        return f", {count(bad)} of {count(counts.sent)} operations failed or timed out"
    if cut:
        return f", {count(cut)} of {count(counts.sent)} operations were cut off by the end of the run"
    return f", all {count(counts.sent)} operations were ok"


def _failed_stages(findings: Findings) -> tuple[str, float]:
    """Return the worst stage by failures and time-outs, and its share; 0 if all stages are below 1 %."""
    found = []
    for part in stage_parts(findings):
        counts, late = part.figures.operations, part.figures.operations.timed_out - findings.record.cut_off([part.key])
        if counts.sent:
            found.append(((counts.failed + late) / counts.sent, part, {"failed": counts.failed, "timed out": late}))
    if not any(rate >= _NAMED for rate, *_ in found):
        return "", 0.0
    rate, part, numbers = max(found, key=lambda each: each[0])
    if sum(failed >= _NAMED for failed, *_ in found) > 1:
        several = sum(failed > 0 for failed, *_ in found)
        return f"{several} stages had failures, up to {share(rate)} (“{part.stage}”)", rate
    ends = " or ".join(word for word, number in numbers.items() if number)
    return (
        f"{share(rate)} of {part.key.operation.several} in “{part.stage}” {ends}",
        rate,
    )


def _no_times(findings: Findings) -> str:
    """Return why there is no response time: the outcomes of all operations."""
    counts = findings.metrics.overall.operations
    every = "the only operation" if counts.sent == 1 else f"all {count(counts.sent)} operations"
    if counts.throttled == counts.sent:
        return f"{every} got 429"
    if counts.failed == counts.sent:
        return _named_error(findings) or f"{every} failed"
    if counts.throttled or counts.failed:
        return f"of {every} {count(counts.throttled)} got 429 and {count(counts.failed)} failed"
    return f"{every} were never answered"


def _named_error(findings: Findings) -> str:
    """Return the most frequent error, ``all 30 runs got 404 unknown_workflow; …``; empty if all are 429s."""
    groups = (group for group in over_traffic(findings.errors) if group.status != THROTTLED_STATUS)
    if (group := next(groups, None)) is None:
        return ""
    kind = RequestKind(group.kind)
    sent = requests_sent(findings, kind) or group.count
    many = f"all {count(sent)}" if group.count >= sent else f"{count(group.count)} of {count(sent)}"
    which = f"the only {kind.one}" if sent == 1 else f"{many} {kind.several}"
    return f"{which} {_fate(group)}{_meant(findings, group)}"


def over_traffic(groups: Iterable[ErrorGroup]) -> list[ErrorGroup]:
    """Return error groups summed over traffic entries, the most frequent first; the rest is the largest entry's."""
    summed: dict[tuple[str | int | None, ...], ErrorGroup] = {}
    for group in groups:
        key = (group.kind, group.status, group.code, group.reason)
        known = summed.get(key)
        summed[key] = group if known is None else replace(known, count=known.count + group.count)
    return sorted(summed.values(), key=lambda group: -group.count)


def requests_sent(findings: Findings, kind: RequestKind) -> int | None:
    """Return the number of requests of a kind; None if the record has too many to count by kind."""
    return int((findings.record.requests["kind"] == kind).sum()) if findings.record.sent.complete else None


def _fate(group: ErrorGroup) -> str:
    """Return a request's outcome, with the reason explained if there is no error code."""
    if group.code and group.reason == Reason.WRONG_SHAPE:
        return f"got {group.status} in another shape than the documented one: {group.code}"
    if group.status is not None and group.code:
        return f"got {group.status} {group.code}"
    if group.status is not None and group.reason == Reason.UNEXPECTED_STATUS:
        return f"got {group.status}"
    known = next((word.sentence for word in Reason if word == group.reason), "")
    explained = f": {known[:1].lower()}{known[1:].rstrip('.')}" if known else ""
    failed = f"failed{explained} ({group.reason})" if group.reason else "failed"
    return failed if group.status is None else f"got {group.status} and {failed}"


def _meant(findings: Findings, group: ErrorGroup) -> str:
    info = findings.record.info
    plan = info.traffic.get(group.traffic) if group.code == ErrorCode.UNKNOWN_WORKFLOW else None
    if plan is None or plan.workflow is None:
        return ""
    near = nearest(plan.workflow, BUILT_IN_WORKFLOWS) if info.target.embedded else None
    return f"; there is no workflow “{plan.workflow}”{f', did you mean {near}?' if near else ''}"
