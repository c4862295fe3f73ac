"""Run directories, with their ``run.json`` and files that are replaced atomically."""

import contextlib
import fcntl
import os
import secrets
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from loadtest.contract import LIMIT_NAMES
from loadtest.errors import InputError, LoadtestError, RecordError
from loadtest.program import mention
from loadtest.record.run_info import SCHEMA_VERSION, RunInfo

_T = TypeVar("_T")
FILE_NAME: Final = "run.json"
LATEST: Final = "latest"
PENDING_NAME: Final = "pending_jobs.txt"
"""File of jobs that a run left pending. Each line has an id, a tab, and the index of the job's key."""
_held: list[int] = []
"""Descriptor of this process's newest run directory. Its lock shows that this process is alive."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` after the ``with`` statement. An exception discards it."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, so that a reader sees either the old or the new content."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: object, indent: int = 2) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=indent) + b"\n")


def new_run_directory(parent: Path, scenario_name: str) -> Path:
    """Create ``<parent>/<UTC time>-<scenario>-<6 hex>/``, or raise ``InputError``.

    The directory is locked until this process creates another run directory or ends.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    directory = parent / f"{stamp}-{scenario_name}-{secrets.token_hex(3)}"
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"cannot create a run directory in {parent}: {error.strerror}", "Use another --output-dir."
        ) from error
    while _held:
        os.close(_held.pop())
    with contextlib.suppress(OSError):  # some file systems have no locks
        _held.append(_locked(directory, fcntl.LOCK_EX))
    return directory


def point_latest(directory: Path) -> None:
    """Point the symlink ``latest`` at a run directory beside it. Keep a ``latest`` that is not a symlink."""
    link = directory.parent / LATEST
    if link.is_symlink() or not link.exists():
        temporary = directory.parent / f".{LATEST}-{secrets.token_hex(3)}"
        temporary.symlink_to(directory.name)
        temporary.replace(link)


def find_run(run: str, reports: Path = Path("reports")) -> Path:
    """Find a run's directory by path, by id below ``reports``, or by ``latest``. Raise ``InputError`` if there is none.

    While the newest run is still running, ``latest`` is the newest run that is not. A note on stderr says so.
    """
    for candidate in (Path(run), reports / run):
        # Looking for a file raises if the name is too long or a folder is unreadable.
        with contextlib.suppress(OSError):
            if (candidate / FILE_NAME).is_file():
                return _last_ended(candidate.resolve()) if candidate.name == LATEST else candidate.resolve()
    raise InputError(
        f"{run!r} is not a run: neither {run}/{FILE_NAME} nor {reports / run / FILE_NAME} exists",
        f"Give a run directory, a run's id, or 'latest'. {mention('run', 'quick')} makes a run.",
    )


def _last_ended(newest: Path) -> Path:
    if not is_running(newest):
        return newest
    # Names of directories begin with the time of their creation.
    for earlier in sorted((path.parent for path in newest.parent.glob(f"*/{FILE_NAME}")), reverse=True):
        if earlier.name < newest.name and not earlier.is_symlink() and not is_running(earlier):
            print(f"{newest.name} has not ended: latest is {earlier.name}", file=sys.stderr)
            return earlier
    raise InputError(f"no run in {newest.parent} has ended", f"Wait for the end of {newest.name}.")


def is_running(directory: Path) -> bool:
    """Whether a run has not ended, and its process seems alive. False if ``run.json`` cannot be read."""
    try:
        if load(directory).end == "running":
            os.close(_locked(directory, fcntl.LOCK_SH))
    except OSError:  # it is locked, or the file system has no locks
        return True
    except RecordError:
        pass
    return False


def _locked(directory: Path, how: int) -> int:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_versioned(
    path: Path, kind: type[_T], version: int, *, remedy: str = "", error: type[LoadtestError] = RecordError
) -> _T:
    """Read a JSON file that states its version in ``schema``.

    Raise the ``error`` with the ``remedy`` if the file is missing, damaged, or of another version.
    """
    try:
        data = path.read_bytes()
        found = msgspec.json.decode(data, type=_Versioned).schema
        if found != version:
            raise error(f"{path} has schema version {found}; this loadtest reads version {version}", remedy)
        return msgspec.json.decode(data, type=kind)
    except OSError as wrong:
        raise error(f"cannot read {path}: {wrong.strerror}", remedy) from wrong
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as wrong:
        raise error(f"{path} is damaged: {wrong}", remedy) from wrong


def refuse_imported(directory: Path) -> None:
    """Raise ``InputError`` if a run was imported from a log. Such a run has neither thresholds nor a verdict."""
    if load(directory).imported:
        raise InputError(
            f"{directory.name} is imported from a log, so it cannot be a baseline or join a history",
            "Give a run that `loadtest run` made.",
        )


def save(info: RunInfo, directory: Path) -> None:
    """Write ``run.json``, atomically."""
    write_json(directory / FILE_NAME, info)


def overwrite(info: RunInfo, directory: Path) -> None:
    """Overwrite ``run.json`` in place, without indentation. The text is then shorter and fits on a full disk."""
    with (directory / FILE_NAME).open("r+b") as file:
        file.write(msgspec.json.encode(info))
        file.truncate()


def load(directory: Path) -> RunInfo:
    """Read ``run.json``. Raise ``RecordError`` if it is missing, damaged, or of another schema version."""
    path = directory / FILE_NAME
    info = read_versioned(path, RunInfo, SCHEMA_VERSION)
    # msgspec checks only types, so it does not find these errors.
    for name in info.target.limits:
        if name not in LIMIT_NAMES:
            raise RecordError(f"{path} is damaged: {name!r} is not a limit - at `$.target.limits`")
    for name, plan in info.traffic.items():
        for stage, count in Counter(stage.name for stage in plan.stages).items():
            if count > 1:
                where = f"`$.traffic.{name}.stages`"
                raise RecordError(f"{path} is damaged: two stages have the name {stage!r} - at {where}")
    return info


def pending_note(directory: Path) -> str:
    """Return a sentence about jobs that a run left pending, and their possible cost. Without such jobs, return ""."""
    info = load(directory)
    if not info.pending_jobs:
        return ""
    budget = info.target.budget
    cost = "" if info.target.embedded else ": their cost is unknown (no price_per_execution)"
    if budget is not None and (price := budget.price_per_execution) is not None:
        cost = f": they may still cost {info.pending_jobs * price:g} ({price:g} each)"
    jobs = "1 job was" if info.pending_jobs == 1 else f"{info.pending_jobs:,} jobs were"
    return f"{jobs} left pending, listed in {directory / PENDING_NAME}{cost}."


def note_target_died(directory: Path) -> None:
    """Record in ``run.json`` that the embedded target ended during the run. Raise the same errors as ``load``."""
    info = load(directory)
    info.target_died = True
    save(info, directory)


class _Versioned(msgspec.Struct):
    schema: int
