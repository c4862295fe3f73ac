"""How often a probe names the right limiter: every algorithm by N and W, at many phases, in simulated time.

The network holds each message up to 50 ms and the server's clock is up to 0.5 s from ours. A case is *wrong* if another
limiter is named, or the right one with another N (± 1; ± 2 % of rates) or W (± 2 %, or ± 0.1 s). Who shares the limiter
varies with the phase. Then somebody else draws on the quota, several servers count, and two limits hold at once.
Exit code 1 if a bar is missed. Run: ``python bench/probe_confusion.py --quick``.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))
from loadtest.limits import LimiterSpec
from loadtest.limits.probing.evidence import Who
from loadtest.limits.probing.models import Bucket
from loadtest.limits.probing.probe import ProbeFinding
from loadtest.limits.probing.results import scope, verdict
from loadtest.units import Limit
from tests.limits.probing import simulation

SPECS: Final = {
    "fixed": LimiterSpec("fixed-window"),
    "from first": LimiterSpec("fixed-window-from-first"),
    "log": LimiterSpec("sliding-log"),
    "log, refused": LimiterSpec("sliding-log", count_rejected=True),
    "counter": LimiterSpec("sliding-counter"),
    "counter, refused": LimiterSpec("sliding-counter", count_rejected=True),
    "bucket": LimiterSpec("token-bucket"),
    "bucket of 5": LimiterSpec("token-bucket", 5),
    "bucket of 5, refused": LimiterSpec("token-bucket", 5, count_rejected=True),
    "gcra": LimiterSpec("gcra"),
    "queue": LimiterSpec("leaky-queue"),
}
NAMES: Final = {"gcra": "token-bucket", "leaky-queue": "token-bucket"}
"""What decides alike."""
SCOPES: Final[dict[tuple[Who, ...], str]] = {
    (): "key-and-name",
    ("other key",): "name",
    ("other limit",): "key",
    ("other key", "other limit"): "global",
}
MINUTE: Final = Limit(100, 60.0)
_RATE_SAME: Final = 0.02
_FIRST: Final = 1200
UNSURE: Final = "can't tell"


def _seeds(phases: int) -> range:
    """Seeds of phases that nothing in the probe was tuned on."""
    return range(_FIRST, _FIRST + phases)


def judge(spec: LimiterSpec, limit: Limit, found: ProbeFinding) -> str:
    """``right``, ``can't tell``, or what was named instead."""
    if found.word != "named":
        return UNSURE
    model = found.standing[0]
    if model.key != (NAMES.get(spec.algorithm, spec.algorithm), spec.count_rejected):
        return model.algorithm
    (low, high), (least, most) = model.count(), model.window()
    if isinstance(model, Bucket):
        burst = spec.burst or (1 if spec.algorithm == "gcra" else limit.count)
        # Where the documented rate stands, that one is said.
        near = verdict(found) == "as documented" or abs((least + most) / 2 * limit.rate - 1) <= _RATE_SAME
        return "right" if near and low - 1 <= burst <= high + 1 else "another rate"
    sound = low - 1 <= limit.count <= high + 1
    return "right" if sound and abs((least + most) / 2 - limit.window) <= max(0.02 * limit.window, 0.1) else "another N"


Case = tuple[int, float, str, int]
"""N, W, the limiter's name, and the seed of the phase."""


def case(of: Case) -> tuple[str, str, float, float]:
    """Probe one server: what was named, how the scope was seen, requests in units of N, seconds in units of W."""
    n, w, name, seed = of
    limit, (sharing, wanted) = Limit(n, w), list(SCOPES.items())[seed % 4]
    server = simulation.one_limiter(SPECS[name], limit, sharing)
    found = simulation.probed(server, limit, seed, others=("other limit", "other key"))
    seen = scope(found.shared)
    word = "right" if seen == wanted else UNSURE if seen is None else "wrong"
    return judge(SPECS[name], limit, found), word, found.requests / n, found.seconds / w


