"""``suspects.json``: what a check suspects, whole, so that a second job on another machine can confirm it.

It holds what the second job needs: how to make the run again, the suspected run, which of its metrics are suspected,
and the accepted runs that it was compared with. It holds no key and no header.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from loadtest.compare.history import RunLine
from loadtest.compare.measurements import Key, RunMeasurements
from loadtest.compare.results import RunComparison
from loadtest.errors import InputError
from loadtest.record.run_directory import read_versioned, write_json

FILE_NAME: Final = "suspects.json"
SCHEMA_VERSION: Final = 1
_WITH_SKETCHES: Final = 10
"""Accepted runs of which the sketches are kept, too: pictures show no more."""


class Suspect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suspected metric, with its value of the accepted runs and of the suspected one. Unit by the metric."""

    key: Key
    base: float | None
    head: float | None


class Repeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to make the run again.

    Attributes:
        scenario: its file or name, as it was given.
        overrides: as ``--set`` takes them.
        seed: as ``--seed``; None for the scenario's own.
        host: as ``--host``.
        target: as ``--target``.
        target_version: as ``--target-version``.
        history: as ``--history``.
    """

    scenario: str
    overrides: tuple[str, ...]
    seed: int | None
    host: str | None
    target: str | None
    target_version: str
    history: str


class Suspects(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suspicion, and all that its confirmation needs.

    Attributes:
        title: of the scenario.
        repeat: how to make the run again.
        suspects: what alone can confirm.
        line: the suspected run as its history holds it.
        history: the accepted runs that it was compared with, the oldest first.
    """

    schema: int
    title: str
    repeat: Repeat
    suspects: tuple[Suspect, ...]
    line: RunLine
    history: tuple[RunMeasurements, ...]

    @property
    def keys(self) -> set[Key]:
        return {each.key for each in self.suspects}


def suspected(
    comparison: RunComparison, line: RunLine, history: Sequence[RunMeasurements], repeat: Repeat
) -> Suspects | None:
    """What a comparison suspects; None if that is nothing."""
    found = tuple(Suspect(key=each.key, base=each.base, head=each.head) for each in comparison.metrics if each.suspect)
    if not found:
        return None
    plain, pictured = history[:-_WITH_SKETCHES], history[-_WITH_SKETCHES:]
    return Suspects(
        schema=SCHEMA_VERSION,
        title=comparison.title,
        repeat=repeat,
        suspects=found,
        line=line,
        history=(*(msgspec.structs.replace(run, sketches=()) for run in plain), *pictured),
    )


def save(suspects: Suspects, directory: Path) -> Path:
    """Write the file into the directory of the suspected run, and give its path."""
    path = directory / FILE_NAME
    write_json(path, suspects, indent=1)
    return path


def load(path: Path) -> Suspects:
    """Read the file strictly; of a directory, the one in it.

    Raises:
        InputError: if it cannot be read, is damaged, or is of another version.
    """
    path = path / FILE_NAME if path.is_dir() else path
    remedy = "Copy it as it is from the directory of the suspected run, and confirm with the loadtest that checked."
    return read_versioned(path, Suspects, SCHEMA_VERSION, remedy=remedy, error=InputError)
