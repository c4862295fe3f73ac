"""Circuit breakers: what is seen of a run that should not go on. Pure: given samples and times in, reasons out."""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from loadtest.load.live_thresholds import LiveThreshold
from loadtest.load.pending import PendingJobs
from loadtest.runfile import TrafficPlan
from loadtest.samples import Sample
from loadtest.scenario import Scenario
from loadtest.scenario.model import Breakers as Settings

AUTH_IN_A_ROW: Final = 3
RECENT: Final = 20
"""Answers that the share of 5xx is taken of."""

Expected = Mapping[str, Mapping[str, frozenset[int]]]
"""Statuses that are expected, by traffic and stage."""


class Breakers:
    """Watches the samples of a run.

    Args:
        settings: which breakers are on.
        pending: the jobs that are pending.
        expected: statuses that are no failure.
        directory: the run directory, from which a relative stop file starts.
        thresholds: those that abort.
    """

    def __init__(
        self,
        settings: Settings,
        pending: PendingJobs,
        expected: Expected,
        directory: Path,
        thresholds: list[LiveThreshold],
    ) -> None:
        self._settings = settings
        self._pending = pending
        self._expected = expected
        self._stop_file = directory / settings.stop_file
        self._thresholds = thresholds
        self._refused = 0
        self._recent: deque[bool] = deque(maxlen=RECENT)

    def see(self, sample: Sample) -> str | None:
        """Take one sample into account; gives a reason to end the run, if it is one."""
        for threshold in self._thresholds:
            threshold.see(sample)
        if sample.row != "request":
            return None
        self._pending.see(sample)
        if len(self._pending) > self._settings.pending_jobs:
            return f"more than {self._settings.pending_jobs:,} jobs were pending at once (breakers.pending_jobs)"
        if sample.status is None:
            # No answer: a server that is gone is for validity and thresholds to judge.
            return None
        expected = sample.outcome == "ok" or sample.status in self._expected.get(sample.traffic, {}).get(
            sample.stage, ()
        )
        return self._auth(sample.status, expected=expected) or self._server_errors(sample.status, expected=expected)

    def look(self, elapsed: float) -> str | None:
        """Look at what no sample tells, about once a second; gives a reason to end the run, if there is one.

        Args:
            elapsed: seconds since the epoch.
        """
        if self._stop_file.exists():
            return f"the stop file {self._stop_file} is there"
        for threshold in self._thresholds:
            if (value := threshold.broken(elapsed)) is not None:
                return f"a threshold that aborts did not hold: {threshold.words}, but it was {value}"
        return None

    def _auth(self, status: int, *, expected: bool) -> str | None:
        if status not in {401, 403}:
            self._refused = 0
        elif not expected:
            self._refused += 1
            if self._settings.auth and self._refused >= AUTH_IN_A_ROW:
                return f"{self._refused} answers in a row refused the key (last: {status}); check WORKFLOW_API_KEYS"
        return None

    def _server_errors(self, status: int, *, expected: bool) -> str | None:
        share = self._settings.server_errors
        self._recent.append(status >= 500 and not expected)
        errors = sum(self._recent)
        if share is None or len(self._recent) < RECENT or errors <= share * RECENT + 1e-9:
            return None
        return (
            f"{errors} of the last {RECENT} answers were 5xx (the last with {status}), more than the {share * 100:g} % "
            "of breakers.server_errors"
        )


def make_breakers(
    scenario: Scenario, plans: Mapping[str, TrafficPlan], pending: PendingJobs, expected: Expected, directory: Path
) -> Breakers:
    """The breakers of a run, as its scenario sets them."""
    thresholds = [LiveThreshold(each.parse(), plans) for each in scenario.threshold if each.abort]
    return Breakers(scenario.breakers, pending, expected, directory, thresholds)
