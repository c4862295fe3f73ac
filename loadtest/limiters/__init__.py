"""Rate limiters as pure classes over a given time: no clock is read here.

The target asks a limiter about the present; the plan, the probe and the analysis put recorded or planned times through
fresh ones. ``docs/limiters.md`` says what each accepts.
"""

from loadtest.limiters.algorithms import ALGORITHMS, Algorithm, AlgorithmName, check_spec, make
from loadtest.limiters.buckets import Gcra, LeakyQueue, TokenBucket
from loadtest.limiters.concurrency import ConcurrencyLimit
from loadtest.limiters.model import SCOPES, SHARED_SCOPES, Decision, Limiter, LimiterSpec, Scope, SpecError
from loadtest.limiters.replaying import replay
from loadtest.limiters.sliding import SlidingCounter, SlidingLog
from loadtest.limiters.windows import FixedWindow

__all__ = [
    "ALGORITHMS",
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
    "check_spec",
    "make",
    "replay",
]
