"""Runs on disk: their verdicts and figures, and the deletion of old runs."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from stat import S_ISREG

import msgspec

from loadtest.compare import results
from loadtest.errors import InputError, LoadtestError
from loadtest.record import run_directory
from loadtest.record.figures import Figures, StageMetrics, read_figures


class StoredRun(msgspec.Struct, frozen=True, rename={"size": "bytes"}):
    """A run on disk.

    Attributes:
        verdict: the run's own verdict; ``no report`` without a report.
        compared: verdict of its comparison with earlier runs; None without a comparison.
        p50_ms: median response time of the first traffic entry in its first stage; None if it is not known.
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


def stored_runs(folder: Path) -> list[StoredRun]:
    """Return the finished runs in a folder, newest first. Copies under other names are left out."""
    found = [_stored(directory) for directory in (folder.iterdir() if folder.is_dir() else ())]
    runs = [run for run in found if run is not None]
    return sorted(runs, key=lambda run: (run.started, run.directory.name), reverse=True)


def delete(runs: Sequence[StoredRun]) -> None:
    """Delete runs, and print their directories. Raises ``InputError`` if a run cannot be deleted."""
    for run in runs:
        try:
            shutil.rmtree(run.directory)
        except OSError as error:
            raise InputError(f"cannot delete {run.directory}: {error.strerror}") from error
        print(f"deleted {run.directory}")


def _stored(directory: Path) -> StoredRun | None:
    """Return the finished run in a directory. None for links, renamed copies, and running or unreadable runs."""
    if directory.is_symlink() or not (directory / run_directory.FILE_NAME).is_file():
        return None
    try:
        info = run_directory.load(directory)
        if directory.name != info.id or run_directory.is_running(directory):
            return None  # a renamed copy is kept deliberately
        size = sum(state.st_size for path in directory.rglob("*") if (state := _state(path)) and S_ISREG(state.st_mode))
    except (LoadtestError, OSError):
        return None  # an unreadable run, such as another version's, is neither listed nor deleted
    try:
        figures = read_figures(directory)
    except LoadtestError:  # no readable report
        figures = Figures()
    first = next((stage for each in figures.traffic.values() for stage in each.stages.values()), StageMetrics())
    return StoredRun(
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
