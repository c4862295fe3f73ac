"""Accuracy of the limits that `import` states for access logs with times in whole seconds, in simulation.

    .venv/bin/python bench/logged_limits.py [SEED [SERVICE_S]]

Each log has one key, Poisson traffic or clients that back off after a 429, and 15 windows (at least 5 min) at 1.2 to
4 times the limit. Lines have no durations and are stamped at a request's start or end. SERVICE_S is the mean of the
exponentially distributed service times in s. A stated limit is right within 3 %.
"""

import heapq
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from loadtest.analysis.run_record import load_record
from loadtest.contract import LimitName
from loadtest.limits import ALGORITHMS, CONCURRENCY, LimiterSpec, make
from loadtest.logs.importing import ImportOptions, import_logs
from loadtest.units import Limit

LIMITS = (Limit(100, 60.0), Limit(300, 60.0), Limit(50, 10.0))
MOST = 40_000
"""A log has at most this many lines."""
REJECTED_S = 0.002


def requests(
    random: np.random.Generator, algorithm: str, limit: Limit, service_s: float, *, backing_off: bool
) -> Iterator[tuple[float, float, int]]:
    """Yield start and end in unix s, and the status, of each request."""
    limiter, over = make(LimiterSpec(algorithm), limit), random.uniform(1.2, 4)
    begin, span = 1.76e9 + random.uniform(0, 3600), max(15 * limit.window, 300.0)
    gap = 1 / (limit.rate * over)
    clients = [(begin + random.uniform(0, 2), k, 0) for k in range(max(3, int(limit.rate * over)))]
    due = clients if backing_off else [(begin, 0, 0)]
    heapq.heapify(due)
    for _ in range(MOST):
        now, client, attempt = heapq.heappop(due)
        if now > begin + span:
            return
        decision = limiter.decide(now)
        took = (random.exponential(service_s) if decision.allowed else REJECTED_S) + decision.delay
        yield now, now + took, 200 if decision.allowed else 429
        attempt = 0 if decision.allowed else min(attempt + 1, 6)
        wait = random.exponential(0.7) if decision.allowed else random.uniform(0, min(20.0, 0.5 * 2.0**attempt))
        heapq.heappush(due, (now + (took + wait if backing_off else random.exponential(gap)), client, attempt))


def answer(rows: list[tuple[float, float, int]], limit: Limit, stamp: Literal["start", "end"]) -> str:
    """Import a log, and judge the limit that the run states."""
    times = sorted((row[0] if stamp == "start" else row[1], row[2]) for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        with log.open("w") as file:
            for at, status in times:
                text = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))
                file.write(f'10.0.0.1 - - [{text}] "POST /v1/workflows/run HTTP/1.1" {status} 9\n')
        options = ImportOptions(limits={LimitName.SYNC_RUN: limit}, stamp=stamp)
        record = load_record(import_logs([str(log)], Path(folder) / "reports", options))
        (found,) = record.logged_limits.values()
    if not found.words[0].isdigit():
        return "not reached" if found.words.startswith("no limit") else "can't tell"
    number = int(found.words.split()[0].replace(",", ""))
    return "right" if abs(number - limit.count) <= 0.03 * limit.count else "wrong"


def main(seed: int, service_s: float) -> None:
    """Print a row for each algorithm and place of the stamp."""
    random = np.random.default_rng(seed)
    kinds = ("right", "can't tell", "not reached", "wrong")
    print(f"seed {seed}, service {service_s:g} s\n\nalgorithm | stamp | {' | '.join(kinds)}", flush=True)
    for algorithm in (name for name in ALGORITHMS if name != CONCURRENCY):
        counts: dict[str, Counter[str]] = {"start": Counter(), "end": Counter()}
        for limit in LIMITS:
            for backing_off in (False, True):
                rows = list(requests(random, algorithm, limit, service_s, backing_off=backing_off))
                counts["start"][answer(rows, limit, "start")] += 1
                counts["end"][answer(rows, limit, "end")] += 1
        for stamp, found in counts.items():
            print(f"{algorithm} | {stamp} | {' | '.join(str(found[kind]) for kind in kinds)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1, float(sys.argv[2]) if len(sys.argv) > 2 else 0.1)
