"""Accuracy of the limiters that a probe names, in simulated time, at phases that were not used for tuning.

The network delays each message by up to 50 ms, and the server's clock differs from ours by up to 0.5 s. An answer is
*wrong* if another limiter is named, or if a true number is outside of the stated bounds: N (± 1), W, the burst (± 1)
or the rate (± 2 %). Groups: right documentation (with all ways to share a quota), wrong documentation, N ± 1, a
second client, several servers, and unknown limiters. Exits with 1 if a bar is missed. Run:
``python bench/probe_confusion.py --every 10``.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))
from loadtest.limits import ALGORITHMS, LimiterSpec, at_once
from loadtest.limits.probing.evidence import Who
from loadtest.limits.probing.results import LimitFinding, Standing
from loadtest.units import Limit
from tests.limits.probing import simulation

ANY_PHASE: Final = "fixed-window of any phase"
SPECS: Final = {
    f"{algorithm.name}{burst or ''}{', rounded' * rounding}{', rejected' * counting}": LimiterSpec(
        algorithm.name, burst, counting, round_down=rounding
    )
    for algorithm in ALGORITHMS.values()
    if algorithm.windowed or algorithm.has_burst
    for burst in ((None, 5) if algorithm.name == "token-bucket" else (None,))
    for counting in algorithm.variants
    for rounding in algorithm.roundings
    if not (rounding and counting)
} | {ANY_PHASE: LimiterSpec()}
SHARING: Final[tuple[tuple[Who, ...], ...]] = ((), ("other key",), ("other limit",), ("other key", "other limit"))
OTHERS: Final[tuple[Who, ...]] = ("other limit", "other key")
MINUTE: Final = Limit(100, 60.0)
RIGHT: Final = [Limit(n, w) for n in (10, 20, 30, 100) for w in (1.0, 10.0, 60.0)] + [Limit(500, 10.0)]
WRONG: Final = [
    (MINUTE, Limit(50, 60.0)),
    (MINUTE, Limit(150, 60.0)),
    (MINUTE, Limit(60, 10.0)),
    (MINUTE, Limit(50, 30.0)),
    (Limit(60, 60.0), Limit(120, 60.0)),
    (Limit(200, 10.0), Limit(200, 60.0)),
    (Limit(60, 10.0), Limit(50, 5.0)),
]
NEAR: Final = [(Limit(n, w), Limit(n + more, w)) for n in (20, 50) for w in (1.0, 10.0, 60.0) for more in (-1, 1)]
LARGER: Final = {"looser", "other"}
SHARES: Final = (0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Case:
    """One probe: the group, the limiter's name, the documented and the real limit, a second client's share, a seed."""

    group: str
    name: str
    documented: Limit
    real: Limit
    share: float
    seed: int


@dataclass(frozen=True)
class Result:
    """A case's finding. It is judged by the named limiter, and by whether numbers and scope are right."""

    case: Case
    named: str
    stated: str
    scope: str
    found: LimitFinding

    @property
    def windows(self) -> float:
        """Duration in documented windows."""
        return self.found.seconds / self.case.documented.window

    @property
    def counts(self) -> float:
        """Requests in documented counts."""
        return self.found.requests / self.case.documented.count


def holds(shown: Standing, spec: LimiterSpec, real: Limit) -> bool:
    """Whether the true numbers lie within a limiter's bounds."""
    count, (least, most) = real.rate * shown.window_s[0], shown.window_s
    if shown.burst is not None:
        burst = at_once(spec, real)
        rate = shown.count[0] * 0.98 <= count <= shown.count[1] * 1.02
        return rate and shown.burst[0] - 1 <= burst <= shown.burst[1] + 1
    return least <= real.window <= most and shown.count[0] - 1 <= real.count <= shown.count[1] + 1


def name_of(algorithm: str, window: float) -> str:
    """Return the name that is right. The network hides how windows of a second or less begin."""
    name = ALGORITHMS[algorithm].decides_as or algorithm
    return name.removesuffix("-from-first") if window <= 1 else name


