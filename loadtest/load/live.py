"""What is shown while a run goes on: counts and a rough p95. Final figures never come from here."""

from collections import Counter
from typing import Any, Final

from loadtest.histogram import LogHistogram
from loadtest.samples import Sample

_RECENT: Final = 5.0


class Live:
    """Counts samples as they are recorded. The p95 covers response times of about the last five to ten seconds."""

    def __init__(self) -> None:
        self.offered: Counter[str] = Counter()
        """Arrivals that became due, by traffic."""
        self.outcomes: Counter[str] = Counter()
        """Operations that ended, by outcome."""
        self.sent = 0
        self.accepted = 0
        self.throttled = 0
        self._older = LogHistogram()
        self._recent = LogHistogram()
        self._turned = 0.0

    def count(self, sample: Sample) -> None:
        """Take one sample into account."""
        if sample.row == "operation":
            self.outcomes[sample.outcome] += 1
            if sample.outcome in {"ok", "timed_out"} and sample.end is not None and sample.intended_start is not None:
                self._recent.add((sample.end - sample.intended_start) / 1e6)
        elif sample.start is not None:
            self.sent += 1
            self.throttled += sample.status == 429
            self.accepted += sample.status is not None and sample.status != 429

    def snapshot(self, elapsed: float) -> dict[str, Any]:
        """The figures now. ``elapsed`` is in s since the epoch; ``p95_ms`` is None without recent operations."""
        if elapsed - self._turned > _RECENT:
            self._older, self._recent, self._turned = self._recent, LogHistogram(), elapsed
        recent = LogHistogram()
        recent += self._older
        recent += self._recent
        offered = self.offered.total()
        return {
            "elapsed_s": round(elapsed, 1),
            "offered": offered,
            "in_flight": offered - self.outcomes.total(),
            "sent": self.sent,
            "accepted": self.accepted,
            "throttled": self.throttled,
            "failed": self.outcomes["failed"],
            "timed_out": self.outcomes["timed_out"],
            "p95_ms": recent.quantile(0.95),
        }
