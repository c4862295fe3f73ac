"""The file ``suspects.json``. With it, another machine can rerun a suspected regression.

The file has the suspected run with its options and suspected metrics, and the accepted runs of the comparison. The file
has no API keys or headers.
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


class Suspect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suspected metric, with its values in the accepted runs (``base``) and in the suspected run (``head``)."""

    key: Key
    base: float | None
    head: float | None


class Repeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user's options, to repeat the run. ``overrides`` are the values of ``--set``."""

    scenario: str
    overrides: tuple[str, ...]
    seed: int | None
    host: str | None
    target: str | None
    target_version: str
    history: str
    must_find: float | None = None


class Suspects(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suspected regression, with the data for its confirmation.

    Attributes:
        suspects: the only metrics that the rerun can confirm.
        line: the suspected run's line of the history.
        history: the accepted runs that the suspected run was compared with, oldest first.
        noise: accepted runs of the previous baseline period, used only for their noise.
    """

    schema: int
    title: str
    repeat: Repeat
    suspects: tuple[Suspect, ...]
    line: RunLine
    history: tuple[RunMeasurements, ...]
    noise: tuple[RunMeasurements, ...] = ()

    @property
    def keys(self) -> set[Key]:
        return {each.key for each in self.suspects}


def suspected(
    comparison: RunComparison,
    line: RunLine,
    history: Sequence[RunMeasurements],
    noise: Sequence[RunMeasurements],
    repeat: Repeat,
) -> Suspects | None:
    """Return the suspected metrics of a comparison; None if there are none."""
    found = tuple(Suspect(key=each.key, base=each.base, head=each.head) for each in comparison.metrics if each.suspect)
    if not found:
        return None
    return Suspects(
        schema=SCHEMA_VERSION,
        title=comparison.title,
        repeat=repeat,
        suspects=found,
        line=line,
        history=tuple(history),
        noise=tuple(noise),
    )


def save(suspects: Suspects, directory: Path) -> None:
    """Write the file into the suspected run's directory."""
    write_json(directory / FILE_NAME, suspects, indent=1)


def load(path: Path) -> Suspects:
    """Read the file, or the file in a directory. Unknown keys are errors. Raises ``InputError``."""
    path = path / FILE_NAME if path.is_dir() else path
    remedy = "Copy it unchanged from the suspected run's directory, and use the same version of loadtest as the check."
    return read_versioned(path, Suspects, SCHEMA_VERSION, remedy=remedy, error=InputError)
