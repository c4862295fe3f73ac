"""The history of a scenario: which runs were checked, what was found, and what somebody decided about them. Pure.

A history is a set of lines, and nothing else is kept: a run with its measurements and its verdict, or a decision about
a run. The lines may come in any order and more than once (Git's union merge does both); the same set of them always
gives the same history. A verdict that was stored stays, whatever is added later.
"""

import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import msgspec

from loadtest.compare.measurements import RunMeasurements, mismatch
from loadtest.compare.results import ComparisonVerdict

SCHEMA_VERSION: Final = 1

RunStatus = Literal["accepted", "waiting", "rejected", "invalid"]
"""``accepted``: evidence for later checks. ``waiting``: somebody has to accept or reject it. ``invalid``: never."""
RecordedVerdict = ComparisonVerdict | Literal["not judged"]
"""``not judged``: a run that was accepted by hand and never compared."""

_DIGITS: Final = 7
_SKETCH_DIGITS: Final = 3


class RunLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="run", omit_defaults=True):
    """A run, as it was recorded. It is never written again.

    Attributes:
        recorded: UTC, ISO 8601.
        verdict: of its comparison with the runs that were accepted by then.
        status: until somebody decides.
        sentence: of the comparison.
        confirms: id of the suspected run that this one is the rerun of; empty if it is none.
        run: what the comparison knows of it.
    """

    schema: int = 0
    recorded: str
    verdict: RecordedVerdict
    status: Literal["accepted", "waiting", "invalid"]
    sentence: str = ""
    confirms: str = ""
    run: RunMeasurements


class DecisionLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="decision", omit_defaults=True):
    """What somebody decided about a run.

    Attributes:
        recorded: UTC, ISO 8601. Of several decisions the last one holds.
        run: its id.
        status: what it is from now on.
        reason: in words.
        new_segment: whether the service changed here: later runs are compared with this one and those after it.
    """

    schema: int = 0
    recorded: str
    run: str
    status: Literal["accepted", "rejected"]
    reason: str
    new_segment: bool = False


HistoryLine = RunLine | DecisionLine


class HistoryRun(NamedTuple):
    """A run of a history with the decision that holds.

    Attributes:
        status: now.
        reason: of the last decision; empty without one.
        new_segment: whether a segment starts here.
    """

    line: RunLine
    status: RunStatus
    reason: str = ""
    new_segment: bool = False

    @property
    def measurements(self) -> RunMeasurements:
        """What a comparison knows of it."""
        return self.line.run

    @property
    def id(self) -> str:
        """The run's id."""
        return self.line.run.run


class History(NamedTuple):
    """A history, put in order.

    Attributes:
        runs: by their start, the oldest first.
        orphans: runs that were decided about and are not there.
    """

    runs: tuple[HistoryRun, ...] = ()
    orphans: tuple[str, ...] = ()

    def find(self, run: str) -> HistoryRun | None:
        """The run of an id."""
        return next((each for each in self.runs if each.id == run), None)

    def with_rerun(self, run: str) -> list[HistoryRun]:
        """A run and those that are decided about with it: the reruns of a suspected run, and that run."""
        found = self.find(run)
        suspect = "" if found is None else found.line.confirms or found.id
        return [each for each in self.runs if suspect and suspect in {each.id, each.line.confirms}]

    def evidence(self, run: RunMeasurements) -> list[RunMeasurements]:
        """What a run is compared with, the oldest first: the accepted runs of the segment that it belongs to.

        They are those that can be compared with it, from the last one at which a segment starts. Where none can be, all
        accepted runs, so that the comparison names the field in which they differ.
        """
        accepted = [each for each in self.runs if each.status == "accepted" and each.id != run.run]
        comparable = [each for each in accepted if not mismatch(each.measurements, run)]
        chosen = segments(comparable)[-1] if comparable else accepted
        return [each.measurements for each in chosen]


def fold(lines: Iterable[HistoryLine]) -> History:
    """Put lines in order: each run once, with its first recorded verdict and the last decision about it."""
    runs: dict[str, RunLine] = {}
    decisions: dict[str, DecisionLine] = {}
    for line in lines:
        if isinstance(line, RunLine):
            runs[line.run.run] = min(runs.get(line.run.run, line), line, key=_moment)
        else:
            decisions[line.run] = max(decisions.get(line.run, line), line, key=_moment)
    ordered = sorted(runs.values(), key=lambda line: (moment(line.run.started), line.run.run))
    return History(
        tuple(_decided(line, decisions.get(line.run.run)) for line in ordered),
        tuple(sorted(decisions.keys() - runs.keys())),
    )


def _decided(line: RunLine, decision: DecisionLine | None) -> HistoryRun:
    # Nobody can make evidence of an invalid run, not even with an editor.
    if line.status == "invalid" or not line.run.valid:
        return HistoryRun(line, "invalid", "" if decision is None else decision.reason)
    if decision is None:
        return HistoryRun(line, line.status)
    return HistoryRun(line, decision.status, decision.reason, decision.new_segment and decision.status == "accepted")


def _moment(line: HistoryLine) -> tuple[datetime, bytes]:
    # What the line holds settles a tie, so that the order of lines never does.
    return moment(line.recorded), msgspec.json.encode(line, order="sorted")


def moment(text: str) -> datetime:
    """The moment that a text in ISO 8601 names; in UTC where it does not say.

    Raises:
        ValueError: if it names none.
    """
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def segments(runs: Sequence[HistoryRun]) -> list[list[HistoryRun]]:
    """Cut runs, in order, where a segment starts."""
    numbers = itertools.accumulate(int(each.new_segment) for each in runs)
    numbered = zip(numbers, runs, strict=True)
    return [[each for _, each in group] for _, group in itertools.groupby(numbered, key=lambda pair: pair[0])]


def status_for(verdict: RecordedVerdict, *, valid: bool) -> Literal["accepted", "waiting", "invalid"]:
    """What a run is by itself: evidence if it passed or the history still learns; else somebody has to decide."""
    if not valid or verdict == "invalid":
        return "invalid"
    return "accepted" if verdict in {"pass", "learning", "not judged"} else "waiting"


def run_line(
    run: RunMeasurements, verdict: RecordedVerdict, *, sentence: str = "", confirms: str = "", recorded: str = ""
) -> RunLine:
    """The line of a run that was compared now."""
    return RunLine(
        schema=SCHEMA_VERSION,
        recorded=recorded or now(),
        verdict=verdict,
        status=status_for(verdict, valid=run.valid),
        sentence=sentence,
        confirms=confirms,
        run=run,
    )


def decision_line(
    run: str, status: Literal["accepted", "rejected"], reason: str, *, new_segment: bool = False
) -> DecisionLine:
    """The line of a decision that is made now."""
    return DecisionLine(
        schema=SCHEMA_VERSION, recorded=now(), run=run, status=status, reason=reason, new_segment=new_segment
    )


def now() -> str:
    """Now, in UTC, as lines say it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def compact(run: RunMeasurements) -> RunMeasurements:
    """A run as a history keeps it: seven significant digits, three in sketches. What is judged is what is kept."""
    return msgspec.structs.replace(
        run,
        measurements=tuple(
            msgspec.structs.replace(
                each,
                value=_rounded(each.value, _DIGITS),
                score=_rounded(each.score, _DIGITS),
                se=None if each.se is None else _rounded(each.se, _DIGITS),
            )
            for each in run.measurements
        ),
        sketches=tuple(
            msgspec.structs.replace(
                each, quantiles_ms=tuple(_rounded(value, _SKETCH_DIGITS) for value in each.quantiles_ms)
            )
            for each in run.sketches
        ),
    )


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
