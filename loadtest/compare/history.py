"""The history of a scenario: its checked runs, their verdicts and decisions, and the formats of other tools. Pure.

A history is a set of lines, and nothing else is kept: a run with its measurements and its verdict, or a decision about
a run. The lines may come in any order and more than once (Git's union merge does both); the same set of them always
gives the same history. A verdict that was stored stays, whatever is added later.
"""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

import msgspec

from loadtest.compare.measurements import NATURES, Key, Measurement, RunMeasurements, Sketch, mismatch, significant
from loadtest.compare.results import ComparisonVerdict
from loadtest.errors import InputError

SCHEMA_VERSION: Final = 1

RunStatus = Literal["accepted", "waiting", "rejected", "invalid"]
"""``accepted``: evidence for later checks. ``waiting``: somebody has to accept or reject it. ``invalid``: never."""
RecordedVerdict = ComparisonVerdict | Literal["not judged"]
"""``not judged``: a run that was accepted by hand and never compared."""

_DIGITS: Final = 7
_SKETCH_DIGITS: Final = 3
_Z95: Final = 1.959964
"""Of the standard normal distribution, two-sided 95 %."""


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
        return self.line.run

    @property
    def id(self) -> str:
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
        return HistoryRun(line, "invalid", decision.reason if decision else "")
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
    starts = [place for place, each in enumerate(runs) if each.new_segment or not place]
    return [list(runs[start:end]) for start, end in pairwise([*starts, len(runs)])]


def run_line(
    run: RunMeasurements, verdict: RecordedVerdict, *, sentence: str = "", confirms: str = "", recorded: str = ""
) -> RunLine:
    """The line of a run that was compared now.

    By itself it is evidence if it passed or the history still learns; else somebody has to decide.
    """
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
    """The line of a decision that is made now."""
    return DecisionLine(
        schema=SCHEMA_VERSION, recorded=now(), run=run, status=status, reason=reason, new_segment=new_segment
    )


def now() -> str:
    """Now, in UTC, as lines say it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def compact(run: RunMeasurements) -> RunMeasurements:
    """A run as a history keeps it: seven significant digits, three in sketches. What is judged is what is kept."""
    replace = msgspec.structs.replace

    def kept(one: Measurement) -> Measurement:
        figures = {"value": one.value, "score": one.score} | ({} if one.se is None else {"se": one.se})
        return replace(one, **{name: significant(figure, _DIGITS) for name, figure in figures.items()})

    def drawn(one: Sketch) -> Sketch:
        return replace(one, quantiles_ms=tuple(significant(value, _SKETCH_DIGITS) for value in one.quantiles_ms))

    measurements, sketches = tuple(map(kept, run.measurements)), tuple(map(drawn, run.sketches))
    return replace(run, measurements=measurements, sketches=sketches)


def _exported(history: History) -> list[RunMeasurements]:
    """The runs that other tools get, the oldest first: all but the invalid and the rejected ones.

    Raises:
        InputError: if there is none.
    """
    runs = [each.measurements for each in history.runs if each.status in {"accepted", "waiting"}]
    if not runs:
        raise InputError("the history holds no valid run, so there is nothing to export")
    return runs


def _to_otava(history: History) -> str:
    """CSV for Apache Otava: a row for each run, a column for each gated metric that all of them have.

    Otava wants a number in every cell, so that a metric which some run lacks has no column.
    """
    runs = _exported(history)
    columns = [_gated(run) for run in runs]
    keys = [key for key in columns[-1] if all(key in column for column in columns)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", "run", "commit", "version", *map("/".join, keys)])
    for run, column in zip(runs, columns, strict=True):
        values = [column[key].value for key in keys]
        writer.writerow([run.started, run.run, run.commit, run.target_version, *values])
    return text.getvalue()


def _to_bmf(history: History) -> str:
    """Bencher Metric Format (JSON) of the last run: a traffic entry's stage is a benchmark, each metric a measure."""
    benchmarks: defaultdict[str, dict[str, Mapping[str, float]]] = defaultdict(dict)
    for key, one in _gated(_exported(history)[-1]).items():
        benchmarks[f"{key.traffic}/{key.stage}"][key.metric] = _bounds(one)
    return _json(benchmarks)


def _to_benchmark_action(history: History) -> str:
    """``customSmallerIsBetter`` (JSON) for github-action-benchmark: the last run's metrics of which less is better."""
    run = _exported(history)[-1]
    about = "\n".join(text for text in (run.run, run.commit, run.target_version) if text)
    found = []
    for one in _gated(run).values():
        bounds, nature = _bounds(one), NATURES[one.metric]
        plus = {"range": f"± {bounds['upper_value'] - one.value:.3g}"} if "upper_value" in bounds else {}
        if nature.worse > 0:
            found.append({"name": "/".join(one.key), "unit": nature.unit, "value": one.value, **plus, "extra": about})
    return _json(found)


def _gated(run: RunMeasurements) -> dict[Key, Measurement]:
    return {one.key: one for one in run.measurements if one.gated}


def _bounds(one: Measurement) -> dict[str, float]:
    """A value with its 95 % interval within the run, where a time or a rate has one."""
    if one.se is None or NATURES[one.metric].scale != "log":
        return {"value": one.value}
    factor = math.exp(_Z95 * one.se)
    return {"value": one.value, "lower_value": one.value / factor, "upper_value": one.value * factor}


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


FORMATS: Final[Mapping[str, Callable[[History], str]]] = {
    "otava": _to_otava,
    "bmf": _to_bmf,
    "benchmark-action": _to_benchmark_action,
}
"""By the name that ``--to`` takes."""
