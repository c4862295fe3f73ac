"""``loadtest runs``: which runs there are, and which of them may go."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from loadtest.errors import InputError, LoadtestError
from loadtest.record import run_directory
from loadtest.record.run_info import RunInfo

_QUIET_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run that was made: its directory, scenario, start (UTC), verdict, and size in bytes."""

    directory: Path
    scenario: str
    started: str
    verdict: str
    size: int


@click.command()
@click.option(
    "--output-dir", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, help="Where runs are."
)
@click.option("--scenario", help="Of this scenario only.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Delete all of them but the N newest.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def command(output_dir: Path, scenario: str | None, keep: int | None, yes: bool, as_json: bool) -> None:
    """List runs, the newest first: when, what, verdict, size. With --keep N, delete all of them but the N newest.

    What reports/ holds besides (baselines, the example, a run that goes on) is never listed and never deleted.
    """
    runs = [run for run in find(output_dir) if scenario in (None, run.scenario)]
    if keep is not None:
        prune(runs[keep:], ask=not yes)
        return
    if as_json:
        click.echo(json.dumps([_row(run) for run in runs], indent=2))
        return
    if not runs:
        click.echo(f"no runs in {output_dir}; `loadtest run SCENARIO` makes one")
    for run in runs:
        click.echo(f"{run.started:20}  {run.verdict:12}  {run.size / 1e6:9.1f} MB  {run.directory.name}")


def find(parent: Path) -> list[StoredRun]:
    """Every run below a directory, the newest first."""
    if not parent.is_dir():
        return []
    found = []
    for directory in parent.iterdir():
        if directory.is_symlink() or not (directory / run_directory.FILE_NAME).is_file():
            continue
        try:
            info = run_directory.load(directory)
        except LoadtestError:
            continue  # a run of another version: not ours to judge, nor to delete
        if directory.name != info.id or _goes_on(directory, info):
            continue  # a copy under a name of its own was put there to stay
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        found.append(StoredRun(directory, info.scenario.name, info.started, _verdict(directory), size))
    return sorted(found, key=lambda run: (run.started, run.directory.name), reverse=True)


def prune(runs: list[StoredRun], *, ask: bool) -> None:
    """Delete runs, and say which.

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


def _goes_on(directory: Path, info: RunInfo) -> bool:
    """Whether a run is still being made: it has not ended, and something was written within the last minute."""
    written = max((path.stat().st_mtime for path in directory.iterdir()), default=0.0)
    return info.end == "running" and time.time() - written < _QUIET_S


def _verdict(directory: Path) -> str:
    try:
        return str(json.loads((directory / "metrics.json").read_text(encoding="utf-8"))["verdict"])
    except (OSError, ValueError, KeyError, TypeError):
        return "no report"


def _row(run: StoredRun) -> dict[str, Any]:
    return {
        "directory": str(run.directory),
        "scenario": run.scenario,
        "started": run.started,
        "verdict": run.verdict,
        "bytes": run.size,
    }
