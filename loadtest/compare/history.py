"""The history of a scenario: its checked runs, their verdicts, and the decisions on them.

A line of a history has a run with its measurements and verdict, or a decision on a run. Lines may have any order and
may be repeated, because Git's union merge reorders and repeats lines. A later line never changes a recorded verdict.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Final, Literal, NamedTuple

import msgspec

from loadtest.compare import amounts
from loadtest.compare.measurements import Key, Measurement, Metric, RunMeasurements, mismatch, significant
from loadtest.compare.results import ComparisonVerdict
from loadtest.errors import InputError
from loadtest.foreign_text import csv_text
from loadtest.words import counted, listed

SCHEMA_VERSION: Final = 1

RunStatus = Literal["accepted", "waiting", "rejected", "invalid"]
"""``accepted``: later checks use the run. ``waiting``: the run needs a decision. ``invalid``: no check ever uses it."""
RecordedVerdict = ComparisonVerdict | Literal["not judged"]
"""``not judged``: the user decided on a run that was never compared."""

NOT_CONFIRMED: Final = "not confirmed by"
"""If a check accepts a suspected run without the user, the decision's reason begins with this."""
IMPROVED_AGAIN: Final = "improved, and again in"
"""If a check starts a baseline period without the user, the decision's reason begins with this."""
_DIGITS: Final = 7
_GROWTH_RUNS: Final = 5
"""Growth compares the median of the latest runs with the median of the first runs, at most this many of each."""


class RunLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="run", omit_defaults=True):
    """A run as it was recorded. Recorded runs are never rewritten.

    Attributes:
        recorded: time when the line was made, in UTC, ISO 8601.
        verdict: verdict of the run's comparison with the runs accepted at that time.
        status: status before any decision.
        confirms: for a rerun, the id of the suspected run.
    """

    schema: int = 0
    recorded: str
    verdict: RecordedVerdict
    status: Literal["accepted", "waiting", "invalid"]
    sentence: str = ""
    confirms: str = ""
    run: RunMeasurements


class DecisionLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="decision", omit_defaults=True):
    """A decision on a run, by the user or by a check.

    Attributes:
        recorded: time of the decision in UTC, ISO 8601. If a run has several decisions, the last counts.
        run: the run's id.
        new_segment: whether the service changed with this run. Later runs are then not compared with runs before it.
    """

    schema: int = 0
    recorded: str
    run: str
    status: Literal["accepted", "rejected"]
    reason: str
    new_segment: bool = False


HistoryLine = RunLine | DecisionLine


class HistoryRun(NamedTuple):
    """A run of a history, with the last decision on it. ``new_segment``: whether it begins a baseline period."""

    line: RunLine
    status: RunStatus
    reason: str = ""
    new_segment: bool = False

    @property
    def measurements(self) -> RunMeasurements:
        return self.line.run

    @property
    def id(self) -> str:
        return self.line.run.run


class History(NamedTuple):
    """Runs by start time, oldest first. ``orphans`` are ids of runs that only decisions name."""

    runs: tuple[HistoryRun, ...] = ()
    orphans: tuple[str, ...] = ()

    def find(self, run: str) -> HistoryRun | None:
        return next((each for each in self.runs if each.id == run), None)

    def with_rerun(self, run: str) -> list[HistoryRun]:
        """A run and its reruns, because a decision applies to all of them. ``run`` is the id of any of them."""
        found = self.find(run)
        suspect = "" if found is None else found.line.confirms or found.id
        return [each for each in self.runs if suspect and suspect in {each.id, each.line.confirms}]

    def evidence(self, run: RunMeasurements) -> tuple[list[RunMeasurements], list[RunMeasurements]]:
        """The runs with which a run is compared, and further runs used only for their noise. Oldest first.

        The first list has the comparable accepted runs of the latest baseline period, the second those of the previous
        period. If no run is comparable, the first list has all accepted runs. The comparison then names the field that
        differs.
        """
        accepted = [each for each in self.runs if each.status == "accepted" and each.id != run.run]
        periods = segments([each for each in accepted if not mismatch(each.measurements, run)])
        *_, before, own = ([], [], *periods) if periods else ([], accepted)
        return [each.measurements for each in own], [each.measurements for each in before]

    def decided(self, runs: Iterable[RunMeasurements]) -> bool:
        """Whether the user has accepted or rejected one of these runs."""
        ids = {each.run for each in runs}
        own = (each.reason for each in self.runs if each.id in ids)
        return any(reason and not reason.startswith((NOT_CONFIRMED, IMPROVED_AGAIN)) for reason in own)


