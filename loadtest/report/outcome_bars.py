"""What became of the operations of each traffic entry and stage, as one small bar each: ok, 429, timed out, failed."""

from dataclasses import dataclass
from typing import Final

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.contract import Outcome

MOST: Final = 12
"""Bars that are drawn: those with the greatest share that was not ok; the table below has all."""
_PARTS: Final = {
    Outcome.OK: Outcome.OK,
    Outcome.THROTTLED: "429",
    Outcome.TIMED_OUT: "timed out",
    Outcome.FAILED: Outcome.FAILED,
}


@dataclass(frozen=True)
class Part:
    """One outcome of a bar.

    Attributes:
        outcome: which, as a name for its colour.
        label: in words.
        percent: of the operations that were sent.
        share: the same as text.
    """

    outcome: str
    label: str
    percent: float
    share: str


@dataclass(frozen=True)
class OutcomeBar:
    """The operations of a traffic entry that were sent in a stage, by outcome; only what there is any of."""

    traffic: str
    stage: str
    sent: str
    parts: tuple[Part, ...]

    @property
    def words(self) -> str:
        """``ok 51.0 %, 429 49.0 % of 2 400``."""
        return f"{', '.join(f'{part.label} {part.share}' for part in self.parts)} of {self.sent}"


def outcome_bars(findings: Findings) -> tuple[OutcomeBar, ...]:
    """The bars, in the order of the scenario; none of what sent nothing."""
    found = [
        (name, stage, part.operations)
        for name, figures in findings.metrics.traffic.items()
        for stage, part in figures.stages.items()
        if part.operations.sent
    ]
    worst = sorted(range(len(found)), key=lambda place: found[place][2].ok / found[place][2].sent)[:MOST]
    return tuple(
        OutcomeBar(
            name,
            stage,
            words.count(counts.sent),
            tuple(
                Part(outcome, label, min(100.0, number / counts.sent * 100), words.share(number / counts.sent))
                for outcome, label in _PARTS.items()
                if (number := getattr(counts, outcome))
            ),
        )
        for name, stage, counts in (found[place] for place in sorted(worst))
    )
