"""Test for coordinated omission: a server freezes for one of ten seconds, at 500 even retrievals a second.

An open model sends all 5,000 requests. The 500 that arrive during the freeze wait for up to a second. They are 10 % of
all, so that p95 is 500 ms and p99 is 900 ms. A closed loop sends fewer requests and hardly shows the freeze.
The command fails unless every arrival is sent, and in each round the pool grows before it is full. In the median of
the rounds, p95, p99 and the maximum must be within 2 % of theory, for a freeze of the measured length.

Short form: fewer rounds. Run: ``python bench/frozen.py``.
"""

import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from forms import Options, judged
from offering import go_first, known_job, noting, offered, operations, quantile, retrievals

from loadtest.record import run_directory

RATE, SECONDS, FREEZE, USERS = 500, 10, 1.0, 700
WITHIN = 0.02
THEORY = {0.95: 0.5, 0.99: 0.9, 1.0: 1.0}
"""Percentiles, as parts of the freeze. Its last arrival did not wait, and its first waited for all of it."""


def freeze_in_the_middle(process: object, directory: Path) -> float:
    """Stop the server for FREEZE seconds in the middle of the run. Return the measured duration in s."""
    while (epoch := run_directory.load(directory).epoch_unix_ns) is None:
        time.sleep(0.01)
    middle = epoch / 1e9 + (SECONDS - FREEZE) / 2
    time.sleep(max(0.0, middle - time.time()))
    began = time.monotonic()
    process.send_signal(signal.SIGSTOP)  # type: ignore[attr-defined] # psutil's
    time.sleep(FREEZE)
    process.send_signal(signal.SIGCONT)  # type: ignore[attr-defined] # psutil's
    return time.monotonic() - began


def main() -> int:
    """Run all rounds, print the table, and return 1 if a bar is missed."""
    parser = Options(__doc__)
    parser.add_size("--rounds", 3, 7, "rounds")
    rounds = parser.begin().rounds
    print(go_first())
    print(f"{'ms':16}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}{'n':>8}{'ok':>8}{'frozen':>9}{'worst start lag':>17}")
    print(f"{'theory':16}{'':>8}{500:8}{900:8}{1000:8}{RATE * SECONDS:8}{RATE * SECONDS:8}{FREEZE * 1000:9.0f}")
    ratios: dict[float, list[float]] = {share: [] for share in THEORY}
    whole = True
    for number in range(rounds):
        with noting() as server, tempfile.TemporaryDirectory() as folder:
            text = known_job(retrievals(RATE, SECONDS, USERS), Path(folder))
            with offered(text, server.url, Path(folder)) as (_, directory):
                frozen = freeze_in_the_middle(server.process, directory)
            rows, (own,) = operations(directory), run_directory.load(directory).generators
        times = [(row["end"] - row["intended_start"]) / 1e6 for row in rows]
        lag = max((row["start"] - row["intended_start"]) / 1e6 for row in rows if row["start"] is not None)
        ok = sum(row["outcome"] == "ok" for row in rows)
        whole &= len(rows) == ok == RATE * SECONDS and not own.pools["lookups"].waited
        for share, part in THEORY.items():
            ratios[share].append(quantile(times, share) / (part * frozen * 1000))
        shown = "".join(f"{quantile(times, share):8.1f}" for share in (0.5, 0.95, 0.99))
        print(
            f"{f'round {number + 1}':16}{shown}{max(times):8.0f}{len(rows):8}{ok:8}{frozen * 1000:9.0f}{lag:17.1f}",
            flush=True,
        )
    middle = {share: statistics.median(found) for share, found in ratios.items()}
    sent = judged("every arrival sent by a pool that grew in time", "in each round", ok=whole)
    near = all(abs(ratio - 1) <= WITHIN for ratio in middle.values())
    ratios_of = ", ".join(f"{ratio:.3f}" for ratio in middle.values())
    return not judged(f"p95, p99 and longest {ratios_of} of theory", f"within {WITHIN:.0%}", ok=near) & sent


if __name__ == "__main__":
    sys.exit(main())
