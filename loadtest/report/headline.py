"""The answer of a run in one sentence that can be passed on: at most 20 words and three figures.

It is about one operation in one stage, within its limits if it was ever there. Errors have their names and the meaning
of their code or reason; a misspelt name comes with the name that was probably meant.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from loadtest.analysis.anomalies import ErrorGroup
from loadtest.analysis.distribution import Distribution, percentile
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import Value
from loadtest.contract import THROTTLED_STATUS, ErrorCode, Operation, Reason, RequestKind
from loadtest.record.effective_scenario import polling
from loadtest.record.run_info import StagePlan
from loadtest.reference_settings import BUILT_IN_WORKFLOWS
from loadtest.report.answers import answer
from loadtest.report.limits import overdrawn
from loadtest.stats.order_statistics import QUANTILES, needed
from loadtest.words import capital, count, counted, duration_ms, nearest, seconds, share

_NAMED: Final = 0.01
"""Minimum share of failed or timed-out operations of an entry in a stage that a sentence mentions."""


@dataclass(frozen=True)
class MainEntry:
    """A traffic entry in one of its stages.

    Attributes:
        stage: the one with the most times; None for an entry without stages.
        within: whether that was planned within the limits.
        only: whether it is the only such stage, so that it need not be named.
        times: response times of operations that were ok or timed out.
    """

    traffic: str
    operation: Operation
    stage: StagePlan | None
    within: bool
    only: bool
    times: Distribution

    @property
    def quantile(self) -> tuple[str, float] | None:
        """The highest of p95, p90 and p50 that has enough samples; None without any."""
        enough = (name for name in ("p95", "p90", "p50") if self.times.n >= needed(QUANTILES[name]))
        return next(((name, QUANTILES[name]) for name in enough), None)

    @property
    def percentile(self) -> Value | None:
        return None if self.quantile is None else percentile(self.times, self.quantile[1])

    @property
    def words(self) -> str:
        return self.operation.called(self.times.n)


def within_limits(stage: StagePlan) -> bool:
    """Whether a stage was planned within all limits, with no 429 expected."""
    return not stage.over and not stage.expect_429


def main_entry(findings: Findings) -> MainEntry | None:
    """The entry whose times the first screen gives: sync runs before jobs before retrievals; None without traffic.

    In order of priority: entries with times, chosen by a comparison, within their limits, with the most times.
    """
    order = list(Operation)
    answered = {each.entry or each.chosen for each in findings.answers}
    return min(
        (_entry(findings, name) for name in findings.record.info.traffic),
        key=lambda one: (
            not one.times.n,
            one.traffic not in answered,
            not one.within,
            one.quantile is None,
            order.index(one.operation),
            -one.times.n,
        ),
        default=None,
    )


def _entry(findings: Findings, name: str) -> MainEntry:
    record = findings.record
    planned = record.stages(traffic=name)
    calm = [key for key in planned if within_limits(key.stage)]
    within = bool(calm) and bool(record.time("response_time_ms", calm).n)
    # Stages are never mixed: use the stage with the most times.
    found = [(record.time("response_time_ms", [key]), key.stage) for key in (calm if within else planned)]
    times, stage = max(found, key=lambda one: one[0].n, default=(Distribution(), None))
    return MainEntry(name, record.info.traffic[name].operation, stage, within, len(found) == 1, times)


def headline(findings: Findings) -> str:
    """Answer the scenario's question in a sentence of at most 20 words; ``No data, because …`` without an answer."""
    info, entry = findings.record.info, main_entry(findings)
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
    times, failed = _times(findings, entry), _failed_stages(findings)
    rejected, rate = overdrawn(findings, entry.operation)
    rest = failed[0] if failed[1] > rate else rejected
    if not rate and not failed[1]:
        rest = f"{rejected}{_errors(findings)}"
    return f"within limits {times}; {rest}" if entry.within else f"{rest}; {times}"


