"""CPU per request of the load process and of the target, at steady rates of retrievals.

Taken between two moments within the run, so that start-up, seeding and the end are not in it. Mind that at a low rate
most of it is waking up: an event loop that is asleep between two requests pays for each.
Run: ``python bench/generator_cpu.py``.
"""

import argparse
import tempfile
import time
from pathlib import Path

import psutil
from offering import cpu_s, offered, operations, quantile, retrievals, target

from loadtest.record import run_directory

EDGE = 1.0
"""Seconds at both ends that are left out."""


def measure(rate: int, seconds: float) -> str:
    """One line of the table."""
    with target() as api, tempfile.TemporaryDirectory() as folder:
        with offered(retrievals(rate, seconds, 200), api.url, Path(folder)) as (load, directory):
            generator = psutil.Process(load.pid)
            while (epoch := run_directory.load(directory).epoch_unix_ns) is None:
                time.sleep(0.01)
            time.sleep(max(0.0, epoch / 1e9 + EDGE - time.time()))
            before, begun = (cpu_s(generator), cpu_s(api.process)), time.time_ns() - epoch
            time.sleep(max(0.0, epoch / 1e9 + seconds - EDGE - time.time()))
            after, ended = (cpu_s(generator), cpu_s(api.process)), time.time_ns() - epoch
        rows = operations(directory)
    sent = sum(begun <= row["start"] < ended for row in rows)
    ours, theirs = ((b - a) / sent * 1e6 for a, b in zip(before, after, strict=True))
    share = (after[0] - before[0]) / (ended - begun) * 1e11
    lags = [(row["start"] - row["intended_start"]) / 1e6 for row in rows]
    ok = sum(row["outcome"] == "ok" for row in rows)
    return (
        f"{rate:8}{sent:10}{ok / len(rows):8.1%}{ours:12.0f}{theirs:10.0f}{share:12.0f} %"
        f"{quantile(lags, 0.5):13.2f}{quantile(lags, 0.99):8.2f}"
    )


def main() -> None:
    """Measure each rate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    print(f"{'CPU µs per request':>38}{'start lag ms':>39}")
    print(
        f"{'rate/s':>8}{'requests':>10}{'ok':>8}{'generator':>12}{'target':>10}{'of a core':>14}{'p50':>13}{'p99':>8}"
    )
    for rate in arguments.rates:
        print(measure(rate, arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
