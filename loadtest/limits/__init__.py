"""Rate limiters as pure classes over a given time: no clock is read here.

The reference API asks a limiter about the present; the plan and the analysis replay planned or recorded times through
fresh ones. ``docs/limiters.md`` says what each accepts.
"""

from loadtest.limits.algorithms import (
    ALGORITHMS,
    CONCURRENCY,
    Algorithm,
    AlgorithmName,
    at_once,
    check_spec,
    in_words,
    make,
    replay,
)
from loadtest.limits.limiters import (
    ConcurrencyLimit,
    FixedWindow,
    Gcra,
    LeakyQueue,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
)
from loadtest.limits.model import SCOPES, SHARED_SCOPES, Decision, Limiter, LimiterSpec, Scope, SpecError

__all__ = [
    "ALGORITHMS",
    "CONCURRENCY",
    "SCOPES",
    "SHARED_SCOPES",
    "Algorithm",
    "AlgorithmName",
    "ConcurrencyLimit",
    "Decision",
    "FixedWindow",
    "Gcra",
    "LeakyQueue",
    "Limiter",
    "LimiterSpec",
    "Scope",
    "SlidingCounter",
    "SlidingLog",
    "SpecError",
    "TokenBucket",
    "at_once",
    "check_spec",
    "fits",
    "in_words",
    "inference",
    "loads",
    "make",
    "replay",
    "replays",
]
