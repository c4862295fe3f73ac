"""Facts about a record's 429s: the inferred limiter, contradictions of the assumed limiter, headers, recovery.

These facts do not affect the verdict.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec
import numpy as np

from loadtest.analysis.rejections import MOST, decision_delay, join
from loadtest.analysis.rejections.interference import Interference, interference
from loadtest.analysis.rejections.recovery import (
    RateHeaders,
    Recovery,
    Retries,
    RetryAfter,
    rate_headers,
    recovery,
    retry_after,
)
from loadtest.analysis.rejections.usage import AcceptedWindows, WindowCounts, accepted_windows
from loadtest.analysis.results import Count, Proportion, Result, result_of
from loadtest.analysis.run_record import Record
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import THROTTLED_STATUS
from loadtest.limits import ALGORITHMS
from loadtest.limits.fits import BAR, Fit, Fitted, compare_with
from loadtest.limits.inference import FITTED, Inference, InferenceOutcome, infer
from loadtest.limits.loads import RequestLog

NO_CODE: Final = "none"
"""Stands for the missing error code of a 429."""


class FitResult(Result, frozen=True, kw_only=True):
    """One limiter's fit to the recorded decisions.

    Attributes:
        burst: maximum number of requests accepted at once; null if the algorithm has no burst.
        bursts: the smallest and largest burst that fit equally well; null if only one fits. Always null in
            ``candidates``.
        phase_s: start of a window on the server's clock, modulo the length of the window.
        phases: interval of possible phases in s; null if no phase was fitted.
        round_down: whether a sliding counter rounds the previous window's weighted count down, or a bucket refills only
            in whole seconds.
        counts: interval of a fitted count; null for buckets, without a fitted count, or if it contains the documented
            count.
        rates: interval of a bucket's fitted rate in requests/s; null if none was fitted, or if it contains the
            documented rate.
        window_s: length of the window; null for a concurrency limit.
        clock_shift_s: the server's clock minus the client's; null if the limiter does not follow the server's clock.
        explained: share of decisions that the limiter predicts, among the 429s or among the accepted requests,
            whichever is smaller. Undecidable requests are left out.
        wrongly_rejected: number of rejected requests that the limiter would accept.
        wrongly_admitted: number of accepted requests that the limiter would reject.
        not_held: number of accepted requests that took less time than the limiter would have held them in its queue.
        undecidable: number of requests that the limiter may accept or reject, because times have a tolerance.
        score: log-likelihood of the decisions, minus ½ ln(number of decisions) for each fitted parameter. The highest
            is the best.
    """

    limiter: str
    burst: int | None
    bursts: tuple[int, int] | None
    count_rejected: bool
    phase_s: float
    phases: tuple[float, float] | None
    round_down: bool
    count: Count
    counts: tuple[int, int] | None
    rates: tuple[float, float] | None
    window_s: float | None
    fitted: tuple[Fitted, ...]
    clock_shift_s: float | None
    explained: Proportion | None
    right: int
    wrongly_rejected: Count
    wrongly_admitted: Count
    not_held: Count
    undecidable: Count
    score: float


class InferenceResult(Result, frozen=True, kw_only=True):
    """The limiters that fit the responses of one limit.

    Attributes:
        verdict: ``nothing`` can be inferred, one limiter is ``named``, ``several`` fit equally well, or ``none`` fits.
        n: number of decisions compared.
        bar: a limiter fits if it predicts at least this share of the 429s, and of the accepted requests, apart from
            sampling error.
        named: the limiters that fit equally well, the best first.
        set_aside_next: the best limiter that was excluded.
        decisions_for_it: number of decisions that contradict only the excluded limiter.
        decisions_against_it: number of decisions that contradict only the best limiter.
        log10_p: log10 of the p-value of a sign test between these two limiters.
        held_correlation: correlation between the durations of accepted requests and their waits in an assumed queue.
        other_count: count that the decisions suggest; null if it is the documented count or unknown.
        other_counts: interval of this count over all named limiters.
        blocked_s: the longest time in s from a limiter's first 429 to its last request; null if no request followed a
            429, or if a later request was accepted.
        candidates: the best fit of each algorithm and value of ``count_rejected``. The best of all comes first.
    """

    verdict: InferenceOutcome
    n: Count
    throttled: Count
    bar: Proportion
    named: tuple[FitResult, ...]
    set_aside_next: FitResult | None
    decisions_for_it: Count
    decisions_against_it: Count
    log10_p: float | None
    held_correlation: float | None
    other_count: int | None
    other_counts: tuple[int, int] | None
    blocked_s: float | None
    candidates: tuple[FitResult, ...]


class LimitResult(Result, frozen=True, kw_only=True):
    """Facts about the 429s of one limit. Requests of warm-up, set-up and drain also use quota, so they count.

    Attributes:
        tolerance_s: assumed longest time from sending to the server's decision: the 90 % quantile of the 429s'
            durations, but at least 1 ms and at most 250 ms. A log's imprecise time stamps make it longer.
        believed: fit of the assumed limiter; null if no limiter could be replayed.
        windows: accepted requests by window of the named (else the assumed) limiter; null if it has no windows.
    """

    sent: Count
    answered: Count
    throttled: Count
    codes: dict[str, Count]
    tolerance_s: float
    inferred: InferenceResult
    assumed: FitResult | None = msgspec.field(name="believed")
    windows: WindowCounts | None
    retry_after: RetryAfter
    headers: RateHeaders
    recovery: Recovery


class Observed429Result(Result, frozen=True, kw_only=True):
    """Facts about all 429s. ``why_not`` is the reason for missing facts; null otherwise.

    Attributes:
        complete: whether all requests were analysed.
        most_requests: maximum number of requests analysed per limit name. Later requests are ignored.
        most_requests_inferred_from: maximum number of requests with which algorithms are compared.
    """

    why_not: str | None
    complete: bool
    most_requests: Count
    most_requests_inferred_from: Count
    limits: Mapping[str, LimitResult]
    retries: dict[str, Retries]
    interference: list[Interference] = msgspec.field(name="touches")


class LimitObserved429(LimitResult, frozen=True, kw_only=True):
    """Facts about the 429s of one limit, and the fits and windows that these facts come from."""

    inference: Inference
    fit: Fit | None
    accepted: AcceptedWindows | None


class Observed429(Observed429Result, frozen=True, kw_only=True):
    """Facts about the 429s of all limits."""

    limits: Mapping[str, LimitObserved429]

    def result(self) -> Observed429Result:
        limits = {name: result_of(LimitResult, each) for name, each in self.limits.items()}
        return result_of(Observed429Result, self, limits=limits)


def look_into(record: Record) -> Observed429:
    """Analyse the 429s of a record. ``retries`` stays empty until a later pass over the operations."""
    sent = record.sent_requests
    found = partial(Observed429, retries={}, most_requests=MOST, most_requests_inferred_from=FITTED)
    if not len(sent) or record.info.epoch_unix_ns is None:
        why = "the run never reached its epoch" if len(sent) else "no request was sent"
        return found(limits={}, interference=[], complete=True, why_not=why)
    wrong = np.zeros(len(sent), bool)
    limits = {}
    for name, logs in record.limiter_requests.items():
        logged = record.logged_limits.get(name)
        requests = join(logs, decision_delay(logs)) if logged is None else logged.requests
        inferred = infer(requests, record.assumed_limits.spec, *record.clock) if logged is None else logged.inference
        limits[name], fit = _look(record, requests, inferred)
        wrong[requests.place[requests.judged]] = (fit.wrong & requests.rejected)[requests.judged]
    known = all(each.assumed is not None for each in limits.values())
    return found(
        limits=limits,
        interference=interference(record, wrong[record.in_figures] if known else None),
        complete=record.sent.complete,
        why_not=None if limits else "no request drew on a limit",
    )


def _look(record: Record, requests: RequestLog, inferred: Inference) -> tuple[LimitObserved429, Fit]:
    fit, shift = inferred.assumed, record.expectation.clock_shift_s
    # A report uses one clock shift for all limits: the shift of ``record.expectation``.
    if fit is None or len(requests.times) > FITTED or shift not in (None, fit.shift_s):
        fit = compare_with(requests, record.assumed_limits.spec, record.clock[0] if shift is None else shift)
    places = requests.place[requests.judged]
    sent = record.sent_requests[places]
    since_epoch = np.full(len(requests.times), np.nan)
    since_epoch[requests.judged] = sent["start"] / 1e9
    codes_of = Counter(sent["error_code"][sent["status"] == THROTTLED_STATUS].tolist())
    called = [*record.vocabulary.words["error_code"], NO_CODE]  # index -1 stands for no code
    # Show the windows of the named limiter, else of the assumed limiter.
    shown = inferred.named[0] if inferred.word == "named" else fit
    if (shown.spec, shown.limit) == (fit.spec, fit.limit):
        shown = fit
    windowed = ALGORITHMS[shown.spec.algorithm].windowed
    accepted = accepted_windows(requests, shown, since_epoch) if windowed else None
    replayed = record.expectation.why_not is None
    looked = LimitObserved429(
        sent=len(places),
        answered=int(requests.known.sum()),
        throttled=codes_of.total(),
        codes={called[code]: count for code, count in codes_of.most_common()},
        tolerance_s=requests.tolerance_s,
        inferred=_inferred(inferred),
        assumed=_fitted(fit) if replayed else None,
        windows=None if accepted is None else accepted.counts,
        inference=inferred,
        fit=fit if replayed else None,
        accepted=accepted,
        retry_after=retry_after(record, requests),
        headers=rate_headers(requests, record.sent.rate_headers),
        recovery=recovery(requests),
    )
    return looked, fit


def _inferred(found: Inference) -> InferenceResult:
    return result_of(
        InferenceResult,
        found,
        verdict=found.word,
        throttled=found.rejected,
        held_correlation=found.held,
        bar=BAR,
        named=tuple(_fitted(fit) for fit in found.named),
        set_aside_next=found.next and _fitted(found.next),
        decisions_for_it=found.against[0],
        decisions_against_it=found.against[1],
        # The bursts that fit equally well matter only for the named limiters.
        candidates=tuple(_fitted(replace(fit, bursts=None)) for fit in found.best_of_each),
    )


def _fitted(fit: Fit) -> FitResult:
    spec = fit.spec
    return result_of(
        FitResult,
        fit,
        limiter=spec.algorithm,
        burst=spec.burst,
        count_rejected=spec.count_rejected,
        phase_s=spec.phase,
        round_down=spec.round_down,
        count=fit.limit.count,
        window_s=None if spec.algorithm == CONCURRENCY else fit.limit.window,
        clock_shift_s=fit.shift_s,
    )
