"""``loadtest validate``: lists all errors in scenario files and targets.toml."""

import click

from loadtest.errors import ExitCode, InputError
from loadtest.program import pasteable
from loadtest.runs.forecast import check_files
from loadtest.scenario import schema_text


@click.command("validate")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option("--schema", is_flag=True, help="Print the JSON schema of scenario files and exit.")
def command(files: tuple[str, ...], schema: bool) -> int:
    """Check each FILE: a scenario's file or name, or a targets.toml. Nothing is sent.

    The files that a scenario names are opened, and its user classes are imported. All errors are listed; the exit code
    is then 2. For a valid file, warnings are counted; `loadtest plan` shows them.
    """
    if schema:
        click.echo(schema_text(), nl=False)
        return int(ExitCode.PASS)
    if not files:
        raise InputError("there is nothing to check", "Give at least one FILE, or --schema.")
    checked = check_files(files)
    for one in checked:
        click.echo(pasteable("\n".join(one.mistakes or [one.words])), err=bool(one.mistakes))
    return int(ExitCode.USAGE if any(one.mistakes for one in checked) else ExitCode.PASS)
