"""The jobs that a run left pending, by name."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from loadtest.record.run_directory import PENDING_NAME

FIRST: Final = 20
"""Jobs that are named."""
_LONGEST: Final = 200
"""Characters of an id that are kept: a target may choose what it likes."""


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A job that was accepted and never seen to end.

    Attributes:
        job_id: what the target calls it.
        key_index: of the key that may ask for it; None if that is not noted.
    """

    job_id: str
    key_index: int | None


def first_pending(directory: Path) -> tuple[PendingJob, ...]:
    """The first of the jobs that a run directory names as pending; none if it names none."""
    try:
        with (directory / PENDING_NAME).open(encoding="utf-8", errors="replace") as lines:
            return tuple(_read(line) for line in islice(lines, FIRST) if line.strip())
    except OSError:
        return ()


def _read(line: str) -> PendingJob:
    job_id, _, key = line.rstrip("\n").rpartition("\t")
    if not job_id:
        job_id, key = key, ""
    return PendingJob(job_id[:_LONGEST], int(key) if key.isdecimal() else None)
