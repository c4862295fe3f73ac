"""Inferred limiters and rejections, as one sentence per limit and as tables.

Table names start with ``limits``, which puts them in that chapter.
"""

from collections.abc import Iterable
from typing import Final

from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.observed_429 import LimitObserved429
from loadtest.contract import ALL
from loadtest.limits.fits import BAR, Fit
from loadtest.limits.inference import Inference, same, words
from loadtest.report.page import Row, Table, TableCell, table_of
from loadtest.report.tables.cells import alarm
from loadtest.report.tables.rejections import refused_limits, rejection_tables, unknown_order
from loadtest.words import NOTHING, count

_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def verdict(found: Inference) -> str:
    """Return the inferred limiter in a few words."""
    if found.word == "nothing":
        return "nothing tells it"
    if found.word == "none":
        return "none fits"
    kinds = list(dict.fromkeys(shorter(fit) for fit in found.named))
    if found.word == "named":
        return kinds[0]
    return " or ".join(kinds) if len(kinds) == 2 else f"{len(kinds)} kinds of limiter"


def sentence(name: str, found: LimitObserved429, findings: Findings) -> str:
    """Return a sentence about one limit's inferred limiter."""
    inferred = found.inference
    if inferred.word == "nothing":
        if not inferred.n:
            return "No request was answered, so nothing tells the algorithm."
        if not inferred.rejected:
            return f"None of {count(inferred.n)} answers was a 429, so nothing tells the algorithm."
        return f"Each of {count(inferred.n)} answers was a 429, so nothing tells the algorithm."
    sentences = [_which(inferred)]
    if inferred.word in ("named", "several"):
        sentences.append(_confidence(inferred))
    sentences.append(_assumed(name, found, findings))
    sentences.append(_other_count(found))
    return " ".join(part for part in sentences if part)


def _which(found: Inference) -> str:
    best = found.best
    if best is None:
        return ""
    of = f"{count(best.right)} of {count(found.n)} decisions are what it would have decided"
    of += f" ({count(best.undecidable)} are undecidable)" if best.undecidable else ""
    if found.word == "none":
        return (
            f"None of the known limiters fits: even the best, {words(best)}, is contradicted by "
            f"{count(best.wrongly_rejected)} of {count(best.rejected)} 429s and by "
            f"{count(best.wrongly_admitted + best.not_held)} of {count(best.accepted)} accepted requests; "
            f"a limiter fits up to {round((1 - BAR) * 100)}\u00a0% of either."
        )
    if found.word == "named":
        return f"Its answers are those of {words(best)}: {of}."
    listed = list(dict.fromkeys(words(fit) for fit in found.named))
    return f"These cannot be told apart by this traffic: {'; '.join(listed)}. Of the first, {of}."


def _confidence(found: Inference) -> str:
    other = found.next
    if other is None:
        if found.held is not None and found.named[0].spec.algorithm == "leaky-queue":
            return f"Accepted requests took as long as their place in a queue says (correlation {found.held:.2f})."
        return ""
    wins, losses = found.against
    text = f"The next-best, {words(other)}, is contradicted by {count(wins)} decisions that do not contradict it"
    text += f", and the other way round {count(losses)}" if losses else ""
    return f"{text} ({chance(found.log10_p)})."


def chance(log10_p: float | None) -> str:
    """Format a probability given as log10: ``p < 10⁻²⁶``."""
    if log10_p is None:
        return "no p"
    if log10_p > -3:
        return f"p = {10**log10_p:.2g}"
    return f"p < 10{str(int(log10_p)).translate(_RAISED)}"


def _assumed(name: str, found: LimitObserved429, findings: Findings) -> str:
    assumed, record = found.assumed, findings.record
    spec, limit = record.assumed_limits.spec, record.assumed_limits.limit_on(name)
    if assumed is None or any(same(fit, spec, limit) for fit in found.inference.named):
        return ""
    wrong = assumed.wrongly_rejected + assumed.wrongly_admitted + assumed.not_held
    return f"It was assumed to be {shorter(assumed)}, which {count(wrong)} decisions contradict."


