"""Accuracy of the limiter that a report infers from recorded decisions, for simulated limiters and traffic.

Each limiter answers each traffic on a clock that is ahead of ours, after a random delay. A case is wrong if another
algorithm is named, if the list of possible limiters lacks the true one, or if an interval of a count, burst or phase
lacks the true value. Run: ``python bench/passive_inference.py --seed 1``.
"""

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import limits as peer
import numpy as np
from limits.storage import MemoryStorage, memory
from limits.strategies import STRATEGIES

from loadtest.analysis.rejections import join, log_of
from loadtest.limits import ALGORITHMS, LimiterSpec, make
from loadtest.limits.fits import Fit
from loadtest.limits.inference import Inference, infer, words
from loadtest.limits.loads import RequestLog
from loadtest.units import Limit

DOCUMENTED: Final = Limit(100, 60.0)
REACH_S: Final = 0.6
"""Uncertainty in s of the server's clock if a run has no measured offset."""
WANTED: Final = 0.5
"""At least this share of cases must end with one to three limiters."""


class Server(Protocol):
    """A limiter in force. Returns whether it accepts a request at a time."""

    def __call__(self, now: float) -> bool: ...


class Truth(NamedTuple):
    """A limiter in force and its correct description. ``spec`` is None for an unknown algorithm."""

    called: str
    server: Callable[[float], Server]
    spec: LimiterSpec | None = None
    limit: Limit = DOCUMENTED


def ours(spec: LimiterSpec, limit: Limit = DOCUMENTED) -> Truth:
    """Return one of the registry's limiters."""

    def begin(_: float) -> Server:
        limiter = make(spec, limit)
        return lambda now: limiter.decide(now).allowed

    parts = [spec.algorithm, spec.burst and f"burst {spec.burst}", spec.count_rejected and "counting"]
    parts += [spec.phase and f"phase {spec.phase:.1f}", spec.round_down and "rounding", limit != DOCUMENTED and limit]
    return Truth(" ".join(str(part) for part in parts if part), begin, spec, limit)


class _Clock:
    """The ``limits`` package's clock."""

    now = 0.0

    def time(self) -> float:
        return self.now


def package(strategy: str, spec: LimiterSpec, limit: Limit = DOCUMENTED) -> Truth:
    """Return a limiter of the ``limits`` package."""

    def begin(_: float) -> Server:
        limiter, item = STRATEGIES[strategy](MemoryStorage()), peer.RateLimitItemPerMinute(limit.count)

        def server(now: float) -> bool:
            memory.time.now = now  # type: ignore[attr-defined]
            return bool(limiter.hit(item, "key"))

        return server

    return Truth(f"limits: {strategy} {'' if limit == DOCUMENTED else limit}".strip(), begin, spec, limit)


def throttled_bucket(_: float) -> Server:
    """Return the token bucket of throttled-py. It is full at first, and its clock shows whole seconds."""
    tokens, last = 100.0, None

    def server(now: float) -> bool:
        nonlocal tokens, last
        whole = int(now)
        tokens = min(100.0, tokens + max(0, whole - (whole if last is None else last)) * 100 / 60)
        last = whole
        passed = tokens >= 1
        tokens -= passed
        return passed

    return server


