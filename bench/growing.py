"""Cost of a growing pool: a server freezes for 1.5 s at 2,000 even retrievals a second.

The pool starts with 1,000 users and needs 3,000. It makes them while the arrivals that need them come. Each user in
flight also connects for the first time. Start lags while users are made are compared with those before. The command
fails if an arrival waited for a user. It also fails if, in the median of the rounds, p99 is more than twice as high
while users are made. Memory is printed as well.

Short form: fewer rounds. Run: ``python bench/growing.py``.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from forms import Options, judged
from offering import go_first, known_job, noting, offered, operations, quantile, retrievals

from loadtest.record import run_directory

RATE, SECONDS, BEGIN, FREEZE = 2000, 5, 2.0, 1.5
FACTOR = 2.0


def measure() -> tuple[bool, float]:
    """Run one round and print the table. Return whether the pool grew in time, and the ratio of the two p99s."""
    with noting() as server, tempfile.TemporaryDirectory() as folder:
        text = known_job(retrievals(RATE, SECONDS, 20_000), Path(folder))
        with offered(text, server.url, Path(folder)) as (load, directory):
            while (epoch := run_directory.load(directory).epoch_unix_ns) is None:
                time.sleep(0.01)
            time.sleep(max(0.0, epoch / 1e9 + BEGIN - time.time()))
            before = psutil.Process(load.pid).memory_info().rss
            server.process.suspend()
            time.sleep(FREEZE)
            after = psutil.Process(load.pid).memory_info().rss
            server.process.resume()
        rows, (own,) = operations(directory), run_directory.load(directory).generators
    pool = own.pools["lookups"]
    print(f"pool: {pool.started} users at first, {pool.size} in the end, {pool.waited} arrivals waited for one")
    print(f"memory: {(after - before) / max(1, pool.size - pool.started) / 1024:.0f} KB for each user in flight")
    print(f"{'start lag, ms':24}{'n':>8}{'p50':>8}{'p99':>8}{'max':>8}")
    p99 = {}
    grown = BEGIN + pool.started / RATE * 0.9
    for name, begin, end in (
        ("before", BEGIN - 1, BEGIN),
        ("frozen, users enough", BEGIN + 0.02, grown),
        ("while it grows", grown, BEGIN + FREEZE),
    ):
        some = [row for row in rows if begin * 1e9 <= row["intended_start"] < end * 1e9]
        lags = [(row["start"] - row["intended_start"]) / 1e6 for row in some]
        p99[name] = quantile(lags, 0.99)
        print(f"{name:24}{len(lags):8}{quantile(lags, 0.5):8.3f}{p99[name]:8.3f}{max(lags):8.2f}")
    return not pool.waited and pool.size > pool.started, p99["while it grows"] / p99["frozen, users enough"]


def main() -> int:
    """Run all rounds. Return 1 if a bar is missed."""
    parser = Options(__doc__)
    parser.add_size("--rounds", 3, 7, "rounds")
    rounds = parser.begin().rounds
    print(go_first())
    grew, ratios = zip(*(measure() for _ in range(rounds)), strict=True)
    in_time = judged("the pool grew, and no arrival waited for a user", "in each round", ok=all(grew))
    ratio = statistics.median(ratios)
    return not judged(f"start lag p99 {ratio:.2f} times as long", f"at most {FACTOR:g}", ok=ratio <= FACTOR) & in_time


if __name__ == "__main__":
    sys.exit(main())
