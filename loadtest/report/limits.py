"""Limits in sentences: how far they were overdrawn, which limiter explains the 429s, and the run's bottleneck.

Two limiters may reject the same share but different requests, so sentences rest on individual decisions. If these
contradict the assumed limiter, the limiter that explains them is named. A limit that does not explain its 429s is not
the bottleneck: the target rejects for another reason, or another client shares the limit.
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
from loadtest.words import joined, limit_name, rate, seconds, share, times_as, times_what

AGREES: Final = 0.02
"""Maximum difference between the observed and expected 429 rate that counts as predicted."""
_SHOWN_S: Final = 0.05
"""Smallest uncertainty in s that does not round to 0.0 s."""
_MOST: Final = 0.5
"""Minimum share of a limit's 429s to report as unexplained: some at window edges are always in doubt."""
_SLOWER: Final = 2.0
"""Growth factor of the median, from the least loaded stage, that indicates a capacity limit."""
_MORE: Final = 1.2
"""Minimum ratio of the two stages' offered rates."""


def overdrawn(findings: Findings, operation: Operation | None) -> tuple[str, float]:
    """Return the most overdrawn stretch, and whether the assumed limiter explains its 429s.

    Args:
        findings: of the run.
        operation: whose limit comes first, if it was overdrawn.

    Returns:
        A clause, and the share of 429s in it; 0 where no request got one.
    """
    requests = findings.metrics.overall.requests
    if not requests.accepted and not requests.throttled:
        return "no request was answered", 0.0
    uses = [use for use in findings.uses if use.busiest > 1 or use.throttled]
    if not uses:
        return "no request got 429", 0.0
    own = [use for use in uses if operation and use.limit == LIMIT_OF_OPERATION[operation]]
    use = max([use for use in own if use.throttled] or uses, key=lambda one: (one.throttled, one.busiest))
    got = f"{share(use.throttled_rate)} of requests got 429" if use.throttled else "no request got 429"
    if findings.record.assumed_limits.spec.algorithm == CONCURRENCY:
        return f"in “{use.stretch}” {got}", use.throttled_rate
    if first := _first_429(findings, use):
        return first, use.throttled_rate
    limit = "the limit" if use in own else f"the {limit_name(use.limit)}"
    key = f" of key {use.keys[0].key}" if use.uneven else ""
    # Below the limit the stage is news.
    at = f"at {times_what(use.busiest)} {limit}{key}{f' in “{use.stretch}”' if use.busiest <= 1 else ''}"
    return f"{at} {got}{_predicted(findings, use)}", use.throttled_rate


def _first_429(findings: Findings, use: LimitUsage) -> str:
    """Return a ramp's rate at its first 429; empty without a ramp on the limit or without a 429 in it."""
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
        return f"as “{plan.name}” rose, the first 429 came at {times_what(offered / limit)} the limit"
    return ""


def _predicted(findings: Findings, use: LimitUsage) -> str:
    """Return whether the assumed limiter, or another, explains a stretch's 429 rate; empty without a replay."""
    expected = _expected_rate(findings, use)
    if expected is None:
        return ""
    found = findings.observed_429.limits.get(use.limit)
    if found is not None and found.assumed is not None and use.throttled and _contradicted(findings, use, found):
        if named := found.inference.named:
            return f", as {joined(list(dict.fromkeys(_called(findings, fit) for fit in named)), 'or')} decides"
        if expected:
            return ", which no known limiter explains"
    elif abs(expected - use.throttled_rate) <= AGREES:
        return ", as predicted"
    return f", where {share(expected)} was expected" if expected else ", though none was expected"


def _expected_rate(findings: Findings, use: LimitUsage) -> float | None:
    """Return the assumed limiter's 429 rate on a limit in a stretch; None if it was not replayed."""
    sent = findings.record.on_limit(use.limit)
    sent = sent[sent["start"].between(use.start_s * 1e9, use.end_s * 1e9, inclusive="left")]
    if len(sent) < use.sent:  # only the first so many requests of a record are replayed
        return None
    rejected = findings.expectation.rejected.reindex(sent.index).dropna()
    return float(rejected.mean()) if len(rejected) else None


