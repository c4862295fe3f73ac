"""Verbs about scenario files that send nothing: ``loadtest plan``, ``validate`` and ``scenarios``."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec

from loadtest.cli._options import DURATION, LOAD, print_json, shared
from loadtest.errors import ExitCode, InputError
from loadtest.program import mention, pasteable
from loadtest.runs.target import ScenarioOptions, plan_of
from loadtest.scenario import FOLDER, SHIPPED, find_scenario, load_scenario, schema_text
from loadtest.targets import TARGETS_FILE, load_targets
from loadtest.terminal.plan import show_plan
from loadtest.words import counted

_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")


@click.command("plan")
@click.argument("scenario")
@click.option("--host", help="Plan for this target. If it has an entry in targets.toml, use its limits.")
@click.option("--target", help="Plan for this entry of targets.toml, with its limits and price.")
@shared("targets", *LOAD)
@click.option("--keys", type=click.IntRange(1, 1000), help="Number of API keys that share the traffic.")
@click.option("--start", metavar="HH:MM:SS.s", help="UTC time of the first arrival.  [default: unknown]")
@click.option("--job-duration", "job_s", type=DURATION, help="Duration of each job or run.")
@click.option("--price-per-execution", "price", type=click.FloatRange(min=0), help="Price of one workflow execution.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole plan as JSON.")
def plan(
    *, keys: int | None, start: str | None, job_s: float | None, price: float | None, as_json: bool, **given: Any
) -> None:
    """Forecast SCENARIO's load against the rate limits, and the expected 429s. Nothing is sent.

    If the plan contradicts itself, a warning names the remedy. The exit code is still 0.
    """
    options = ScenarioOptions(**given)
    if options.host is not None and options.target is not None:
        raise InputError("--host and --target exclude each other", "Remove one of them.")
    loaded = options.load()
    start_s = None if start is None else _start_s(start)
    made = plan_of(loaded, chosen=options.entry, keys=keys, start=start_s, job_s=job_s, price=price)
    if as_json:
        print_json(made)
    else:
        show_plan(made, loaded.place)


def _start_s(text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InputError(f"--start {text!r} is not a time of day", "Use a form such as 13:05:30 or 13:05:30.5, in UTC.")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3] or 0)


@click.command("validate")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option("--schema", is_flag=True, help="Print the JSON schema of scenario files and exit.")
def validate(files: tuple[str, ...], schema: bool) -> int:
    """Check each FILE: a scenario's file or name, or a targets.toml. Nothing is sent.

    The files that a scenario names are opened, and its user classes are imported. All errors are listed; the exit code
    is then 2. For a valid file, warnings are counted; `loadtest plan` shows them.
    """
    if schema:
        click.echo(schema_text(), nl=False)
        return int(ExitCode.PASS)
    if not files:
        raise InputError("there is nothing to check", "Give at least one FILE, or --schema.")
    checked = list(map(_checked, files))
    # Scenarios with classes are checked in separate processes, because their modules may have the same name.
    alone = [[one.path] for one in checked if one.names == "classes"]
    together = [one.path for one in checked if one.names == "files"]
    found: dict[Path, list[str]] = {}
    for paths in filter(None, [*alone, together]):
        found |= _named_mistakes(paths)
    code = ExitCode.PASS
    for one in checked:
        if mistakes := one.mistakes or found.get(one.path):
            code = ExitCode.USAGE
        click.echo(pasteable("\n".join(mistakes or [one.words])), err=bool(mistakes))
    return int(code)


class _Checked(NamedTuple):
    """A checked file. A valid file has a description; any other file has errors."""

    words: str = ""
    mistakes: Sequence[str] = ()
    path: Path = Path()
    names: str = ""
    """The references of a scenario that are still to be checked: ``classes``, ``files``, or none."""


def _checked(file: str) -> _Checked:
    try:
        if Path(file).name == TARGETS_FILE.name:
            return _Checked(f"{file}: ok, {counted(len(load_targets(Path(file))), 'target')}")
        loaded = load_scenario(find_scenario(file))
        made = plan_of(loaded)
    except InputError as error:
        return _Checked(mistakes=[str(error)])
    entries = loaded.scenario.traffic.values()
    classes = any(traffic.user is not None for traffic in entries)
    names = "classes" if classes else "files" if any(traffic.files for traffic in entries) else ""
    warnings = counted(len(made.warnings), "warning") + (f" (see {mention('plan', file)})" if made.warnings else "")
    faults = f", {counted(len(made.faults), 'fault')} of the target" if made.faults else ""
    return _Checked(f"{loaded.path}: ok, {warnings}{faults}", path=loaded.path, names=names)


def _named_mistakes(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """Open files and import classes that scenarios name. The separate process for this may import Locust."""
    done = subprocess.run([sys.executable, "-m", "loadtest.load.check", *paths], capture_output=True, check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        return {
            path: [f"{path}: Python ended while it loaded a class or file named there: {last[0]}"] for path in paths
        }
    return dict(zip(paths, msgspec.json.decode(done.stdout, type=list[list[str]]), strict=True))


@click.command("scenarios")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Folder of scenario files.  [default: scenarios, and the shipped scenarios]",
)
def scenarios(folder: Path | None) -> int:
    """List scenarios with duration and title. The exit code is 2 if a scenario has errors, which are shown."""
    folders = (SHIPPED, FOLDER) if folder is None else (folder,)
    found = {path.stem: path for place in folders for path in place.glob("*.toml")}
    if not found:
        raise InputError(f"there is no scenario in {folder}", "Use another --folder.")
    width = max(map(len, found))
    code = ExitCode.PASS
    for name in sorted(found):
        try:
            scenario = load_scenario(found[name]).scenario
        except InputError as error:
            click.echo(str(error), err=True)
            code = ExitCode.USAGE
            continue
        seconds = scenario.warmup + max(traffic.duration for traffic in scenario.traffic.values())
        print(f"{name:<{width}}  {seconds:4.0f} s  {scenario.title}")
    return int(code)
