"""Changes that the audit finds in histories: slow runs among accepted runs, and labelled series beside Otava's answer.

``python bench/regression_series.py [--histories N] [--peers PYTHON]``; ``bench/README.md`` has the results. PYTHON is
an interpreter with ``apache-otava`` and ``otava-test-data``; without it, the labelled series are left out.
"""

import argparse
import json
import math
import subprocess
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from regression_checks import simulated_run
from regression_families import ENTRIES, Regime, Scores, draw

from loadtest.compare.measurements import Metric, RunMeasurements
from loadtest.compare.shifts import HistoryChange, find_changes

PEER: Final = Path(__file__).parent / "peers" / "regression_series.py"
SLOW: Final = (1, 4, 6)
"""Slow runs among eight: the second, fifth and seventh."""
FACTOR: Final = 1.2
UNCHANGED: Final = (("normal", 0.03), ("normal", 0.05), ("lognormal", 0.03), ("outliers", 0.03))
NEAR: Final = 2
"""Number of runs between a label and a change point that hits it."""


def changes(scores: Scores) -> list[HistoryChange]:
    """The changes in a history of simulated runs, by their scores by run, entry and metric."""
    runs = [simulated_run(each, 0.0, day) for day, each in enumerate(scores)]
    dated = [
        msgspec.structs.replace(run, started=f"2026-01-{day + 1:02}T00:00:00+00:00") for day, run in enumerate(runs)
    ]
    return find_changes(dated)[0]


def slow_runs(histories: int) -> None:
    """Print in how many histories all slow runs are named, by the number of slow entries."""
    print("| slow entries | sd 2 % | sd 3 % |\n| --- | --- | --- |")
    wanted = {f"run-{day:02}" for day in SLOW}
    for entries in range(1, len(ENTRIES) + 1):
        cells = []
        for sd in (0.02, 0.03):
            scores = draw(Regime(901, sd, runs=6), histories, paired=False)
            scores[:, SLOW, :entries, :4] += math.log(FACTOR)
            named = [{each.run for each in changes(one) if each.kind == "odd run"} for one in scores]
            cells.append(f"{sum(runs >= wanted for runs in named)}, {sum(not runs <= wanted for runs in named)}")
        print(f"| {entries} | {' | '.join(cells)} |", flush=True)


def unchanged(histories: int) -> None:
    """Print in how many unchanged histories there is a step, trend or odd run."""
    for noise, sd in UNCHANGED:
        for runs in (8, 30):
            scores = draw(Regime(1717, sd, noise, runs=runs - 2), histories, paired=False)
            kinds = Counter(kind for one in scores for kind in {each.kind for each in changes(one)})
            print(f"unchanged, {noise}, sd {100 * sd:g} %, {runs} runs: of {histories} {dict(kinds)}", flush=True)


def labelled(python: Path) -> None:
    """Print hits and false changes in the labelled series, ours and Otava's."""
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
    """A run with one value, as response time p50 in ms."""
    run = simulated_run(np.full((len(ENTRIES), 6), 0.0), 0.0, at)
    one = next(each for each in run.measurements if each.metric == Metric.RESPONSE_TIME_P50)
    changed: dict[str, Any] = {"value": value, "score": math.log(value)}
    return msgspec.structs.replace(run, run=str(at), measurements=(msgspec.structs.replace(one, **changed),))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=100, metavar="N", help="simulated histories of each kind")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="an interpreter with Otava and its test data")
    arguments = parser.parse_args()
    slow_runs(arguments.histories)
    unchanged(arguments.histories)
    if arguments.peers:
        labelled(arguments.peers)


if __name__ == "__main__":
    main()
