"""``loadtest runs``: lists runs, and deletes old runs."""

import os
import shutil
from pathlib import Path
from stat import S_ISREG
from typing import Final

import click
import msgspec

from loadtest.cli._options import print_json, shared
from loadtest.compare import results
from loadtest.errors import InputError, LoadtestError
from loadtest.program import mention, pasteable
from loadtest.record import run_directory
from loadtest.record.figures import Figures, StageMetrics, read_figures
from loadtest.words import percent

_HEAD: Final = (
    f"{'Started (UTC)':19}  {'Verdict':12}  {'Compared':14}  {'p50 ms':>8}  {'p95 ms':>8}  {'429':>6}  {'MB':>8}  Run"
)


@click.command()
@shared("output_dir")
@click.option("--scenario", help="Only runs of this scenario.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Delete all runs but the N newest.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@shared("as_json")
def command(output_dir: Path, scenario: str | None, keep: int | None, yes: bool, as_json: bool) -> None:
    """List runs, newest first. With --keep N, delete all but the N newest.

    p50 and p95 are response times of the first traffic entry in its first stage; 429 is the share of 429s in all
    requests. Verdict comes from the run's own thresholds, Compared from `loadtest regression check`. Baselines, the
    example, and runs in progress are neither listed nor deleted.
    """
    found = [_stored(directory) for directory in (output_dir.iterdir() if output_dir.is_dir() else ())]
    runs = [run for run in found if run is not None and scenario in (None, run.scenario)]
    runs.sort(key=lambda run: (run.started, run.directory.name), reverse=True)
    if keep is not None:
        old = runs[keep:]
        size = sum(run.size for run in old) / 1e6
        if old and not yes:
            click.confirm(f"delete {len(old)} runs, {size:.1f} MB?", abort=True)
        for run in old:
            try:
                shutil.rmtree(run.directory)
            except OSError as error:
                raise InputError(f"cannot delete {run.directory}: {error.strerror}") from error
            print(f"deleted {run.directory}")
        if not old:
            click.echo("nothing to delete")
    elif as_json:
        print_json(runs)
    elif runs:
        click.echo("\n".join([_HEAD, *map(_line, runs)]))
    else:
        new = mention("run", "smoke", output_dir=output_dir)
        click.echo(pasteable(f"no runs in {output_dir}; create one with {new}"))


class _StoredRun(msgspec.Struct, frozen=True, rename={"size": "bytes"}):
    """A run on disk.

    Attributes:
        verdict: verdict of its own thresholds; ``no report`` without a report.
        compared: verdict of its comparison with earlier runs; None without a comparison.
        p50_ms: median response time of the first traffic entry in its first stage; None for too few operations.
        throttled_rate: 429s ÷ requests, over all traffic, 0-1.
        size: total size of its files in bytes.
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


def _stored(directory: Path) -> _StoredRun | None:
    """Return the finished run in a directory. None if it has none, or if it vanishes meanwhile."""
    if directory.is_symlink() or not (directory / run_directory.FILE_NAME).is_file():
        return None
    try:
        info = run_directory.load(directory)
        if directory.name != info.id or run_directory.is_running(directory):
            return None  # a renamed copy is kept deliberately
        size = sum(state.st_size for path in directory.rglob("*") if (state := _state(path)) and S_ISREG(state.st_mode))
    except (LoadtestError, OSError):
        return None  # a run that another version wrote is neither listed nor deleted
    try:
        figures = read_figures(directory)
    except LoadtestError:  # no readable report
        figures = Figures()
    first = next((stage for each in figures.traffic.values() for stage in each.stages.values()), StageMetrics())
    return _StoredRun(
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


def _state(path: Path) -> os.stat_result | None:
    """Return a file's state without following links. None if the file has vanished."""
    try:
        return path.lstat()
    except OSError:
        return None


def _compared(directory: Path) -> str | None:
    try:
        return msgspec.json.decode((directory / results.FILE_NAME).read_bytes(), type=_Compared).word
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _line(run: _StoredRun) -> str:
    times = "  ".join(f"{'–' if time is None else _short(time):>8}" for time in (run.p50_ms, run.p95_ms))
    share = "–" if run.throttled_rate is None else percent(run.throttled_rate)
    words = f"{run.started[:19]:19}  {run.verdict:12}  {run.compared or '–':14}"
    return f"{words}  {times}  {share:>6}  {run.size / 1e6:8.1f}  {run.directory.name}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
