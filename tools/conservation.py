"""Count every arrival, under each kind of fault and with 1, 2 and 4 workers: what was scheduled is what is recorded.

Each run lasts two seconds, with even, ramped and Poisson arrivals of all three operations, against an embedded target
that misbehaves. It is conserved if its record holds each arrival of the schedule once, at its intended start, with one
outcome. About six minutes on two cores: ``python tools/conservation.py``, or of some kinds only: ``... freeze reset``.
Exit code 1 where an arrival is missing, or there twice.
"""

import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

from loadtest.plan import schedules
from loadtest.prepare import prepare_run
from loadtest.record import run_directory, samples
from loadtest.runs.run import make_load
from loadtest.runs.target import child_environment, embedded_target, own_credentials
from loadtest.scenario import load_scenario

FAULTS: Final = {
    "none": "",
    "latency": "ms = 200",
    "slow-execution": "ms = 200",
    "freeze": 'ms = 400\nprobability = "2%"',
    "error": 'probability = "30%"',
    "reset": 'probability = "30%"\nwhen = "middle"',
    "truncate": 'probability = "30%"',
    "garbage": 'probability = "30%"\nwhat = "answer"',
    "never-finish": 'probability = "50%"',
    "wrong-result": 'probability = "50%"',
    "duplicate-result": 'probability = "30%"\nwhat = "id"',
    "false-execution-time": 'value = "negative"\nprobability = "50%"',
    "back-to-pending": 'probability = "50%"',
    "throttle": 'probability = "50%"',
    "cold-start": 'ms = 800\nidle = "10s"',
    "starve": "key = 0",
}
"""Each kind of docs/reference-api.md, with keys that let it hit some of a short run."""
WORKERS: Final = (1, 2, 4)
OUTCOMES: Final = ("ok", "throttled", "failed", "timed_out", "dropped", "lost")
SCENARIO: Final = """
title = "Is every arrival counted?"
seed = 7
drain = "2s"
[breakers]
server_errors = false
[target]
keys = 2
enforce = { sync_run = "1000000/60s", async_submit = "1000000/60s", retrieval = "1000000/60s" }
[traffic.runs]
operation = "sync_run"
workflow = "echo"
parameters = { n = 1 }
expect = { result = { n = 1 } }
timeout = "1s"
stages = [
  { name = "rising", rate = "10/s", ramp_to = "60/s", duration = "1s" },
  { name = "steady", rate = "60/s", duration = "1s" },
]
[traffic.jobs]
operation = "async_run"
workflow = "echo"
arrivals = "poisson"
timeout = "1s"
polling = { interval = "100ms", give_up = "1500ms" }
stages = [{ name = "steady", rate = "30/s", duration = "2s" }]
[traffic.lookups]
operation = "retrieval"
workflow = "echo"
seed_jobs = 10
timeout = "1s"
stages = [{ name = "steady", rate = "31/s", duration = "2s" }]
"""


@dataclass(frozen=True, slots=True)
class Count:
    """The outcomes of a run's arrivals."""

    scheduled: int
    rows: int
    outcomes: Counter[str]
    conserved: bool

    @property
    def cells(self) -> list[str]:
        """For the table."""
        numbers = [self.scheduled, self.rows, *(self.outcomes[name] for name in OUTCOMES)]
        return [*map(str, numbers), "yes" if self.conserved else "NO"]


def count(directory: Path) -> Count:
    """Hold a run's record against its schedule."""
    info = run_directory.load(directory)
    wanted = Counter(
        (arrival.traffic, arrival.number, arrival.intended_ns, arrival.stage)
        for schedule in schedules(info.traffic, info.seed)
        for arrival in schedule.share()
    )
    rows: list[dict[str, Any]] = [row for row in samples.read_table(directory).to_pylist() if row["row"] == "operation"]
    recorded = Counter((row["traffic"], row["arrival"], row["intended_start"], row["stage"]) for row in rows)
    outcomes = Counter(row["outcome"] for row in rows)
    whole = info.complete and info.end == "finished" and outcomes.keys() <= set(OUTCOMES)
    return Count(wanted.total(), len(rows), outcomes, whole and wanted == recorded)


def run(kind: str, workers: int, folder: Path) -> Count:
    """Make one run, on a target of its own: faults that were in force once would hit what a second run seeds."""
    path = folder / f"{kind}.toml"
    fault = f'[[target.fault]]\nkind = "{kind}"\n{FAULTS[kind]}\n' if FAULTS[kind] else ""
    path.write_text(SCENARIO + fault, encoding="utf-8")
    loaded = load_scenario(path)
    keys, endpoint = own_credentials(loaded.scenario.keys)
    environment = child_environment(keys, endpoint)
    with embedded_target(loaded.scenario.target.settings, environment) as target:
        directory, _ = prepare_run(
            loaded, url=target.url, keys=len(keys), command=["conservation"], output_dir=folder,
            workers=workers,
        )  # fmt: skip
        code = make_load(
            directory, folder, {**environment, **target.environment}, lambda _: None, ["--processes", str(workers)]
        )
    if code:
        raise SystemExit(f"the load ended with {code}: {(directory / 'load.log').read_text()}")
    return count(directory)


def main(kinds: list[str]) -> int:
    """Make the runs, and print what became of their arrivals."""
    if unknown := set(kinds) - FAULTS.keys():
        raise SystemExit(f"no kind of fault: {', '.join(sorted(unknown))}. Known: {', '.join(FAULTS)}.")
    print("| fault | workers | scheduled | recorded | " + " | ".join(OUTCOMES) + " | conserved |")
    print("| --- |" + " ---: |" * (len(OUTCOMES) + 3) + " --- |")
    held = True
    with tempfile.TemporaryDirectory() as folder:
        for kind, workers in product(kinds or FAULTS, WORKERS):
            counted = run(kind, workers, Path(folder))
            print(f"| {kind} | {workers} | {' | '.join(counted.cells)} |", flush=True)
            held = held and counted.conserved
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
