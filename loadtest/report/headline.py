"""The part of a run that its first screen speaks of: one operation, within its limits if it was ever there.

What a run found out, in a sentence or two that can be passed on; made from its figures.
"""

from dataclasses import dataclass
from typing import Final

from loadtest.analysis import numbers
from loadtest.analysis.columns import OUTCOMES
from loadtest.analysis.distribution import Distribution, Percentile, percentile
from loadtest.analysis.findings import Findings
from loadtest.analysis.limits.usage import LimitUse
from loadtest.contract import LIMIT_OF_OPERATION, Operation, Outcome
from loadtest.plan import CONCURRENCY
from loadtest.record.run_info import StagePlan
from loadtest.stats import QUANTILES, needed

CALLED: Final[dict[str, tuple[str, str]]] = {
    Operation.SYNC_RUN: ("sync run", "sync runs"),
    Operation.ASYNC_RUN: ("job", "jobs"),
    Operation.RETRIEVAL: ("retrieval", "retrievals"),
}
"""One, and several, of what an operation is called in a sentence."""


@dataclass(frozen=True)
class Entry:
    """A traffic entry in some of its stages.

    Attributes:
        traffic: its name.
        operation: what it does.
        stages: the ones that are meant.
        within: whether these are all that were planned within the limits (else: all that were judged).
        times: response times of their operations that were ok or timed out.
    """

    traffic: str
    operation: str
    stages: tuple[StagePlan, ...]
    within: bool
    times: Distribution

    @property
    def quantile(self) -> tuple[str, float] | None:
        """p95 where n can carry it, else the highest that it can (p90, p50), else None."""
        for name in ("p95", "p90", "p50"):
            if self.times.n >= needed(QUANTILES[name]):
                return name, QUANTILES[name]
        return None

    @property
    def percentile(self) -> Percentile | None:
        """The percentile of ``quantile``."""
        return None if self.quantile is None else percentile(self.times, self.quantile[1])

    @property
    def words(self) -> str:
        """What its operations are called."""
        return CALLED[self.operation][self.times.n != 1]


def within_limits(stage: StagePlan) -> bool:
    """Whether a stage was planned within every limit, and no 429 is expected of it."""
    return not stage.over and not stage.expect_429


def main_entry(findings: Findings) -> Entry | None:
    """The entry whose times the first screen gives: sync runs before jobs before retrievals; None without traffic.

    One that has times comes before one that has none, one within its limits before one above them, and of several
    that do the same the one with the most times.
    """
    found = [_entry(findings, name) for name in findings.record.info.traffic]
    order = list(CALLED)
    return min(
        found,
        key=lambda one: (
            not one.times.n,
            not one.within,
            one.quantile is None,
            order.index(one.operation),
            -one.times.n,
        ),
        default=None,
    )


def _entry(findings: Findings, name: str) -> Entry:
    record = findings.record
    planned = record.stages(traffic=name)
    calm = [(entry, stage) for entry, stage in planned if within_limits(stage)]
    times = record.times.of["response_time_ms"]
    within = bool(calm) and bool(times.get(record.cells(calm)).n)
    chosen = calm if within else planned
    stages = tuple(stage for _, stage in chosen)
    return Entry(name, record.info.traffic[name].operation, stages, within, times.get(record.cells(chosen)))


def outcomes(findings: Findings, entry: Entry) -> dict[str, int]:
    """Operations of an entry's stages by outcome."""
    stages = findings.metrics.traffic[entry.traffic].stages
    counts = [stages[stage.name].operations for stage in entry.stages]
    return {word: sum(getattr(each, word) for each in counts) for word in ("offered", *OUTCOMES)}


_AGREES: Final = 0.02
"""Observed and expected 429 rate differ by no more than this: predicted."""


def headline(findings: Findings) -> str:
    """The summary sentence; ``No data, because …`` where there is nothing to sum up."""
    broken = [check for check in findings.checks if not check.ok and check.name != "something sent"]
    entry = main_entry(findings)
    if entry is None or not findings.metrics.overall.operations.sent:
        return f"No data, because {_nothing(findings)}."
    parts = [_times(findings, entry), _throttling(findings)]
    text = "; ".join(part for part in parts if part) + "."
    text = _until(findings) + text
    text = text[0].upper() + text[1:]
    return f"Not to be relied on, because {broken[0].words}. {text}" if broken else text


def _nothing(findings: Findings) -> str:
    info, counts = findings.record.info, findings.metrics.overall.operations
    if not info.traffic:
        return "the scenario has no traffic"
    if counts.dropped:
        dropped = "the one arrival" if counts.dropped == 1 else f"{numbers.count(counts.dropped)} arrivals"
        return f"no operation was sent: nothing was free to send {dropped} when due"
    if info.end == "aborted":
        return f"the run was aborted before its first request: {info.end_reason or 'it was stopped'}"
    if info.end == "interrupted":
        return "the run was interrupted before its first request"
    return "no operation was sent"


def _until(findings: Findings) -> str:
    info, covered = findings.record.info, numbers.seconds(findings.record.covered_s)
    if info.end == "finished":
        return ""
    ended = {"interrupted": "interrupted", "aborted": "aborted"}.get(info.end, "killed")
    return f"Until it was {ended} after {covered}: "