def _contradicted(findings: Findings, use: LimitUsage, found: LimitObserved429) -> bool:
    """Whether the decisions contradict the assumed limiter."""
    spec, limit = findings.record.assumed_limits.spec, findings.record.assumed_limits.limit_on(use.limit)
    return found.inference.word != "nothing" and not any(same(fit, spec, limit) for fit in found.inference.named)


def _called(findings: Findings, fit: Fit) -> str:
    limit = "" if "count" in fit.fitted else f" of {findings.record.assumed_limits.limit_text(fit.limit)}"
    return f"{limiter_words(fit).partition(' (')[0]}{limit}"


def window_phase(findings: Findings) -> str:
    """Return how far into a server window the run began; empty if windows are not clock-aligned."""
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
    reach = f" (± {unsure:.1f} s)" if unsure >= _SHOWN_S else ""
    return f"the run began {begun}{reach}" if begun else ""


class Unexplained429s(NamedTuple):
    """429s of a limit that neither the assumed nor any other known limiter explains."""

    unexplained: int
    throttled: int


def unexplained_429s(findings: Findings, limit: str) -> Unexplained429s | None:
    """Return the unexplained 429s of a limit; None if there are none, or if a limiter explains most of them.

    If a limiter other than the assumed fits, or several do, the limit still binds.
    """
    found = findings.observed_429.limits.get(limit)
    if found is None or found.assumed is None or not found.throttled or found.inference.word in ("named", "several"):
        return None
    wrong = found.assumed.wrongly_rejected
    return Unexplained429s(wrong, found.throttled) if wrong > _MOST * found.throttled else None


class Bottleneck(NamedTuple):
    """The bottleneck, and a sentence about it."""

    kind: Literal["generator", "poll budget", "documented limit", "unexplained 429s", "capacity", "none", "unknown"]
    words: str


def bottleneck(findings: Findings) -> Bottleneck:
    """Return the bottleneck; the generator comes first, since an overloaded generator invalidates the rest."""
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
            f"429s that no limit explains: {share(use.throttled_rate)} in “{use.stretch}”, though the {called} had "
            "room. The target rejects for another reason, or another client shares the limit."
        )
        return Bottleneck("unexplained 429s", text)
    if use.throttled:
        polls = _polling(findings) if use.limit in (LimitName.RETRIEVAL, ALL) else None
        if polls is not None and polls > 0.5:
            spent = f"The poll budget: {share(polls)} of retrievals were polls"
            return Bottleneck("poll budget", f"{spent}, “{use.stretch}” asked {_asked(use)} the limit.")
        return Bottleneck("documented limit", _of_limit(findings, use))
    if text := _capacity(findings):
        return Bottleneck("capacity", text)
    if use.busiest > 1:
        return Bottleneck("none", f"None: no request got 429, though “{use.stretch}” asked {asked} the {called}.")
    return Bottleneck("none", f"None was reached; nearest was “{use.stretch}”: {asked} the {called}.")


def _polling(findings: Findings) -> float | None:
    """Return polls ÷ requests on the retrieval limit over all judged stages; None without either."""
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
    """Return a limit's name and quota: ``sync_run limit (100 per minute, over 4 keys)``."""
    assumed, quotas = findings.record.assumed_limits, findings.record.quotas_on(use.limit)
    keys = f", over {quotas} keys" if quotas > 1 else ""
    return f"{limit_name(use.limit)} ({assumed.limit_text(assumed.limit_on(use.limit))}{keys})"


def _asked(use: LimitUsage) -> str:
    """Return ``80 % of`` or ``2.5 times``, for the busiest key if keys with own quotas differ."""
    return times_what(use.busiest) + (f" key {use.keys[0].key}’s share of" if use.uneven else "")


def _of_limit(findings: Findings, use: LimitUsage) -> str:
    asked = f"asked {_asked(use)} it{' on average' if use.busiest <= 1 else ''}"
    if findings.record.assumed_limits.spec.algorithm == CONCURRENCY:
        asked = f"used {share(use.share)} of it on average"
    got = f"{share(use.throttled_rate)} got 429."
    return f"The {_called_limit(findings, use)}: “{use.stretch}” {asked}, {got}"


def _capacity(findings: Findings) -> str:
    """Return a stage with more load, no 429 and much longer times; empty without one."""
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
