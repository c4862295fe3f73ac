"""What a run says of limits in sentences: what they were asked, what they refused, who decides, and what bound the run.

Two limiters may refuse the same share and other requests; and a rate may differ from a prediction because another
limiter is at work than the one that was assumed. So what is said rests on the decisions, and where those contradict the
assumed limiter, the one that explains them is named. A limit does not bind where it does not explain its 429s: the
target has another reason, or somebody else draws on it.
"""

from typing import Final, Literal, NamedTuple

from loadtest.analysis.counts import FIRST
from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.observed_429 import LimitObserved429
from loadtest.analysis.rejections.usage import LimitUsage, bottleneck_limit
from loadtest.analysis.results import OperationStage
from loadtest.analysis.validity import OF_GENERATOR
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import ALL, LIMIT_OF_OPERATION, THROTTLED_STATUS, LimitName, Operation
from loadtest.limits.fits import Fit
from loadtest.limits.inference import same
from loadtest.limits.inference import words as limiter_words
from loadtest.words import count, joined, limit_name, rate, seconds, share, times, times_as, times_what

AGREES: Final = 0.02
"""Observed and expected 429 rate differ by no more than this: predicted."""
_MOST: Final = 0.5
"""Share of a limit's 429s from which they are called unexplained: a few at window edges are always in doubt."""
_SLOWER: Final = 2.0
"""By how much the median has to grow from the least loaded stage to another for that to be a sign of capacity."""
_MORE: Final = 1.2
"""By how much more the other stage has to be offered."""


def overdrawn(findings: Findings, operation: Operation | None) -> str:
    """The stretch in which a limit was overdrawn the most, and whether the assumed limiter explains it.

    Args:
        findings: of the run.
        operation: whose limit comes first, if it was overdrawn.

    Returns:
        Clauses; empty where nothing was answered.
    """
    requests, assumed = findings.metrics.overall.requests, findings.record.assumed_limits
    if not requests.accepted and not requests.throttled:
        return ""
    uses = [use for use in findings.uses if use.busiest > 1 or use.throttled]
    if not uses:
        return "" if requests.throttled else f"no request got 429{_went_wrong(findings)}"
    own = [use for use in uses if operation and use.limit == LIMIT_OF_OPERATION[operation] and use.throttled]
    use = max(own or uses, key=lambda one: (one.throttled, one.busiest))
    text = f"the {limit_name(use.limit)}"
    if assumed.spec.algorithm == CONCURRENCY:
        return f"in “{use.stretch}” {share(use.throttled_rate)} of the requests to {text} got 429"
    # Below the limit, and refused all the same as it must be: bursts are above it for a while. So is the end of a ramp.
    burst = use.busiest <= 1 and use.throttled and _expected_rate(findings, use)
    ramps = (stage for _, stage in findings.record.stages() if stage.rate != stage.rate_to)
    rises = any(each.start_s < use.end_s and use.start_s < each.end_s for each in ramps)
    quotas = findings.record.quotas_on(use.limit)
    keys = f" (over {quotas} keys)" if quotas > 1 else ""
    if use.uneven:
        keys = f" of key {use.keys[0].key} ({times(use.share)} over {quotas} keys)"
    at = f"at {times_what(use.busiest)} {text}{' on average,' if burst or rises else ''}{keys}"
    # Below a limit, it is the stage that is news.
    at += f" in “{use.stretch}”" if use.busiest <= 1 else ""
    got = f"{share(use.throttled_rate)} of the requests got 429" if use.throttled else "no request got 429"
    return f"{at} {got}{_predicted(findings, use)}{_other_limits(findings, use)}{_first_429(findings, use)}"


def _went_wrong(findings: Findings) -> str:
    """How many operations of all traffic did not end well, of a run in which none was refused."""
    counts = findings.metrics.overall.operations
    if counts.sent == 1:
        return ""
    bad = counts.failed + counts.timed_out
    return f", and {count(bad) if bad else 'none'} of {count(counts.sent)} operations failed or timed out"


def _other_limits(findings: Findings, told: LimitUsage) -> str:
    """What share of the requests to each other limit got 429, where most did; empty where none did."""
    most: dict[str, LimitUsage] = {}
    for use in findings.uses:
        before = most[use.limit].throttled if use.limit in most else 0
        if use.limit != told.limit and use.throttled > before:
            most[use.limit] = use
    return "".join(
        f"; at {times_what(use.busiest)} the {limit_name(use.limit)}"
        f" {share(use.throttled_rate)}{_predicted(findings, use, briefly=True)}"
        for use in most.values()
    )


def _first_429(findings: Findings, use: LimitUsage) -> str:
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
        return f"; as “{plan.name}” rose, the first came at {times_what(offered / limit)} the limit"
    return ""


