"""A run's answer in one sentence, and the key figures below it.

The sentence usually has at most 20 words and three figures. It answers the scenario's question, or else describes the
main entry. A key figure usually describes one traffic entry in one stage. The text beside the figure says whether its
interval comes from the phases of the server's windows, from blocks of time, or from both.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from loadtest.analysis.anomalies import ErrorGroup
from loadtest.analysis.columns import KINDS
from loadtest.analysis.findings import Findings
from loadtest.analysis.intervals import GOODPUT, THROTTLED_RATE, MetricInterval, find_interval
from loadtest.analysis.rejections.phases import depends_on_phase
from loadtest.analysis.results import bounded
from loadtest.contract import THROTTLED_STATUS, ErrorCode, Outcome, Reason, RequestKind
from loadtest.metrics import UNITS
from loadtest.record.effective_scenario import polling
from loadtest.reference_settings import BUILT_IN_WORKFLOWS
from loadtest.report.answers import answer
from loadtest.report.deciding import MainEntry, StagePart, stage_parts
from loadtest.report.limits import overdrawn, window_phase
from loadtest.report.page import KeyFigure, OutcomeBar
from loadtest.words import NOTHING, capital, count, counted, duration_ms, measured, nearest, rate, seconds, share

_NAMED: Final = 0.01
"""The sentence describes a stage's failures and time-outs only if they reach this share of its sent operations."""


def headline(findings: Findings, entry: MainEntry | None) -> str:
    """Return the sentence, or ``No data, because …``."""
    info = findings.record.info
    if entry is None or not findings.metrics.overall.operations.sent:
        return f"No data, because {_nothing(findings)}."
    text = answer(findings) or _behaviour(findings, entry)
    if info.end != "finished":
        ended = info.end if info.end in ("interrupted", "aborted") else "killed"
        text = f"until the run was {ended} after {seconds(findings.record.covered_s)}: {text}"
    if any(not check.ok and check.name != "something sent" for check in findings.checks):
        text = f"not reliable: {text}"
    return f"{capital(text)}{'' if text.endswith('?') else '.'}"


def _nothing(findings: Findings) -> str:
    info, dropped = findings.record.info, findings.metrics.overall.operations.dropped
    if not info.traffic:
        return "the scenario has no traffic"
    if dropped:
        return f"no operation was sent: no user was free for {counted(dropped, 'arrival')}"
    if info.end == "aborted":
        return f"the run was aborted before its first request: {info.end_reason or 'it was stopped'}"
    return "the run was interrupted before its first request" if info.end == "interrupted" else "no operation was sent"


def _behaviour(findings: Findings, entry: MainEntry) -> str:
    """Return a clause about the main entry's response time, and about 429s or failures, whichever are more frequent."""
    if not entry.times.n:
        return _no_times(findings)
    times, (failed, failed_rate) = _times(findings, entry), _failed_stages(findings)
    rest, rejected_rate = overdrawn(findings, entry.operation)
    if failed_rate > rejected_rate:
        rest = failed
    elif not rejected_rate and (counts := findings.metrics.overall.operations).sent > 1:
        cut = findings.record.cut_off(findings.record.stages())
        bad = counts.failed + counts.timed_out - cut
        some, ended = (bad, "failed or timed out") if bad else (cut, "were cut off by the end of the run")
        whole = f"{count(counts.sent)} operations"
        rest += f", and {count(some)} of {whole} {ended}" if some else f", and all {whole} were ok"
    return f"within limits {times}; {rest}" if entry.within else f"{rest}; {times}"


