"""Tables of headers and codes of 429s, recovery, retries and interference between clients."""

from functools import partial
from typing import Final

from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.interference import Interference
from loadtest.analysis.rejections.observed_429 import LimitObserved429
from loadtest.analysis.rejections.recovery import Retries, RetryAfter
from loadtest.contract import ALL
from loadtest.report.page import UNKNOWN, Table, TableCell, TableColumns, table_of
from loadtest.report.tables.cells import alarm, entry_name, listed, share_of
from loadtest.words import NOTHING, count, duration_ms, measured, rate, times_as

_TIMES: Final = {"service_time": "service time", "execution_time": "executionTime"}
_FELT: Final = {True: "yes", False: "no", None: "unknown"}
_WRONG: Final = 0.05
"""Share of wrong Retry-After headers above which their count is highlighted."""

NamedLimit = tuple[str, LimitObserved429]
"""A limit with its name as shown."""


def rejection_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables of rejections, including empty tables."""
    limits = named_limits(findings)
    rejecting = [limit for limit in limits if limit[1].throttled]
    return (
        _codes(rejecting),
        _retry_after(rejecting),
        _headers(limits),
        _recovery(rejecting),
        _retries(findings),
        _interference(findings.observed_429.interference),
    )


def named_limits(findings: Findings) -> list[NamedLimit]:
    """Return all limits that requests were sent to."""
    limits = findings.observed_429.limits.items()
    return [("all requests" if name == ALL else name, each) for name, each in limits]


def _codes(limits: list[NamedLimit]) -> Table:
    columns: TableColumns[NamedLimit] = {
        "Limit": lambda limit: limit[0],
        "#429s": lambda limit: limit[1].throttled,
        "By error code": lambda limit: listed(limit[1].codes),
    }
    return table_of("limits-codes", "Error codes of 429s", columns, limits)


def _retry_after(limits: list[NamedLimit]) -> Table:
    def forms(found: RetryAfter) -> str:
        numbers = {"seconds": found.seconds, "dates": found.dates, "unreadable": found.unreadable}
        return ", ".join(f"{count(number)} {form}" for form, number in numbers.items() if number)

    def wait(found: RetryAfter) -> TableCell:
        if found.waits is None:
            return UNKNOWN
        least, median, most = found.waits
        return TableCell(f"{least:.3g} to {most:.3g}", f"median {median:.3g}")

    def wrong(found: RetryAfter, number: int, spread: tuple[float | None, float | None, float] | None) -> TableCell:
        return alarm(number, bad=number > _WRONG * found.judged, detail=_by(spread))

    columns: TableColumns[tuple[str, RetryAfter]] = {
        "Limit": lambda row: row[0],
        "#429s": lambda row: row[1].n,
        "#With Retry-After": lambda row: TableCell(count(row[1].carried), forms(row[1])),
        "#Wait s": lambda row: wait(row[1]),
        "#Compared": lambda row: row[1].judged,
        "#True": lambda row: row[1].honest,
        "#Too short": lambda row: wrong(row[1], row[1].early, row[1].early_s),
        "#Too long": lambda row: wrong(row[1], row[1].late, row[1].late_s),
    }
    rows = [(name, each.retry_after) for name, each in limits if each.retry_after.carried]
    note = (
        "Compared with the next accepted request of the same limiter. Too short: a request sent after the wait still "
        "got 429. Too long: a request sent more than a second before its end was accepted. Whole seconds are rounded "
        "up."
    )
    return table_of("limits-retry-after", "Retry-After", columns, rows, note)


def _by(spread: tuple[float | None, float | None, float] | None) -> str:
    if spread is None:
        return ""
    middle = f"median {spread[0]:.3g} s, " if spread[0] is not None else ""
    return f"by {middle}at most {spread[2]:.3g} s"


def _headers(limits: list[NamedLimit]) -> Table:
    columns: TableColumns[NamedLimit] = {
        "Limit": lambda limit: limit[0],
        "Headers": lambda limit: listed(limit[1].headers.names),
        "Limits given": lambda limit: ",  ".join(limit[1].headers.counts) or NOTHING,
        "#Remaining given": lambda limit: limit[1].headers.remaining,
        "#Compared": lambda limit: limit[1].headers.held,
        "#Untrue": lambda limit: alarm(limit[1].headers.untrue),
    }
    rows = [limit for limit in limits if limit[1].headers.n]
    note = "Untrue: the headers stated remaining requests, and the next request after that response got 429."
    return table_of("limits-headers", "Other rate-limit headers", columns, rows, note)


def _recovery(limits: list[NamedLimit]) -> Table:
    columns: TableColumns[NamedLimit] = {
        "Limit": lambda limit: limit[0],
        "#Limiters with 429s": lambda limit: limit[1].recovery.limiters,
        "#Recovered": lambda limit: alarm(
            limit[1].recovery.recovered, bad=limit[1].recovery.recovered < limit[1].recovery.limiters
        ),
        "#After the first 429": lambda limit: _middle(limit[1].recovery.first_s),
        "#Periods of 429s": lambda limit: limit[1].recovery.spells,
        "#Their length": lambda limit: _middle(limit[1].recovery.spell_s),
    }
    note = "Times run from sending a request that got 429 to sending the next accepted request. A period has only 429s."
    return table_of("limits-recovery", "Recovery after 429s", columns, limits, note)


def _middle(spread: tuple[float, float, float] | None) -> TableCell:
    if spread is None:
        return UNKNOWN
    least, median, most = (duration_ms(each * 1e3) for each in spread)
    return TableCell(median, "" if spread[0] == spread[2] else f"{least} to {most}")


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
    note = "Time to success: from the intended start of retried operations, including waits."
    return table_of("limits-retries", "Retried operations", columns, rows, note)


def _interference(found: list[Interference]) -> Table:
    def errors(one: Interference, *, meanwhile: bool) -> TableCell:
        if one.others is None:
            return UNKNOWN
        sent, failed = one.others.errors_meanwhile if meanwhile else one.others.errors_otherwise
        return share_of(failed, sent)

    columns: TableColumns[Interference] = {
        "Rejected client": lambda one: one.party if one.kind == "traffic" else f"key {one.party}",
        "#429 rate of other traffic meanwhile": lambda one: share_of(one.while_rejected[1], one.while_rejected[0]),
        "#at other times": lambda one: share_of(one.while_not[1], one.while_not[0]),
        "#Unexplained meanwhile": lambda one: one.while_rejected[2],
        "#Unexplained at other times": lambda one: one.while_not[2],
        "#Errors meanwhile": partial(errors, meanwhile=True),
        "#Errors at other times": partial(errors, meanwhile=False),
        "Other traffic worse off": lambda one: TableCell(_FELT[one.felt], _effects(one), "bad" if one.felt else ""),
    }
    note = (
        "A client is a traffic entry or a key. Meanwhile: in seconds with a 429 of the client. Unexplained: 429s of "
        "other traffic while its assumed limiter had room; more of these meanwhile reveal an undocumented shared "
        "limit. Errors and times are compared between the client’s stages with 429s and all other times, when the load "
        "may be lower. A longer time is a median or p95 of at least 1.5 times and 1 ms more, with separate 95 % "
        "intervals."
    )
    return table_of("limits-touches", "Other traffic while a client got 429s", columns, found, note)


def _effects(one: Interference) -> str:
    found = ["unexplained 429s"] if one.rejections_felt else []
    if one.others is not None:
        found += [
            f"{_TIMES[slow.time]} of {slow.traffic} ({slow.kind}) {slow.statistic} {duration_ms(slow.meanwhile_ms)}, "
            f"{times_as(slow.factor)} times as long"
            for slow in one.others.slower
        ]
        found += ["errors"] if one.others.more_errors else []
    return "; ".join(found)