def _times(findings: Findings, entry: Entry) -> str:
    counts = outcomes(findings, entry)
    where = "within the limits " if entry.within else ""
    if not entry.times.n:
        return _no_times(findings)
    found, n = entry.percentile, entry.times.n
    if found is None or found.value is None or entry.quantile is None:
        times = numbers.duration_ms(entry.times.most)
        if n == 1:
            took = f"the one {entry.words}{_of(findings, entry)} that was answered took {times}"
        else:
            took = f"{n} {entry.words}{_of(findings, entry)} took {times} at most"
        took += ", too few for a percentile"
        return f"{where}{took}{_wrong(counts)}"
    share = f"{entry.quantile[1] * 100:.0f}\u00a0%"
    whose = f"{numbers.count(n)} {entry.words}{_of(findings, entry)}"
    if found.value >= entry.times.open_from:
        late = numbers.count(counts[Outcome.TIMED_OUT])
        said = f"{where}{late} of {whose} timed out, the first after {numbers.duration_ms(entry.times.open_from)}"
        half = percentile(entry.times, 0.5)
        if half.value is not None and half.value < entry.times.open_from:
            said += f", and half took at most {numbers.duration_ms(half.value)}"
        return said
    took = f"{share} of {whose} took at most {numbers.duration_ms(found.value)}"
    return f"{where}{took}{_wrong(counts)}"


def _of(findings: Findings, entry: Entry) -> str:
    """Whose operations they are, where several traffic entries do the same."""
    alike = [name for name, plan in findings.record.info.traffic.items() if plan.operation == entry.operation]
    return f" of “{entry.traffic}”" if len(alike) > 1 else ""


def _wrong(counts: dict[str, int]) -> str:
    """What became of operations that no time is given of, or that timed out; empty where all were ok."""
    bad = {
        Outcome.THROTTLED: ("was throttled", "were throttled"),
        Outcome.FAILED: ("failed",) * 2,
        Outcome.TIMED_OUT: ("timed out",) * 2,
        Outcome.DROPPED: ("was never sent", "were never sent"),
    }
    found = [
        f"{numbers.count(counts[word])} {said[counts[word] != 1]}" for word, said in bad.items() if counts.get(word)
    ]
    listed = f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else "".join(found)
    return f" (of {numbers.count(counts['offered'])}, {listed})" if found else ""


def _no_times(findings: Findings) -> str:
    """Why there is no response time."""
    counts = findings.metrics.overall.operations
    sent = counts.sent
    subject = "the only operation" if sent == 1 else f"all {numbers.count(sent)} operations"
    was = "was" if sent == 1 else "were"
    why = "none was answered"
    if counts.throttled == sent:
        why = f"{subject} {was} throttled (429)"
    elif counts.failed == sent:
        reasons: dict[str, int] = {}
        for cell in findings.metrics.traffic.values():
            for word, number in cell.reasons.items():
                reasons[word] = reasons.get(word, 0) + number
        most = max(reasons, key=lambda word: reasons[word], default="")
        why = f"{subject} failed" + (f", most with {most}" if len(reasons) > 1 else f" ({most})" if most else "")
    elif counts.throttled or counts.failed:
        why = (
            f"of {numbers.count(sent)} operations {numbers.count(counts.throttled)} were throttled and "
            f"{numbers.count(counts.failed)} failed"
        )
    return f"no response time, because {why}"


def _throttling(findings: Findings) -> str:
    """The stretch in which a limit was overdrawn the most, and whether the believed limiter explains it."""
    entry, requests = main_entry(findings), findings.metrics.overall.requests
    if not requests.accepted and not requests.throttled:
        return ""  # nothing was answered
    uses = [use for use in findings.uses if use.share > 1 or use.throttled]
    if not uses:
        return "" if requests.throttled else "no request got 429"
    # The limit of the operation that the sentence is about, if that was overdrawn.
    mine = [
        u
        for u in uses
        if entry is not None and u.limit == LIMIT_OF_OPERATION[Operation(entry.operation)] and u.throttled
    ]
    use = max(mine or uses, key=lambda one: (one.throttled, one.share))
    belief = findings.record.belief
    words = f"the {numbers.limit_name(use.limit)}"
    if belief.spec.algorithm == CONCURRENCY:
        return f"in “{use.stretch}” {numbers.share(use.throttled_rate)} of the requests to {words} got 429"
    # Below the limit, and refused all the same as it must be: bursts are above it for a while.
    average = " on average" if use.share <= 1 and use.throttled and expected_rate(findings, use) else ""
    quotas = findings.record.quotas_on(use.limit)
    at = f"at {numbers.times_what(use.share)} {words}{average}{f' (over {quotas} keys)' if quotas > 1 else ''}"
    got = f"{numbers.share(use.throttled_rate)} of the requests got 429" if use.throttled else "no request got 429"
    return f"{at} {got}{_predicted(findings, use)}"


def _predicted(findings: Findings, use: LimitUse) -> str:
    expected = expected_rate(findings, use)
    if expected is None:
        return ""
    belief = findings.record.belief
    allowed = numbers.limit_of(belief.limit_on(use.limit), belief)
    limiter = f"{belief.words.partition(',')[0]} of {allowed}"
    if abs(expected - use.throttled_rate) <= _AGREES:
        return f", as {limiter} predicts"
    if not expected:
        return f", though {limiter} predicts none"
    return f", where {limiter} predicts {numbers.share(expected)}"


def expected_rate(findings: Findings, use: LimitUse) -> float | None:
    """The 429 rate that the believed limiter would have had on a limit in a stretch; None if it was not replayed."""
    record = findings.record
    mine = record.on_limit(use.limit)
    mine = mine[mine["start"].between(use.start_s * 1e9, use.end_s * 1e9, inclusive="left")]
    if len(mine) < use.sent:  # only the first so many requests of a record are replayed
        return None
    rejected = findings.expectation.rejected.reindex(mine.index).dropna()
    return float(rejected.mean()) if len(rejected) else None
