"""Checks and forecasts of scenario files, before anything is sent."""

import subprocess
import sys
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from loadtest.credentials import api_keys
from loadtest.errors import InputError
from loadtest.faults import to_words
from loadtest.plan import Contradiction, Plan, make_plan
from loadtest.prepare import check_before_run, question_of
from loadtest.program import mention
from loadtest.scenario import LoadedScenario, at_rate, find_scenario, load_scenario
from loadtest.targets import TARGETS_FILE, NamedEntry, load_targets
from loadtest.words import counted


def plan_of(
    loaded: LoadedScenario,
    *,
    chosen: NamedEntry | None = None,
    keys: int | None = None,
    start: float | None = None,
    job_s: float | None = None,
    price: float | None = None,
) -> Plan:
    """Make the plan of a scenario for the embedded target, or for the running target ``chosen``.

    ``start`` is in s since midnight UTC, or None if unknown. ``job_s`` is the duration of a job or run. By default, the
    scenario gives it. ``keys`` defaults to a run's number of keys. ``price`` is for one execution, by default the
    entry's.

    Raises:
        InputError: if a run with these keys would be refused.
    """
    scenario = loaded.scenario
    keys = keys if keys is not None else scenario.keys if chosen is None else len(api_keys())
    question = question_of(loaded, chosen, keys=keys, start=start, job_s=job_s)
    entry = None if chosen is None else chosen.entry
    price = entry.price_per_execution if price is None and entry is not None else price
    plan = make_plan(question, loaded.name, keys, price)
    faults = list(map(to_words, scenario.target.settings.fault)) if chosen is None else []
    over = [] if chosen is None else _over_budget(loaded, chosen, keys)
    return msgspec.structs.replace(plan, faults=faults, warnings=[*over, *plan.warnings])


def _over_budget(loaded: LoadedScenario, chosen: NamedEntry, keys: int) -> list[Contradiction]:
    """Return a warning if a run would exceed its request budget, with the largest rate multiplier that fits."""

    def problem(part: float) -> InputError | None:
        try:
            check_before_run(at_rate(loaded, part, 0) if part < 1 else loaded, chosen, keys=keys, preflight=True)
        except InputError as error:
            return error
        return None

    if (error := problem(1.0)) is None:
        return []
    parts = range(1, 1 if loaded.scenario.recorded else 100)
    percent = bisect_left(parts, 1, key=lambda percent: problem(percent / 100) is not None)
    multiplier = loaded.scenario.rate_multiplier * percent / 100
    return [
        Contradiction(
            kind="budget",
            key=f"{chosen.path}: {chosen.name}",
            message=error.message.removeprefix(chosen.key("")),
            remedy=f"Use --rate-multiplier {multiplier:g}, which fits." if percent else error.remedy,
        )
    ]


class CheckedFile(NamedTuple):
    """A checked file. A valid file has a description; any other file has errors."""

    words: str = ""
    mistakes: Sequence[str] = ()
    path: Path = Path()
    names: str = ""
    """The references of a scenario that are still to be checked: ``classes``, ``files``, or none."""


def check_files(files: Sequence[str]) -> list[CheckedFile]:
    """Check scenarios, the files that they refer to, and files of targets. Nothing is sent."""
    checked = [_check_file(file) for file in files]
    # Scenarios with classes are checked in separate processes, because their modules may have the same name.
    alone = [[one.path] for one in checked if one.names == "classes"]
    together = [one.path for one in checked if one.names == "files"]
    found: dict[Path, list[str]] = {}
    for paths in filter(None, [*alone, together]):
        found |= _named_mistakes(paths)
    return [one._replace(mistakes=one.mistakes or found.get(one.path, ())) for one in checked]


def _check_file(file: str) -> CheckedFile:
    try:
        if Path(file).name == TARGETS_FILE.name:
            return CheckedFile(f"{file}: ok, {counted(len(load_targets(Path(file))), 'target')}")
        loaded = load_scenario(find_scenario(file))
        entries = loaded.scenario.traffic.values()
        classes = any(traffic.user is not None for traffic in entries)
        names = "classes" if classes else "files" if any(traffic.files for traffic in entries) else ""
        plan = plan_of(loaded)
    except InputError as error:
        return CheckedFile(mistakes=[str(error)])
    warnings = counted(len(plan.warnings), "warning") + (f" (see {mention('plan', file)})" if plan.warnings else "")
    faults = f", {counted(len(plan.faults), 'fault')} of the target" if plan.faults else ""
    return CheckedFile(f"{loaded.path}: ok, {warnings}{faults}", path=loaded.path, names=names)


def _named_mistakes(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """Open files and import classes that scenarios name. The separate process for this may import Locust."""
    done = subprocess.run([sys.executable, "-m", "loadtest.load.check", *paths], capture_output=True, check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        return {
            path: [f"{path}: Python ended while it loaded a class or file named there: {last[0]}"] for path in paths
        }
    return dict(zip(paths, msgspec.json.decode(done.stdout, type=list[list[str]]), strict=True))
