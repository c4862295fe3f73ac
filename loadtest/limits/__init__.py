"""Rate limiters as pure classes: the caller passes the time, and no limiter reads a clock.

The reference API passes the present time. The plan and the analysis replay planned or recorded times through fresh
limiters. ``docs/rate-limits.md`` describes which requests each limiter accepts.
"""

from loadtest.limits.algorithms import (
    ALGORITHMS,
    CONCURRENCY,
    SCOPES,
    SHARED_SCOPES,
    AlgorithmName,
    LimiterSpec,
    Scope,
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
