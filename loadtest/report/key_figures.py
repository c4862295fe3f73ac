"""Key figures of the first screen: each for one traffic entry in one stage, with its uncertainty.

Each interval states its kind: 95 % of the phases of the server's windows, or blocks of time.
"""

from typing import Final

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.intervals import GOODPUT, THROTTLED_RATE, MetricInterval, find_interval
from loadtest.analysis.rejections.expected_429 import depends_on_phase
from loadtest.analysis.results import OperationCounts, bounded
from loadtest.contract import Outcome
from loadtest.metrics import UNITS
from loadtest.record.effective_scenario import polling
from loadtest.report.deciding import MainEntry, StagePart, stage_parts
from loadtest.report.limits import window_phase
from loadtest.report.page import KeyFigure, OutcomeBar

_MOST_BARS: Final = 12
"""Maximum number of bars: those with the greatest share not ok. The table below has all."""
_PARTS: Final = {
    Outcome.OK: Outcome.OK,
    Outcome.THROTTLED: "429",
    Outcome.TIMED_OUT: "timed out",
    Outcome.FAILED: Outcome.FAILED,
}


def key_figures(findings: Findings, entry: MainEntry | None) -> tuple[KeyFigure, ...]:
    """Return the main response time, the 429 rate and goodput of the most rejected entry, and the share not ok.

    Nothing if no operation was sent.
    """
    parts = [part for part in stage_parts(findings) if part.figures.operations.sent and part.figures.requests.sent]
    if entry is None or not parts:
        return ()
    part = _most_throttled(parts, entry)
    return _response(findings, entry), _throttled(findings, part), _goodput(findings, part), _not_ok(findings, parts)


def _most_throttled(parts: list[StagePart], entry: MainEntry) -> StagePart:
    """Return the stage with the most 429s of the main entry, else of any; without 429s the main stage."""
    own = [part for part in parts if part.traffic == entry.part.traffic]
    for some in (own, parts):
        if any(part.figures.requests.throttled for part in some):
            return max(some, key=lambda part: part.figures.requests.throttled_rate or 0.0)
    return entry.part if entry.part in own else (own or parts)[0]


def _response(findings: Findings, entry: MainEntry) -> KeyFigure:
    if not entry.times.n:
        source = findings.record.info.source
        logged = source is None or source.service_times
        why = "no operation was ok or timed out" if logged else "the log has no durations"
        return KeyFigure("p95 response time", words.NOTHING, why=f"no data, because {why}")
    part, within = entry.part, entry.within and entry.only
    polled = polling(findings.record.info, part.traffic)
    imported = findings.record.info.imported
    time, within = ("service time", False) if imported else ("response time", within)
    where = f"{part.traffic} within the limits" if within else part.label
    n = f"n = {words.count(entry.times.n)} {entry.operation.called(entry.times.n)}{f', {polled}' if polled else ''}"
    if entry.quantile is None:
        longest = bounded(entry.times.get("max"))
        return KeyFigure(f"longest {time}, {where}", longest, n=n, why="too few for a percentile")
    name, found = entry.quantile
    blocks = find_interval(findings.intervals, part.traffic, part.stage, f"response_time.{name}")
    return KeyFigure(f"{name} {time}, {where}", bounded(found), interval(blocks), n, _why_none(blocks))


def _throttled(findings: Findings, part: StagePart) -> KeyFigure:
    whole = findings.metrics.overall.requests
    if not whole.throttled:
        n = f"n = {words.counted(whole.sent, 'request')}"
        return KeyFigure("429 rate, all requests", words.share(0.0), n=n, why="no request got 429")
    requests, operations = part.figures.requests, part.figures.operations
    found = find_interval(findings.intervals, part.traffic, part.stage, THROTTLED_RATE)
    if (requests.sent, requests.throttled) == (operations.sent, operations.throttled):
        range_, why = interval(found), _why_none(found)
    else:
        # Retries and polls have no interval: a 429 to them does not end an operation.
        kind = depends_on_phase(findings.record, part.traffic) or "retries and polls"
        range_, why = "", f"no confidence interval: 429s of {kind} depend on the server’s windows"
    return KeyFigure(
        f"429 rate of requests, {part.label}",
        words.share(requests.throttled_rate),
        range_,
        f"n = {words.counted(requests.sent, 'request')}",
        "; ".join(each for each in (why, window_phase(findings)) if each),
    )


