"""``loadtest runs``: lists runs, and deletes old ones."""

import shutil
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from loadtest.cli._options import output_dir_option
from loadtest.compare import results
from loadtest.errors import InputError, LoadtestError
from loadtest.program import pasteable
from loadtest.record import run_directory
from loadtest.record.figures import Figures, Stage, read_figures
from loadtest.record.run_info import RunInfo
from loadtest.words import percent

_QUIET_S: Final = 60.0


class StoredRun(msgspec.Struct, frozen=True, rename={"size": "bytes"}):
    """A run on disk.

    Attributes:
        directory: its run directory.
        scenario: name of its scenario.
        started: UTC.
        verdict: by its own thresholds; ``no report`` where there is none.
        compared: the verdict of its comparison with earlier runs; None if there was none.
        p50_ms: response time of the first traffic entry in its first stage; None where n cannot carry it.
        p95_ms: likewise.
        throttled_rate: 429s ÷ requests, of all traffic, 0-1.
        size: bytes.
    """

    directory: Path
    scenario: str
    started: str
    verdict: str
    compared: str | None
    p50_ms: float | None
    p95_ms: float | None
    throttled_rate: float | None
    size: int


class _Compared(msgspec.Struct, frozen=True):
    word: str


@click.command()
@output_dir_option
@click.option("--scenario", help="Only runs of this scenario.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Delete all runs but the N newest.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(output_dir: Path, scenario: str | None, keep: int | None, yes: bool, as_json: bool) -> None:
    """List runs, the newest first. With --keep N, delete all but the N newest.

    p50 and p95 are response times of the first traffic entry in its first stage, 429 is the share of all requests.
    Verdict is that of the run's own thresholds, Compared that of `loadtest regression check`.
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
        click.echo(pasteable(f"no runs in {output_dir}; `loadtest run SCENARIO` makes one"))
    else:
        click.echo(_HEAD)
    for run in runs:
        click.echo(_line(run))


_HEAD: Final = (
    f"{'Started (UTC)':19}  {'Verdict':12}  {'Compared':14}  {'p50 ms':>8}  {'p95 ms':>8}  {'429':>6}  {'MB':>8}  Run"
)


def _line(run: StoredRun) -> str:
    times = "  ".join(f"{'–' if time is None else _short(time):>8}" for time in (run.p50_ms, run.p95_ms))
    share = "–" if run.throttled_rate is None else percent(run.throttled_rate)
    words = f"{run.started[:19]:19}  {run.verdict:12}  {run.compared or '–':14}"
    return f"{words}  {times}  {share:>6}  {run.size / 1e6:8.1f}  {run.directory.name}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


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
        figures = _figures(directory)
        first = next((stage for each in figures.traffic.values() for stage in each.stages.values()), Stage())
        found.append(
            StoredRun(
                directory,
                info.scenario.name,
                info.started,
                figures.verdict,
                _compared(directory),
                first.response_time_ms.p50,
                first.response_time_ms.p95,
                figures.overall.requests.throttled_rate,
                size,
            )
        )
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


def _figures(directory: Path) -> Figures:
    """A run's figures; none where it has no report that can be read."""
    try:
        return read_figures(directory)
    except LoadtestError:
        return Figures()


def _compared(directory: Path) -> str | None:
    """The verdict of a run's comparison; None if there is none that can be read."""
    try:
        return msgspec.json.decode((directory / results.FILE_NAME).read_bytes(), type=_Compared).word
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
