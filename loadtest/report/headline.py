"""The first screen: what a run found out, in a sentence or two that can be passed on.

It speaks of one operation in one stage, within its limits if it was ever there.
"""

from dataclasses import dataclass

from loadtest import words
from loadtest.analysis.columns import OUTCOMES
from loadtest.analysis.distribution import Distribution, percentile
from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.usage import LimitUse
from loadtest.analysis.results import Value
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import LIMIT_OF_OPERATION, POLLED_OPERATIONS, THROTTLED_STATUS, Operation, Outcome
from loadtest.record.run_info import StagePlan
from loadtest.report.answers import answer
from loadtest.report.failures import named_errors, worst_stage
from loadtest.report.prediction import expected_rate, predicted
from loadtest.stats import QUANTILES, needed


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
        for name in ("p95", "p90", "p50"):
            if self.times.n >= needed(QUANTILES[name]):
                return name, QUANTILES[name]
        return None

    @property
    def percentile(self) -> Value | None:
        """The percentile of ``quantile``."""
        return None if self.quantile is None else percentile(self.times, self.quantile[1])

    @property
    def words(self) -> str:
        """What its operations are called."""
        return self.operation.called(self.times.n)


def within_limits(stage: StagePlan) -> bool:
    """Whether a stage was planned within every limit, and no 429 is expected of it."""
    return not stage.over and not stage.expect_429


