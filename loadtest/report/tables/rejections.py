"""Tables of headers and codes of 429s, recovery, retries and interference between clients."""

from collections.abc import Iterable
from typing import Final

from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.interference import Felt, Interference
from loadtest.analysis.rejections.observed_429 import NO_CODE, LimitObserved429
from loadtest.contract import ALL
from loadtest.report.page import Row, Table, TableCell, table_of
from loadtest.report.tables.cells import alarm, listed, ratio, share_of
from loadtest.words import NOTHING, count, counted, duration_ms, rate, seconds, share, times_as

_TIMES: Final = {"service_time": "service time", "execution_time": "executionTime"}
_UNKNOWN: Final = TableCell(NOTHING)


def rejection_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables of rejections, empty ones too."""
    refused = refused_limits(findings)
    return (
        _codes(refused),
        _retry_after(refused, findings.expectation.reordered),
        _headers(refused_limits(findings, refused=False)),
        _recovery(refused),
        _retries(findings),
        _interference(findings.observed_429.interference),
    )


_Limits = list[tuple[str, LimitObserved429]]


def refused_limits(findings: Findings, *, refused: bool = True) -> _Limits:
    """Return limits that returned a 429, or all, with their displayed names."""
    return [
        ("all requests" if name == ALL else name, each)
        for name, each in findings.observed_429.limits.items()
        if each.throttled or not refused
    ]


def _codes(refused: _Limits) -> Table:
    every = {code for _, found in refused for code in found.codes}
    heading = f"429s came with {count(len(every))} error codes"
    if len(every) == 1:
        heading = "No 429 had an error code" if NO_CODE in every else f"Every 429 had the error code {every.pop()}"
    rows = ((name, count(found.throttled), listed(found.codes)) for name, found in refused)
    return table_of("limits-codes", heading, "Limit | #429s | By error code", rows)


def unknown_order(reordered: int) -> str:
    """Return why requests of bursts are no evidence: their order of arrival is unknown."""
    return (
        f"the order in which {counted(reordered, 'request')} of bursts arrived is unknown, so the rest is no evidence"
    )


def _retry_after(refused: _Limits, reordered: int) -> Table:
    columns = "Limit | #429s | #With Retry-After | #Wait s | #Compared | #True | #Too short | #Too long"
    carried = [(name, each.retry_after) for name, each in refused if each.retry_after.carried]
    rows: list[Row] = []
    for name, found in carried:
        forms = {"seconds": found.seconds, "dates": found.dates, "unreadable": found.unreadable}
        waits = found.waits
        rows.append(
            (
                name,
                count(found.n),
                TableCell(count(found.carried), ", ".join(f"{count(n)} {form}" for form, n in forms.items() if n)),
                TableCell(f"{waits[0]:.3g} to {waits[2]:.3g}", f"median {waits[1]:.3g}") if waits else _UNKNOWN,
                count(found.judged),
                count(found.honest),
                *(
                    TableCell(count(wrong), _by(by), "bad" if wrong > 0.05 * found.judged else "")
                    for wrong, by in ((found.early, found.early_s), (found.late, found.late_s))
                ),
            )
        )
    judged, honest = sum(found.judged for _, found in carried), sum(found.honest for _, found in carried)
    heading = "Retry-After could not be verified"
    if judged:
        heading = f"Retry-After was true in {share(honest / judged)} of {count(judged)} cases"
        if reordered and honest < judged:
            heading = f"Retry-After was true in {count(honest)} of {count(judged)} cases; {unknown_order(reordered)}"
    note = (
        "Compared with the next request of that limiter that passed. Too short: one sent after the wait got 429 all "
        "the same; too long: one sent more than a second before its end passed. Whole seconds are rounded up."
    )
    return table_of("limits-retry-after", heading, columns, rows, note)


def _by(spread: tuple[float | None, float | None, float] | None) -> str:
    if spread is None:
        return ""
    middle = f"median {spread[0]:.3g} s, " if spread[0] is not None else ""
    return f"by {middle}at most {spread[2]:.3g} s"


def _headers(limits: _Limits) -> Table:
    rows = (
        (
            name,
            listed(each.headers.names),
            ",  ".join(each.headers.counts) or NOTHING,
            count(each.headers.remaining),
            count(each.headers.held),
            alarm(each.headers.untrue),
        )
        for name, each in limits
        if each.headers.n
    )
    held, untrue = sum(each.headers.held for _, each in limits), sum(each.headers.untrue for _, each in limits)
    heading = f"{count(untrue)} of {count(held)} answers with a remaining count were refuted by the next request"
    if not held:
        heading = "Other rate-limit headers could not be verified"
    columns = "Limit | Headers | Limits given | #Remaining given | #Compared | #Untrue"
    note = "Untrue: more remained by its headers, and the very next request, sent after that answer, got 429."
    return table_of("limits-headers", heading, columns, rows, note)


def _recovery(refused: _Limits) -> Table:
    columns = "Limit | #Limiters with 429s | #Recovered | #After the first 429 | #Periods of 429s | #Their length"
    limits = [(name, each.recovery) for name, each in refused]
    rows = (
        (
            name,
            count(found.limiters),
            TableCell(count(found.recovered), tone="bad" if found.recovered < found.limiters else ""),
            _middle(found.first_s),
            count(found.spells),
            _middle(found.spell_s),
        )
        for name, found in limits
    )
    least = ", ".join(f"{name} {seconds(round(found.first_s[1], 1))}" for name, found in limits if found.first_s)
    heading = "No request was accepted after the first 429"
    if least:
        heading = f"Median time from the first 429 to the next accepted request: {least}"
    note = "From sending a request that got 429 to sending the next accepted request; a period has only 429s."
    return table_of("limits-recovery", heading, columns, rows, note)


def _middle(spread: tuple[float, float, float] | None) -> TableCell:
    if spread is None:
        return _UNKNOWN
    least, median, most = (duration_ms(each * 1e3) for each in spread)
    return TableCell(median, "" if spread[0] == spread[2] else f"{least} to {most}")


def _retries(findings: Findings) -> Table:
    columns = (
        "Traffic | #Tried again | #Attempts each | #ok | #Gave up | #Amplification | #Goodput | "
        "#Time to success p50 | #p95 | #most"
    )
    retries, traffic = findings.observed_429.retries, findings.metrics.traffic
    rows: Iterable[Row] = (
        (
            name,
            TableCell(count(found.operations), f"of {count(traffic[name].operations.sent)}"),
            f"{found.attempts / found.operations:.3g}",
            count(found.ok),
            count(found.throttled),
            ratio(traffic[name].amplification),
            rate(traffic[name].goodput),
            *(duration_ms(found.time_to_success_ms.get(statistic).value) for statistic in ("p50", "p95", "max")),
        )
        for name, found in retries.items()
        if found.operations
    )
    ok, retried = sum(each.ok for each in retries.values()), sum(each.operations for each in retries.values())
    heading = f"{count(ok)} of {count(retried)} retried operations succeeded"
    note = "Time to success: from the intended start, waits included, of retried operations."
    return table_of("limits-retries", heading, columns, rows, note)


def _interference(found: list[Interference]) -> Table:
    columns = (
        "Rejected traffic or key | #429 rate of all others meanwhile | #at other times | #Unexplained meanwhile | "
        "#at other times | #Errors meanwhile | #at other times | Others worse off"
    )
    rows: Iterable[Row] = (
        (
            one.party if one.kind == "traffic" else f"key {one.party}",
            *(share_of(refused, sent) for sent, refused, _ in (one.while_rejected, one.while_not)),
            *(count(wrong) for _, _, wrong in (one.while_rejected, one.while_not)),
            *_errors_of_others(one.others),
            TableCell({True: "yes", False: "no", None: "unknown"}[one.felt], _how(one), tone="bad" if one.felt else ""),
        )
        for one in found
    )
    felt = sum(bool(one.felt) for one in found)
    heading = f"Other traffic was worse off while {count(felt)} of {count(len(found))} rejected clients got 429s"
    if not felt:
        heading = "Other traffic had no more unexplained 429s, longer times or errors while a client got 429s"
        if not all(one.felt is False for one in found):
            heading = "For some clients, the effect of excess traffic on the others is unknown"
    note = (
        "Meanwhile: in seconds in which that traffic or key got a 429. Unexplained: 429s of the others though their "
        "assumed limiter, shared or not, had room; more of them meanwhile would show limits that are shared unsaid. "
        "Errors and times are compared in the stages in which it got a 429 with all other times, in which the load may "
        "have been lower; longer: a median or p95 by 1 ms and half at least, with 95 % intervals apart."
    )
    return table_of("limits-touches", heading, columns, rows, note)


def _errors_of_others(found: Felt | None) -> tuple[TableCell, ...]:
    if found is None:
        return _UNKNOWN, _UNKNOWN
    return tuple(share_of(failed, sent) for sent, failed in (found.errors_meanwhile, found.errors_otherwise))


def _how(one: Interference) -> str:
    ways = ["unexplained 429s"] if one.rejections_felt else []
    if one.others is not None:
        ways += [
            f"{_TIMES[slow.time]} of {slow.traffic} ({slow.kind}) {slow.statistic} {duration_ms(slow.meanwhile_ms)}, "
            f"{times_as(slow.factor)} times as long"
            for slow in one.others.slower
        ]
        ways += ["errors"] if one.others.more_errors else []
    return "; ".join(ways)