def grid(counts: tuple[int, ...], windows: tuple[float, ...], phases: int) -> bool:
    """Probe every limiter, print the confusion matrix and what each size cost, and say whether the bars are met."""
    sizes: dict[tuple[int, float], Counter[str]] = defaultdict(Counter)
    matrix: dict[str, Counter[str]] = defaultdict(Counter)
    spent: dict[tuple[int, float], list[tuple[float, float]]] = defaultdict(list)
    scopes: Counter[str] = Counter()
    cases = list(product(counts, windows, SPECS, _seeds(phases)))
    with ProcessPoolExecutor() as processes:
        for (n, w, name, _), (word, of, requests, seconds) in zip(cases, processes.map(case, cases), strict=True):
            matrix[name][word] += 1
            sizes[n, w][word] += 1
            spent[n, w].append((requests, seconds))
            scopes[of] += 1
    for (n, w), words in sizes.items():
        each, lasted = zip(*spent[n, w], strict=True)
        cost = f"{sum(each) / len(each):.1f} N requests (most {max(each):.1f})"
        print(
            f"N = {n}, W = {w:g} s".ljust(20),
            f"{dict(words.most_common())}; {cost} in {sum(lasted) / len(lasted):.1f} W",
        )
    _matrix(matrix)
    print(f"scope: {dict(scopes.most_common())}")
    every = sum(matrix.values(), Counter[str]())
    met = [_bar("wrong", every.total() - every["right"] - every[UNSURE], every.total(), 0.01)]
    for words_of, share, those in ((True, 0.05, "N >= 100"), (False, 0.15, "N = 10")):
        sums = sum((each for (n, _), each in sizes.items() if (n >= MINUTE.count) == words_of), Counter[str]())
        met.append(_bar(f"can't tell, {those}", sums[UNSURE], sums.total(), share))
    met.append(_bar("wrong scope", scopes["wrong"], scopes.total(), 0.0))
    many = sum(requests > 5.5 for each in spent.values() for requests, _ in each)
    met.append(_bar("more than 5.5 N requests", many, scopes.total(), 0.0))
    return all(met)


def _matrix(matrix: dict[str, Counter[str]]) -> None:
    columns = sorted({word for words in matrix.values() for word in words}, key=lambda word: (word != "right", word))
    print("".ljust(22), *(column.rjust(15) for column in columns))
    for name, words in matrix.items():
        print(name.ljust(22), *(str(words[column] or "").rjust(15) for column in columns))


def _bar(name: str, count: int, of: int, share: float) -> bool:
    met = "at most" if count <= share * of else "MORE THAN"
    if of:
        print(f"{name}: {count} of {of}, {count / of:.1%} ({met} {share:.0%})")
    return count <= share * of


def others(phases: int) -> bool:
    """Probe quotas on which somebody else draws: no number but the documented one may be named."""
    words: Counter[str] = Counter()
    for n, w in ((10, 60.0), (100, 10.0), (100, 60.0), (1000, 60.0)):
        for spec in (*SPECS.values(), LimiterSpec("token-bucket", 20)):
            for share in (0.05, 0.1, 0.2, 0.4, 0.6):
                for seed in _seeds(phases):
                    limit = Limit(n, w)
                    found = simulation.probed(simulation.shared_with_others(spec, limit, share, seed), limit, seed)
                    said = verdict(found)
                    words["another N" if found.word == "named" and said != "as documented" else said] += 1
    print(f"somebody else on the quota: {dict(words.most_common())}")
    return _bar("another N", words["another N"], words.total(), 0.0)


def _several(seed: int) -> Iterator[tuple[str, simulation.Decide]]:
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
    for count in (2, 3):
        for every_s in (1.0, 3.0, 10.0):
            yield "lazily synced", simulation.lazily_synced(MINUTE, count, every_s, seed)


def several(phases: int) -> bool:
    """Probe several servers that count, and two limits at once: the documented limit, or none that is known."""
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for seed in _seeds(phases):
        for name, server in _several(seed):
            found = simulation.probed(server, MINUTE, seed)
            known = verdict(found) if found.word == "named" else "none fits" if found.word == "none" else UNSURE
            words[name][known] += 1
    good = sum(each["as documented"] + each["none fits"] for each in words.values())
    total = sum(each.total() for each in words.values())
    for name, each in words.items():
        print(f"{name}: {dict(each.most_common())}")
    return _bar("neither named right nor none fits", total - good, total, 0.1)


def main() -> int:
    """Make the cases, and return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="two phases, N = 100 and 1000, W = 10 and 60 s, nothing else"
    )
    parser.add_argument("--phases", type=int, default=3, help="of each case (3)")
    options = parser.parse_args()
    begin = time.perf_counter()
    if options.quick:
        met = [grid((100, 1000), (10.0, 60.0), 2)]
    else:
        met = [grid((10, 100, 500, 1000), (1.0, 2.0, 10.0, 60.0), options.phases), others(1), several(2)]
    print(f"{time.perf_counter() - begin:.0f} s")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
