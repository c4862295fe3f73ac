"""Sentences about limits: how far they were exceeded, which limiter explains the 429s, and the run's bottleneck.

Two limiters may reject the same share but different requests, so a limiter is named only if individual
decisions match.
"""

import re
from typing import Final

from loadtest.analysis.distribution import known
from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.usage import LimitUsage, bottleneck_limit
from loadtest.analysis.results import JobFigures
from loadtest.analysis.validity import OF_GENERATOR
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import ALL, LIMIT_OF_OPERATION, THROTTLED_STATUS, LimitName, Operation
from loadtest.limits.fits import Fit
from loadtest.limits.inference import same
from loadtest.limits.inference import words as limiter_words
from loadtest.program import mention
from loadtest.units import Limit
from loadtest.words import limit_name, rate, seconds, share, times_as, times_what

_AGREES: Final = 0.02
"""A 429 rate counts as predicted if it differs from the expected rate by at most this."""
_NOT_EXPECTED: Final = ", though no 429 was expected"
_SHOWN_S: Final = 0.05
"""An uncertainty below this many s is not shown, because it would round to 0.0 s."""
_MOST: Final = 0.5
"""Unexplained 429s are reported above this share of a limit's 429s. Some 429s at window edges are always in doubt."""
_SLOWER: Final = 2.0
"""A stage is slower if its median response time is at least this many times that of the least loaded stage."""
_POLLS: Final = 0.5
"""An exceeded retrieval limit is called the poll budget if polls are more than this share of all retrievals."""
_MORE: Final = 1.2
"""A stage is compared with the least loaded stage only if its offered rate is at least this many times as high."""


def overdrawn(findings: Findings, operation: Operation | None) -> tuple[str, float]:
    """Return a clause about the stage (or concurrent stages) with the most 429s on a limit, and its 429 rate (0-1).

    If a request on the limit of ``operation`` got 429, only this limit counts. Without 429s, the highest use decides.
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
    at = f"at {times_what(use.busiest)} {limit}{key}{f' in “{use.stretch}”' if use.busiest <= 1 else ''}"
    return f"{at} {got}{_predicted(findings, use)}", use.throttled_rate


def _first_429(findings: Findings, use: LimitUsage) -> str:
    """Return a clause about a ramp's rate at its first 429; empty without a ramp on the limit or without a 429."""
    record, assumed = findings.record, findings.record.assumed_limits
    limit = assumed.limit_on(use.limit).rate * record.quotas_on(use.limit)
    requests = record.requests  # a copy, and large in a long record
    rejected = requests[requests["status"] == THROTTLED_STATUS]
    for key in record.stages():
        plan = key.stage
        own = rejected["start"][rejected["stage_index"] == key.place]
        on_limit = assumed.drawn_on(LIMIT_OF_OPERATION[key.operation]) == use.limit
        if plan.rate != plan.rate_to and len(own) and on_limit:
            elapsed = float(own.min()) / 1e9 - plan.start_s
            offered = plan.rate + (plan.rate_to - plan.rate) * elapsed / plan.duration_s
            return f"as “{plan.name}” rose, the first 429 came at {times_what(offered / limit)} the limit"
    return ""


def _predicted(findings: Findings, use: LimitUsage) -> str:
    """Return a clause that says whether the 429s of a ``use`` are as predicted, or which limiter explains them.

    It is empty if the replay leaves out some of the requests.
    """
    record, sent = findings.record, findings.record.on_limit(use.limit)
    start = record.sent_requests["start"][sent]
    sent = sent[(start >= use.start_s * 1e9) & (start < use.end_s * 1e9)]
    replayed = known(record.expectation.rejected[sent])
    if len(sent) < use.sent or not len(replayed):  # the replay covers only the first requests of a long record
        return ""
    expected = float(replayed.mean())
    found = findings.observed_429.limits.get(use.limit)
    assumed = record.assumed_limits
    if found is None or found.assumed is None or not use.throttled or found.inference.word == "nothing":
        return as_predicted(use.throttled_rate, expected)
    named = found.inference.named
    if any(same(fit, assumed.spec, assumed.limit_on(use.limit)) for fit in named):
        return as_predicted(use.throttled_rate, expected)
    if named:
        called = {_called_limiter(findings, fit) for fit in named}
        return f", as {called.pop()} decides" if len(called) == 1 else f", as {len(called)} other limiters decide"
    return ", which no known limiter explains" if expected else _NOT_EXPECTED


def as_predicted(seen: float, expected: float) -> str:
    """Return the end of a clause that compares an observed 429 rate with the expected rate."""
    if abs(expected - seen) <= _AGREES:
        return ", as predicted"
    return f", against {share(expected)} expected 429s" if expected else _NOT_EXPECTED


def _called_limiter(findings: Findings, fit: Fit) -> str:
    """Return a limiter's name with its burst and limit: ``a token bucket of 21 at once and 100 per minute``."""
    called = re.sub(r" \([^)]*\)", "", limiter_words(fit)).partition(", at ")[0]
    if "count" in fit.fitted:
        return called
    about = Limit(fit.limit.count, float(f"{fit.limit.window:.3g}"))  # a fitted window is not a round number
    limit = findings.record.assumed_limits.limit_text(about)
    return called.replace("at once", f"at once and {limit}", 1) if fit.spec.burst else f"{called} of {limit}"


