"""Whether the assumed limiter explains the 429s of a stretch: by its decisions, and not by their rate alone.

Two limiters may refuse the same share and other requests; and a rate may differ from a prediction because another
limiter is at work than the one that was assumed. So what is said rests on the decisions, and where those contradict the
assumed limiter, the one that explains them is named.
"""

from typing import Final

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.observed_429 import LimitObserved429
from loadtest.analysis.rejections.usage import LimitUse
from loadtest.limits.fits import Fit
from loadtest.limits.inference import same
from loadtest.limits.inference import words as limiter_words

AGREES: Final = 0.02
"""Observed and expected 429 rate differ by no more than this: predicted."""


def predicted(findings: Findings, use: LimitUse, *, briefly: bool = False) -> str:
    """What follows the 429 rate of a stretch in a sentence: which limiter explains it; empty without a replay."""
    expected = expected_rate(findings, use)
    if expected is None:
        return ""
    found, limiter = findings.observed_429.limits.get(use.limit), _assumed(findings, use)
    if found is not None and found.assumed is not None and use.throttled and _contradicted(findings, use, found):
        return (
            _by_another(findings, use, found)
            if expected or found.inference.named
            else f", though {limiter} predicts none"
        )
    if abs(expected - use.throttled_rate) <= AGREES:
        return ", as predicted" if briefly else f", as {limiter} predicts"
    if not expected:
        return f", though {limiter} predicts none"
    return f", where {limiter} predicts {words.share(expected)}"


def expected_rate(findings: Findings, use: LimitUse) -> float | None:
    """The 429 rate that the assumed limiter would have had on a limit in a stretch; None if it was not replayed."""
    record = findings.record
    sent = record.on_limit(use.limit)
    sent = sent[sent["start"].between(use.start_s * 1e9, use.end_s * 1e9, inclusive="left")]
    if len(sent) < use.sent:  # only the first so many requests of a record are replayed
        return None
    rejected = findings.expectation.rejected.reindex(sent.index).dropna()
    return float(rejected.mean()) if len(rejected) else None


def window_phase(findings: Findings) -> str:
    """How far into a window of the server the run began, in words; empty where windows do not begin by its clock."""
    record, shift = findings.record, findings.expectation.shift_s
    if shift is None or record.info.epoch_unix_ns is None:
        return ""
    windows = sorted({record.assumed_limits.limit_on(name).window for name in record.limits()})
    unsure = record.info.clock.uncertainty_s if record.info.clock else 0.0
    begun = (
        f"{record.info.window_phase_s(window, shift):.1f} s into a window of {words.seconds(window)}"
        for window in windows
        if unsure < window / 2
    )
    found = ", ".join(begun)
    return f"the run began {found} (± {unsure:.1f} s)" if found else ""


def _contradicted(findings: Findings, use: LimitUse, found: LimitObserved429) -> bool:
    """Whether the decisions are not those of the assumed limiter: another one explains them, or none."""
    inferred, assumed = found.inference, findings.record.assumed_limits
    if inferred.word == "nothing":
        return False
    spec, limit = assumed.spec, assumed.limit_on(use.limit)
    return not any(same(fit, spec, limit) for fit in inferred.named)


def _by_another(findings: Findings, use: LimitUse, found: LimitObserved429) -> str:
    inferred, assumed, limiter = found.inference, found.assumed, _assumed(findings, use)
    wrong = 0 if assumed is None else assumed.wrongly_rejected + assumed.wrongly_admitted + assumed.not_held
    decisions = "1 decision contradicts" if wrong == 1 else f"{words.count(wrong)} decisions contradict"
    against = f"{decisions} {limiter}, which was assumed"
    if not inferred.named:
        return f", which no known limiter explains ({against})"
    kinds = list(dict.fromkeys(_called(findings, fit) for fit in inferred.named))
    names = kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}"
    return f", as {names} decides ({against})"


def _assumed(findings: Findings, use: LimitUse) -> str:
    assumed = findings.record.assumed_limits
    return f"{assumed.words.partition(',')[0]} of {assumed.limit_text(assumed.limit_on(use.limit))}"


def _called(findings: Findings, fit: Fit) -> str:
    assumed = findings.record.assumed_limits
    limit = "" if "count" in fit.fitted else f" of {assumed.limit_text(fit.limit)}"
    return f"{limiter_words(fit).partition(' (')[0]}{limit}"
