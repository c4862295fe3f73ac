"""Inferred limiters and rejections, as one sentence per limit and as tables.

Table names start with ``limits``, which puts them in that chapter.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.observed_429 import LimitObserved429
from loadtest.analysis.rejections.usage import WindowCounts
from loadtest.limits.fits import BAR, Fit
from loadtest.limits.inference import Inference, range_text, same, words
from loadtest.report.page import UNKNOWN, Table, TableCell, TableColumns, table_of
from loadtest.report.tables.cells import alarm
from loadtest.report.tables.rejections import NamedLimit, named_limits, rejection_tables
from loadtest.words import count, counted, joined, percent, seconds

_KINDS: Final = 2
"""Maximum number of limiters that are named where several fit."""
_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def verdict(found: Inference) -> str:
    """Return the inferred limiter in a few words."""
    if found.word in ("nothing", "none"):
        return "unknown" if found.word == "nothing" else "none fits"
    kinds = list(dict.fromkeys(shorter(fit) for fit in found.named))
    return joined(kinds, "or") if len(kinds) <= _KINDS else f"{len(kinds)} kinds of limiter"


def remarks(name: str, found: LimitObserved429, findings: Findings) -> str:
    """Return the evidence for a limit's inferred limiter in sentences; the table of decisions has its numbers."""
    inferred = found.inference
    if inferred.word == "nothing":
        if inferred.blocked_s is not None:
            return (
                f"After {count(inferred.n - inferred.rejected)} accepted requests none passed for "
                f"{seconds(inferred.blocked_s)}: the window is longer, rejected requests count, or a ban holds."
            )
        if inferred.n and inferred.rejected:
            return f"All {count(inferred.n)} responses were 429s, so any limiter fits."
        return f"None of {count(inferred.n)} responses was a 429, so any limiter fits."
    parts = {
        "named": "",
        "several": f"This traffic does not distinguish them: {'; '.join(dict.fromkeys(map(words, inferred.named)))}.",
        "none": f"A limiter fits if it contradicts at most {percent(1 - BAR, 0)} of 429s and of accepted requests.",
    }
    return " ".join(part for part in (parts[inferred.word], *_differences(name, found, findings)) if part)


def _differences(name: str, found: LimitObserved429, findings: Findings) -> Iterator[str]:
    """Yield the differences between the inferred and the assumed limiter."""
    inferred, assumed, limits = found.inference, found.fit, findings.record.assumed_limits
    if inferred.next is None and inferred.held is not None and inferred.named[0].spec.algorithm == "leaky-queue":
        yield f"Accepted requests took as long as their place in a queue says (correlation {inferred.held:.2f})."
    if assumed is not None and not any(same(fit, limits.spec, limits.limit_on(name)) for fit in inferred.named):
        wrong = assumed.wrongly_rejected + assumed.wrongly_admitted + assumed.not_held
        yield f"The assumed limiter, {shorter(assumed)}, is contradicted by {count(wrong)} decisions."
    windows = found.windows
    if inferred.other_counts is not None:
        instead = f" instead of {count(assumed.limit.count)}" if assumed is not None else ""
        keys = ", or keys share limits that were assumed separate" if windows and windows.limiters > 1 else ""
        yield f"Its count seems to be {range_text(inferred.other_counts)}{instead}{keys}."
    elif windows is not None and windows.seems is not None and abs(windows.seems - windows.count) > 1:
        yield f"Its saturated whole windows accepted {count(windows.seems)}, not {count(windows.count)}."


def chance(log10_p: float | None) -> str:
    """Format a probability given as log10: ``p < 10⁻²⁶``."""
    if log10_p is None:
        return "no p"
    if log10_p > -3:
        return f"p = {10**log10_p:.2g}"
    return f"p < 10{str(int(log10_p)).translate(_RAISED)}"


def shorter(fit: Fit) -> str:
    """Return a limiter's short name, for tables."""
    return words(fit).replace(" (or GCRA, which decides alike)", " or GCRA")


