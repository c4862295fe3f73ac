"""Time and 429s of the paced client, beside its bound and beside backoff of clients that share a limit.

    .venv/bin/python bench/advice.py [--full] [SEED [PART…]]

Everything runs in virtual time. Execution times and the phase of windows are drawn from the seed. The columns are those
of bench/README.md, "Advice". Parts: one_client, several, sharing, speed. The short form leaves out work of 5,000 jobs,
limits other than 100 per 60 s for several candidates, and limits of 1,000 per 60 s that clients share.
The docstring of each part states its bar. The command fails if a bar is missed.
"""

import argparse
import sys
import time
from dataclasses import replace

import numpy as np

from loadtest.advice.compare import bound, paced
from loadtest.advice.policies import Policy, every_second, full_jitter
from loadtest.advice.simulator import SimulatedEnd, Simulation
from loadtest.advice.work import Candidate, Limits, Work, any_algorithm
from loadtest.contract import LimitName, Operation
from loadtest.limits import ALGORITHMS, CONCURRENCY, LimiterSpec
from loadtest.units import Limit

LIMITS = (Limit(100, 60.0), Limit(500, 60.0), Limit(1000, 60.0), Limit(50, 5.0))
COUNTS = (50, 500, 5000)
BACKOFF = Policy("backoff", "", full_jitter, every_second)
CLIENTS = 20


def specs(clients: int = 1) -> list[LimiterSpec]:
    """Return every algorithm that counts requests. If clients share a GCRA, its burst is their number."""
    names = [name for name in ALGORITHMS if name != CONCURRENCY]
    return [LimiterSpec(name, clients if name == "gcra" and clients > 1 else None) for name in names]


def limited(*candidates: Candidate) -> Limits:
    """Return the same limiters for submits and retrievals."""
    return Limits(dict.fromkeys(LimitName, candidates))


def end(work: Work, limits: Limits, policy: Policy, world: int = 0) -> SimulatedEnd:
    """Simulate a policy."""
    return Simulation(work, limits, limits.worlds[world], policy, seed=world).run()


def drawn(random: np.random.Generator, count: int, clients: int = 1) -> Work:
    """Draw jobs with lognormal execution times that begin at a random moment."""
    execution_s = np.sort(random.lognormal(np.log(random.uniform(0.2, 4)), random.uniform(0.1, 0.6), 400))
    epoch = 1.8e9 + float(random.uniform(0, 3600))
    return Work(Operation.ASYNC_RUN, count, clients=clients, execution_s=execution_s, epoch=epoch)


def one_client(random: np.random.Generator, *, full: bool) -> bool:
    """The bar: T − bound is at most 5 % or twice the longest execution, and there is no 429."""
    held = True
    print("one client | cases | missed | 429s | T ÷ bound, median and most | (T − bound) ÷ allowed, most")
    for spec in specs():
        ratios, parts, rejected = [], [], 0
        for limit in LIMITS:
            for count in COUNTS if full else COUNTS[:2]:
                work, limits = drawn(random, count), limited(Candidate(spec, limit))
                found, least = end(work, limits, paced(work, limits)), bound(work, limits, limits.worlds[0])
                ratios.append(found.seconds / least)
                parts.append((found.seconds - least) / max(0.05 * least, 2 * float(work.execution_s[-1])))
                rejected += found.rejections
        missed = sum(part > 1 for part in parts)
        held = held and not missed and not rejected
        print(
            f"{spec.algorithm} | {len(parts)} | {missed} | {rejected} | {np.median(ratios):.3f}, {max(ratios):.3f} | "
            f"{max(parts):.2f}",
            flush=True,
        )
    return held


def several(random: np.random.Generator, *, full: bool) -> bool:
    """The bar: no 429 under any candidate. The time is shown beside the bound of the strictest candidate."""
    held = True
    print("\nseveral candidates | jobs | 429s | T, s | strictest's bound, s")
    for limit in LIMITS if full else LIMITS[:1]:
        for count in COUNTS[:2]:
            work, limits = drawn(random, count), limited(*any_algorithm(limit))
            ends = [end(work, limits, paced(work, limits), world) for world in range(len(limits.worlds))]
            least = max(bound(work, limits, world) for world in limits.worlds)
            rejected, seconds = sum(each.rejections for each in ends), max(each.seconds for each in ends)
            print(f"{limit} | {count} | {rejected} | {seconds:.1f} | {least:.1f}", flush=True)
            held = held and not rejected
    return held


def sharing(random: np.random.Generator, *, full: bool) -> bool:
    """The bars: told clients get no 429 in ≤ 1.3 × backoff's time, and others get ≥ 90 % fewer 429s in ≤ 1.5 ×."""
    held = True
    print("\n20 clients | limit | backoff s, 429s | told ×, 429s | not told ×, 429s, fewer | told, not told")
    for spec in specs(CLIENTS):
        for limit, count in ((Limit(100, 60.0), 2000), (Limit(1000, 60.0), 8000))[: 2 if full else 1]:
            for stated in (True, False):
                work = drawn(random, count, CLIENTS)
                limits = replace(limited(Candidate(spec, limit)), retry_after=stated)
                usual, told, untold = (
                    end(work, limits, policy)
                    for policy in (BACKOFF, paced(work, limits), paced(work, limits, told=False))
                )
                a, b = told.seconds / usual.seconds, untold.seconds / usual.seconds
                # Where backoff gets no 429, any 429 of ours is a miss.
                met = (not told.rejections and a <= 1.3), (b <= 1.5 and untold.rejections <= 0.1 * usual.rejections)
                fewer = f"{1 - untold.rejections / usual.rejections:.1%}" if usual.rejections else "–"
                print(
                    f"{spec.algorithm} | {limit}, {'with' if stated else 'no'} Retry-After | {usual.seconds:.0f}, "
                    f"{usual.rejections} | {a:.2f}, {told.rejections} | {b:.2f}, {untold.rejections}, {fewer} | "
                    f"{', '.join('met' if each else 'missed' for each in met)}",
                    flush=True,
                )
                held = held and all(met)
    return held


def speed(random: np.random.Generator, *, full: bool) -> bool:
    """The bar: 1 M requests are simulated in ≤ 5 s of CPU time."""
    times = []
    print("\nspeed | requests | CPU s for 1 M requests")
    work, limits = (
        drawn(random, 50_000 if full else 20_000),
        limited(Candidate(LimiterSpec("fixed-window"), Limit(1000, 60.0))),
    )
    for policy in (paced(work, limits), BACKOFF):
        simulation, begun = Simulation(work, limits, limits.worlds[0], policy), time.process_time()
        found = simulation.run()
        times.append((time.process_time() - begun) / found.requests * 1e6)
        print(f"{policy.name} | {found.requests:,} | {times[-1]:.2f}")
    return max(times) <= 5


def main() -> None:
    """Measure and print. Exit with 1 if a bar is missed."""
    parts = {part.__name__: part for part in (one_client, several, sharing, speed)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="measure what the short form leaves out, too")
    parser.add_argument("seed", type=int, nargs="?", default=int(time.time()))
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(parts)}")
    given = parser.parse_args()
    left_out = (
        "" if given.full else " Left out: 5,000 jobs, most limits of several candidates, clients that share 1,000/60 s."
    )
    print(f"seed {given.seed}.{left_out}\n")
    held = [
        part(np.random.default_rng([given.seed, len(name)]), full=given.full)
        for name, part in parts.items()
        if name in (given.parts or parts)
    ]
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
