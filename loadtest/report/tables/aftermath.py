"""Tables of what came with the 429s, and of what followed them."""

from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.interference import Felt, Interference
from loadtest.analysis.rejections.observed_429 import NO_CODE, LimitObserved429
from loadtest.contract import ALL
from loadtest.report.page import Cell, Row, Table, table_of
from loadtest.words import NOTHING, count, duration_ms, rate, seconds, share, times_as


def aftermath(findings: Findings) -> tuple[Table, ...]:
    """Every one; those without rows are left out by whoever shows them."""
    return (
        _codes(findings),
        _retry_after(findings),
        _headers(findings),
        _recovery(findings),
        _retries(findings),
        _interference(findings),
    )


def refused_limits(findings: Findings, *, refused: bool = True) -> list[tuple[str, LimitObserved429]]:
    """The limits that gave a 429, or all; each as it is called."""
    return [
        ("all requests" if name == ALL else name, each)
        for name, each in findings.observed_429.limits.items()
        if each.throttled or not refused
    ]


def _codes(findings: Findings) -> Table:
    columns = "Limit | #429s | By error code"
    rows = tuple(
        (name, count(found.throttled), ",  ".join(f"{code}: {count(number)}" for code, number in found.codes.items()))
        for name, found in refused_limits(findings)
    )
    every = {code for _, found in refused_limits(findings) for code in found.codes}
    heading = f"429s came with {count(len(every))} error codes"
    if len(every) == 1:
        only = next(iter(every))
        heading = "No 429 had an error code" if only == NO_CODE else f"Every 429 had the error code {only}"
    return table_of("limits-codes", heading, columns, rows)


def _retry_after(findings: Findings) -> Table:
    columns = "Limit | #429s | #With Retry-After | #Wait s | #Compared | #True | #Too short | #Too long"
    rows, judged, honest = [], 0, 0
    for name, each in refused_limits(findings):
        found = each.retry_after
        if not found.carried:
            continue
        judged, honest = judged + found.judged, honest + found.honest
        forms = {"seconds": found.seconds, "dates": found.dates, "unreadable": found.unreadable}
        waits = f"{found.waits[0]:.3g} to {found.waits[2]:.3g}" if found.waits else NOTHING
        rows.append(
            (
                name,
                count(found.n),
                Cell(count(found.carried), ", ".join(f"{count(n)} {form}" for form, n in forms.items() if n)),
                Cell(waits, f"median {found.waits[1]:.3g}" if found.waits else ""),
                count(found.judged),
                count(found.honest),
                Cell(count(found.early), _by(found.early_s), "bad" if found.early > 0.05 * found.judged else ""),
                Cell(count(found.late), _by(found.late_s), "bad" if found.late > 0.05 * found.judged else ""),
            )
        )
    heading = "Retry-After could be compared with nothing"
    if judged:
        heading = f"Retry-After was true in {share(honest / judged)} of {count(judged)} cases"
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


def _headers(findings: Findings) -> Table:
    columns = "Limit | Headers | Limits given | #Remaining given | #Compared | #Untrue"
    rows = tuple(
        (
            name,
            ",  ".join(f"{header}: {count(number)}" for header, number in each.headers.names.items()),
            ",  ".join(each.headers.counts) or NOTHING,
            count(each.headers.remaining),
            count(each.headers.held),
            Cell(count(each.headers.untrue), tone="bad" if each.headers.untrue else ""),
        )
        for name, each in refused_limits(findings, refused=False)
        if each.headers.n
    )
    note = "Untrue: more remained by its headers, and the very next request, sent after that answer, got 429."
    held = sum(each.headers.held for each in findings.observed_429.limits.values())
    untrue = sum(each.headers.untrue for each in findings.observed_429.limits.values())
    heading = f"Of {count(held)} answers that gave what remained, {count(untrue)} were followed by what refutes them"
    if not held:
        heading = "Other rate-limit headers could be compared with nothing"
    return table_of("limits-headers", heading, columns, rows, note)


def _recovery(findings: Findings) -> Table:
    columns = (
        "Limit | #Limiters that refused | #That passed again | #After the first 429 | #Spells of 429s | #Their length"
    )
    rows, least = [], []
    for name, each in refused_limits(findings):
        found = each.recovery
        least += [f"{name} {seconds(round(found.first_s[1], 1))}"] if found.first_s else []
        rows.append(
            (
                name,
                count(found.limiters),
                Cell(count(found.recovered), tone="bad" if found.recovered < found.limiters else ""),
                Cell(*_middle(found.first_s)),
                count(found.spells),
                Cell(*_middle(found.spell_s)),
            )
        )
    heading = "No request passed again after the first 429"
    if least:
        heading = f"How soon requests passed again after the first 429: {', '.join(least)}"
    note = "From sending a request that got 429 to sending the next that passed; a spell is a time of nothing but 429s."
    return table_of("limits-recovery", heading, columns, rows, note)


