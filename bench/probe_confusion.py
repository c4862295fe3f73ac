"""How often a probe names the right limiter: every algorithm by N and W, at many phases, in simulated time.

The network holds each message up to 50 ms and the server's clock is up to 0.5 s from ours. A case is *wrong* if another
limiter is named, or the right one with another N (± 1; ± 2 % of rates) or W (± 2 %, or ± 0.1 s). Run:
``python bench/probe_confusion.py --quick``; ``--shard 1/4`` makes every fourth case, for several processes.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))
from loadtest.limiters import LimiterSpec
from loadtest.probing.buckets import Bucket
from loadtest.probing.probe import Finding
from loadtest.probing.results import verdict
from loadtest.units import Limit
from tests.probing.simulation import one_limiter, probed

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


def judge(spec: LimiterSpec, limit: Limit, found: Finding) -> str:
    """``right``, ``can't tell``, or what was named instead."""
    if found.word != "named":
        return "can't tell"
    model = found.standing[0]
    if model.key != (NAMES.get(spec.algorithm, spec.algorithm), spec.count_rejected):
        return model.algorithm
    (low, high), (least, most) = model.count(), model.window()
    if isinstance(model, Bucket):
        burst = spec.burst or (1 if spec.algorithm == "gcra" else limit.count)
        sound = low - 1 <= burst <= high + 1 and (
            verdict(found) == "as documented" or abs((least + most) / 2 * limit.rate - 1) <= 0.02
        )
        return "right" if sound else "another rate"
    sound = low - 1 <= limit.count <= high + 1
    return "right" if sound and abs((least + most) / 2 - limit.window) <= max(0.02 * limit.window, 0.1) else "another N"


def main() -> None:
    """Make the cases, and print a row for each limiter and each N and W."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two phases, N = 100 and 1000, W = 10 and 60 s")
    parser.add_argument("--phases", type=int, default=50)
    parser.add_argument("--shard", default="1/1", metavar="I/N")
    options = parser.parse_args()
    counts, windows = ((100, 1000), (10.0, 60.0)) if options.quick else ((10, 100, 500, 1000), (1.0, 2.0, 10.0, 60.0))
    phases = 2 if options.quick else options.phases
    index, shards = (int(part) for part in options.shard.split("/"))
    cases = [(n, w, name, seed) for n in counts for w in windows for name in SPECS for seed in range(phases)]
    by_size: dict[tuple[int, float], Counter[str]] = defaultdict(Counter)
    by_name: dict[str, Counter[str]] = defaultdict(Counter)
    spent: dict[tuple[int, float], list[tuple[float, float]]] = defaultdict(list)
    begin = time.perf_counter()
    for n, w, name, seed in cases[index - 1 :: shards]:
        limit = Limit(n, w)
        found = probed(one_limiter(SPECS[name], limit), limit, seed)
        word = judge(SPECS[name], limit, found)
        by_name[name][word] += 1
        by_size[n, w][word] += 1
        spent[n, w].append((found.requests / n, found.seconds / w))
    for (n, w), words in by_size.items():
        requests, seconds = zip(*spent[n, w], strict=True)
        took = sum(seconds) / len(seconds)
        size = f"N = {n}, W = {w:g} s"
        mean = f"{sum(requests) / len(requests):.1f} N requests (most {max(requests):.1f}) in {took:.1f} W"
        print(f"{size:<20}{dict(words.most_common())}; {mean}")
    for name, words in by_name.items():
        print(f"{name:<22}{dict(words.most_common())}")
    print(f"{len(cases[index - 1 :: shards])} probes in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
