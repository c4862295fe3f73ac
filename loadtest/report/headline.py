"""The first screen: what a run found out, in a sentence or two that can be passed on.

It speaks of one operation in one stage, within its limits if it was ever there. Errors are called by name, with what
their code or reason means, and where a name was misspelt, which one was meant.
"""

from dataclasses import dataclass
from typing import Final

from loadtest.analysis.anomalies import ErrorGroup
from loadtest.analysis.columns import OUTCOMES
from loadtest.analysis.distribution import Distribution, percentile
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import Value
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
from loadtest.record.run_info import StagePlan
from loadtest.reference_settings import BUILT_IN_WORKFLOWS
from loadtest.report.answers import answer
from loadtest.report.limits import overdrawn
from loadtest.stats.order_statistics import QUANTILES, needed
from loadtest.words import count, counted, duration_ms, joined, nearest, seconds, share

_NAMED: Final = 0.01
"""Share of an entry's operations in a stage that have to fail or time out for a sentence to speak of it."""


@dataclass(frozen=True)
class MainEntry:
    """A traffic entry in one of its stages.

    Attributes:
        stages: the one that is meant; none of an entry without stages.
        within: whether that was planned within the limits.
        only: whether it is the only such stage, so that it need not be named.
        times: response times of their operations that were ok or timed out.
    """

    traffic: str
    operation: Operation
    stages: tuple[StagePlan, ...]
    within: bool
    only: bool
    times: Distribution

    @property
    def quantile(self) -> tuple[str, float] | None:
        """p95 where there are enough samples, else the highest that there are enough for (p90, p50), else None."""
        enough = (name for name in ("p95", "p90", "p50") if self.times.n >= needed(QUANTILES[name]))
        return next(((name, QUANTILES[name]) for name in enough), None)

    @property
    def percentile(self) -> Value | None:
        return None if self.quantile is None else percentile(self.times, self.quantile[1])

    @property
    def words(self) -> str:
        return self.operation.called(self.times.n)


def within_limits(stage: StagePlan) -> bool:
    """Whether a stage was planned within every limit, and no 429 is expected of it."""
    return not stage.over and not stage.expect_429