def _times(findings: Findings, entry: MainEntry) -> str:
    """Return a clause such as ``p95 of sync runs is 480 ms``."""
    info, name, n = findings.record.info, entry.part.traffic, entry.times.n
    if entry.quantile is None:
        return f"{count(n)} {entry.operation.called(n)} took at most {duration_ms(entry.times.max)}"
    statistic, found = entry.quantile
    alike = [plan.operation for plan in info.traffic.values()].count(entry.operation) > 1
    whose = f"{entry.operation.several}{f' of “{name}”' if alike else ''}"
    if found.at_least:
        timed_out = f"{count(entry.part.figures.operations.timed_out)} of {count(n)} timed out"
        return f"{statistic} of {whose} is at least {duration_ms(found.value)}, as {timed_out}"
    accepted, polled = "" if entry.within or entry.only else "other ", polling(info, name)
    return f"{statistic} of {accepted}{whose} is {duration_ms(found.most)}{f' ({polled})' if polled else ''}"


def _failed_stages(findings: Findings) -> tuple[str, float]:
    """Return a clause about the stage with the highest share of failures and time-outs, and this share (0-1)."""
    found = []
    for part in _sent_parts(findings):
        counts = part.figures.operations
        ends = {"failed": counts.failed, "timed out": counts.timed_out - findings.record.cut_off([part.key])}
        found.append((sum(ends.values()) / counts.sent, part, ends))
    worst, part, ends = max(found, key=lambda each: each[0])
    if worst < _NAMED:
        return "", 0.0
    if sum(failed >= _NAMED for failed, *_ in found) > 1:
        several = sum(failed > 0 for failed, *_ in found)
        return f"{several} stages had failures, up to {share(worst)} (“{part.stage}”)", worst
    words = " or ".join(word for word, number in ends.items() if number)
    return f"{share(worst)} of {part.key.operation.several} in “{part.stage}” {words}", worst


def _sent_parts(findings: Findings) -> list[StagePart]:
    return [part for part in stage_parts(findings) if part.figures.operations.sent]


def _no_times(findings: Findings) -> str:
    counts = findings.metrics.overall.operations
    every = "the only operation" if counts.sent == 1 else f"all {count(counts.sent)} operations"
    if counts.throttled == counts.sent:
        return f"{every} got 429"
    if counts.failed == counts.sent:
        return _named_error(findings) or f"{every} failed"
    if counts.throttled or counts.failed:
        return f"of {every} {count(counts.throttled)} got 429 and {count(counts.failed)} failed"
    return f"{every} were never answered"


def _named_error(findings: Findings) -> str:
    """Return the most frequent error (``all 9 run requests got 404 unknown_workflow; …``); empty if all are 429s."""
    groups = (group for group in over_traffic(findings.errors) if group.status != THROTTLED_STATUS)
    if (group := next(groups, None)) is None:
        return ""
    kind = RequestKind(group.kind)
    info = findings.record.info
    sent = requests_sent(findings, kind) or group.count
    many = f"all {count(sent)}" if group.count >= sent else f"{count(group.count)} of {count(sent)}"
    text = f"the only {kind.one}" if sent == 1 else f"{many} {kind.several}"
    text += f" {_fate(group)}"
    plan = info.traffic.get(group.traffic) if group.code == ErrorCode.UNKNOWN_WORKFLOW else None
    if plan is not None and plan.workflow is not None:
        near = nearest(plan.workflow, BUILT_IN_WORKFLOWS) if info.target.embedded else None
        text += f"; there is no workflow “{plan.workflow}”{f', did you mean {near}?' if near else ''}"
    return text


def over_traffic(groups: Iterable[ErrorGroup]) -> list[ErrorGroup]:
    """Add up error groups over traffic entries, the most frequent first. A sum keeps its first group's other fields."""
    summed: dict[tuple[str | int | None, ...], ErrorGroup] = {}
    for group in groups:
        key = (group.kind, group.status, group.code, group.reason)
        known = summed.get(key)
        summed[key] = group if known is None else replace(known, count=known.count + group.count)
    return sorted(summed.values(), key=lambda group: -group.count)


def requests_sent(findings: Findings, kind: RequestKind) -> int | None:
    """Return the number of requests of a kind; None if the record has too many to count them by kind."""
    record = findings.record
    return int((record.requests["kind"] == KINDS.index(kind)).sum()) if record.sent.complete else None