def judge(spec: LimiterSpec, real: Limit, found: LimitFinding) -> tuple[str, str]:
    """Judge the named limiter and the stated numbers. Both are ``right``, ``unsure`` or another word."""
    if ALGORITHMS[spec.algorithm].has_burst and spec.round_down and at_once(spec, real) <= real.rate:
        spec, real = LimiterSpec(), Limit(at_once(spec, real), 1.0)  # it decides as this
    name = name_of(spec.algorithm, real.window), spec.count_rejected
    true = [each for each in found.standing if (name_of(each.algorithm, real.window), each.count_rejected) == name]
    held, named = any(holds(each, spec, real) for each in true), "unsure"
    if found.standing and not found.why:
        named = "right" if held else "another N" if true else found.standing[0].algorithm
    elif found.standing and not held:
        named = "truth lost"
    if found.stated is None:
        return named, "unsure"
    numbers = found.stated
    whole = Standing(
        algorithm="token-bucket",
        count_rejected=False,
        count=numbers.count,
        window_s=(numbers.window_s, numbers.window_s),
        burst=numbers.burst,
    )
    return named, "right" if holds(whole, spec, real) else "wrong"


def probe(case: Case) -> Result:
    """Probe one server."""
    spec, sharing = SPECS[case.name], SHARING[case.seed % len(SHARING)]
    if case.name == ANY_PHASE:
        spec = replace(spec, phase=case.seed * 0.37 % 1 * case.real.window)
    server = simulation.one_limiter(spec, case.real, sharing)
    if case.share:
        server = simulation.shared_with_others(spec, case.real, case.share, case.seed)
    found = simulation.probed(server, case.documented, case.seed, others=OTHERS if case.group == "right" else ())
    known = {who: shared for who, shared in found.shared.items() if shared is not None}
    scope = "right" if len(known) == len(OTHERS) else "unsure"
    if any(shared != (who in sharing) for who, shared in known.items()):
        scope = "wrong"
    return Result(case, *judge(spec, case.real, found), scope, found)


def cases(seeds: range) -> Iterator[Case]:
    """Yield the cases of all groups, except the servers of ``several``."""
    for seed in seeds:
        for name in SPECS:
            yield from (Case("right", name, limit, limit, 0.0, seed) for limit in RIGHT)
            yield from (Case("wrong documentation", name, *pair, 0.0, seed) for pair in WRONG)
            yield from (Case("N ± 1", name, *pair, 0.0, seed) for pair in NEAR)
            for share in SHARES:
                some = (Limit(20, 1.0), Limit(20, 60.0), MINUTE)
                yield from (Case("second client", name, limit, limit, share, seed) for limit in some)


