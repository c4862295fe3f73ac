"""``loadtest validate``: lists all errors in scenario files and targets.toml."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from loadtest.errors import ExitCode, InputError
from loadtest.program import mention, pasteable
from loadtest.runs.target import plan_of
from loadtest.scenario import find_scenario, load_scenario, schema_text
from loadtest.targets import TARGETS_FILE, load_targets
from loadtest.words import counted


@click.command("validate")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option("--schema", is_flag=True, help="Print the JSON schema of scenario files and exit.")
def command(files: tuple[str, ...], schema: bool) -> int:
    """Check each FILE: a scenario's file or name, or a targets.toml. Nothing is sent.

    The files that a scenario names are opened, and its user classes are imported. All errors are listed. With errors,
    the exit code is 2. For a valid file, warnings are counted; `loadtest plan` shows them.
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
    """A checked file. ``words`` describe a valid file; any other file has ``mistakes``."""

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
    """Open files and import classes that scenarios name, in a separate process. Return the errors by scenario."""
    done = subprocess.run([sys.executable, "-m", "loadtest.load.check", *paths], capture_output=True, check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        return {
            path: [f"{path}: Python ended while it loaded a class or file named there: {last[0]}"] for path in paths
        }
    return dict(zip(paths, msgspec.json.decode(done.stdout, type=list[list[str]]), strict=True))
