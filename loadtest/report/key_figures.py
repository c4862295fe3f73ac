"""Key figures of the first screen: each for one traffic entry in one stage, with its uncertainty.

Each interval states its kind: 95 % of the phases of the server's windows, or blocks of time.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.intervals import GOODPUT, THROTTLED_RATE, MetricInterval, find_interval
from loadtest.analysis.rejections.expected_429 import depends_on_phase
from loadtest.analysis.results import OperationStage, bounded
from loadtest.contract import Outcome
from loadtest.metrics import UNITS
from loadtest.record.effective_scenario import polling
from loadtest.report.headline import MainEntry, main_entry
from loadtest.report.limits import window_phase
from loadtest.report.page import KeyFigure, OutcomeBar, OutcomeShare

_MOST_BARS: Final = 12
"""Maximum number of bars: those with the greatest share not ok. The table below has all."""
_PARTS: Final = {
    Outcome.OK: Outcome.OK,
    Outcome.THROTTLED: "429",
    Outcome.TIMED_OUT: "timed out",
    Outcome.FAILED: Outcome.FAILED,
}


class _Part(NamedTuple):
    """One traffic entry in one stage."""

    traffic: str
    stage: str
    figures: OperationStage

    @property
    def label(self) -> str:
        return f"{self.traffic} in “{self.stage}”"


def key_figures(findings: Findings) -> tuple[KeyFigure, ...]:
    """Return the main response time, the 429 rate and goodput of the most rejected entry, and the share not ok."""
    entry = main_entry(findings)
    part = _most_throttled(findings, entry)
    return _response(findings, entry), _throttled(findings, part), _goodput(findings, part), _not_ok(findings)


def _parts(findings: Findings) -> Iterator[_Part]:
    for traffic, figures in findings.metrics.traffic.items():
        for stage, part in figures.stages.items():
            if part.requests.sent:
                yield _Part(traffic, stage, part)


def _most_throttled(findings: Findings, entry: MainEntry | None) -> _Part | None:
    """Return the stage with the most 429s of the main entry, else of any; without 429s the main stage."""
    parts = list(_parts(findings))
    own = [part for part in parts if entry is not None and part.traffic == entry.traffic]
    for some in (own, parts):
        if any(part.figures.requests.throttled for part in some):
            return max(some, key=lambda part: part.figures.requests.throttled_rate or 0.0)
    main = [part for part in own if entry is not None and entry.stage and part.stage == entry.stage.name]
    return next(iter(main or own or parts), None)


def _response(findings: Findings, entry: MainEntry | None) -> KeyFigure:
    if entry is None or entry.stage is None or not entry.times.n:
        return KeyFigure("p95 response time", words.NOTHING, why="no data, because no operation was ok or timed out")
    stage = entry.stage.name
    where = f"{entry.traffic} within the limits" if entry.within and entry.only else f"{entry.traffic} in “{stage}”"
    polled = polling(findings.record.info, entry.traffic)
    n = f"n = {words.count(entry.times.n)} {entry.words}{f', {polled}' if polled else ''}"
    found = entry.percentile
    if found is None or found.value is None or entry.quantile is None:
        longest = ("≥\u00a0" if entry.times.late else "") + words.duration_ms(entry.times.most)
        return KeyFigure(f"longest response time, {where}", longest, n=n, why="too few for a percentile")
    name = entry.quantile[0]
    blocks = find_interval(findings.intervals, entry.traffic, stage, f"response_time.{name}")
    return KeyFigure(
        f"{name} response time, {where}",
        bounded(found),
        in_words(blocks) if blocks is not None and blocks.kind is not None else "",
        n,
        f"no confidence interval: {blocks.why_not}" if blocks is not None and blocks.kind is None else "",
    )


def _throttled(findings: Findings, part: _Part | None) -> KeyFigure:
    if part is None:
        return KeyFigure("429 rate", words.NOTHING, why="no data, because no request was sent")
    whole = findings.metrics.overall.requests
    if not whole.throttled:
        return KeyFigure(
            "429 rate, all requests",
            words.share(0.0),
            n=f"n = {words.counted(whole.sent, 'request')}",
            why="not one 429",
        )
    requests, operations = part.figures.requests, part.figures.operations
    found = find_interval(findings.intervals, part.traffic, part.stage, THROTTLED_RATE)
    # Retries and polls have no interval: a 429 to them does not end an operation.
    alike = (requests.sent, requests.throttled) == (operations.sent, operations.throttled)
    kind = depends_on_phase(findings.record, part.traffic) or "retries and polls"
    why = f"no range: it sends {kind}, and what they meet depends on the server’s windows"
    if alike:
        why = "" if found is None or found.kind is not None else f"no interval: {found.why_not}"
    return KeyFigure(
        f"429 rate of requests, {part.label}",
        words.share(requests.throttled_rate),
        in_words(found) if alike and found is not None else "",
        f"n = {words.counted(requests.sent, 'request')}",
        "; ".join(each for each in (why, window_phase(findings)) if each),
    )


def _goodput(findings: Findings, part: _Part | None) -> KeyFigure:
    found = None if part is None else find_interval(findings.intervals, part.traffic, part.stage, GOODPUT)
    if part is None or found is None:
        return KeyFigure("goodput", words.NOTHING, why="no data, because no operation was sent")
    return KeyFigure(
        f"goodput, ok {part.label}",
        words.rate(found.value),
        in_words(found),
        f"n = {words.count(found.n)} offered",
        f"no interval: {found.why_not}" if found.kind is None else "",
    )


def _not_ok(findings: Findings) -> KeyFigure:
    """Return 429s separately from errors and time-outs: limits cause the former, the service the latter."""
    parts = [part for part in _parts(findings) if part.figures.operations.sent]
    if not parts:
        return KeyFigure("not ok", words.NOTHING, why="no data, because no operation was sent")
    worst = max(parts, key=lambda part: _bad(part.figures) / part.figures.operations.sent)
    counts = worst.figures.operations
    if not _bad(worst.figures):
        sent = findings.metrics.overall.operations.sent
        return KeyFigure("not ok, of operations sent", words.share(0.0), n=f"n = {words.count(sent)}")
    keys = [key for key in findings.record.stages(traffic=worst.traffic) if key.stage.name == worst.stage]
    cut = findings.record.cut_off(keys)
    shares = {"429": counts.throttled, Outcome.FAILED: counts.failed, "timed out": counts.timed_out - cut}
    shares |= {"cut off": cut} if cut else {}
    return KeyFigure(
        f"not ok, {worst.label}" + (", the worst" if len(parts) > 1 else ""),
        words.share(_bad(worst.figures) / counts.sent),
        n=f"n = {words.count(counts.sent)}",
        why=", ".join(f"{name} {words.share(number / counts.sent)}" for name, number in shares.items()),
    )


def _bad(figures: OperationStage) -> int:
    counts = figures.operations
    return counts.throttled + counts.failed + counts.timed_out


_PHASES: Final = ", depending on when in a rate-limit window the run starts (95 % of phases)"


def in_words(found: MetricInterval) -> str:
    """Format an interval with its kind; empty without one."""
    if found.kind is None or found.low is None or found.high is None:
        return ""
    unit = UNITS[found.metric]
    ends = f"{words.measured(found.low, unit)} to {words.measured(found.high, unit)}"
    if found.kind == "phases" and found.low == found.high:
        return f"the same{_PHASES.replace('depending on when', 'whenever')}"
    if found.kind == "phases":
        return f"{ends}{_PHASES}"
    if found.kind == "phases and blocks":
        return f"{ends}{_PHASES}, and 95\u00a0% from blocks"
    return f"95\u00a0% from blocks: {ends}"


def outcome_bars(findings: Findings) -> tuple[OutcomeBar, ...]:
    """Return outcome bars in scenario order, without stages that sent nothing."""
    found = [
        (name, stage, part.operations)
        for name, figures in findings.metrics.traffic.items()
        for stage, part in figures.stages.items()
        if part.operations.sent
    ]
    worst = sorted(range(len(found)), key=lambda place: found[place][2].ok / found[place][2].sent)[:_MOST_BARS]
    return tuple(
        OutcomeBar(
            name,
            stage,
            words.count(counts.sent),
            tuple(
                OutcomeShare(outcome, label, min(100.0, number / counts.sent * 100), words.share(number / counts.sent))
                for outcome, label in _PARTS.items()
                if (number := getattr(counts, outcome))
            ),
        )
        for name, stage, counts in (found[place] for place in sorted(worst))
    )