def _goodput(findings: Findings, part: StagePart) -> KeyFigure:
    found = find_interval(findings.intervals, part.traffic, part.stage, GOODPUT)
    if found is None:
        return KeyFigure("goodput", words.NOTHING, why="no data, because the stage was cut off")
    n = f"n = {words.count(found.n)} offered"
    return KeyFigure(f"goodput, {part.label}", words.rate(found.value), interval(found), n, _why_none(found))


def _not_ok(findings: Findings, parts: list[StagePart]) -> KeyFigure:
    """Return 429s separately from errors and time-outs: limits cause the former, the service the latter."""
    worst = max(parts, key=lambda part: _bad(part) / part.figures.operations.sent)
    if not _bad(worst):
        sent = findings.metrics.overall.operations.sent
        return KeyFigure("not ok, of operations sent", words.share(0.0), n=f"n = {words.count(sent)}")
    counts, cut = worst.figures.operations, findings.record.cut_off([worst.key])
    shares = {"429": counts.throttled, Outcome.FAILED: counts.failed, "timed out": counts.timed_out - cut}
    shares |= {"cut off": cut} if cut else {}
    return KeyFigure(
        f"not ok, {worst.label}" + (", the worst" if len(parts) > 1 else ""),
        words.share(_bad(worst) / counts.sent),
        n=f"n = {words.count(counts.sent)}",
        why=", ".join(f"{name} {words.share(number / counts.sent)}" for name, number in shares.items()),
    )


def _bad(part: StagePart) -> int:
    counts = part.figures.operations
    return counts.throttled + counts.failed + counts.timed_out


def interval(found: MetricInterval | None) -> str:
    """Format an interval with its kind; empty without one."""
    if found is None or found.kind is None or found.low is None or found.high is None:
        return ""
    low, high = (words.measured(end, UNITS[found.metric]) for end in (found.low, found.high))
    if found.kind == "blocks":
        return f"95\u00a0% from blocks: {low} to {high}"
    if found.kind == "phases" and found.low == found.high:
        return "the same whenever in a rate-limit window the run starts (95 % of phases)"
    blocks = "" if found.kind == "phases" else ", and 95\u00a0% from blocks"
    return f"{low} to {high}, depending on when in a rate-limit window the run starts (95 % of phases){blocks}"


def _why_none(found: MetricInterval | None) -> str:
    return f"no confidence interval: {found.why_not}" if found is not None and found.kind is None else ""


def outcome_bars(findings: Findings) -> tuple[tuple[OutcomeBar, ...], tuple[str, ...]]:
    """Return outcome bars in scenario order, without stages that sent nothing, and the labels of further bars."""
    parts = [part for part in stage_parts(findings) if part.figures.operations.sent]
    worst = sorted(parts, key=lambda part: part.ok or 0.0)[:_MOST_BARS]
    drawn = tuple(_bar(part, part.figures.operations) for part in parts if part in worst)
    return drawn, tuple(_label(part) for part in parts if part not in worst)


def _bar(part: StagePart, counts: OperationCounts) -> OutcomeBar:
    shares = {outcome: getattr(counts, outcome) / counts.sent for outcome in _PARTS if getattr(counts, outcome)}
    said = ", ".join(f"{_PARTS[outcome]} {words.share(share)}" for outcome, share in shares.items())
    percentages = tuple((outcome, share * 100) for outcome, share in shares.items())
    return OutcomeBar(_label(part), f"{said} of {words.count(counts.sent)}", percentages)


def _label(part: StagePart) -> str:
    return f"{part.traffic} · {part.stage}"