def several(seed: int) -> Iterator[tuple[str, simulation.Decide]]:
    """Yield several servers that count independently, and two limits at once."""
    for spec in (
        LimiterSpec(),
        LimiterSpec("sliding-log"),
        LimiterSpec("token-bucket"),
        LimiterSpec("sliding-counter"),
    ):
        for count in (2, 3, 5):
            yield "replicas", simulation.replicas(spec, Limit(MINUTE.count // count, 60.0), count, seed)
        for hourly in (120, 250, 1000):
            yield "two limits", simulation.two_limits(spec, MINUTE, Limit(hourly, 3600.0))
    for every_s in (1.0, 3.0, 10.0):
        yield "lazily synced", simulation.lazily_synced(MINUTE, 3, every_s, seed)


def _bar(
    name: str, results: list[Result], fits: Callable[[Result], bool], least: float = 0.0, most: float = 1.0
) -> bool:
    """Print a share, and whether it meets its bar."""
    count = sum(fits(each) for each in results)
    met = not results or least <= count / len(results) <= most
    if results:
        print(f"{'' if met else 'MISSED: '}{name}: {count} of {len(results)}, {count / len(results):.1%}")
    return met


def group_of(case: Case) -> str:
    """Return the case's row of the table."""
    if case.group != "right":
        return case.group + " (N ≥ 50)" * (case.group.startswith("wrong") and case.real.count >= 50)
    if case.real.count > 30:
        return "right, N = 100 or 500"
    return f"right, N = 10 to 30, W {'= 1 s' if case.real.window <= 1 else '≥ 10 s'}"


def row(group: str, own: list[Result]) -> str:
    """Format a row: cases, right names, lists of at most three with the truth, can't tell, wrong, and cost."""
    named = [each for each in own if each.named == "right"]
    wrong = [each for each in own if each.named not in {"right", "unsure"} or each.stated == "wrong"]
    few = [
        each
        for each in own
        if each.named == "unsure" and each not in wrong and 0 < len({one.name for one in each.found.standing}) <= 3
    ]
    unsure = sum(each not in wrong and each not in few and each.named == "unsure" for each in own)
    cells: list[object] = [group, len(own), len(named), len(few), unsure, len(wrong)]
    cells.append(sum(each.stated == "right" for each in own))
    costs = zip(*((each.found.seconds, each.windows, each.counts) for each in own), strict=True)
    cells += [f"{median(values):.3g}, {max(values):.3g}" for values in costs]
    return f"| {' | '.join(map(str, cells))} |"


def report(results: list[Result]) -> bool:
    """Print each group and the bars."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for each in results:
        groups[group_of(each.case)].append(each)
        if each.named not in {"right", "unsure"} or each.stated == "wrong":
            shown = "; ".join(one.words for one in each.found.standing)
            print(f"{each.case}: {each.named}, numbers {each.stated}: {shown}")
    print("| group | probes | named right | of ≤ 3 | can't tell | wrong | numbers right | s | W | N |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | --- |")
    for group, own in sorted(groups.items()):
        print(row(group, own))
    right = [each for each in results if each.case.group == "right"]
    small = [each for each in right if each.case.documented.count <= 30]
    wide = groups["wrong documentation (N ≥ 50)"]
    alone = [each for each in results if not each.case.share]
    second = [each for each in results if each.case.share]
    fine = {"right", "unsure", "another N", "truth lost"}
    bars = [
        _bar("right documentation, N = 10 to 30, named", small, lambda each: each.named == "right", least=0.75),
        _bar("wrong documentation, numbers stated right", wide, lambda each: each.stated == "right", least=0.85),
        _bar("another algorithm", results, lambda each: each.named not in fine, most=0.002),
        _bar("numbers without the truth", alone, lambda each: each.stated == "wrong", most=0.002),
        _bar("second client: looser or other", second, lambda each: each.found.verdict in LARGER, most=0.002),
        _bar("wrong scope", right, lambda each: each.scope == "wrong", most=0.0),
        _bar("scope found", right, lambda each: each.scope == "right"),
        _bar("more than 3 minutes", right, lambda each: each.found.seconds > 180, most=0.1),
        _bar("more than 2,500 requests", right, lambda each: each.found.requests > 2500, most=0.1),
        _bar("more than 8 W or 5.5 N", results, lambda each: each.windows > 8 or each.counts > 5.5, most=0.0),
    ]
    return all(bars)


def main() -> int:
    """Make the cases, and return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="make only each n-th case (1)")
    parser.add_argument("--phases", type=int, default=2, help="number of phases of each case (2)")
    parser.add_argument("--first", type=int, default=1200, help="the first seed (1200)")
    parser.add_argument("--processes", type=int, default=None)
    options = parser.parse_args()
    begin, seeds = time.perf_counter(), range(options.first, options.first + options.phases)
    every = list(cases(seeds))[:: options.every]
    with ProcessPoolExecutor(options.processes) as processes:
        met = report(list(processes.map(probe, every)))
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for seed in seeds if options.every == 1 else ():
        for name, server in several(seed):
            found = simulation.probed(server, MINUTE, seed)
            words[name][found.why or f"named {found.standing[0].algorithm}"] += 1
    for name, each in words.items():
        print(f"{name}: {dict(each.most_common())}")
    print(f"{time.perf_counter() - begin:.0f} s")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