def main_entry(findings: Findings) -> MainEntry | None:
    """The entry whose times the first screen gives: sync runs before jobs before retrievals; None without traffic.

    One that has times comes before one that has none, what a comparison chose or looks at before others, one within its
    limits before one above them, and of several that do the same the one with the most times.
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
    # Never a blend: of several, the stage that has the most times.
    found = [(record.time("response_time_ms", [key]), key.stage) for key in (calm if within else planned)]
    times, stage = max(found, key=lambda one: one[0].n, default=(Distribution(), None))
    stages = () if stage is None else (stage,)
    return MainEntry(name, record.info.traffic[name].operation, stages, within, len(found) == 1, times)


def headline(findings: Findings) -> str:
    """The summary sentence; ``No data, because …`` where there is nothing to sum up."""
    info = findings.record.info
    broken = [check for check in findings.checks if not check.ok and check.name != "something sent"]
    entry = main_entry(findings)
    if entry is None or not findings.metrics.overall.operations.sent:
        return f"No data, because {_nothing(findings)}."
    if answered := answer(findings):
        parts = [answered, _worst_stage(findings, set())]
    else:
        parts = [_times(findings, entry), overdrawn(findings, entry.operation)]
        # Where nothing has a time, it was said why.
        if entry.times.n:
            told = {(entry.traffic, stage.name) for stage in entry.stages}
            parts.append(_worst_stage(findings, told) or _served(findings))
    text = "; ".join(part for part in parts if part).replace("?; ", "? ") + "."
    if info.end != "finished":
        ended = info.end if info.end in ("interrupted", "aborted") else "killed"
        text = f"Until it was {ended} after {seconds(findings.record.covered_s)}: {text}"
    text = text[0].upper() + text[1:]
    return f"Not to be relied on, because {broken[0].words}. {text}" if broken else text


def _nothing(findings: Findings) -> str:
    info, dropped = findings.record.info, findings.metrics.overall.operations.dropped
    if not info.traffic:
        return "the scenario has no traffic"
    if dropped:
        which = "the one arrival" if dropped == 1 else f"{count(dropped)} arrivals"
        return f"no operation was sent: nothing was free to send {which} when due"
    if info.end == "aborted":
        return f"the run was aborted before its first request: {info.end_reason or 'it was stopped'}"
    return "the run was interrupted before its first request" if info.end == "interrupted" else "no operation was sent"


def _times(findings: Findings, entry: MainEntry) -> str:
    if not entry.times.n:
        return f"no response time, because {_no_times(findings)}"
    stages = findings.metrics.traffic[entry.traffic].stages
    parts = [stages[stage.name].operations for stage in entry.stages]
    counts = {word: sum(getattr(each, word) for each in parts) for word in ("offered", *OUTCOMES)}
    where = "within the limits " if entry.within else ""
    found, n, whose = entry.percentile, entry.times.n, f"{entry.words}{_whose(findings, entry)}"
    if found is None or found.value is None or entry.quantile is None:
        times = duration_ms(entry.times.most)
        took = f"the one {whose} that was answered took {times}" if n == 1 else f"{n} {whose} took {times} at most"
        return f"{where}{took}, too few for a percentile{_wrong(findings, entry, counts)}"
    if found.at_least:
        late = count(counts[Outcome.TIMED_OUT])
        text = f"{where}{late} of {count(n)} {whose} timed out, the first after {duration_ms(entry.times.open_from)}"
        half = percentile(entry.times, 0.5)
        known = half.most is not None and not half.at_least
        return f"{text}, and half took at most {duration_ms(half.most)}" if known else text
    took = _took(findings, entry, entry.quantile[1], found)
    return f"{where}{took}{_wrong(findings, entry, counts)}{_other_times(findings, entry)}"


def _took(findings: Findings, entry: MainEntry, quantile: float, found: Value) -> str:
    """``95 % of 80 sync runs took at most 469 ms``; of jobs it is known when they were seen to end."""
    said = "were seen to end within" if entry.operation in POLLED_OPERATIONS else "took at most"
    whose = f"{count(entry.times.n)} {entry.words}{_whose(findings, entry)}"
    return f"{quantile * 100:.0f}\u00a0% of {whose} {said} {duration_ms(found.most)}"


def _other_times(findings: Findings, entry: MainEntry) -> str:
    """How long the other operations took within their limits; empty where the main entry is above its own."""
    entries = sorted((_entry(findings, name) for name in findings.record.info.traffic), key=lambda one: -one.times.n)
    told, seen = "", {entry.operation}
    for one in entries if entry.within else ():
        found = one.percentile
        if one.operation in seen or not one.within or one.quantile is None or found is None or found.at_least:
            continue
        seen.add(one.operation)
        told += f", {_took(findings, one, one.quantile[1], found)}"
    return told


def _whose(findings: Findings, entry: MainEntry) -> str:
    """Whose operations they are, where several traffic entries do the same; and which stage, where there are more."""
    alike = [name for name, plan in findings.record.info.traffic.items() if plan.operation == entry.operation]
    where = "" if entry.only else f" in “{entry.stages[0].name}”"
    return (f" of “{entry.traffic}”" if len(alike) > 1 else "") + where


def _wrong(findings: Findings, entry: MainEntry, counts: dict[str, int]) -> str:
    """What became of operations that no time is given of, or that timed out; empty where all were ok."""
    bad = {
        Outcome.THROTTLED: ("was throttled", "were throttled"),
        Outcome.FAILED: ("failed",) * 2,
        Outcome.TIMED_OUT: ("timed out",) * 2,
        Outcome.DROPPED: ("was never sent", "were never sent"),
    }
    found = [f"{count(counts[word])} {forms[counts[word] != 1]}" for word, forms in bad.items() if counts.get(word)]
    named = _named_error(findings, entry.operation) if counts[Outcome.FAILED] else ""
    named = f"; the most frequent error: {named}" if named else ""
    return f" (of {count(counts['offered'])}, {joined(found)}{named})" if found else ""


def _no_times(findings: Findings) -> str:
    counts = findings.metrics.overall.operations
    sent = counts.sent
    subject, was = ("the only operation", "was") if sent == 1 else (f"all {count(sent)} operations", "were")
    if counts.throttled == sent:
        return f"{subject} {was} throttled (429)"
    if counts.failed == sent:
        named = _named_error(findings)
        # One error explains most of them; where it is that of all, there is nothing else to say.
        if named.startswith(("all ", "the only ")):
            return named
        return f"{subject} failed" + (f": {named}" if named else "")
    if counts.throttled or counts.failed:
        throttled = f"of {count(sent)} operations {count(counts.throttled)} were throttled"
        return f"{throttled} and {count(counts.failed)} failed"
    return "none was answered"


def _served(findings: Findings) -> str:
    """That nothing but 429s went wrong, of a run above a limit; empty where something did, however little."""
    counts = findings.metrics.overall.operations
    if counts.failed or counts.timed_out or not any(use.busiest > 1 or use.throttled for use in findings.uses):
        return ""
    return f"none of {count(counts.sent)} operations failed or timed out"


def _named_error(findings: Findings, operation: Operation | None = None) -> str:
    """The most frequent error, by its name: ``all 30 runs got 404 unknown_workflow; there is no workflow …``.

    Returns:
        A clause; empty where there is none but 429s.
    """
    kinds = OPERATIONS[operation] if operation is not None else tuple(RequestKind)
    groups = (group for group in findings.errors if group.status != THROTTLED_STATUS and group.kind in kinds)
    if (group := next(groups, None)) is None:
        return ""
    kind = RequestKind(group.kind)
    sent = requests_sent(findings, kind) or group.count
    who = f"{count(group.count)} of {count(sent)} {kind.several}"
    if group.count >= sent:
        who = f"the only {kind.one}" if sent == 1 else f"all {count(sent)} {kind.several}"
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


def _worst_stage(findings: Findings, told: set[tuple[str, str]]) -> str:
    """Where most operations failed or were never seen to end: ``48.8 % of 2 400 jobs in “above” timed out``.

    Args:
        findings: of the run.
        told: traffic entries and stages whose outcomes a reader knows already.

    Returns:
        A clause; empty where no stage that is left had any to speak of.
    """
    found = [
        (name, stage, part.operations)
        for name, figures in findings.metrics.traffic.items()
        for stage, part in figures.stages.items()
        if (name, stage) not in told and (part.error_rate or 0.0) >= _NAMED
    ]
    if not found:
        return ""
    name, stage, counts = max(found, key=lambda one: one[2].failed + one[2].timed_out)
    left = f" (in {counted(len(found) - 1, 'other stage')} 1\u00a0% or more failed or timed out)" if found[1:] else ""
    operation, sent = findings.record.info.traffic[name].operation, counts.sent
    late = "were never seen to end" if operation in POLLED_OPERATIONS else "timed out"
    ends = {late: counts.timed_out, "failed": counts.failed}
    shares = " and ".join(f"{share(number / sent)} {end}" for end, number in ends.items() if number)
    return f"of {count(sent)} {operation.called(sent)} of “{name}” sent in “{stage}” {shares}{left}"