def fold(lines: Iterable[HistoryLine]) -> History:
    """Make a history from lines. Each run occurs once, with its first recorded verdict and its last decision."""
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
    # An invalid run never becomes evidence, even if the file was edited.
    if line.status == "invalid" or not line.run.valid:
        return HistoryRun(line, "invalid", decision.reason if decision else "")
    if decision is None:
        return HistoryRun(line, line.status)
    return HistoryRun(line, decision.status, decision.reason, decision.new_segment and decision.status == "accepted")


def _moment(line: HistoryLine) -> tuple[datetime, bytes]:
    # The line's content breaks ties, so that the order of lines does not matter.
    return moment(line.recorded), msgspec.json.encode(line, order="sorted")


def moment(text: str) -> datetime:
    """Parse an ISO 8601 text, UTC by default; raises ``ValueError``."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def segments(runs: Sequence[HistoryRun]) -> list[list[HistoryRun]]:
    """Split ordered runs at the starts of baseline periods."""
    starts = [place for place, each in enumerate(runs) if each.new_segment or not place]
    return [list(runs[start:end]) for start, end in pairwise([*starts, len(runs)])]


def growth(history: History) -> str:
    """Return a sentence about the growth of response times over all baseline periods.

    The growth includes small accepted changes since the first accepted run that is comparable with the latest. The
    sentence is empty if no earlier run is comparable, or no response time was measured.
    """
    accepted = [each for each in history.runs if each.status == "accepted"]
    alike = [each for each in accepted if not mismatch(each.measurements, accepted[-1].measurements)]
    count = min(_GROWTH_RUNS, len(alike) // 2)
    ratios: dict[str, float] = {}
    for key in alike[-1].measurements.by_key() if count else {}:
        ends = [_median(part, key) for part in (alike[:count], alike[-count:])]
        if key.metric == Metric.RESPONSE_TIME_P50 and all(ends):
            ratios[key.traffic] = max(ends[1] / ends[0], ratios.get(key.traffic, 0.0))
    if not ratios:
        return ""
    since, periods = alike[0].measurements.started[:10], counted(len(segments(alike)), "baseline period")
    return f"Response time p50 since the first comparable run ({since}, {periods}): {listed(ratios, amounts.percent)}."


def _median(runs: Sequence[HistoryRun], key: Key) -> float:
    values = [one.value for run in runs if (one := run.measurements.by_key().get(key)) is not None]
    return median(values) if values else 0.0


def run_line(
    run: RunMeasurements, verdict: RecordedVerdict, *, sentence: str = "", confirms: str = "", recorded: str = ""
) -> RunLine:
    """Return the line of a run. A regressed, inconclusive or incomparable run waits for a decision."""
    status: Literal["accepted", "waiting", "invalid"]
    status = "accepted" if verdict in {"pass", "learning", "not judged"} else "waiting"
    return RunLine(
        schema=SCHEMA_VERSION,
        recorded=recorded or now(),
        verdict=verdict,
        status="invalid" if verdict == "invalid" or not run.valid else status,
        sentence=sentence,
        confirms=confirms,
        run=run,
    )


def decision_line(
    run: str, status: Literal["accepted", "rejected"], reason: str, *, new_segment: bool = False
) -> DecisionLine:
    """Return the line of a decision made now."""
    return DecisionLine(
        schema=SCHEMA_VERSION, recorded=now(), run=run, status=status, reason=reason, new_segment=new_segment
    )


def now() -> str:
    """Return the current time in UTC, in the form of history lines."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def compact(run: RunMeasurements) -> RunMeasurements:
    """Round a run's figures for the history to seven significant digits. Verdicts use the rounded values."""
    replace = msgspec.structs.replace

    def kept(one: Measurement) -> Measurement:
        figures = {"value": one.value, "score": one.score} | ({} if one.se is None else {"se": one.se})
        return replace(one, **{name: significant(figure, _DIGITS) for name, figure in figures.items()})

    return replace(run, measurements=tuple(map(kept, run.measurements)))


def to_otava(history: History) -> str:
    """Return CSV for Apache Otava, with a row for each run and a column for each metric that a verdict may use.

    Invalid and rejected runs are left out. A metric that is missing in a run has no column, because Otava needs a
    number in every cell. Raises ``InputError`` if there is no run to export.
    """
    runs = [each.measurements for each in history.runs if each.status in {"accepted", "waiting"}]
    if not runs:
        raise InputError("the history has no accepted or waiting run to export")
    columns = [{one.key: one.value for one in run.measurements if one.gated} for run in runs]
    keys = [key for key in columns[-1] if all(key in column for column in columns)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", "run", "commit", "version", *(csv_text("/".join(key)) for key in keys)])
    for run, column in zip(runs, columns, strict=True):
        words = (run.started, run.run, run.commit, run.target_version)
        writer.writerow([*map(csv_text, words), *(column[key] for key in keys)])
    return text.getvalue()