def observed_429_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables, including empty tables; the last table states the reasons."""
    limits = named_limits(findings)
    return (
        _inferred(findings, limits),
        _decisions(limits),
        _windows(findings, limits),
        *rejection_tables(findings),
        _nothing(findings),
    )


def _inferred(findings: Findings, limits: list[NamedLimit]) -> Table:
    columns: TableColumns[tuple[NamedLimit, str]] = {
        "Limit": lambda row: row[0][0],
        "Limiter": lambda row: verdict(row[0][1].inference),
        "Remarks": lambda row: remarks(row[1], row[0][1], findings),
    }
    note = "Each algorithm is compared with each decision, given the requests accepted until then. No verdict uses it."
    if any(found.sent > found.inference.n for _, found in limits):
        note += " Only the first 50,000 requests of each limit are compared, and of these the answered requests."
    rows = zip(limits, findings.observed_429.limits, strict=True)
    return table_of("limits-inferred", "Inferred limiter", columns, rows, note)


class _Compared(NamedTuple):
    """A limiter compared with the decisions of a limit."""

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
        "Limit": lambda row: TableCell(row.limit, f"± {row.found.tolerance_s * 1e3:.1f} ms", "head"),
        "Limiter": lambda row: TableCell(shorter(row.fit), row.role),
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
        "Wrongly rejected: the limiter had room, given the requests accepted until then. Wrongly accepted: it had "
        "none. Undecidable: network delay, up to ± the time stated, could change the decision. Against the best: "
        "decisions that contradict only the next-best, to those that contradict only the best. Requests of one run "
        "depend on each other, so p is only a measure."
    )
    return table_of("limits-decisions", "Decisions compared with limiters", columns, rows, note)


def _windows(findings: Findings, limits: list[NamedLimit]) -> Table:
    def accepted(place: int, row: tuple[str, WindowCounts]) -> str | None:
        return count(row[1].spread[place]) if row[1].spread else None

    def windows(found: WindowCounts) -> TableCell:
        return TableCell(count(found.windows), f"of {found.limiters} limiters" if found.limiters > 1 else "")

    columns: TableColumns[tuple[str, WindowCounts]] = {
        "Limit": lambda row: row[0],
        "#N": lambda row: row[1].count,
        "#Window s": lambda row: f"{row[1].window_s:g}",
        "#Windows": lambda row: windows(row[1]),
        "#Whole and saturated": lambda row: row[1].saturated,
        "#Accepted, least": partial(accepted, 0),
        "#median": partial(accepted, 1),
        "#most": partial(accepted, 2),
        "#Over N": lambda row: alarm(row[1].over),
        "#Most in any W": lambda row: row[1].most_in_any,
    }
    rows = [(name, found.windows) for name, found in limits if found.windows]
    note = (
        "Saturated: a request was rejected in it. Most in any W: the maximum that a limiter accepted in any "
        "period as long as a window; a fixed window may accept up to twice N across its edge."
    )
    reordered = findings.expectation.reordered
    if reordered and any(found.spread and found.spread[0] < found.count for _, found in rows):
        requests = counted(reordered, "request")
        note += f" The arrival order of {requests} of bursts is unknown, so contradictions by them prove nothing."
    return table_of("limits-windows", "Accepted requests per window", columns, rows, note)


def _nothing(findings: Findings) -> Table:
    found, limits = findings.observed_429, list(findings.observed_429.limits.values())
    rejected, retried = sum(each.throttled for each in limits), any(each.operations for each in found.retries.values())
    dated = any(each.retry_after.carried for each in limits)
    missing: tuple[tuple[object, str, str], ...] = (
        (not rejected, "Limiter, error codes, Retry-After, recovery", "no request got 429"),
        (rejected and not dated, "Retry-After", f"none of {count(rejected)} 429s carried it"),
        (
            any(each.assumed is None for each in limits),
            "Wrong decisions",
            findings.expectation.why_not or "no limiter is assumed",
        ),
        (not any(each.windows for each in limits), "Accepted per window", "the limiter does not count in windows"),
        (not any(each.headers.n for each in limits), "Other rate-limit headers", "no response carried any"),
        (not retried, "Retries", "no operation was tried more than once"),
        (rejected and not found.interference, "Interference", "no client sent requests while another was rejected"),
        (not found.complete, "Requests beyond the first million of a limit", "they are only counted"),
    )
    if found.why_not is not None:
        missing = ((True, "Limits and 429s", found.why_not),)
    columns: TableColumns[tuple[object, str, str]] = {
        "What": lambda row: row[1],
        "Why": lambda row: f"No data, because {row[2]}.",
    }
    return table_of("limits-nothing", "Not enough data", columns, [row for row in missing if row[0]])
