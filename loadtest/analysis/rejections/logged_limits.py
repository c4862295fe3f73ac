"""The limits of an imported run, inferred from the 429s of its log.

A log does not state which requests share a limiter. Two scopes are tried: a limiter for each key (or address), and a
limiter for all keys. A limit's count is stated only if the decisions exclude counts that differ from it by over 3 %.
"""

from dataclasses import dataclass, replace
from heapq import nlargest
from itertools import product
from typing import Final

import numpy as np

from loadtest.analysis.rejections import concatenated, decision_delay, join
from loadtest.arrays import Floats, Ints
from loadtest.limits import LimiterSpec
from loadtest.limits.fits import EVIDENCE, SIGNIFICANT, count_interval, sign_test
from loadtest.limits.inference import Inference, infer
from loadtest.limits.loads import RequestLog
from loadtest.record.run_info import SourceInfo
from loadtest.units import Limit
from loadtest.words import count, share

_SURE: Final = 0.03
"""A count is stated only if all counts that the decisions allow differ from it by at most this share."""
_OPEN: Final = 0.999
"""The tolerance of coarse stamps must be below their resolution. It is the resolution times this factor."""
_WINDOWS_S: Final = (1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600)
"""Usual windows to try if no limiter with the documented window fits."""
_TRIED: Final = 3_000
"""Other windows are tried with at most this many requests, to limit the time of the analysis."""
_GROUPS: Final = 10
"""Other windows are tried with the requests of at most this many keys, the busiest."""
_HELD_S: Final = 0.25
"""Assumed seconds from a decision to the stamp, if a log has stamps of requests' ends but no durations."""


@dataclass(frozen=True, eq=False)
class LoggedLimit:
    """The inference of a limit from a log. ``words`` is the result as text.

    Attributes:
        requests: the joined logs of the keys' limiters; if ``shared``, the log of one limiter for all keys.
        inference: the inference from these requests, with the word ``nothing`` if the count is uncertain.
    """

    words: str
    requests: RequestLog
    inference: Inference
    shared: bool = False


def logged_limit(
    name: str, groups: list[RequestLog], source: SourceInfo, assumed: LimiterSpec, clock: tuple[float, float]
) -> LoggedLimit:
    """Infer a limit from a log's requests, grouped by key. ``clock`` is ``Record.clock``."""
    tolerance = decision_delay(groups) + 2 * source.grain_s
    if source.coarse:
        # If stamps of two requests differ by k s, the requests are more than k − 1 and less than k + 1 s apart.
        tolerance = _OPEN * source.grain_s
        groups = [replace(group, grain_s=source.grain_s) for group in groups]
    elif source.stamp == "end" and not source.service_times:
        tolerance += _HELD_S
    each = join(groups, tolerance)
    # Two scopes are tried: a limiter for each key, and a limiter that all keys share.
    in_order = np.argsort(np.concatenate([group.times for group in groups]), kind="stable")
    scopes = [groups] if len(groups) == 1 else [groups, [replace(groups[0], **concatenated(groups, in_order))]]
    logs = [each, *(join(scope, tolerance) for scope in scopes[1:])]
    found = [(log, infer(log, assumed, *clock)) for log in logs]
    if not each.rejected.any():
        highest = max(int(_within(group.times, each.limit.window).max()) for group in groups)
        words = f"no limit was reached on {name}; at most {count(highest)} in {each.limit.window:g} s"
        return LoggedLimit(words, *found[0])
    whose = "address" if source.key == "address" else "key"
    best = _better(found)
    log, inference = best[0] if len(best) == 1 else found[0]
    shared = log is not each
    numbers = [number for one in best if (number := _count(*one, source, clock)) is not None]
    if numbers and len(best) == 1:
        documented = "as documented" if numbers[0] == log.limit.count else f"documented: {log.limit.count:,}"
        over = f" over all {len(groups)} {whose}{'es' if whose == 'address' else 's'}" if shared else ""
        words = f"{numbers[0]:,} per {log.limit.window:g} s on {name}{over}, {documented}"
        return LoggedLimit(words, log, inference, shared)
    why = f"it may be per {whose}, or for all together" if numbers else _why(source, best[0][1])
    if not numbers and best[0][1].word == "none":
        limit = _proposal(scopes, tolerance, assumed, clock)
        why += f"; import the log with --limit {name}={limit}, which fits" if limit else "; loadtest probe can find it"
    if any(fit.limit.count == log.limit.count for fit in inference.named):
        why += f" (the documented {log.limit.count:,} per {log.limit.window:g} s fits)"
    unsure = replace(inference, word="nothing", named=())
    return LoggedLimit(f"can't tell the limit on {name}: {why}", log, unsure, shared)