def _predicted(findings: Findings, use: LimitUsage, *, briefly: bool = False) -> str:
    """What follows the 429 rate of a stretch in a sentence: which limiter explains it; empty without a replay."""
    expected = _expected_rate(findings, use)
    if expected is None:
        return ""
    found, limiter = findings.observed_429.limits.get(use.limit), assumed_limiter(findings, use.limit)
    if found is not None and found.assumed is not None and use.throttled and _contradicted(findings, use, found):
        if expected or found.inference.named:
            return _by_another(findings, found, limiter)
    elif abs(expected - use.throttled_rate) <= AGREES:
        return ", as predicted" if briefly else f", as {limiter} predicts"
    return f", where {limiter} predicts {share(expected)}" if expected else f", though {limiter} predicts none"


def _expected_rate(findings: Findings, use: LimitUsage) -> float | None:
    """The 429 rate that the assumed limiter would have had on a limit in a stretch; None if it was not replayed."""
    sent = findings.record.on_limit(use.limit)
    sent = sent[sent["start"].between(use.start_s * 1e9, use.end_s * 1e9, inclusive="left")]
    if len(sent) < use.sent:  # only the first so many requests of a record are replayed
        return None
    rejected = findings.expectation.rejected.reindex(sent.index).dropna()
    return float(rejected.mean()) if len(rejected) else None


def _contradicted(findings: Findings, use: LimitUsage, found: LimitObserved429) -> bool:
    """Whether the decisions are not those of the assumed limiter: another one explains them, or none."""
    spec, limit = findings.record.assumed_limits.spec, findings.record.assumed_limits.limit_on(use.limit)
    return found.inference.word != "nothing" and not any(same(fit, spec, limit) for fit in found.inference.named)


def _by_another(findings: Findings, found: LimitObserved429, limiter: str) -> str:
    assumed, named = found.assumed, found.inference.named
    wrong = 0 if assumed is None else assumed.wrongly_rejected + assumed.wrongly_admitted + assumed.not_held
    contradict = "1 decision contradicts" if wrong == 1 else f"{count(wrong)} decisions contradict"
    against = f"{contradict} {limiter}, which was assumed"
    if not named:
        return f", which no known limiter explains ({against})"
    names = joined(list(dict.fromkeys(_called(findings, fit) for fit in named)), "or")
    return f", as {names} decides ({against})"


def assumed_limiter(findings: Findings, limit: str) -> str:
    """The limiter that is assumed for a limit: ``a fixed window of 100 per minute``."""
    assumed = findings.record.assumed_limits
    return f"{assumed.words.partition(',')[0]} of {assumed.limit_text(assumed.limit_on(limit))}"


def _called(findings: Findings, fit: Fit) -> str:
    limit = "" if "count" in fit.fitted else f" of {findings.record.assumed_limits.limit_text(fit.limit)}"
    return f"{limiter_words(fit).partition(' (')[0]}{limit}"


def window_phase(findings: Findings) -> str:
    """How far into a window of the server the run began, in words; empty where windows do not begin by its clock."""
    record, shift = findings.record, findings.expectation.shift_s
    if shift is None or record.info.epoch_unix_ns is None:
        return ""
    windows = sorted({record.assumed_limits.limit_on(name).window for name in record.limits()})
    unsure = record.info.clock.uncertainty_s if record.info.clock else 0.0
    begun = ", ".join(
        f"{record.info.window_phase_s(window, shift):.1f} s into a window of {seconds(window)}"
        for window in windows
        if unsure < window / 2
    )
    return f"the run began {begun} (± {unsure:.1f} s)" if begun else ""


class Unexplained429s(NamedTuple):
    """How many of a limit's 429s came though the assumed limiter had room, and no other fits either."""

    unexplained: int
    throttled: int


def unexplained_429s(findings: Findings, limit: str) -> Unexplained429s | None:
    """The unexplained 429s of a limit; None where it gave none, or where a limiter explains most of them.

    Where another limiter than the assumed one is named, or several fit, the limit binds, only otherwise than assumed.
    """
    found = findings.observed_429.limits.get(limit)
    if found is None or found.assumed is None or not found.throttled or found.inference.word in ("named", "several"):
        return None
    wrong = found.assumed.wrongly_rejected
    return Unexplained429s(wrong, found.throttled) if wrong > _MOST * found.throttled else None


class Bottleneck(NamedTuple):
    """The binding constraint, and a sentence about it."""

    kind: Literal["generator", "poll budget", "documented limit", "unexplained 429s", "capacity", "none", "unknown"]
    words: str


