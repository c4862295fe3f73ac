"""Changes that the audit finds in histories: slow runs among accepted runs, and labelled series beside Otava.

``bench/README.md`` has the results. Run: ``python bench/regression_series.py``. ``--peers PYTHON`` is an interpreter
with ``apache-otava`` and ``otava-test-data``. Without it, the labelled series are left out. The bars: all slow runs are
named in 80 % of the histories, and no others in 95 %. Of unchanged histories, at most 1 % have a change with normal
noise of sd 3 %, and at most 3 % have a step or trend with other noise. The command fails if a bar is missed.

Short form: fewer histories.
"""

import json
import math
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from forms import Options, judged_share
from regression_checks import simulated_run
from regression_families import ENTRIES, Regime, Scores, draw

from loadtest.compare.measurements import Metric, RunMeasurements
from loadtest.compare.shifts import HistoryChange, find_changes

PEER: Final = Path(__file__).parent / "peers" / "regression_series.py"
SLOW: Final = (1, 4, 6)
"""Indices of the slow runs among eight. They are the second, fifth and seventh run."""
FACTOR: Final = 1.2
UNCHANGED: Final = (("normal", 0.03), ("normal", 0.05), ("lognormal", 0.03), ("outliers", 0.03))
NEAR: Final = 2
"""A change point hits a label if it is at most this many runs away."""


def changes(scores: Scores) -> list[HistoryChange]:
    """Return the changes in a history of simulated runs. Scores are by run, entry and metric."""
    runs = [simulated_run(each, 0.0, day) for day, each in enumerate(scores)]
    dated = [
        msgspec.structs.replace(run, started=f"2026-01-{day + 1:02}T00:00:00+00:00") for day, run in enumerate(runs)
    ]
    return find_changes(dated)[0]


def slow_runs(histories: int) -> bool:
    """Print the number of histories whose slow runs are all named, by slow entries. Return whether the bars hold."""
    wanted, held = {f"run-{day:02}" for day in SLOW}, True
    for entries in range(1, len(ENTRIES) + 1):
        for sd in (0.02, 0.03):
            scores = draw(Regime(901, sd, runs=6), histories, paired=False)
            scores[:, SLOW, :entries, :4] += math.log(FACTOR)
            named = [{each.run for each in changes(one) if each.kind == "odd run"} for one in scores]
            text = f"{entries} slow entries, sd {sd:.0%}"
            held &= judged_share(f"{text}: all named", sum(runs >= wanted for runs in named), histories, "≥", 0.8)
            held &= judged_share(f"{text}: others", sum(not runs <= wanted for runs in named), histories, "≤", 0.05)
    return held


def unchanged(histories: int) -> bool:
    """Print the number of unchanged histories with a step, trend or odd run. Return whether the bars hold."""
    held = True
    for noise, sd in UNCHANGED:
        for runs in (8, 30):
            scores = draw(Regime(1717, sd, noise, runs=runs - 2), histories, paired=False)
            found = [{each.kind for each in changes(one)} for one in scores]
            calm = noise == "normal" and sd <= 0.03
            # An outlier is an odd run, so only steps and trends are false.
            false = sum(bool(kinds if calm else kinds - {"odd run"}) for kinds in found)
            text = f"unchanged, {noise}, sd {sd:.0%}, {runs} runs {dict(Counter(chain.from_iterable(found)))}"
            held &= judged_share(text, false, histories, "≤", 0.01 if calm else 0.03)
    return held


def labelled(python: Path) -> None:
    """Print our and Otava's hits and false changes in the labelled series."""
    print("| series | changes | ours: hits, false | ours: odd runs | Otava: hits, false |\n" + "| --- " * 5 + "|")
    said = subprocess.run([str(python), str(PEER)], check=True, capture_output=True, text=True).stdout
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for series in json.loads(said):
        row, steps = rows[series["name"]], series["steps"]
        found = find_changes([_one_metric(value, at) for at, value in enumerate(series["values"])])[0]
        ours = [int(each.run) for each in found if each.kind != "odd run"]
        row.update(steps=len(steps), odd=len(found) - len(ours))
        for name, places in (("ours", ours), ("otava", series["otava"])):
            row[f"{name} hits"] += sum(any(abs(at - step) <= NEAR for at in places) for step in steps)
            row[f"{name} false"] += sum(all(abs(at - step) > NEAR for step in steps) for at in places)
    for name, row in rows.items():
        pairs = [f"{row[f'{who} hits']}, {row[f'{who} false']}" for who in ("ours", "otava")]
        print(f"| {name} | {row['steps']} | {pairs[0]} | {row['odd']} | {pairs[1]} |")


def _one_metric(value: float, at: int) -> RunMeasurements:
    """Return a run whose only value is a response time p50 in ms."""
    run = simulated_run(np.full((len(ENTRIES), 6), 0.0), 0.0, at)
    one = next(each for each in run.measurements if each.metric == Metric.RESPONSE_TIME_P50)
    changed: dict[str, Any] = {"value": value, "score": math.log(value)}
    return msgspec.structs.replace(run, run=str(at), measurements=(msgspec.structs.replace(one, **changed),))


def main() -> int:
    """Measure and print. Return 1 if a bar is missed."""
    parser = Options(__doc__)
    parser.add_size("--histories", 40, 100, "simulated histories of each kind")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="an interpreter with Otava and its test data")
    arguments = parser.begin()
    held = slow_runs(arguments.histories) & unchanged(arguments.histories)
    if arguments.peers:
        labelled(arguments.peers)
    return not held


if __name__ == "__main__":
    sys.exit(main())
