"""The runs of this process, and their reports: each is made by a process of its own, one after the other."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gevent

from loadtest.load.session import Session
from loadtest.processes import make_report
from loadtest.record.run_directory import pending_note

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StartedRun:
    """A run that was started here.

    Attributes:
        rate_multiplier: by which all its rates were multiplied.
        state: how far it is.
        exit_code: the verdict's, once it is reported.
    """

    directory: Path
    title: str
    seed: int
    rate_multiplier: float
    state: Literal["running", "reporting", "reported"] = "running"
    exit_code: int | None = None

    @property
    def report(self) -> Path | None:
        """Its report; None while, or if, there is none."""
        path = self.directory / "report.html"
        return path if self.state == "reported" and path.is_file() else None


class Reports:
    """Has a report made of each run when it is over."""

    def __init__(self, *, plots: bool) -> None:
        self.runs: list[StartedRun] = []
        """Oldest first."""
        self._plots = plots
        self._last: gevent.Greenlet | None = None

    def begin(self, session: Session) -> None:
        """Know of a run that begins."""
        scenario = session.scenario
        self.runs.append(StartedRun(session.directory, scenario.title, scenario.seed, scenario.rate_multiplier))

    def end(self) -> None:
        """Have the report of the newest run made, after those that are being made."""
        run = self.runs[-1]
        run.state = "reporting"
        self._last = gevent.spawn(self._make, run, self._last)

    def finish(self) -> int | None:
        """Wait for all reports. Returns the exit code of the newest run's verdict; None without a run."""
        if self._last is not None:
            self._last.join()
        return self.runs[-1].exit_code if self.runs else None

    def _make(self, run: StartedRun, before: gevent.Greenlet | None) -> None:
        if before is not None:
            before.join()
        run.exit_code = make_report(run.directory, plots=self._plots)
        if note := pending_note(run.directory):
            print(note, flush=True)
        run.state = "reported"
        logger.info("The report is %s", run.directory / "report.html")