def _times(findings: Findings, entry: MainEntry) -> str:
    """Return ``p95 of sync runs is 480 ms``, with the polling interval for jobs."""
    found, n, polled = entry.percentile, entry.times.n, polling(findings.record.info, entry.traffic)
    alike = [plan.operation for plan in findings.record.info.traffic.values()].count(entry.operation) > 1
    whose = f"{entry.operation.several}{f' of “{entry.traffic}”' if alike else ''}"
    if found is None or found.value is None or entry.quantile is None:
        return f"{count(n)} {entry.words} took at most {duration_ms(entry.times.most)}"
    if found.at_least:
        late = 0 if entry.times.late is None else entry.times.late.n
        return f"{count(late)} of {count(n)} {whose} timed out, the first after {duration_ms(entry.times.open_from)}"
    accepted = "" if entry.within or entry.only else "other "
    return f"{entry.quantile[0]} of {accepted}{whose} is {duration_ms(found.most)}{f' ({polled})' if polled else ''}"


def _errors(findings: Findings) -> str:
    """Return the share of operations that failed or timed out."""
    counts = findings.metrics.overall.operations
    if counts.sent == 1:
        return ""
    cut = findings.record.cut_off(findings.record.stages())
    if bad := counts.failed + counts.timed_out - cut:
        return f", {count(bad)} of {count(counts.sent)} operations failed or timed out"
    if cut:
        return f", {count(cut)} of {count(counts.sent)} operations were cut off by the end of the run"
    return f", all {count(counts.sent)} operations were ok"


def _failed_stages(findings: Findings) -> tuple[str, float]:
    """Return the worst stage by failures and time-outs, and its share; 0 if all stages are below 1 %."""
    parts = []
    for key in findings.record.stages():
        part = findings.metrics.traffic[key.traffic].stages.get(key.stage.name)
        if part is not None and part.operations.sent:
            late = part.operations.timed_out - findings.record.cut_off([key])
            rate = (part.operations.failed + late) / part.operations.sent
            parts.append((rate, key, {"failed": part.operations.failed, "timed out": late}))
    found = [each for each in parts if each[0] >= _NAMED]
    if not found:
        return "", 0.0
    rate, key, numbers = max(found, key=lambda each: each[0])
    stage = f"“{key.stage.name}”"
    if len(found) > 1:
        return f"in {len(found)} of {len(parts)} stages 1\u00a0% or more failed, at most {share(rate)} ({stage})", rate
    ends = " or ".join(word for word, number in numbers.items() if number)
    several = findings.record.info.traffic[key.traffic].operation.several
    return f"{share(rate)} of {several} in {stage} {ends}", rate


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
    who = f"the only {kind.one}" if sent == 1 else f"{many} {kind.several}"
    return f"{who} {_what(group)}{_meant(findings, group)}"


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


def _what(group: ErrorGroup) -> str:
    """Return a request's outcome, with the reason explained if there is no error code."""
    if group.code and group.reason == Reason.WRONG_SHAPE:
        return f"got {group.status} in another shape than the documented one: {group.code}"
    if group.status is not None and group.code:
        return f"got {group.status} {group.code}"
    if group.status is not None and group.reason == Reason.UNEXPECTED_STATUS:
        return f"got {group.status}"
    known = next((word.sentence for word in Reason if word == group.reason), "")
    explained = f": {known[0].lower()}{known[1:].rstrip('.')}" if known else ""
    failed = f"failed{explained} ({group.reason})" if group.reason else "failed"
    return failed if group.status is None else f"got {group.status} and {failed}"


def _meant(findings: Findings, group: ErrorGroup) -> str:
    info = findings.record.info
    plan = info.traffic.get(group.traffic) if group.code == ErrorCode.UNKNOWN_WORKFLOW else None
    if plan is None or plan.workflow is None:
        return ""
    near = nearest(plan.workflow, BUILT_IN_WORKFLOWS) if info.target.embedded else None
    return f"; there is no workflow “{plan.workflow}”{f', did you mean {near}?' if near else ''}"