def bottleneck(findings: Findings) -> Bottleneck:
    """The binding constraint: of several, the one without which the others say nothing comes first."""
    if late := [check for check in findings.checks if not check.ok and check.name in OF_GENERATOR]:
        first = min(late, key=lambda check: OF_GENERATOR.index(check.name))
        return Bottleneck("generator", f"The generator: {first.name} was {first.value} ({first.limit}).")
    use, requests = bottleneck_limit(findings.uses), findings.metrics.overall.requests
    if use is None:
        return Bottleneck("unknown", "None can be named: no request was sent in a judged stage.")
    if not requests.accepted and not requests.throttled:
        return Bottleneck("unknown", "None can be named: no request was answered.")
    called, asked = _called_limit(findings, use), _asked(use)
    if use.throttled and unexplained_429s(findings, use.limit) is not None:
        text = (
            f"429s that no limit explains: in “{use.stretch}” {share(use.throttled_rate)} of the requests got 429 "
            f"though the {called} had room for them; it was asked {asked}. The target has another reason, or somebody "
            "else draws on the limit."
        )
        return Bottleneck("unexplained 429s", text)
    if use.throttled:
        polls = _polling(findings) if use.limit in (LimitName.RETRIEVAL, ALL) else None
        if polls is not None and polls > 0.5:
            spent = f"The poll budget: {share(polls)} of retrieval requests were polls"
            return Bottleneck("poll budget", f"{spent}. {_of_limit(findings, use)}")
        return Bottleneck("documented limit", _of_limit(findings, use))
    if text := _capacity(findings):
        return Bottleneck("capacity", text)
    if use.busiest > 1:
        return Bottleneck("none", f"None: no request got 429, though “{use.stretch}” asked the {called} for {asked}.")
    return Bottleneck("none", f"None was reached. The {called} came nearest: “{use.stretch}” asked for {asked}.")


def _polling(findings: Findings) -> float | None:
    """Polls ÷ requests that drew on the retrieval limit, over all judged stages; None without any of either."""
    record = findings.record
    polls = retrieves = 0
    for name, plan in record.info.traffic.items():
        stage_indices = record.stage_indices(record.stages(traffic=name))
        requests = record.counts.of_requests(stage_indices)
        first = sum(number for cell, number in requests.items() if cell.kind < FIRST)
        polls += requests.total() - first
        if LIMIT_OF_OPERATION[plan.operation] == LimitName.RETRIEVAL:
            retrieves += first
    return polls / (polls + retrieves) if polls + retrieves else None


def _called_limit(findings: Findings, use: LimitUsage) -> str:
    """A limit with what it allows: ``sync_run limit (100 per minute, over 4 keys)``."""
    assumed, quotas = findings.record.assumed_limits, findings.record.quotas_on(use.limit)
    keys = f", over {quotas} keys" if quotas > 1 else ""
    return f"{limit_name(use.limit)} ({assumed.limit_text(assumed.limit_on(use.limit))}{keys})"


def _asked(use: LimitUsage) -> str:
    """``80 % of what it allows``; of keys that have quotas of their own the busiest, where others ask for less."""
    key = f" key {use.keys[0].key} ({times(use.share)} over all keys)" if use.uneven else ""
    return f"{times_what(use.busiest)} what it allows{key}"


def _of_limit(findings: Findings, use: LimitUsage) -> str:
    asked = f"it was asked {_asked(use)}{' on average' if use.busiest <= 1 else ''}"
    if findings.record.assumed_limits.spec.algorithm == CONCURRENCY:
        asked = f"{share(use.share)} of that was in use on average"
    got = f"{share(use.throttled_rate)} of the requests got 429."
    return f"The {_called_limit(findings, use)}: in “{use.stretch}” {asked}, and {got}"


def _capacity(findings: Findings) -> str:
    """A stage that was offered more, got no 429 and was slower by far; empty where there is none."""
    worst, text = _SLOWER, ""
    for name, figures in findings.metrics.traffic.items():
        stages = [(stage, part) for stage, part in figures.stages.items() if _median(part) and _rate(part)]
        if len(stages) < 2:
            continue
        calm, least = min(stages, key=lambda one: _rate(one[1]))
        for stage, part in stages:
            grown = _median(part) / _median(least)
            if _rate(part) >= _rate(least) * _MORE and grown >= worst and (grown > worst or not text):
                worst = grown
                text = (
                    f"Capacity: at {rate(_rate(part))} in “{stage}” the median response time of {name} was "
                    f"{times_as(grown)} times that of “{calm}” at {rate(_rate(least))}, without a 429."
                )
    return text


def _median(part: OperationStage) -> float:
    return part.response_time_ms.p50 or 0.0


def _rate(part: OperationStage) -> float:
    return part.operations.offered_rate or 0.0
