"""The limits of an imported run, inferred from the 429s of its log.

A log does not state which requests share a limiter, so each key (or address) and all keys together are tried. A count
is stated only if the decisions exclude every count that differs by more than 3 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from loadtest.analysis.rejections.sent_requests import decision_delay, join
from loadtest.arrays import Floats, Ints
from loadtest.limits import LimiterSpec
from loadtest.limits.fits import SIGNIFICANT, sign_test
from loadtest.limits.inference import Inference, infer
from loadtest.limits.intervals import count_interval
from loadtest.limits.loads import RequestLog
from loadtest.record.log_source import SourceInfo
from loadtest.words import count, share

_SURE: Final = 0.03
"""Largest relative difference between a count that is stated and a count that the decisions do not exclude."""
_HELD_S: Final = 0.25
"""Assumed seconds from a decision to the stamp, if a log is stamped at a request's end and lacks durations."""


@dataclass(frozen=True, eq=False)
class LoggedLimit:
    """A limit as a log shows it.

    Attributes:
        requests: requests by the scope (each key, or all together) that explains the decisions better; else by key.
        inference: the inference from these requests; ``nothing`` if the count is uncertain.
        shared: whether all keys were found to share a limiter.
    """

    words: str
    requests: RequestLog
    inference: Inference
    shared: bool = False


def logged_limit(
    name: str, groups: list[RequestLog], source: SourceInfo, assumed: LimiterSpec, clock: tuple[float, float]
) -> LoggedLimit:
    """Infer a limit from a log's requests, grouped by key; ``clock`` is that of ``Record.clock``."""
    tolerance = decision_delay(groups) + (source.grain_s if source.coarse else 2 * source.grain_s)
    if source.stamp == "end" and not source.service_times:
        tolerance += _HELD_S
    each = join(groups, tolerance)
    logs = [each] if len(groups) == 1 else [each, join([_together(groups)], tolerance)]
    found = [(log, infer(log, assumed, *clock)) for log in logs]
    if not each.rejected.any():
        highest = max(int(_within(group.times, each.limit.window).max()) for group in groups)
        words = f"no limit was reached on {name}; highest {each.limit.window:g} s: {count(highest)}"
        return LoggedLimit(words, *found[0])
    whose = "address" if source.key == "address" else "key"
    best = _better(found)
    log, inference = best[0] if len(best) == 1 else found[0]
    shared = log is not each
    numbers = [number for one in best if (number := _count(*one, source, clock)) is not None]
    if not numbers:
        why = _why(source, best[0][1])
    elif len(best) > 1:
        why = f"it may be per {whose} or over all"
    else:
        number = numbers[0]
        documented = "as documented" if number == log.limit.count else f"documented: {log.limit.count:,}"
        over = f" over all {len(groups)} {whose}{'es' if whose == 'address' else 's'}" if shared else ""
        words = f"{number:,} per {log.limit.window:g} s on {name}{over}, {documented}"
        return LoggedLimit(words, log, inference, shared)
    if any(fit.limit.count == log.limit.count for fit in inference.named):
        why += f" (the documented {log.limit.count:,} per {log.limit.window:g} s fits)"
    unsure = replace(inference, word="nothing", named=())
    return LoggedLimit(f"can't tell the limit on {name}: {why}", log, unsure, shared)


_Found = tuple[RequestLog, Inference]


def _better(found: list[_Found]) -> list[_Found]:
    """Return the scope that explains significantly more decisions; both if neither does."""
    fitting = [one for one in found if one[1].named] or found[:1]
    if len(fitting) == 1:
        return fitting
    wrong = []
    for log, inference in fitting:
        missed = inference.named[0].wrong
        judged = log.part(0, len(missed))
        wrong.append(set(judged.place[missed & judged.judged].tolist()))
    fewer = [len(wrong[1] - wrong[0]), len(wrong[0] - wrong[1])]
    return [one for place, one in enumerate(fitting) if sign_test(fewer[1 - place], fewer[place]) > SIGNIFICANT]


def _together(groups: Sequence[RequestLog]) -> RequestLog:
    """Return the requests of several limiters as those of one limiter."""
    order = np.argsort(np.concatenate([group.times for group in groups]), kind="stable")
    names = ("times", "ends", "rejected", "answered", "judged", "place")
    columns: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in groups])[order] for name in names}
    return replace(groups[0], **columns)


def _within(times: Floats, seconds: float) -> Ints:
    """Return, for each request, the number of requests in the ``seconds`` that begin with it."""
    return np.searchsorted(times, times + seconds) - np.arange(len(times))


def _count(requests: RequestLog, inference: Inference, source: SourceInfo, clock: tuple[float, float]) -> int | None:
    """Return the count of all limiters that fit; None if it is uncertain."""
    if inference.word not in ("named", "several"):
        return None
    if source.coarse:
        # If rejected requests count and the rate is even, stamps of whole seconds are compatible with almost any count.
        counts_all = any(fit.spec.count_rejected for fit in inference.named)
        smallest = min(fit.limit.count for fit in inference.named)
        if counts_all or np.median(_within(requests.times, requests.tolerance_s)) > _SURE * smallest:
            return None
    ranges = [count_interval(requests, fit, *clock) for fit in inference.named]
    # Every limiter that fits must allow the count, and the best must exclude any other count.
    least, most = max(low for low, _ in ranges), min(high for _, high in ranges)
    documented = requests.limit.count
    number = documented if least <= documented <= most else round((least + most) / 2)
    low, high = ranges[0]
    sure = least <= most and high <= (1 + _SURE) * number and low >= (1 - _SURE) * number
    return number if sure else None


def _why(source: SourceInfo, inference: Inference) -> str:
    if inference.blocked_s is not None:
        return "no request passed after the first 429"
    if inference.rejected == inference.n:
        return "every request got 429"
    if source.coarse:
        return "stamps of whole seconds"
    if inference.word == "none":
        return f"no known limiter explains its {share(inference.rejected / inference.n)} of 429s"
    return "too few 429s, or too many counts explain them"