def _fate(group: ErrorGroup) -> str:
    """Return how a group's requests ended: ``got 404 unknown_workflow``."""
    if group.code and group.reason == Reason.WRONG_SHAPE:
        return f"got {group.status} in another shape than the documented one: {group.code}"
    if group.status is not None and group.code:
        return f"got {group.status} {group.code}"
    if group.status is not None and group.reason == Reason.UNEXPECTED_STATUS:
        return f"got {group.status}"
    known = next((word.sentence for word in Reason if word == group.reason), "")
    explained = f": {known[:1].lower()}{known[1:].rstrip('.')}" if known else ""
    failed = f"failed{explained} ({group.reason})" if group.reason else "failed"
    return failed if group.status is None else f"got {group.status} and {failed}"


_MOST_BARS: Final = 12
"""At most this many bars are drawn. Those of chosen alternatives have priority, then those with the lowest ok share."""
_PARTS: Final = {
    Outcome.OK: Outcome.OK,
    Outcome.THROTTLED: "429",
    Outcome.TIMED_OUT: "timed out",
    Outcome.FAILED: Outcome.FAILED,
}


def key_figures(findings: Findings, entry: MainEntry | None) -> tuple[KeyFigure, ...]:
    """Return the main entry's response time, a stage's 429 rate and goodput, and the highest not-ok share of a stage.

    Return no key figures if no operation was sent.
    """
    parts = [part for part in _sent_parts(findings) if part.figures.requests.sent]
    if entry is None or not parts:
        return ()
    part = _most_throttled(parts, entry)
    return _response(findings, entry), _throttled(findings, part), _goodput(findings, part), _not_ok(findings, parts)


def _most_throttled(parts: list[StagePart], entry: MainEntry) -> StagePart:
    """Return the stage with the highest 429 rate: of the main entry, or of any entry if the main entry got no 429."""
    own = [part for part in parts if part.traffic == entry.part.traffic]
    for some in (own, parts):
        if any(part.figures.requests.throttled for part in some):
            return max(some, key=lambda part: part.figures.requests.throttled_rate or 0.0)
    return entry.part if entry.part in own else (own or parts)[0]


def _response(findings: Findings, entry: MainEntry) -> KeyFigure:
    if not entry.times.n:
        source = findings.record.info.source
        logged = source is None or source.service_times
        why = "no operation was ok, and none timed out" if logged else "the log has no durations"
        return KeyFigure("p95 response time", NOTHING, why=f"no data, because {why}")
    part = entry.part
    imported = findings.record.info.imported
    polled = polling(findings.record.info, part.traffic)
    time = "service time" if imported else "response time"
    where = f"{part.traffic} within the limits" if entry.within and entry.only and not imported else part.label
    n = f"n = {count(entry.times.n)} {entry.operation.called(entry.times.n)}{f', {polled}' if polled else ''}"
    if entry.quantile is None:
        longest = bounded(entry.times.get("max"))
        return KeyFigure(f"longest {time}, {where}", longest, n=n, why="too few for a percentile")
    name, found = entry.quantile
    blocks = find_interval(findings.intervals, part.traffic, part.stage, f"response_time.{name}")
    return KeyFigure(f"{name} {time}, {where}", bounded(found), _interval(blocks), n, _why_none(blocks))


def _throttled(findings: Findings, part: StagePart) -> KeyFigure:
    whole = findings.metrics.overall.requests
    if not whole.throttled:
        n = f"n = {counted(whole.sent, 'request')}"
        return KeyFigure("429 rate, all requests", share(0.0), n=n, why="no request got 429")
    requests, operations = part.figures.requests, part.figures.operations
    if (requests.sent, requests.throttled) == (operations.sent, operations.throttled):
        found = find_interval(findings.intervals, part.traffic, part.stage, THROTTLED_RATE)
        range_ = _interval(found)
        why = _why_none(found)
    else:
        # Intervals exist only for the share of operations that ended with a 429.
        kind = depends_on_phase(findings.record, part.traffic) or "retries and polls"
        range_, why = "", f"no confidence interval: 429s of {kind} depend on the server’s windows"
    return KeyFigure(
        f"429 rate of requests, {part.label}",
        share(requests.throttled_rate),
        range_,
        f"n = {counted(requests.sent, 'request')}",
        "; ".join(each for each in (why, window_phase(findings)) if each),
    )


