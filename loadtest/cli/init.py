"""``loadtest init``: a scenario to start from, and a file for targets."""

import sys
import tomllib
from pathlib import Path
from typing import Final

import click

from loadtest.cli._curl import Pasted, parse_curl
from loadtest.cli._starter import JOBS_FILE, scenario_text, targets_text
from loadtest.credentials import ENDPOINT_VARIABLE, KEYS_VARIABLE
from loadtest.errors import InputError
from loadtest.scenario import Scenario
from loadtest.scenario.schema import schema_text

_SCENARIO: Final = Path("scenarios") / "first.toml"
_SCHEMA: Final = Path("scenarios") / "scenario.schema.json"
_TARGETS: Final = Path("targets.toml")
_SHORTEST_KEY: Final = 6
"""What is shorter may be in a text by chance."""


@click.command("init")
@click.argument("folder", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--from-curl",
    "pasted",
    metavar="COMMAND",
    help="Make the scenario ask what this curl command asks; '-' reads it from standard input, where nobody else "
    "on this machine can see the key that it may hold.",
)
def command(folder: Path, pasted: str | None) -> None:
    """Write scenarios/first.toml and targets.toml into DIR, or here, to be changed from there.

    Files that exist are never overwritten. An API key in a curl command is not written anywhere.
    """
    asked = None if pasted is None else parse_curl(sys.stdin.read() if pasted == "-" else pasted)
    files = _files(asked)
    for name in files:
        if (folder / name).exists():
            raise InputError(f"{folder / name} exists, and is not overwritten", "Name another DIR, or remove it.")
    _refuse_key(asked, files)
    # An editor's help; whoever has one already keeps it.
    if not (folder / _SCHEMA).exists():
        files[_SCHEMA] = schema_text()
    for name, text in files.items():
        _write(folder / name, text)
    _say_next(folder, asked)


def _files(asked: Pasted | None) -> dict[Path, str]:
    try:
        files = {_SCENARIO: scenario_text(asked), _TARGETS: targets_text(asked)}
        Scenario.model_validate(tomllib.loads(files[_SCENARIO]))
    except (RecursionError, ValueError):
        # Too deep, too large a number, and whatever else a scenario cannot hold.
        raise InputError(
            "the curl command's workflow or parameters cannot be said in a scenario",
            'Leave parameters out there, and put them into a file: inputs = "inputs.jsonl".',
        ) from None
    if asked is not None and asked.job_id is not None:
        files[Path("scenarios") / JOBS_FILE] = f"{asked.job_id}\n"
    return files


def _refuse_key(asked: Pasted | None, files: dict[Path, str]) -> None:
    """The key must be in no file, not even where it is a parameter too."""
    key = asked.key if asked else None
    if key and len(key) >= _SHORTEST_KEY and any(key in text for text in files.values()):
        raise InputError(
            "the curl command's key is also in its URL, endpoint or data, and keys are written nowhere",
            "Put something else in its place there.",
        )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "Name another DIR.") from error
    click.echo(f"wrote   {path}")


def _say_next(folder: Path, asked: Pasted | None) -> None:
    where = "" if folder == Path() else f", in {folder}"
    if asked is not None:
        if asked.dropped:
            click.echo(
                f"note    headers that will not be sent: {', '.join(asked.dropped)}"
                " (a target's entry can add some: docs/client.md)"
            )
        secret = "the key of the command was written nowhere: " if asked.key else ""
        click.echo(f"next    {secret}export {KEYS_VARIABLE}=… before a run")
        if asked.endpoint and asked.loopback:
            click.echo(f"next    export {ENDPOINT_VARIABLE}={asked.endpoint}")
        if not asked.loopback:
            click.echo(f"next    say in {_TARGETS} who has agreed to the load")
    run = "loadtest run first"
    if asked is not None:
        run += f" --host {asked.url}" if asked.loopback else " --target pasted"
    click.echo(f"next    loadtest plan first, then {run}{where}")
