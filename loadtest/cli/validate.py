"""``loadtest validate``: all mistakes in scenario files and targets.toml at once."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from loadtest.cli.plan import plan_of
from loadtest.errors import ExitCode, InputError
from loadtest.plan.summary import Plan
from loadtest.program import pasteable
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.schema import schema_text
from loadtest.targets import TARGETS_FILE, load_targets


@click.command("validate")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option("--schema", is_flag=True, help="Print the JSON schema of scenario files and exit.")
def command(files: tuple[str, ...], schema: bool) -> int:
    """Check each FILE: a scenario, the name of one, or a targets.toml. Sends nothing.

    Files that a scenario names are opened, and classes of users imported.

    All mistakes of all files are listed, with exit code 2. A file without mistakes is listed with the number of its
    warnings, which `loadtest plan` shows.
    """
    if schema:
        click.echo(schema_text(), nl=False)
        return int(ExitCode.PASS)
    if not files:
        raise click.UsageError("name at least one FILE, or give --schema")
    checked = [_checked(file) for file in files]
    mistakes = _named_mistakes([one for one in checked if one.names])
    code = ExitCode.PASS
    for one in checked:
        wrong = [one.mistake] if one.mistake else mistakes.get(one.path, [])
        if wrong:
            click.echo(pasteable("\n".join(wrong)), err=True)
            code = ExitCode.USAGE
        else:
            click.echo(pasteable(one.words))
    return int(code)


class _Checked(NamedTuple):
    words: str = ""
    mistake: str = ""
    path: Path = Path()
    names: str = ""
    """What the scenario names that has to be looked at: classes, files, or nothing."""


def _checked(file: str) -> _Checked:
    try:
        if Path(file).name == TARGETS_FILE.name:
            return _Checked(f"{file}: ok, {_count(len(load_targets(Path(file))), 'target')}")
        path = find_scenario(file)
        loaded = load_scenario(path)
        entries = loaded.scenario.traffic.values()
        classes = any(traffic.user is not None for traffic in entries)
        names = "classes" if classes else "files" if any(traffic.names_files for traffic in entries) else ""
        return _Checked(_words(path, file, plan_of(loaded)), path=path, names=names)
    except InputError as error:
        return _Checked(mistake=str(error))


def _named_mistakes(checked: Sequence[_Checked]) -> dict[Path, list[str]]:
    """What is wrong with files and classes that scenarios name; modules of two may have the same name."""
    alone = [[one.path] for one in checked if one.names == "classes"]
    together = [one.path for one in checked if one.names == "files"]
    found: dict[Path, list[str]] = {}
    for paths in [*alone, together]:
        if paths:
            found |= _looked_at(paths)
    return found


def _looked_at(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """Have files opened and classes imported, in a process of the load: nothing else may import Locust."""
    done = subprocess.run([sys.executable, "-m", "loadtest.load.check", *paths], capture_output=True, check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        return {path: [f"{path}: a class or a file that it names ends Python: {last[0]}"] for path in paths}
    return dict(zip(paths, msgspec.json.decode(done.stdout, type=list[list[str]]), strict=True))


def _words(path: Path, file: str, plan: Plan) -> str:
    warnings = plan.warnings
    faults = f", {_count(len(plan.faults), 'fault')} of the target" if plan.faults else ""
    hint = f" (see `loadtest plan {file}`)" if warnings else ""
    return f"{path}: ok, {_count(len(warnings), 'warning')}{hint}{faults}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
