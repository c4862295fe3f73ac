"""CPU time per accepting and per rejecting decision of every rate limiter, beside the `limits` package.

A plain loop over known times calls each limiter. The figures include the loop's own cost, which is also printed.
Rounds take turns, so that a change of the machine's speed affects all. Run: ``python bench/limiters.py``.

Short form: fewer decisions.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Final

from forms import Options, judged
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import STRATEGIES

from loadtest.limits import ALGORITHMS, LimiterSpec, make
from loadtest.units import Limit

ROUNDS: Final = 7
WANTED_NS: Final = 1000
EPOCH: Final = 1.8e9
PEERS: Final = ("fixed-window", "moving-window", "sliding-window-counter")
"""The peer's names for fixed-window-from-first, sliding-log and sliding-counter."""

Case = Callable[[list[float]], float]


def ours(name: str, *, count_rejected: bool, accepted: bool) -> Case:
    """Return a case: a limiter of 1e6/60s at half its rate, or a limiter of 1/60s that rejects nearly all requests."""
    spec = LimiterSpec(name, count_rejected=count_rejected)

    def ask(times: list[float]) -> float:
        limiter = make(spec, Limit(1_000_000 if accepted else 1, 60.0))
        decide, release = limiter.decide, limiter.release
        if name == "concurrency" and accepted:
            begin = time.thread_time()
            for now in times:
                decide(now)
                release(now)
            return time.thread_time() - begin
        begin = time.thread_time()
        for now in times:
            decide(now)
        return time.thread_time() - begin

    return ask


def peer(strategy: str, *, accepted: bool) -> Case:
    """Return the same case for the peer's limiter. It reads the clock itself."""

    def ask(times: list[float]) -> float:
        limiter = STRATEGIES[strategy](MemoryStorage())
        item = RateLimitItemPerMinute(1_000_000 if accepted else 1)
        hit = limiter.hit
        begin = time.thread_time()
        for _ in times:
            hit(item, "key")
        return time.thread_time() - begin

    return ask


def bare(times: list[float]) -> float:
    """Run the loop without a limiter."""
    begin = time.thread_time()
    for now in times:
        nothing(now)
    return time.thread_time() - begin


def nothing(_now: float) -> None:
    """Do nothing."""


def cases() -> dict[tuple[str, str], Case]:
    """Return all cases by row and column."""
    found: dict[tuple[str, str], Case] = {}
    for name, algorithm in ALGORITHMS.items():
        for counting in (False, True) if algorithm.can_count_rejected else (False,):
            row = f"{name}, counts 429s" if counting else name
            found[row, "accepts"] = ours(name, count_rejected=counting, accepted=True)
            found[row, "rejects"] = ours(name, count_rejected=counting, accepted=False)
    for strategy in PEERS:
        found[f"limits: {strategy}", "accepts"] = peer(strategy, accepted=True)
        found[f"limits: {strategy}", "rejects"] = peer(strategy, accepted=False)
    return found


def main() -> int:
    """Measure and print the table. Return 1 if a decision of ours takes too long."""
    parser = Options(__doc__)
    parser.add_size("--decisions", 10_000, 20_000, "decisions of each limiter in each round")
    count = parser.begin().decisions
    times = [EPOCH + k * 120 / 1_000_000 for k in range(count)]
    measured: dict[tuple[str, str], list[float]] = {case: [] for case in cases()}
    empty = []
    for _ in range(ROUNDS):
        empty.append(bare(times) / count * 1e9)
        for case, ask in cases().items():
            measured[case].append(ask(times) / count * 1e9)
    call = statistics.median(empty)
    print(f"{'ns per decision, median of ' + str(ROUNDS):34}{'accepts':>9}{'rejects':>9}")
    slowest = 0.0
    for row in dict.fromkeys(row for row, _ in measured):
        accepts, rejects = (statistics.median(measured[row, column]) for column in ("accepts", "rejects"))
        print(f"{row:34}{accepts:9.0f}{rejects:9.0f}")
        slowest = slowest if row.startswith("limits:") else max(slowest, accepts, rejects)
    text = f"a call that does nothing takes {call:.0f} ns; slowest of ours {slowest:.0f} ns"
    return not judged(text, f"less than {WANTED_NS} ns", ok=slowest < WANTED_NS)


if __name__ == "__main__":
    sys.exit(main())