def shorter(fit: Fit) -> str:
    """Return a limiter's short name, for tables."""
    return words(fit).replace(" (or GCRA, which decides alike)", " or GCRA")


def _other_count(found: LimitObserved429) -> str:
    other, windows = found.inference.other_count, None if found.windows is None else found.windows.counts
    if other is not None:
        instead = f" instead of {count(found.assumed.limit.count)}" if found.assumed is not None else ""
        shared = windows is not None and windows.limiters > 1
        keys = ", or keys share limits that they were assumed not to" if shared else ""
        return f"Its count seems to be {count(other)}{instead}{keys}."
    if windows is not None and windows.seems is not None and abs(windows.seems - windows.count) > 1:
        return f"Its saturated whole windows let {count(windows.seems)} pass, not {count(windows.count)}."
    return ""


def _title(findings: Findings) -> str:
    by_verdict: dict[str, list[str]] = {}
    for name, each in findings.observed_429.limits.items():
        if each.inference.word != "nothing":
            by_verdict.setdefault(verdict(each.inference), []).append(name)
    if not by_verdict:
        return "Nothing tells which limiter there is"
    if len(by_verdict) > 1:
        fits = (f"{', '.join(names)}: {found}" for found, names in by_verdict.items())
        return f"What the answers fit: {' · '.join(fits)}"
    ((found, names),) = by_verdict.items()
    if found == "none fits":
        return "None of the known limiters fits the answers"
    return f"The answers fit {found}" + (f" ({', '.join(names)})" if len(findings.observed_429.limits) > 1 else "")