def main_entry(findings: Findings) -> MainEntry | None:
    """The entry whose times the first screen gives: sync runs before jobs before retrievals; None without traffic.

    One that has times comes before one that has none, what a comparison chose or looks at before others, one within its
    limits before one above them, and of several that do the same the one with the most times.
    """
    found = [_entry(findings, name) for name in findings.record.info.traffic]
    order = list(Operation)
    answered = {each.entry or each.chosen for each in findings.answers}
    return min(
        found,
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


def outcomes(findings: Findings, entry: MainEntry) -> dict[str, int]:
    """Operations of an entry's stages by outcome."""
    stages = findings.metrics.traffic[entry.traffic].stages
    counts = [stages[stage.name].operations for stage in entry.stages]
    return {word: sum(getattr(each, word) for each in counts) for word in ("offered", *OUTCOMES)}


def headline(findings: Findings) -> str:
    """The summary sentence; ``No data, because …`` where there is nothing to sum up."""
    broken = [check for check in findings.checks if not check.ok and check.name != "something sent"]
    entry = main_entry(findings)
    if entry is None or not findings.metrics.overall.operations.sent:
        return f"No data, because {_nothing(findings)}."
    told = {(entry.traffic, stage.name) for stage in entry.stages}
    # Where nothing has a time, it was said why.
    parts = [_times(findings, entry), _limits(findings)]
    if entry.times.n:
        parts.append(worst_stage(findings, told) or _served(findings))
    if answered := answer(findings):
        parts = [answered, worst_stage(findings, set())]
    text = "; ".join(part for part in parts if part).replace("?; ", "? ") + "."
    text = _until(findings) + text
    text = text[0].upper() + text[1:]
    return f"Not to be relied on, because {broken[0].words}. {text}" if broken else text


def _nothing(findings: Findings) -> str:
    info, counts = findings.record.info, findings.metrics.overall.operations
    if not info.traffic:
        return "the scenario has no traffic"
    if counts.dropped:
        dropped = "the one arrival" if counts.dropped == 1 else f"{words.count(counts.dropped)} arrivals"
        return f"no operation was sent: nothing was free to send {dropped} when due"
    if info.end == "aborted":
        return f"the run was aborted before its first request: {info.end_reason or 'it was stopped'}"
    if info.end == "interrupted":
        return "the run was interrupted before its first request"
    return "no operation was sent"


def _until(findings: Findings) -> str:
    info, covered = findings.record.info, words.seconds(findings.record.covered_s)
    if info.end == "finished":
        return ""
    ended = {"interrupted": "interrupted", "aborted": "aborted"}.get(info.end, "killed")
    return f"Until it was {ended} after {covered}: "


def _times(findings: Findings, entry: MainEntry) -> str:
    counts = outcomes(findings, entry)
    where = "within the limits " if entry.within else ""
    if not entry.times.n:
        return _no_times(findings)
    found, n = entry.percentile, entry.times.n
    if found is None or found.value is None or entry.quantile is None:
        times = words.duration_ms(entry.times.most)
        if n == 1:
            took = f"the one {entry.words}{_whose(findings, entry)} that was answered took {times}"
        else:
            took = f"{n} {entry.words}{_whose(findings, entry)} took {times} at most"
        took += ", too few for a percentile"
        return f"{where}{took}{_wrong(findings, entry, counts)}"
    whose = f"{words.count(n)} {entry.words}{_whose(findings, entry)}"
    if found.at_least:
        late = words.count(counts[Outcome.TIMED_OUT])
        text = f"{where}{late} of {whose} timed out, the first after {words.duration_ms(entry.times.open_from)}"
        half = percentile(entry.times, 0.5)
        if half.most is not None and not half.at_least:
            text += f", and half took at most {words.duration_ms(half.most)}"
        return text
    took = _took(findings, entry, entry.quantile[1], found.most)
    return f"{where}{took}{_wrong(findings, entry, counts)}{_other_times(findings, entry)}"


def _took(findings: Findings, entry: MainEntry, quantile: float, most_ms: float | None) -> str:
    """``95 % of 80 sync runs took at most 469 ms``; of jobs it is known when they were seen to end."""
    said = "were seen to end within" if entry.operation in POLLED_OPERATIONS else "took at most"
    whose = f"{words.count(entry.times.n)} {entry.words}{_whose(findings, entry)}"
    return f"{quantile * 100:.0f}\u00a0% of {whose} {said} {words.duration_ms(most_ms)}"


def _other_times(findings: Findings, entry: MainEntry) -> str:
    """How long the other operations took within their limits; empty where the main entry is above its own."""
    entries = sorted((_entry(findings, name) for name in findings.record.info.traffic), key=lambda one: -one.times.n)
    told, seen = "", {entry.operation}
    for one in entries if entry.within else ():
        found = one.percentile
        if one.operation in seen or not one.within or one.quantile is None or found is None or found.at_least:
            continue
        seen.add(one.operation)
        told += f", {_took(findings, one, one.quantile[1], found.most)}"
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
    found = [
        f"{words.count(counts[word])} {forms[counts[word] != 1]}" for word, forms in bad.items() if counts.get(word)
    ]
    listed = f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else "".join(found)
    named = named_errors(findings, Operation(entry.operation)) if counts[Outcome.FAILED] else ""
    named = f"; the most frequent error: {named}" if named else ""
    return f" (of {words.count(counts['offered'])}, {listed}{named})" if found else ""


def _no_times(findings: Findings) -> str:
    """Why there is no response time."""
    counts = findings.metrics.overall.operations
    sent = counts.sent
    subject = "the only operation" if sent == 1 else f"all {words.count(sent)} operations"
    was = "was" if sent == 1 else "were"
    why = "none was answered"
    if counts.throttled == sent:
        why = f"{subject} {was} throttled (429)"
    elif counts.failed == sent:
        named = named_errors(findings)
        # One error explains most of them; where it is that of all, there is nothing else to say.
        why = (
            named if named.startswith(("all ", "the only ")) else f"{subject} failed" + (f": {named}" if named else "")
        )
    elif counts.throttled or counts.failed:
        why = (
            f"of {words.count(sent)} operations {words.count(counts.throttled)} were throttled and "
            f"{words.count(counts.failed)} failed"
        )
    return f"no response time, because {why}"


def _limits(findings: Findings) -> str:
    """The stretch in which a limit was overdrawn the most, and whether the assumed limiter explains it."""
    entry, requests = main_entry(findings), findings.metrics.overall.requests
    if not requests.accepted and not requests.throttled:
        return ""  # nothing was answered
    uses = [use for use in findings.uses if use.busiest > 1 or use.throttled]
    if not uses:
        return "" if requests.throttled else f"no request got 429{_went_wrong(findings)}"
    # The limit of the operation that the sentence is about, if that was overdrawn.
    own = [
        u
        for u in uses
        if entry is not None and u.limit == LIMIT_OF_OPERATION[Operation(entry.operation)] and u.throttled
    ]
    use = max(own or uses, key=lambda one: (one.throttled, one.busiest))
    assumed_limits = findings.record.assumed_limits
    text = f"the {words.limit_name(use.limit)}"
    if assumed_limits.spec.algorithm == CONCURRENCY:
        return f"in “{use.stretch}” {words.share(use.throttled_rate)} of the requests to {text} got 429"
    # Below the limit, and refused all the same as it must be: bursts are above it for a while. So is the end of a ramp.
    burst = use.busiest <= 1 and use.throttled and expected_rate(findings, use)
    average = " on average," if burst or _has_ramp(findings, use) else ""
    quotas = findings.record.quotas_on(use.limit)
    keys = f" (over {quotas} keys)" if quotas > 1 else ""
    if use.uneven:
        keys = f" of key {use.keys[0].key} ({words.times(use.share)} over {quotas} keys)"
    at = f"at {words.times_what(use.busiest)} {text}{average}{keys}"
    # Below a limit, it is the stage that is news.
    at += f" in “{use.stretch}”" if use.busiest <= 1 else ""
    got = f"{words.share(use.throttled_rate)} of the requests got 429" if use.throttled else "no request got 429"
    return f"{at} {got}{predicted(findings, use)}{_other_limits(findings, use)}{_first_429(findings, use)}"


def _has_ramp(findings: Findings, use: LimitUse) -> bool:
    """Whether a rate rises or falls in a stretch."""
    plans = [stage for _, stage in findings.record.stages() if stage.rate != stage.rate_to]
    return any(plan.start_s < use.end_s and use.start_s < plan.start_s + plan.duration_s for plan in plans)


def _other_limits(findings: Findings, told: LimitUse) -> str:
    """What share of the requests to each other limit got 429, where most did; empty where none did."""
    most: dict[str, LimitUse] = {}
    for use in findings.uses:
        before = most[use.limit].throttled if use.limit in most else 0
        if use.limit != told.limit and use.throttled > before:
            most[use.limit] = use
    return "".join(
        f"; at {words.times_what(use.busiest)} the {words.limit_name(use.limit)}"
        f" {words.share(use.throttled_rate)}{predicted(findings, use, briefly=True)}"
        for use in most.values()
    )


def _first_429(findings: Findings, use: LimitUse) -> str:
    """At which rate a ramp met its first 429; empty without a ramp on the limit, or without a 429 in it."""
    record, assumed = findings.record, findings.record.assumed_limits
    limit = assumed.limit_on(use.limit).rate * record.quotas_on(use.limit)
    refused = record.requests[record.requests["status"] == THROTTLED_STATUS]
    for key in record.stages():
        plan, operation = key.stage, Operation(record.info.traffic[key.traffic].operation)
        own = refused["stage_index"] == record.stage_indices([key])[0]
        if plan.rate == plan.rate_to or not own.any() or assumed.drawn_on(LIMIT_OF_OPERATION[operation]) != use.limit:
            continue
        elapsed = float(refused["start"][own].min()) / 1e9 - plan.start_s
        offered = plan.rate + (plan.rate_to - plan.rate) * elapsed / plan.duration_s
        return f"; as “{plan.name}” rose, the first came at {words.times_what(offered / limit)} the limit"
    return ""


def _served(findings: Findings) -> str:
    """That nothing but 429s went wrong, of a run above a limit; empty where something did, however little."""
    counts = findings.metrics.overall.operations
    if counts.failed or counts.timed_out or not any(use.busiest > 1 or use.throttled for use in findings.uses):
        return ""
    return f"none of {words.count(counts.sent)} operations failed or timed out"


def _went_wrong(findings: Findings) -> str:
    """How many operations of all traffic did not end well, of a run in which none was refused."""
    counts = findings.metrics.overall.operations
    bad, sent = counts.failed + counts.timed_out, words.count(counts.sent)
    if counts.sent == 1:
        return ""
    return f", and {words.count(bad) if bad else 'none'} of {sent} operations failed or timed out"
