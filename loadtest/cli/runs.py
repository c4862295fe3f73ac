"""``loadtest runs``: lists runs, and deletes old ones."""

import shutil
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from loadtest.cli._options import output_dir_option
from loadtest.errors import InputError, LoadtestError
from loadtest.record import run_directory
from loadtest.record.run_info import RunInfo

_QUIET_S: Final = 60.0


class StoredRun(msgspec.Struct, frozen=True, rename={"size": "bytes"}):
    """A run on disk: its directory, scenario, start (UTC), verdict, and size in bytes."""

    directory: Path
    scenario: str
    started: str
    verdict: str
    size: int


class _Verdict(msgspec.Struct, frozen=True):
    verdict: str


@click.command()
@output_dir_option
@click.option("--scenario", help="Only runs of this scenario.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Delete all runs but the N newest.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(output_dir: Path, scenario: str | None, keep: int | None, yes: bool, as_json: bool) -> None:
    """List runs, the newest first: start, verdict, size, id. With --keep N, delete all but the N newest.

    Baselines, the example, and runs that are still going on are never listed and never deleted.
    """
    runs = [run for run in find(output_dir) if scenario in (None, run.scenario)]
    if keep is not None:
        prune(runs[keep:], ask=not yes)
        return
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(runs, enc_hook=str), indent=2))
        return
    if not runs:
        click.echo(f"no runs in {output_dir}; `loadtest run SCENARIO` makes one")
    for run in runs:
        click.echo(f"{run.started:20}  {run.verdict:12}  {run.size / 1e6:9.1f} MB  {run.directory.name}")


def find(parent: Path) -> list[StoredRun]:
    """All runs in a directory, the newest first."""
    if not parent.is_dir():
        return []
    found = []
    for directory in parent.iterdir():
        if directory.is_symlink() or not (directory / run_directory.FILE_NAME).is_file():
            continue
        try:
            info = run_directory.load(directory)
        except LoadtestError:
            continue  # a run of another version: not ours to list, nor to delete
        if directory.name != info.id or _is_running(directory, info):
            continue  # a copy under another name was put there to stay
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        found.append(StoredRun(directory, info.scenario.name, info.started, _verdict(directory), size))
    return sorted(found, key=lambda run: (run.started, run.directory.name), reverse=True)


def prune(runs: list[StoredRun], *, ask: bool) -> None:
    """Delete runs, and print which.

    Raises:
        InputError: if one cannot be deleted.
    """
    if not runs:
        click.echo("nothing to delete")
        return
    size = sum(run.size for run in runs) / 1e6
    if ask:
        click.confirm(f"delete {len(runs)} runs, {size:.1f} MB?", abort=True)
    for run in runs:
        try:
            shutil.rmtree(run.directory)
        except OSError as error:
            raise InputError(f"cannot delete {run.directory}: {error.strerror}") from error
        click.echo(f"deleted {run.directory}")


def _is_running(directory: Path, info: RunInfo) -> bool:
    """Whether a run has not ended, and wrote something within the last minute."""
    written = max((path.stat().st_mtime for path in directory.iterdir()), default=0.0)
    return info.end == "running" and time.time() - written < _QUIET_S


def _verdict(directory: Path) -> str:
    try:
        return msgspec.json.decode((directory / "metrics.json").read_bytes(), type=_Verdict).verdict
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return "no report"
