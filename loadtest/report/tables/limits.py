"""Tables about limits: limiters, decisions, windows, headers and codes of 429s, recovery, retries, interference."""

from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.interference import Interference
from loadtest.analysis.rejections.observed_429 import LimitObserved429
from loadtest.analysis.rejections.recovery import RateHeaders, Recovery, Retries, RetryAfter
from loadtest.analysis.rejections.usage import WindowCounts
from loadtest.limits.fits import BAR, Fit
from loadtest.limits.inference import range_text, same, words
from loadtest.report.deciding import entry_name
from loadtest.report.page import UNKNOWN, Table, TableCell, TableColumns, alarm, table_of
from loadtest.words import (
    NOTHING,
    count,
    counted,
    duration_ms,
    joined,
    limited,
    measured,
    percent,
    rate,
    seconds,
    share,
    tally,
    times_as,
)

NamedLimit = tuple[str, LimitObserved429]
_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _remarks(name: str, found: LimitObserved429, findings: Findings) -> str:
    """Return sentences with the evidence for a limit's inferred limiter."""
    inferred = found.inference
    if inferred.word != "nothing":
        named = "; ".join(dict.fromkeys(map(words, inferred.named)))
        meant = {
            "several": f"This traffic does not distinguish these limiters: {named}.",
            "none": f"No known limiter predicts {percent(BAR, 0)} of the 429s and of the accepted requests.",
        }
        first = [meant[inferred.word]] if inferred.word in meant else []
        return " ".join([*first, *_differences(name, found, findings)])
    if inferred.blocked_s is not None:
        return (
            f"After {count(inferred.n - inferred.rejected)} accepted requests none was accepted for "
            f"{seconds(inferred.blocked_s)}: the window is longer than this, rejected requests also count, or the key "
            "is banned."
        )
    if inferred.n > inferred.rejected > 0:
        return f"No limiter can be named: too few of {counted(inferred.n, 'decision')} distinguish limiters."
    if inferred.rejected:
        return f"All {count(inferred.n)} responses were 429s, so every algorithm fits."
    return f"None of {count(inferred.n)} responses was a 429, so every algorithm fits."


def _differences(name: str, found: LimitObserved429, findings: Findings) -> Iterator[str]:
    inferred, assumed, limits = found.inference, found.fit, findings.record.assumed_limits
    queues = [fit.spec.algorithm for fit in inferred.named] == ["leaky-queue"]
    if queues and inferred.next is None and inferred.held is not None:
        yield f"The durations of accepted requests fit a queue (correlation {inferred.held:.2f})."
    if assumed is not None and not any(same(fit, limits.spec, limits.limit_on(name)) for fit in inferred.named):
        wrong = assumed.wrongly_rejected + assumed.wrongly_admitted + assumed.not_held
        contradict = counted(wrong, "decision contradicts", "decisions contradict")
        yield f"{contradict} the assumed limiter, {_shorter(assumed)}."
    windows = found.windows
    if inferred.other_counts is not None:
        instead = f" instead of {count(assumed.limit.count)}" if assumed is not None else ""
        keys = ", or keys share limits that were assumed separate" if windows and windows.limiters > 1 else ""
        yield f"The limit’s count seems to be {range_text(inferred.other_counts)}{instead}{keys}."
    elif windows is not None and windows.seems is not None and abs(windows.seems - windows.count) > 1:
        yield f"Saturated whole windows accepted about {count(windows.seems)} each, not {count(windows.count)}."


def chance(log10_p: float | None) -> str:
    """Format a probability given as log10: ``p < 10⁻²⁶``."""
    if log10_p is None:
        return "no p"
    if log10_p > -3:
        return f"p = {10**log10_p:.2g}"
    return f"p < 10{str(int(log10_p)).translate(_RAISED)}"


def _shorter(fit: Fit) -> str:
    return words(fit).replace(" (or GCRA, which decides alike)", " or GCRA")


