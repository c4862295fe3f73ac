"""``loadtest validate``: all mistakes in scenario files and targets.toml at once."""

from pathlib import Path

import click

from loadtest.cli.plan import plan_of
from loadtest.errors import ExitCode, InputError
from loadtest.program import pasteable
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.model import schema_text
from loadtest.targets import TARGETS_FILE, load_targets


@click.command("validate")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option("--schema", is_flag=True, help="Print the JSON schema of scenario files and exit.")
def command(files: tuple[str, ...], schema: bool) -> int:
    """Check each FILE: a scenario, the name of one in scenarios/, or a targets.toml. Sends nothing.

    All mistakes of all files are listed, with exit code 2. A file without mistakes is listed with the number of its
    warnings, which `loadtest plan` shows.
    """
    if schema:
        click.echo(schema_text(), nl=False)
        return int(ExitCode.PASS)
    if not files:
        raise click.UsageError("name at least one FILE, or give --schema")
    code = ExitCode.PASS
    for file in files:
        try:
            click.echo(pasteable(_check(file)))
        except InputError as error:
            click.echo(pasteable(str(error)), err=True)
            code = ExitCode.USAGE
    return int(code)


def _check(file: str) -> str:
    if Path(file).name == TARGETS_FILE.name:
        return f"{file}: ok, {_count(len(load_targets(Path(file))), 'target')}"
    path = find_scenario(file)
    loaded = load_scenario(path)
    plan = plan_of(loaded)
    warnings = plan.warnings
    faults = f", {_count(len(plan.faults), 'fault')} of the target" if plan.faults else ""
    hint = f" (see `loadtest plan {file}`)" if warnings else ""
    return f"{path}: ok, {_count(len(warnings), 'warning')}{hint}{faults}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