def _middle(spread: tuple[float, float, float] | None) -> tuple[str, str]:
    if spread is None:
        return NOTHING, ""
    least, median, most = (duration_ms(each * 1e3) for each in spread)
    return median, "" if spread[0] == spread[2] else f"{least} to {most}"


def _retries(findings: Findings) -> Table:
    columns = (
        "Traffic | #Tried again | #Attempts each | #ok | #Gave up | #Amplification | #Goodput | "
        "#Time to success p50 | #p95 | #most"
    )
    rows: list[Row] = []
    for name, found in findings.observed_429.retries.items():
        if not found.operations:
            continue
        figures, times = findings.metrics.traffic[name], found.time_to_success_ms
        rows.append(
            (
                name,
                Cell(count(found.operations), f"of {count(figures.operations.sent)}"),
                f"{found.attempts / found.operations:.3g}",
                count(found.ok),
                count(found.throttled),
                NOTHING if figures.amplification is None else f"{figures.amplification:.3g}",
                rate(figures.goodput),
                *(duration_ms(times.get(statistic).value) for statistic in ("p50", "p95", "max")),
            )
        )
    retries = findings.observed_429.retries.values()
    ok, retried = sum(each.ok for each in retries), sum(each.operations for each in retries)
    heading = f"Of {count(retried)} operations that tried again, {count(ok)} ended well"
    note = "Time to success: from the intended start, waits included, of operations that were tried more than once."
    return table_of("limits-retries", heading, columns, rows, note)


def _interference(findings: Findings) -> Table:
    columns = (
        "Who was refused | #429 rate of all others meanwhile | #at other times | #Unexplained meanwhile | "
        "#at other times | #Errors meanwhile | #at other times | Felt by others"
    )
    found = findings.observed_429.interference
    rows: tuple[Row, ...] = tuple(
        (
            one.party if one.kind == "traffic" else f"key {one.party}",
            *(
                Cell(share(refused / sent) if sent else NOTHING, f"of {count(sent)}")
                for sent, refused, _ in (one.while_refused, one.while_not)
            ),
            *(count(wrong) for _, _, wrong in (one.while_refused, one.while_not)),
            *_errors_of_others(one.others),
            Cell({True: "yes", False: "no", None: "unknown"}[one.felt], _how(one), tone="bad" if one.felt else ""),
        )
        for one in found
    )
    felt = sum(bool(one.felt) for one in found)
    heading = f"The excess of {count(felt)} of {count(len(found))} is felt by others, beyond what they share"
    if not felt:
        heading = "Nobody’s excess is felt by others in unexplained 429s, longer times or errors"
        if not all(one.felt is False for one in found):
            heading = "Whether anybody’s excess is felt by others is not known of all"
    note = (
        "Meanwhile: in seconds in which that traffic or key got a 429. Unexplained: 429s of the others though their "
        "assumed limiter, shared or not, had room; more of them meanwhile would show limits that are shared unsaid. "
        "Errors and times are compared in the stages in which it got a 429 with all other times; longer: a median or "
        "p95 of the others by half at least, with 95 % intervals apart."
    )
    return table_of("limits-touches", heading, columns, rows, note)


def _errors_of_others(found: Felt | None) -> tuple[Cell, Cell]:
    if found is None:
        return Cell(NOTHING), Cell(NOTHING)
    during, apart = (
        Cell(share(failed / sent) if sent else NOTHING, f"of {count(sent)}")
        for sent, failed in (found.errors_meanwhile, found.errors_otherwise)
    )
    return during, apart


def _how(one: Interference) -> str:
    """In what others felt it."""
    ways = ["unexplained 429s"] if one.refusals_felt else []
    if one.others is not None:
        names = {"service_time": "service time", "execution_time": "executionTime"}
        ways += [
            f"{names[slow.time]} of {slow.traffic} ({slow.kind}) {slow.statistic} {duration_ms(slow.meanwhile_ms)}, "
            f"{times_as(slow.factor)} times as long"
            for slow in one.others.slower
        ]
        ways += ["errors"] if one.others.more_errors else []
    return "; ".join(ways)