def observed_429_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables about limits, including empty tables."""
    limits = list(findings.observed_429.limits.items())
    rejecting = [limit for limit in limits if limit[1].throttled]
    return (
        _inferred(findings, limits),
        _decisions(limits),
        _windows(findings, limits),
        _codes(rejecting),
        _retry_after(rejecting),
        _headers(limits),
        _recovery(rejecting),
        _retries(findings),
        _interference(findings.observed_429.interference),
    )


def _inferred(findings: Findings, limits: list[NamedLimit]) -> Table:
    def limiter(limit: NamedLimit) -> str:
        found = limit[1].inference
        if found.word in ("nothing", "none"):
            return "unknown" if found.word == "nothing" else "none fits"
        kinds = list(dict.fromkeys(_shorter(fit) for fit in found.named))
        return joined(kinds, "or") if len(kinds) <= 2 else f"{len(kinds)} kinds of limiter"

    columns: TableColumns[NamedLimit] = {
        "Limit": lambda limit: limited(limit[0]),
        "Limiter": limiter,
        "Remarks": lambda limit: _remarks(*limit, findings),
    }
    note = (
        "Each algorithm is compared with each decision, given the requests accepted until then. No verdict uses this "
        "comparison."
    )
    if any(found.sent > found.inference.n for _, found in limits):
        note += " Only answered requests among the first 50,000 of each limit are compared."
    return table_of("Inferred limiter", columns, limits, note)


class _Compared(NamedTuple):
    """A limiter compared with the decisions observed on a limit."""

    limit: str
    found: LimitObserved429
    role: str
    fit: Fit


def _decisions(limits: list[NamedLimit]) -> Table:
    def against(row: _Compared) -> TableCell:
        if row.role != "next-best":
            return UNKNOWN
        wins, losses = row.found.inference.against
        return TableCell(chance(row.found.inference.log10_p), f"{count(wins)} to {count(losses)}")

    columns: TableColumns[_Compared] = {
        "Limit": lambda row: TableCell(limited(row.limit), f"± {row.found.tolerance_s * 1e3:.1f} ms", "head"),
        "Limiter": lambda row: TableCell(_shorter(row.fit), row.role),
        "#As decided": lambda row: TableCell(count(row.fit.right), f"of {count(row.found.answered)}"),
        "#Wrongly rejected": lambda row: row.fit.wrongly_rejected,
        "#Wrongly accepted": lambda row: row.fit.wrongly_admitted + row.fit.not_held,
        "#Undecidable": lambda row: row.fit.undecidable,
        "#Against the best": against,
    }
    rows = []
    for name, found in limits:
        inferred = found.inference
        best = {"best fit": inferred.best, "next-best": inferred.next} if found.throttled else {}
        fits = {"assumed": found.fit if found.answered else None, **best}
        rows += [_Compared(name, found, role, fit) for role, fit in fits.items() if fit is not None]
    note = (
        "Wrongly rejected: got 429 although the limiter had room, given the requests accepted until then. Wrongly "
        "accepted: the limiter had no room, or a queue would have answered later. Undecidable: network delay, up to ± "
        "the time stated, could change the decision. Against the best, “5 to 2” means that 5 decisions contradict only "
        "the next-best limiter, and 2 only the best. Requests of one run depend on each other, so p is a rough "
        "measure."
    )
    return table_of("Decisions compared with limiters", columns, rows, note)


def _windows(findings: Findings, limits: list[NamedLimit]) -> Table:
    def accepted(place: int, row: tuple[str, WindowCounts]) -> str | None:
        return count(row[1].spread[place]) if row[1].spread else None

    def windows(row: tuple[str, WindowCounts]) -> TableCell:
        return TableCell(count(row[1].windows), f"of {row[1].limiters} limiters" if row[1].limiters > 1 else "")

    columns: TableColumns[tuple[str, WindowCounts]] = {
        "Limit": lambda row: limited(row[0]),
        "#N": lambda row: row[1].count,
        "#Window s": lambda row: f"{row[1].window_s:g}",
        "#Windows": windows,
        "#Whole and saturated": lambda row: row[1].saturated,
        "#Accepted, least": partial(accepted, 0),
        "#median": partial(accepted, 1),
        "#most": partial(accepted, 2),
        "#Over N": lambda row: alarm(row[1].over),
        "#Most in any W": lambda row: row[1].most_in_any,
    }
    rows = [(name, found.windows) for name, found in limits if found.windows]
    note = (
        "Saturated: a request was rejected in the window. Most in any W: the maximum that a limiter accepted in any "
        "period as long as a window; a fixed window may accept up to twice N across its edge."
    )
    reordered = findings.record.expectation.reordered
    if reordered and any(found.spread and found.spread[0] < found.count for _, found in rows):
        requests = counted(reordered, "request")
        note += f" The arrival order of {requests} in bursts is unknown, so a window may rightly accept fewer than N."
    return table_of("Accepted requests per window", columns, rows, note)


_TIMES: Final = {"service_time": "service time", "execution_time": "executionTime"}
_FELT: Final = {True: "yes", False: "no", None: "unknown"}
_WRONG: Final = 0.05
"""A count of wrong Retry-After headers is highlighted above this share of the compared headers."""


def _codes(limits: list[NamedLimit]) -> Table:
    columns: TableColumns[NamedLimit] = {
        "Limit": lambda limit: limited(limit[0]),
        "#429s": lambda limit: limit[1].throttled,
        "By error code": lambda limit: tally(limit[1].codes),
    }
    return table_of("Error codes of 429s", columns, limits)


def _retry_after(limits: list[NamedLimit]) -> Table:
    def carried(row: tuple[str, RetryAfter]) -> TableCell:
        numbers = {"seconds": row[1].seconds, "dates": row[1].dates, "unreadable": row[1].unreadable}
        forms = ", ".join(f"{count(number)} {form}" for form, number in numbers.items() if number)
        return TableCell(count(row[1].carried), forms)

    def wait(row: tuple[str, RetryAfter]) -> TableCell:
        if row[1].waits is None:
            return UNKNOWN
        least, median, most = row[1].waits
        return TableCell(f"{least:.3g} to {most:.3g}", f"median {median:.3g}")

    def wrong(found: RetryAfter, number: int, spread: tuple[float | None, float | None, float] | None) -> TableCell:
        by = ""
        if spread is not None:
            median, _, most = spread
            by = f"by {'' if median is None else f'median {median:.3g} s, '}at most {most:.3g} s"
        return alarm(number, bad=number > _WRONG * found.judged, detail=by)

    columns: TableColumns[tuple[str, RetryAfter]] = {
        "Limit": lambda row: limited(row[0]),
        "#429s": lambda row: row[1].n,
        "#With Retry-After": carried,
        "#Wait s": wait,
        "#Compared": lambda row: row[1].judged,
        "#True": lambda row: row[1].honest,
        "#Too short": lambda row: wrong(row[1], row[1].early, row[1].early_s),
        "#Too long": lambda row: wrong(row[1], row[1].late, row[1].late_s),
    }
    rows = [(name, each.retry_after) for name, each in limits if each.retry_after.carried]
    note = (
        "Compared: waits whose limiter accepted a later request. Too short: a request sent after the wait still got "
        "429. Too long: a request sent more than a second before the end of the wait was accepted. The "
        "tolerance of 1 s allows for rounding up."
    )
    return table_of("Retry-After", columns, rows, note)


def _headers(limits: list[NamedLimit]) -> Table:
    columns: TableColumns[tuple[str, RateHeaders]] = {
        "Limit": lambda row: limited(row[0]),
        "Headers": lambda row: tally(row[1].names),
        "Limits given": lambda row: ",  ".join(row[1].counts) or NOTHING,
        "#Remaining given": lambda row: row[1].remaining,
        "#Compared": lambda row: row[1].held,
        "#Untrue": lambda row: alarm(row[1].untrue),
    }
    rows = [(name, found.headers) for name, found in limits if found.headers.n]
    note = "Untrue: the headers stated remaining requests, but the next request after that response got 429."
    return table_of("Other rate-limit headers", columns, rows, note)


def _recovery(limits: list[NamedLimit]) -> Table:
    def middle(spread: tuple[float, float, float] | None) -> TableCell:
        if spread is None:
            return UNKNOWN
        least, median, most = (duration_ms(each * 1e3) for each in spread)
        return TableCell(median, "" if spread[0] == spread[2] else f"{least} to {most}")

    columns: TableColumns[tuple[str, Recovery]] = {
        "Limit": lambda row: limited(row[0]),
        "#Limiters with 429s": lambda row: row[1].limiters,
        "#Recovered": lambda row: alarm(row[1].recovered, bad=row[1].recovered < row[1].limiters),
        "#After the first 429": lambda row: middle(row[1].first_s),
        "#Periods of 429s": lambda row: row[1].spells,
        "#Their length": lambda row: middle(row[1].spell_s),
    }
    rows = [(name, found.recovery) for name, found in limits]
    note = "Times run from sending a request that got 429 to sending the next accepted request, which ends a period."
    return table_of("Recovery after 429s", columns, rows, note)


def _retries(findings: Findings) -> Table:
    def time(name: str, row: tuple[str, Retries]) -> str:
        return duration_ms(row[1].time_to_success_ms.get(name).value)

    traffic = findings.metrics.traffic
    columns: TableColumns[tuple[str, Retries]] = {
        "Traffic": lambda row: entry_name(findings, row[0]),
        "#Retried": lambda row: TableCell(count(row[1].operations), f"of {count(traffic[row[0]].operations.sent)}"),
        "#Attempts each": lambda row: f"{row[1].attempts / row[1].operations:.3g}",
        "#ok": lambda row: row[1].ok,
        "#Gave up": lambda row: row[1].throttled,
        "#Amplification": lambda row: measured(traffic[row[0]].amplification, "number"),
        "#Goodput": lambda row: rate(traffic[row[0]].goodput),
        "#Time to success p50": partial(time, "p50"),
        "#p95": partial(time, "p95"),
        "#most": partial(time, "max"),
    }
    rows = [(name, found) for name, found in findings.observed_429.retries.items() if found.operations]
    note = "Time to success runs from the intended start of a retried operation, and includes waits."
    return table_of("Retried operations", columns, rows, note)


def _interference(found: list[Interference]) -> Table:
    def errors(one: Interference, *, meanwhile: bool) -> TableCell:
        if one.others is None:
            return UNKNOWN
        sent, failed = one.others.errors_meanwhile if meanwhile else one.others.errors_otherwise
        return _share_of(failed, sent)

    def worse_off(one: Interference) -> TableCell:
        found = ["unexplained 429s"] if one.rejections_felt else []
        found += [
            f"{_TIMES[slow.time]} of {slow.traffic} ({slow.kind}) {slow.statistic} {duration_ms(slow.meanwhile_ms)}, "
            f"{times_as(slow.factor)} times as long"
            for slow in (one.others.slower if one.others else ())
        ]
        found += ["errors"] if one.others and one.others.more_errors else []
        return TableCell(_FELT[one.felt], "; ".join(found), "bad" if one.felt else "")

    columns: TableColumns[Interference] = {
        "Rejected client": lambda one: one.party if one.kind == "traffic" else f"key {one.party}",
        "#429 rate of other traffic meanwhile": lambda one: _share_of(one.while_rejected[1], one.while_rejected[0]),
        "#at other times": lambda one: _share_of(one.while_not[1], one.while_not[0]),
        "#Unexplained meanwhile": lambda one: one.while_rejected[2],
        "#Unexplained at other times": lambda one: one.while_not[2],
        "#Errors meanwhile": partial(errors, meanwhile=True),
        "#Errors at other times": partial(errors, meanwhile=False),
        "Other traffic worse off": worse_off,
    }
    note = (
        "A client is a traffic entry or a key. Meanwhile: in the seconds in which the client got a 429; for errors and "
        "times, in its stages with 429s. A higher load meanwhile may also cause a difference. Unexplained: 429s of "
        "other traffic while its assumed limiter had room. If these are more frequent meanwhile, the client and the "
        "other traffic may share an undocumented limit. A time counts as longer if its median or p95 is at least "
        "1.5 times as long and 1 ms longer, and the 95 % intervals do not overlap."
    )
    return table_of("Other traffic while a client got 429s", columns, found, note)


def _share_of(some: int, whole: int) -> TableCell:
    return TableCell(share(some / whole) if whole else NOTHING, f"of {count(whole)}")