def window_phase(findings: Findings) -> str:
    """Return a clause that says how far into a server window the run began; empty if that is unknown."""
    record, shift = findings.record, findings.record.expectation.clock_shift_s
    if shift is None:
        return ""
    windows = sorted({record.assumed_limits.limit_on(name).window for name in record.limits()})
    unsure = record.info.clock.uncertainty_s if record.info.clock else record.clock[1]
    begun = ", ".join(
        f"{record.info.window_phase_s(window, shift):.1f} s into a window of {seconds(window)}"
        for window in windows
        if unsure < window / 2
    )
    reach = f" (± {unsure:.1f} s)" if unsure >= _SHOWN_S else ""
    return f"the run began {begun}{reach}" if begun else ""


def unexplained_429s(findings: Findings, limit: str) -> tuple[int, int] | None:
    """Return how many of a limit's 429s the assumed limiter does not explain, and the number of all its 429s.

    Return None if at most half are unexplained, if the assumed limiter is unknown, or if a known limiter fits.
    """
    found = findings.observed_429.limits.get(limit)
    if found is None or found.assumed is None or not found.throttled or found.inference.word in ("named", "several"):
        return None
    wrong = found.assumed.wrongly_rejected
    return (wrong, found.throttled) if wrong > _MOST * found.throttled else None


def bottleneck(findings: Findings) -> str:
    """Return a sentence about the bottleneck.

    The generator comes first, because an overloaded generator invalidates other answers.
    """
    late = (check for check in findings.checks if not check.ok and check.name in OF_GENERATOR)
    if first := min(late, key=lambda check: OF_GENERATOR.index(check.name), default=None):
        return f"The generator: {first.name} was {first.value} ({first.limit})."
    use, requests = bottleneck_limit(findings.uses), findings.metrics.overall.requests
    if use is None:
        return "Unknown: no request was sent in a judged stage."
    if not requests.accepted and not requests.throttled:
        return "Unknown: no request was answered."
    if use.throttled:
        return _limiting(findings, use)
    if text := _capacity(findings):
        return text
    sent = f"“{use.stretch}” sent {_times_of(use)} the {_called_limit(findings, use)}"
    if use.busiest > 1:
        return f"None: no request got 429, though {sent}."
    return f"None was reached; at most, {sent}."


def _limiting(findings: Findings, use: LimitUsage) -> str:
    """Return the bottleneck of a run with 429s: a limit, polls, or an unknown cause."""
    called, rejected = _called_limit(findings, use), share(use.throttled_rate)
    if unexplained_429s(findings, use.limit) is not None:
        why = "The target rejects for another reason, or another client shares the limit."
        if not findings.record.info.target.embedded:
            probe = mention("probe", host=findings.record.info.target.url)
            why = f"Do the target's limits differ from `limits` in targets.toml? {probe} measures them."
        unexplained = f"429s that no limit explains: {rejected} of requests in “{use.stretch}” got 429"
        return f"{unexplained}, mostly while the {called} was not exhausted. {why}"
    jobs = (each.polling for each in findings.metrics.operations.values() if isinstance(each, JobFigures))
    polls = max((each.share_of_retrievals or 0.0 for each in jobs), default=0.0)
    if use.limit in (LimitName.RETRIEVAL, ALL) and polls > _POLLS:
        sent = f"“{use.stretch}” sent {_times_of(use)} the limit"
        return f"The poll budget: {share(polls)} of retrievals were polls, and {sent}."
    sent = f"sent {_times_of(use)} that limit{' on average' if use.busiest <= 1 else ''}"
    if findings.record.assumed_limits.spec.algorithm == CONCURRENCY:
        sent = f"used {share(use.share)} of that limit on average"
    return f"The {called}: “{use.stretch}” {sent}, and {rejected} got 429."


def _called_limit(findings: Findings, use: LimitUsage) -> str:
    """Return a limit's name and quota: ``sync_run limit (100 per minute for each of 4 keys)``."""
    assumed, quotas = findings.record.assumed_limits, findings.record.quotas_on(use.limit)
    keys = f" for each of {quotas} keys" if quotas > 1 else ""
    return f"{limit_name(use.limit)} ({assumed.limit_text(assumed.limit_on(use.limit))}{keys})"


def _times_of(use: LimitUsage) -> str:
    """Return ``80 % of`` or ``2.5 times``. If keys used separate quotas unevenly, name the busiest key."""
    return times_what(use.busiest) + (f" key {use.keys[0].key}’s share of" if use.uneven else "")


def _capacity(findings: Findings) -> str:
    """Return a sentence about a stage with much longer times than the least loaded stage; empty if there is none."""
    slower: list[tuple[float, str]] = []
    for name, figures in findings.metrics.traffic.items():
        parts = figures.stages.items()
        found = ((part.operations.offered_rate, part.response_time_ms.p50, stage) for stage, part in parts)
        stages = [(offered, median, stage) for offered, median, stage in found if median and offered]
        for offered, median, stage in stages:
            least, calm_median, calm = min(stages)
            grown = median / calm_median
            if offered >= least * _MORE and grown >= _SLOWER:
                text = (
                    f"Capacity: at {rate(offered)} in “{stage}” the median response time of {name} was "
                    f"{times_as(grown)} times that of “{calm}” at {rate(least)}, without a 429."
                )
                slower.append((grown, text))
    return max(slower, key=lambda each: each[0], default=(0.0, ""))[1]