def nginx(_: float) -> Server:
    """Return nginx's ``limit_req rate=100r/m burst=20 nodelay``. It counts whole ms and thousandths of a request."""
    rate, excess, last = 100 * 1000 // 60, 0, None

    def server(now: float) -> bool:
        nonlocal excess, last
        at = int(now * 1000)
        level = 0 if last is None else max(0, excess - rate * (at - last) // 1000 + 1000)
        if level > 20_000:
            return False
        excess, last = level, at
        return True

    return server


def quota(count: int) -> Callable[[float], Server]:
    """Return a quota of a day. Its window does not end within the run."""

    def begin(_: float) -> Server:
        left = count

        def server(_: float) -> bool:
            nonlocal left
            left -= left > 0 or -0
            return left > 0

        return server

    return begin


def shedding(seed: float) -> Server:
    """Return a server that rejects a random fifth of all requests."""
    chance = random.Random(seed)
    return lambda _: chance.random() > 0.2


def truths(chance: random.Random) -> list[Truth]:
    """Return the limiters of one round. Phases and wrong counts are drawn."""
    phases = [chance.uniform(2, 58) for _ in range(3)]
    fewer, more = chance.randrange(60, 95), chance.randrange(106, 150)
    return [
        ours(LimiterSpec("fixed-window")),
        *(ours(LimiterSpec("fixed-window", phase=phase)) for phase in phases),
        package("fixed-window", LimiterSpec("fixed-window-from-first")),
        package("moving-window", LimiterSpec("sliding-log")),
        package("sliding-window-counter", LimiterSpec("sliding-counter", round_down=True)),
        ours(LimiterSpec("sliding-log", count_rejected=True)),
        ours(LimiterSpec("sliding-counter")),
        ours(LimiterSpec("sliding-counter-from-first", count_rejected=True, round_down=True)),
        ours(LimiterSpec("sliding-counter-from-first")),
        ours(LimiterSpec("token-bucket")),
        ours(LimiterSpec("token-bucket", 17)),
        ours(LimiterSpec("token-bucket", 30, count_rejected=True)),
        Truth("throttled-py: bucket", throttled_bucket, LimiterSpec("token-bucket", round_down=True)),
        Truth("nginx, burst 20", nginx, LimiterSpec("token-bucket", 21)),
        ours(LimiterSpec("gcra")),
        ours(LimiterSpec("gcra", 5)),
        ours(LimiterSpec("fixed-window"), Limit(fewer, 60.0)),
        package("moving-window", LimiterSpec("sliding-log"), Limit(more, 60.0)),
        package("sliding-window-counter", LimiterSpec("sliding-counter", round_down=True), Limit(fewer, 60.0)),
        ours(LimiterSpec("token-bucket", 40), Limit(more, 60.0)),
        ours(LimiterSpec("fixed-window", phase=phases[0]), Limit(more, 60.0)),
        Truth("a quota of a day", quota(chance.randrange(90, 180))),
        Truth("random shedding", shedding),
    ]


def even(rate: float, seconds: float, begin: float = 0.0) -> list[float]:
    """Return evenly spaced times."""
    return (begin + np.arange(round(rate * seconds)) / rate).tolist()


def traffics(chance: random.Random) -> dict[str, list[float]]:
    """Return the times of requests in s, by traffic."""
    noise = np.random.default_rng(chance.randrange(2**32))
    return {
        "even, 1.1x": even(1.1 * 100 / 60, 300),
        "even, 2x": even(2 * 100 / 60, 300),
        "Poisson, 1.3x": np.cumsum(noise.exponential(60 / 130, 650)).tolist(),
        "Poisson, 3x": np.cumsum(noise.exponential(60 / 300, 900)).tolist(),
        "burst, then even": [*even(10_000, 0.02), *even(100 / 60, 200, 4.0)],
        "steps": [*even(0.8, 70), *even(3.5, 100, 70), *even(1.2, 60, 170), *even(5, 70, 230)],
        "bursts of 40": [at for k in range(20) for at in even(2_000, 0.02, 13.0 * k)],
        "ramp": (300 * np.sqrt(np.arange(900) / 900)).tolist(),
    }


def answered(truth: Truth, times: list[float], chance: random.Random) -> RequestLog:
    """Return the log of a limiter's decisions."""
    delay, shift = chance.choice((0.0003, 0.001)), chance.uniform(-0.45, 0.45)
    base, server = 1.7e9 + chance.uniform(0, 60), truth.server(chance.random())
    arrivals = sorted((base + at + delay + chance.expovariate(1 / delay), base + at) for at in times)
    passed = [server(at + shift) for at, _ in arrivals]
    starts, ends = np.array([sent for _, sent in arrivals]), np.array([at + delay for at, _ in arrivals])
    group = log_of(DOCUMENTED, starts, ends, np.where(passed, 200.0, 429.0), np.arange(len(starts)))
    return join([group], max(0.002, 4.5 * delay))


def alike(spec: LimiterSpec) -> tuple[str, bool]:
    """Return the properties that a correct name states."""
    return ALGORITHMS[spec.algorithm].decides_as or spec.algorithm, spec.count_rejected


def judged(truth: Truth, found: Inference) -> str:
    """Return whether an inference is ``wrong``, ``named``, among ``few`` or ``many``, or ``unknown``."""
    if not found.named:
        return "unknown"
    own = [fit for fit in found.named if truth.spec is not None and alike(fit.spec) == alike(truth.spec)]
    if not own or not all(holds(truth, fit) for fit in own):
        return "wrong"
    if found.other_counts is not None and not found.other_counts[0] <= truth.limit.count <= found.other_counts[1]:
        return "wrong"
    number = len({alike(fit.spec) for fit in found.named})
    return "named" if number == 1 else "few" if number <= 3 else "many"


def holds(truth: Truth, fit: Fit) -> bool:
    """Whether the numbers that are stated for the true algorithm are right."""
    spec = truth.spec or LimiterSpec()
    low, high = fit.counts or (fit.limit.count,) * 2
    if ALGORITHMS[fit.spec.algorithm].has_burst:
        known = spec.burst or (1 if spec.algorithm == "gcra" else truth.limit.count)
        least, most = fit.bursts or (fit.spec.burst,) * 2
        rates = fit.rates or (truth.limit.rate,) * 2  # the documented rate says nothing about the real one
        return least <= known <= most and rates[0] <= truth.limit.rate <= rates[1]
    early, late = fit.phases or (fit.spec.phase - REACH_S, fit.spec.phase + REACH_S)
    return low <= truth.limit.count <= high and (spec.phase - early) % 60 <= late - early


def main() -> None:
    """Print a table, and exit with 1 if more than one case is wrong or too few are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--verbose", action="store_true", help="print each case that is wrong")
    given = parser.parse_args()
    memory.time = _Clock()
    chance, counts, table = random.Random(given.seed), Counter[str](), dict[str, Counter[str]]()
    for truth in truths(chance):
        for traffic, times in traffics(chance).items():
            found = infer(answered(truth, times, chance), LimiterSpec(), 0.0, REACH_S)
            word = judged(truth, found) if found.rejected else "no 429"
            counts[word] += 1
            table.setdefault(truth.called, Counter())[word] += 1
            if given.verbose and word in ("wrong", "unknown", "many"):
                print(f"{word}: {truth.called}, {traffic}: {[words(fit) for fit in found.named] or found.word}")
    for called, row in table.items():
        print(f"{called:45}" + ", ".join(f"{number} {word}" for word, number in row.items()))
    total = counts.total() - counts["no 429"]
    share = (counts["named"] + counts["few"]) / total
    print(f"{dict(counts)}: {share:.0%} of {total} named or among three")
    sys.exit(counts["wrong"] > max(1, math.floor(total / 200)) or share < WANTED)


if __name__ == "__main__":
    main()
