"""Does coordinated omission happen? A target frozen for a second in the middle of ten, at 500 even retrievals a second.

An honest open model sends all 5000, and the 500 that arrive meanwhile wait between one second and none: 10 % of all,
so that p95 is 500 ms and p99 is 900 ms. A closed loop sends fewer, and shows hardly any of it.
Run: ``python bench/frozen.py``.
"""

import argparse
import signal
import tempfile
import time
from pathlib import Path

from offering import offered, operations, quantile, retrievals, target

from loadtest import runfile

RATE, SECONDS, FREEZE, USERS = 500, 10, 1.0, 700


def freeze_in_the_middle(process: object, directory: Path) -> float:
    """Stop the target for FREEZE seconds in the middle of the run; how long it was really."""
    while (epoch := runfile.load(directory).epoch_unix_ns) is None:
        time.sleep(0.01)
    middle = epoch / 1e9 + (SECONDS - FREEZE) / 2
    time.sleep(max(0.0, middle - time.time()))
    began = time.monotonic()
    process.send_signal(signal.SIGSTOP)  # type: ignore[attr-defined] # psutil's
    time.sleep(FREEZE)
    process.send_signal(signal.SIGCONT)  # type: ignore[attr-defined] # psutil's
    return time.monotonic() - began


def main() -> None:
    """Run it as often as asked, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{'ms':16}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}{'n':>8}{'ok':>8}{'frozen':>9}{'worst start lag':>17}")
    print(f"{'theory':16}{'':>8}{500:8}{900:8}{1000:8}{RATE * SECONDS:8}{RATE * SECONDS:8}{FREEZE * 1000:9.0f}")
    for number in range(rounds):
        with target() as api, tempfile.TemporaryDirectory() as folder:
            with offered(retrievals(RATE, SECONDS, USERS), api.url, Path(folder)) as (_, directory):
                frozen = freeze_in_the_middle(api.process, directory)
            rows = operations(directory)
        times = [(row["end"] - row["intended_start"]) / 1e6 for row in rows]
        lag = max((row["start"] - row["intended_start"]) / 1e6 for row in rows if row["start"] is not None)
        ok = sum(row["outcome"] == "ok" for row in rows)
        shown = "".join(f"{quantile(times, share):8.1f}" for share in (0.5, 0.95, 0.99))
        print(
            f"{f'round {number + 1}':16}{shown}{max(times):8.0f}{len(rows):8}{ok:8}{frozen * 1000:9.0f}{lag:17.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
