"""The first screen: what a run found out, in a sentence or two that can be passed on, and its three key figures.

Both speak of one operation, within its limits if it was ever there.
"""

import math
from dataclasses import dataclass
from typing import Final

from loadtest.analysis import numbers
from loadtest.analysis.columns import OUTCOMES
from loadtest.analysis.distribution import Distribution, Percentile, percentile
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import Value
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import LIMIT_OF_OPERATION, Operation, Outcome
from loadtest.record.run_info import StagePlan
from loadtest.report.answers import answer
from loadtest.report.failures import CALLED, named_errors, worst_stage
from loadtest.report.prediction import expected_rate, predicted, window_phase
from loadtest.stats import QUANTILES, needed


@dataclass(frozen=True)
class MainEntry:
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
        """p95 where there are enough samples, else the highest that there are enough for (p90, p50), else None."""
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


def main_entry(findings: Findings) -> MainEntry | None:
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


def _entry(findings: Findings, name: str) -> MainEntry:
    record = findings.record
    planned = record.stages(traffic=name)
    calm = [key for key in planned if within_limits(key.stage)]
    within = bool(calm) and bool(record.time("response_time_ms", calm).n)
    chosen = calm if within else planned
    stages = tuple(key.stage for key in chosen)
    times = record.time("response_time_ms", chosen)
    return MainEntry(name, record.info.traffic[name].operation, stages, within, times)


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
    parts = [_times(findings, entry), _limits(findings), worst_stage(findings, told) if entry.times.n else ""]
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


def _times(findings: Findings, entry: MainEntry) -> str:
    counts = outcomes(findings, entry)
    where = "within the limits " if entry.within else ""
    if not entry.times.n:
        return _no_times(findings)
    found, n = entry.percentile, entry.times.n
    if found is None or found.value is None or entry.quantile is None:
        times = numbers.duration_ms(entry.times.most)
        if n == 1:
            took = f"the one {entry.words}{_whose(findings, entry)} that was answered took {times}"
        else:
            took = f"{n} {entry.words}{_whose(findings, entry)} took {times} at most"
        took += ", too few for a percentile"
        return f"{where}{took}{_wrong(findings, entry, counts)}"
    share = f"{entry.quantile[1] * 100:.0f}\u00a0%"
    whose = f"{numbers.count(n)} {entry.words}{_whose(findings, entry)}"
    if found.at_least:
        late = numbers.count(counts[Outcome.TIMED_OUT])
        text = f"{where}{late} of {whose} timed out, the first after {numbers.duration_ms(entry.times.open_from)}"
        half = percentile(entry.times, 0.5)
        if half.most is not None and not half.at_least:
            text += f", and half took at most {numbers.duration_ms(half.most)}"
        return text
    took = f"{share} of {whose} took at most {numbers.duration_ms(found.most)}"
    return f"{where}{took}{_wrong(findings, entry, counts)}"


def _whose(findings: Findings, entry: MainEntry) -> str:
    """Whose operations they are, where several traffic entries do the same."""
    alike = [name for name, plan in findings.record.info.traffic.items() if plan.operation == entry.operation]
    return f" of “{entry.traffic}”" if len(alike) > 1 else ""


def _wrong(findings: Findings, entry: MainEntry, counts: dict[str, int]) -> str:
    """What became of operations that no time is given of, or that timed out; empty where all were ok."""
    bad = {
        Outcome.THROTTLED: ("was throttled", "were throttled"),
        Outcome.FAILED: ("failed",) * 2,
        Outcome.TIMED_OUT: ("timed out",) * 2,
        Outcome.DROPPED: ("was never sent", "were never sent"),
    }
    found = [
        f"{numbers.count(counts[word])} {forms[counts[word] != 1]}" for word, forms in bad.items() if counts.get(word)
    ]
    listed = f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else "".join(found)
    named = named_errors(findings, Operation(entry.operation)) if counts[Outcome.FAILED] else ""
    named = f"; the most frequent error: {named}" if named else ""
    return f" (of {numbers.count(counts['offered'])}, {listed}{named})" if found else ""


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
        named = named_errors(findings)
        # One error explains most of them; where it is that of all, there is nothing else to say.
        why = (
            named if named.startswith(("all ", "the only ")) else f"{subject} failed" + (f": {named}" if named else "")
        )
    elif counts.throttled or counts.failed:
        why = (
            f"of {numbers.count(sent)} operations {numbers.count(counts.throttled)} were throttled and "
            f"{numbers.count(counts.failed)} failed"
        )
    return f"no response time, because {why}"


def _limits(findings: Findings) -> str:
    """The stretch in which a limit was overdrawn the most, and whether the assumed limiter explains it."""
    entry, requests = main_entry(findings), findings.metrics.overall.requests
    if not requests.accepted and not requests.throttled:
        return ""  # nothing was answered
    uses = [use for use in findings.uses if use.busiest > 1 or use.throttled]
    if not uses:
        return "" if requests.throttled else "no request got 429"
    # The limit of the operation that the sentence is about, if that was overdrawn.
    own = [
        u
        for u in uses
        if entry is not None and u.limit == LIMIT_OF_OPERATION[Operation(entry.operation)] and u.throttled
    ]
    use = max(own or uses, key=lambda one: (one.throttled, one.busiest))
    assumed_limits = findings.record.assumed_limits
    words = f"the {numbers.limit_name(use.limit)}"
    if assumed_limits.spec.algorithm == CONCURRENCY:
        return f"in “{use.stretch}” {numbers.share(use.throttled_rate)} of the requests to {words} got 429"
    # Below the limit, and refused all the same as it must be: bursts are above it for a while.
    average = " on average" if use.busiest <= 1 and use.throttled and expected_rate(findings, use) else ""
    quotas = findings.record.quotas_on(use.limit)
    keys = f" (over {quotas} keys)" if quotas > 1 else ""
    if use.uneven:
        keys = f" of key {use.keys[0].key} ({numbers.times(use.share)} over {quotas} keys)"
    at = f"at {numbers.times_what(use.busiest)} {words}{average}{keys}"
    got = f"{numbers.share(use.throttled_rate)} of the requests got 429" if use.throttled else "no request got 429"
    return f"{at} {got}{predicted(findings, use)}"


