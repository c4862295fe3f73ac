"""The jobs that were accepted and not yet seen to end: what a run leaves behind costs somebody something."""

from pathlib import Path
from typing import Final

from loadtest.runfile import PENDING_NAME
from loadtest.samples import Sample

_TERMINAL: Final = frozenset({"completed", "failed"})


class PendingJobs:
    """Knows which jobs are pending, from the samples of a run."""

    def __init__(self) -> None:
        self._jobs: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def accepted(self, job_id: str, key_index: int) -> None:
        """Know of a job that a submit was answered with."""
        self._jobs[job_id] = key_index

    def settled(self, job_id: str) -> None:
        """Forget a job that was seen to end."""
        self._jobs.pop(job_id, None)

    def see(self, sample: Sample) -> None:
        """Take one sample into account, if it is about a job."""
        job_id = sample.job_id
        if job_id is None or sample.row != "request":
            return
        if sample.job_state in _TERMINAL or (sample.status == 404 and sample.kind in {"poll", "retrieve"}):
            self.settled(job_id)
        elif sample.kind == "submit" and sample.outcome == "ok":
            self.accepted(job_id, sample.key_index or 0)

    def write(self, directory: Path) -> None:
        """List the jobs in ``pending_jobs.txt``: an id a line, a tab, and the index of its key.

        A scenario can name the file as ``job_ids``. An id that a line cannot carry is left out.
        """
        lines = [f"{job}\t{key}\n" for job, key in self._jobs.items() if job.isprintable() and job == job.strip()]
        (directory / PENDING_NAME).write_text("".join(lines), encoding="utf-8")