def observed_429_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables, empty ones too; the last states why tables are empty."""
    return (
        _inferred(findings),
        _candidates(findings),
        _decisions(findings),
        _windows(findings),
        *rejection_tables(findings),
        _nothing(findings),
    )


def _inferred(findings: Findings) -> Table:
    columns = "Limit | What its answers tell"
    rows = tuple(
        (name if name != ALL else "all requests", sentence(name, found, findings))
        for name, found in findings.observed_429.limits.items()
    )
    note = (
        "Each algorithm is compared with each decision, given what had really passed until then. Requests of one run "
        "depend on one another: p is a measure, not a truth. The verdict does not rest on it."
    )
    if any(found.sent > found.inference.n for found in findings.observed_429.limits.values()):
        note += " Only the first 50,000 requests of each limit, and of these the answered ones, are looked at here."
    return table_of("limits-inferred", _title(findings), columns, rows, note)


def _candidates(findings: Findings) -> Table:
    columns = (
        "Limit | Fits | #As decided | #Wrongly refused | #Wrongly admitted | #Undecidable | Next-best | "
        "#Against it | #p"
    )
    rows: Iterable[Row] = (
        (
            name,
            verdict(found),
            TableCell(count(best.right), f"of {count(found.n)}"),
            count(best.wrongly_rejected),
            count(best.wrongly_admitted + best.not_held),
            count(best.undecidable),
            *_next_best(found),
        )
        for name, found in ((name, each.inference) for name, each in refused_limits(findings))
        if (best := found.best) is not None
    )
    note = "Against it: decisions that contradict only the next-best, to those that contradict only the best."
    return table_of("limits-candidates", "How well the best limiter explains the answers", columns, rows, note)


def _next_best(found: Inference) -> tuple[str, str, str]:
    if found.next is None:
        return NOTHING, NOTHING, NOTHING
    wins, losses = found.against
    return shorter(found.next), f"{count(wins)} to {count(losses)}", chance(found.log10_p)


def _decisions(findings: Findings) -> Table:
    limits = [
        (name, found, fit)
        for name, found in refused_limits(findings, refused=False)
        if (fit := found.assumed) is not None and found.answered
    ]
    rows = (
        (
            name,
            count(found.answered),
            count(found.throttled),
            count(fit.wrongly_rejected),
            count(fit.wrongly_admitted),
            count(fit.undecidable),
            f"{found.tolerance_s * 1e3:.1f}",
        )
        for name, found, fit in limits
    )
    refused, admitted = (
        sum(fit.wrongly_rejected for *_, fit in limits),
        sum(fit.wrongly_admitted for *_, fit in limits),
    )
    heading = "No decision contradicts the assumed limiter"
    if refused or admitted:
        wrongly = f"{count(refused)} requests were wrongly refused, {count(admitted)} wrongly admitted"
        heading = f"By the assumed limiter, {wrongly}"
    columns = "Limit | #Answers | #429s | #Wrongly refused | #Wrongly admitted | #Undecidable | #Tolerance ms"
    note = (
        "Wrongly refused: though it had room for what had really passed; wrongly admitted: though it had none. "
        "Undecidable: so near to a window’s edge, or to a token’s return, that the request’s way to the server decides."
    )
    return table_of("limits-decisions", heading, columns, rows, note)


def _windows(findings: Findings) -> Table:
    columns = (
        "Limit | #N | #Window s | #Windows | #Whole and saturated | #Accepted, least | #median | #most | #Over N | "
        "#Most in any W"
    )
    limits = [(name, found.windows.counts) for name, found in refused_limits(findings, refused=False) if found.windows]
    rows: Iterable[Row] = (
        (
            name,
            count(windows.count),
            f"{windows.window_s:g}",
            TableCell(count(windows.windows), f"of {windows.limiters} limiters" if windows.limiters > 1 else ""),
            count(windows.saturated),
            *map(count, windows.spread or (None,) * 3),
            alarm(windows.over),
            count(windows.most_in_any),
        )
        for name, windows in limits
    )
    seen = (f"{name} {count(found.spread[1])} of {count(found.count)}" for name, found in limits if found.spread)
    passed = ", ".join(seen)
    heading = "Nothing was refused in a window that the run covered whole"
    if passed:
        heading = f"A window that refused something let pass: {passed}"
    reordered = findings.expectation.reordered
    if reordered and any(found.spread and found.spread[0] < found.count for _, found in limits):
        heading += f"; {unknown_order(reordered)}"
    note = (
        "Saturated: a request was refused in it. Most in any W: the most that one limiter accepted in any time as long "
        "as a window; up to twice N may pass across a fixed window’s edge."
    )
    return table_of("limits-windows", heading, columns, rows, note)


def _nothing(findings: Findings) -> Table:
    found, limits = findings.observed_429, list(findings.observed_429.limits.values())
    refused = sum(each.throttled for each in limits)
    why = []
    if found.why_not is not None:
        why.append(("All that 429s tell", found.why_not))
    else:
        if not refused:
            why.append(("Limiter, error codes, Retry-After, recovery", "no request got 429"))
        elif not any(each.retry_after.carried for each in limits):
            why.append(("Retry-After", f"none of {count(refused)} 429s carried it"))
        if any(each.assumed is None for each in limits):
            why.append(("Wrong decisions", findings.expectation.why_not or "no limiter is assumed"))
        if not any(each.windows for each in limits):
            why.append(("Accepted per window", "the limiter does not count in windows"))
        if not any(each.headers.n for each in limits):
            why.append(("Other rate-limit headers", "no answer carried any"))
        if not any(each.operations for each in found.retries.values()):
            why.append(("Retries", "no operation was tried more than once"))
        if refused and not found.interference:
            why.append(("Interference between clients", "nobody sent while another was refused"))
        if not found.complete:
            why.append(("Requests beyond the first million of a limit", "they are counted, and not looked into"))
    rows = tuple((what, f"No data, because {reason}.") for what, reason in why)
    return table_of("limits-nothing", "Not enough data", "What | Why", rows)