_Z: Final = 1.959964
"""Two-sided 95 %."""


@dataclass(frozen=True)
class KeyFigure:
    """A number as text.

    Attributes:
        label: what it is.
        value: with its unit; a dash where there is none.
        interval: its 95 % interval as text; empty without one.
        n: on how many it rests, in words; empty without any.
        why: why there is no value, or no interval, or what else it depends on; empty otherwise.
    """

    label: str
    value: str
    interval: str = ""
    n: str = ""
    why: str = ""

    @property
    def words(self) -> str:
        """All that belongs beside the value and its label."""
        interval = f"95 %: {self.interval}" if self.interval else ""
        return ", ".join(part for part in (interval, self.n, self.why) if part)


def wilson(hits: int, n: int) -> tuple[float, float] | None:
    """A 95 % interval of a share by Wilson's score (Brown, Cai and DasGupta, Statistical Science 2001); None for n = 0.

    Like the intervals of percentiles it knows of sampling only.
    """
    if not n:
        return None
    share, spread = hits / n, _Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / 4 / n)
    # At the ends rounding would leave the value itself outside.
    return 0.0 if hits == 0 else max(0.0, middle - half), 1.0 if hits == n else min(1.0, middle + half)


def key_figures(findings: Findings) -> tuple[KeyFigure, ...]:
    """Response time of the main operation, 429 rate, goodput, and what was not ok."""
    return _response(main_entry(findings)), _throttled(findings), _goodput(findings), _not_ok(findings)


def _not_ok(findings: Findings) -> KeyFigure:
    """429s apart from errors and time-outs: the first are a limit's doing, the others the service's."""
    counts = findings.metrics.overall.operations
    if not counts.sent:
        return KeyFigure("not ok", numbers.NOTHING, why="no data, because no operation was sent")
    parts = {"429": counts.throttled, "failed": counts.failed, "timed out": counts.timed_out}
    words = ", ".join(f"{name} {numbers.share(number / counts.sent)}" for name, number in parts.items())
    bad = sum(parts.values())
    return KeyFigure(
        "not ok, of operations sent", numbers.share(bad / counts.sent), n=f"n = {numbers.count(counts.sent)}", why=words
    )


def _response(entry: MainEntry | None) -> KeyFigure:
    if entry is None or not entry.times.n:
        return KeyFigure("p95 response time", numbers.NOTHING, why="no data, because no operation was ok or timed out")
    where = f"{entry.traffic} within the limits" if entry.within else entry.traffic
    n = f"n = {numbers.count(entry.times.n)} {entry.words}"
    found = entry.percentile
    if found is None or found.value is None or entry.quantile is None:
        longest = ("≥\u00a0" if entry.times.late else "") + numbers.duration_ms(entry.times.most)
        return KeyFigure(f"longest response time, {where}", longest, n=n, why="too few for a percentile")
    high = numbers.duration_ms(found.high) if found.interval else "no upper bound: it reaches time-outs"
    value = Value(found.value, found.interval, found.at_least, found.most if found.most != found.value else None)
    return KeyFigure(
        f"{entry.quantile[0]} response time, {where}",
        numbers.bounded(value._replace(most=None) if found.at_least else value),
        f"{numbers.duration_ms(found.low)} to {high}",
        n,
    )


def _throttled(findings: Findings) -> KeyFigure:
    requests = findings.metrics.overall.requests
    bounds = wilson(requests.throttled, requests.sent)
    if bounds is None:
        return KeyFigure("429 rate", numbers.NOTHING, why="no data, because no request was sent")
    return KeyFigure(
        "429 rate, all requests",
        numbers.share(requests.throttled_rate),
        f"{numbers.share(bounds[0])} to {numbers.share(bounds[1])}",
        f"n = {numbers.count(requests.sent)} request{'' if requests.sent == 1 else 's'}",
        window_phase(findings) if requests.throttled else "",
    )


def _goodput(findings: Findings) -> KeyFigure:
    """The schedule sets how many come in a second; what varies is the share of them that ends well."""
    overall = findings.metrics.overall
    counts, rate = overall.operations, overall.operations.offered_rate
    bounds = wilson(counts.ok, counts.offered)
    if bounds is None or rate is None or not counts.sent:
        return KeyFigure("goodput", numbers.NOTHING, why="no data, because no operation was sent")
    low, high = (numbers.rate(bound * rate) for bound in bounds)
    return KeyFigure(
        "goodput, ok operations",
        numbers.rate(overall.goodput),
        f"{low} to {high}",
        f"n = {numbers.count(counts.offered)} offered",
    )