_Found = tuple[RequestLog, Inference]


def _better(found: list[_Found]) -> list[_Found]:
    """Return the scope whose best limiter explains significantly more decisions; both if neither does.

    A scope without a fitting limiter is left out. If no limiter fits in either scope, return the first.
    """
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


def _within(times: Floats, seconds: float) -> Ints:
    """For each request, return the number of requests in the next ``seconds``, including itself."""
    return np.searchsorted(times, times + seconds) - np.arange(len(times))


def _count(requests: RequestLog, inference: Inference, source: SourceInfo, clock: tuple[float, float]) -> int | None:
    """Return the limit's count, which all fitting limiters must allow; None if the count is uncertain."""
    if inference.word not in ("named", "several"):
        return None
    fits = list(inference.named)
    if source.coarse:
        # A limiter for which most requests are undecidable fits almost any log. Therefore only limiters with nearly the
        # best score are kept. Requests of one second count as one observation.
        together = max(1.0, float(np.median(_within(requests.times, requests.tolerance_s))))
        least_score = max(fit.score for fit in fits) - EVIDENCE * together
        fits = [fit for fit in fits if fit.score >= least_score]
        # If stamps are much later than decisions, accepted requests contradict every limiter, and no count is certain.
        if int(fits[0].wrong.sum()) > _SURE / 3 * fits[0].accepted:
            return None
    ranges = [count_interval(requests, fit, *clock) for fit in fits]
    # Every fitting limiter must allow the count, and the best limiter must exclude counts that differ by over 3 %.
    least, most = max(low for low, _ in ranges), min(high for _, high in ranges)
    documented = requests.limit.count
    number = documented if least <= documented <= most else round((least + most) / 2)
    # Stamps of whole seconds do not show which limiter is the best, so every limiter must exclude these counts.
    judged = ranges if source.coarse else ranges[:1]
    sure = all((1 - _SURE) * number <= low and high <= (1 + _SURE) * number for low, high in judged)
    return number if sure and least <= most else None


def _proposal(
    scopes: list[list[RequestLog]], tolerance_s: float, assumed: LimiterSpec, clock: tuple[float, float]
) -> str | None:
    """Return the limit with a usual window that explains the decisions best (such as ``20/10s``); None if none fits."""
    found: list[tuple[float, bool, int, str]] = []
    for scope, window in product(scopes, _WINDOWS_S):
        limit = Limit(scope[0].limit.count, float(window))
        most = nlargest(_GROUPS, scope, key=lambda group: len(group.times))
        log = join([replace(group.part(0, _TRIED), limit=limit) for group in most], tolerance_s).part(0, _TRIED)
        for fit in infer(log, assumed, *clock).named[:1]:
            if log.grain_s and fit.undecidable > _SURE * len(log.times):  # many other windows would fit, too
                continue
            number = max(1, round(fit.limit.rate * window))
            found.append((fit.score, fit.spec.burst in (None, number), -window, f"{number}/{window}s"))
    near = [each for each in found if each[0] >= max(found)[0] - EVIDENCE]
    return max(near, key=lambda each: each[1:])[-1] if near else None


def _why(source: SourceInfo, inference: Inference) -> str:
    if inference.blocked_s is not None:
        return "no limiter accepted a request after its first 429"
    if inference.rejected == inference.n:
        return "every request got 429"
    if inference.word == "none":
        return f"no known limiter explains the 429s ({share(inference.rejected / inference.n)} of the requests)"
    if source.coarse:
        return "stamps of whole seconds; docs/logs.md has a format with milliseconds"
    return "too few 429s, or too many counts explain them"