def _goodput(findings: Findings, part: StagePart) -> KeyFigure:
    found = find_interval(findings.intervals, part.traffic, part.stage, GOODPUT)
    if found is None:
        return KeyFigure("goodput", NOTHING, why="no data, because the stage was cut off")
    n = f"n = {count(found.n)} offered"
    return KeyFigure(f"goodput, {part.label}", rate(found.value), _interval(found), n, _why_none(found))


def _not_ok(findings: Findings, parts: list[StagePart]) -> KeyFigure:
    """Return the highest not-ok share of a stage, with the shares of the outcomes that make it up."""

    def bad(part: StagePart) -> float:
        counts = part.figures.operations
        return (counts.throttled + counts.failed + counts.timed_out) / counts.sent

    worst = max(parts, key=bad)
    if not bad(worst):
        sent = findings.metrics.overall.operations.sent
        return KeyFigure("not ok, of operations sent", share(0.0), n=f"n = {count(sent)}")
    counts, cut = worst.figures.operations, findings.record.cut_off([worst.key])
    shares = {"429": counts.throttled, Outcome.FAILED: counts.failed, "timed out": counts.timed_out - cut}
    shares |= {"cut off": cut} if cut else {}
    return KeyFigure(
        f"not ok, {worst.label}" + (", the worst" if len(parts) > 1 else ""),
        share(bad(worst)),
        n=f"n = {count(counts.sent)}",
        why=", ".join(f"{name} {share(number / counts.sent)}" for name, number in shares.items()),
    )


def _interval(found: MetricInterval | None) -> str:
    if found is None or found.kind is None or found.low is None or found.high is None:
        return ""
    low, high = (measured(end, UNITS[found.metric]) for end in (found.low, found.high))
    if found.kind == "blocks":
        return f"95\u00a0% interval (from blocks): {low} to {high}"
    if found.kind == "phases" and found.low == found.high:
        return "the same, whenever in a rate-limit window the run starts (95\u00a0% of phases)"
    blocks = "" if found.kind == "phases" else ", and on chance (95\u00a0% from blocks)"
    return f"{low} to {high}, depending on when in a rate-limit window the run starts (95\u00a0% of phases){blocks}"


def _why_none(found: MetricInterval | None) -> str:
    return f"no confidence interval: {found.why_not}" if found is not None and found.kind is None else ""


def outcome_bars(findings: Findings) -> tuple[tuple[OutcomeBar, ...], tuple[str, ...]]:
    """Return outcome bars in scenario order, and the labels of bars left out. Stages that sent nothing have no bar."""
    parts = _sent_parts(findings)
    chosen = {answer.chosen for answer in findings.answers}
    worst = sorted(parts, key=lambda part: (part.traffic not in chosen, part.ok or 0.0))[:_MOST_BARS]
    drawn = []
    for part in (part for part in parts if part in worst):
        counts = part.figures.operations
        shares = {outcome: getattr(counts, outcome) / counts.sent for outcome in _PARTS if getattr(counts, outcome)}
        said = ", ".join(f"{_PARTS[outcome]} {share(each)}" for outcome, each in shares.items())
        percentages = tuple((outcome, each * 100) for outcome, each in shares.items())
        drawn.append(OutcomeBar(f"{part.traffic} · {part.stage}", f"{said} of {count(counts.sent)}", percentages))
    return tuple(drawn), tuple(f"{part.traffic} · {part.stage}" for part in parts if part not in worst)
