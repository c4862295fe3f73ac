"""Punctuality and evenness of requests, beside a bare timer loop without Locust.

The loop waits for each intended start on a timerfd, sends on one connection and reads the answer. Both take turns and
send to the same server, which notes when each request arrives. Start lag is the time from the intended to the actual
start at the sender. The command fails unless the medians of all rounds meet these bars: start lag p99 is at most twice
the loop's. At the server, sd ÷ mean of 100 ms bins and the maximum of 10 ms bins are at most 1.5 times the loop's. A
single request on the wrong side of a bin's edge is allowed in any case.

Short form: fewer and shorter rounds. Run: ``python bench/pacing.py``.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forms import Options, judged
from offering import go_first, known_job, noting, offered, operations, quantile, retrievals

PEERS = Path(__file__).parent / "peers"
LAG_FACTOR, EVENNESS_FACTOR = 2.0, 1.5


@dataclass
class Round:
    """One sender's figures at one rate. Lags are in ms, and bins are those of the server."""

    n: int
    p50: float
    p99: float
    worst: float
    spread: float
    most: int


def counts(times: list[int], rate: int, width_ms: int) -> list[int]:
    """Return the requests in each whole bin. Bin edges lie halfway between two punctual requests.

    The first request sets no edge: it connects first, so it is late.
    """
    width, gap = width_ms * 1_000_000, 1e9 / rate
    begin = statistics.median(each - number * gap for number, each in enumerate(times)) - gap / 2
    bins = [0] * int((times[-1] - begin) // width)
    for each in times:
        at = int((each - begin) // width)
        if 0 <= at < len(bins):
            bins[at] += 1
    return bins


def measure(send: Callable[[str], list[float]], rate: int) -> Round:
    """Measure a sender with its own server."""
    with noting() as server:
        lags = send(server.url)
    bins = counts(server.times, rate, 100)
    return Round(
        len(lags),
        quantile(lags, 0.5),
        quantile(lags, 0.99),
        max(lags),
        statistics.pstdev(bins) / statistics.mean(bins),
        max(counts(server.times, rate, 10)),
    )


def ours(url: str, rate: int, seconds: float) -> list[float]:
    """Return the start lags of the harness."""
    with tempfile.TemporaryDirectory() as folder:
        text = known_job(retrievals(rate, seconds, 200), Path(folder))
        with offered(text, url, Path(folder)) as (_, directory):
            pass
        rows = operations(directory)
    assert all(row["outcome"] == "ok" for row in rows), "the server answers everything"
    return [(row["start"] - row["intended_start"]) / 1e6 for row in rows]


def loop(url: str, rate: int, seconds: float) -> list[float]:
    """Return the start lags of the bare loop."""
    command = [sys.executable, str(PEERS / "timer_loop.py"), url.rpartition(":")[2], str(rate), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [(start - due) / 1e6 for due, start in json.loads(done.stdout)]


def show(name: str, rounds: list[Round]) -> Round:
    """Print and return the medians of some rounds."""
    middle = Round(*(statistics.median(values) for values in zip(*(vars(r).values() for r in rounds), strict=True)))
    print(
        f"{name:24}{middle.n:8.0f}{middle.p50:12.3f}{middle.p99:10.3f}{middle.worst:10.2f}"
        f"{middle.spread:16.4f}{middle.most:15.1f}",
        flush=True,
    )
    return middle


def held(name: str, mine: float, theirs: float, factor: float, least: float = 0.0) -> bool:
    """Print whether a figure is within its factor of the loop's, or no more than ``least``."""
    ok = mine <= max(factor * theirs, least)
    ratio = f"{mine / theirs:.2f}" if theirs else "–"
    return judged(f"{name}: {ratio} × the loop's", f"at most {factor:g}", ok=ok)


def one_astray(rate: int, seconds: float) -> float:
    """Return the sd ÷ mean of equal bins of 100 ms, after one request has moved to the next bin."""
    bins = seconds * 10 - 1  # the last bin is never whole
    return math.sqrt(2 / bins) / (rate / 10)


def main() -> int:
    """Run both in turns at each rate, and print the tables."""
    parser = Options(__doc__)
    parser.add_size("--rounds", 3, 5, "rounds")
    parser.add_size("--seconds", 4.0, 5.0, "duration of a round")
    parser.add_size("--rates", [500, 2000], [500, 2000], "requests per second")
    arguments = parser.begin()
    print(go_first())
    all_held = True
    for rate in arguments.rates:
        mine, theirs = [], []
        for _ in range(arguments.rounds):
            mine.append(measure(lambda url, rate=rate: ours(url, rate, arguments.seconds), rate))
            theirs.append(measure(lambda url, rate=rate: loop(url, rate, arguments.seconds), rate))
        print(f"{f'{rate}/s, medians of {len(mine)}':24}{'n':>8}{'lag p50 ms':>12}{'p99':>10}{'max':>10}", end="")
        print(f"{'sd/mean 100 ms':>16}{'most in 10 ms':>15}")
        us, it = show("loadtest", mine), show("bare timer loop", theirs)
        all_held &= held("start lag p99", us.p99, it.p99, LAG_FACTOR)
        least = one_astray(rate, arguments.seconds)
        all_held &= held("sd/mean of 100 ms bins", us.spread, it.spread, EVENNESS_FACTOR, least)
        all_held &= held("most in 10 ms", us.most, it.most, EVENNESS_FACTOR)
    return not all_held


if __name__ == "__main__":
    sys.exit(main())
