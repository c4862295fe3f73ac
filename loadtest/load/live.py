"""Counts the samples of a run as they are recorded, for those who watch it; no final figure is made of these."""

from collections import Counter
from typing import Final

from loadtest.contract import THROTTLED_STATUS, TIMED, Outcome
from loadtest.record.progress import EntryProgress
from loadtest.record.samples import Sample
from loadtest.stats import LogHistogram

_RECENT: Final = 5.0


class EntryFigures:
    """What was seen of one traffic entry."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        """Operations that ended, by outcome."""
        self.sent = 0
        """Requests."""
        self.accepted = 0
        self.throttled = 0
        """Requests that got 429."""
        self._older = LogHistogram()
        self._recent = LogHistogram()
        self._turned = 0.0

    def count(self, sample: Sample) -> None:
        """Take one sample into account."""
        if sample.row == "operation":
            self.outcomes[sample.outcome] += 1
            if sample.outcome in TIMED and sample.end is not None and sample.intended_start is not None:
                self._recent.add((sample.end - sample.intended_start) / 1e6)
        elif sample.start is not None:
            self.sent += 1
            self.throttled += sample.status == THROTTLED_STATUS
            self.accepted += sample.status is not None and sample.status != THROTTLED_STATUS

    def progress(self, stage: str, offered: int, elapsed: float) -> EntryProgress:
        """The figures as they are shown.

        Args:
            stage: that the entry is in; empty between two.
            offered: arrivals that became due.
            elapsed: seconds since the epoch.
        """
        if elapsed - self._turned > _RECENT:
            self._older, self._recent, self._turned = self._recent, LogHistogram(), elapsed
        recent = LogHistogram()
        recent += self._older
        recent += self._recent
        return EntryProgress(
            stage=stage,
            offered=offered,
            in_flight=offered - self.outcomes.total(),
            ok=self.outcomes[Outcome.OK],
            throttled=self.outcomes[Outcome.THROTTLED],
            failed=self.outcomes[Outcome.FAILED],
            timed_out=self.outcomes[Outcome.TIMED_OUT],
            p95_ms=recent.quantile(0.95),
        )


class LiveFigures:
    """Counts the samples of a run, by traffic entry."""

    def __init__(self) -> None:
        self.offered: Counter[str] = Counter()
        """Arrivals that became due, by traffic."""
        self.entries: dict[str, EntryFigures] = {}
        """By traffic; only those that have samples."""

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return sum(entry.sent for entry in self.entries.values())

    @property
    def answered(self) -> int:
        """Requests that were answered, 429s included."""
        return sum(entry.accepted + entry.throttled for entry in self.entries.values())

    def entry(self, traffic: str) -> EntryFigures:
        """The figures of a traffic entry."""
        if (figures := self.entries.get(traffic)) is None:
            figures = self.entries[traffic] = EntryFigures()
        return figures

    def count(self, sample: Sample) -> None:
        """Take one sample into account."""
        self.entry(sample.traffic).count(sample)
