"""Rate limiters as pure classes over a given time: no clock is read here.

The reference API asks a limiter about the present; the plan and the analysis replay planned or recorded times through
fresh ones. ``docs/limiters.md`` says what each accepts.
"""

from loadtest.limits.algorithms import (
    ALGORITHMS,
    CONCURRENCY,
    SCOPES,
    SHARED_SCOPES,
    AlgorithmName,
    LimiterSpec,
    Scope,
    SpecError,
    at_once,
    check_spec,
    in_words,
    make,
    replay,
)
from loadtest.limits.limiters import Decision, Limiter

__all__ = [
    "ALGORITHMS",
    "CONCURRENCY",
    "SCOPES",
    "SHARED_SCOPES",
    "AlgorithmName",
    "Decision",
    "Limiter",
    "LimiterSpec",
    "Scope",
    "SpecError",
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
