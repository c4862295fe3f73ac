"""Tables that answer a scenario's question: a comparison's sides and pairs, and deliberate mistakes."""

from collections.abc import Iterator
from typing import Final

import msgspec

from loadtest.analysis.answers import ComparedSide, ComparisonAnswer, SideDifference, SideFigure
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import ERROR_EXPECTED
from loadtest.metrics import UNITS
from loadtest.report.answers import change, interval, label, matters, value, worse_word
from loadtest.report.page import Row, Table, TableCell, Tone, table_of
from loadtest.words import NOTHING, capital, count, quoted, share, signed

_ALL: Final = "Every operation that was sent counts: one that never became ok took infinitely long."

_BURST: Final = (
    " The arrivals of a burst meet a limiter at one moment of its window: no interval knows what another would give."
)


def answer_tables(findings: Findings) -> tuple[Table, ...]:
    """Return the first screen's tables: one per comparison, or the deliberate mistakes without a comparison."""
    if findings.answers:
        return tuple(
            _effect(f"answer-{number}", one) if one.kind == "effect" else _alternatives(f"answer-{number}", one)
            for number, one in enumerate(findings.answers, 1)
        )
    if any(one.kind != ERROR_EXPECTED for one in findings.on_purpose):
        return (_mistakes(findings),)
    return ()


def pair_tables(findings: Findings) -> Iterator[Table]:
    """Yield tables of all pairwise differences, for the chapters."""
    for number, one in enumerate(findings.answers, 1):
        if one.kind == "alternatives" and (len(one.sides) > 2 or len(one.by) > 1):
            yield _pairs(f"pairs-{number}", one)


def _alternatives(name: str, found: ComparisonAnswer) -> Table:
    first = found.by[0]
    against = f"Against “{found.best}”" if found.best is not None else "Against the best one"
    columns = " | ".join(["Alternative | #Sent | #ok", *(f"#{capital(label(metric))}" for metric in found.by), against])
    rows: tuple[Row, ...] = tuple(
        (
            TableCell(side.name, "chosen" if side.name == found.chosen else "", "head"),
            count(side.sent),
            share(side.ok / side.sent) if side.sent else NOTHING,
            *(_figure(figure) for figure in side.figures),
            _against(found, side),
        )
        for side in sorted(found.sides, key=lambda side: side.name != found.chosen)
    )
    paired = {each.paired for each in found.differences if each.metric == first}
    pairs = len(found.differences) // len(found.by)
    note = f"{_ALL} {_how(paired)} {_intervals(found, f'all {pairs} pairs' if pairs > 1 else 'the pair')}"
    return table_of(name, _title(found), columns, rows, note)


def _effect(name: str, found: ComparisonAnswer) -> Table:
    rows: list[Row] = []
    base = found.sides[0]
    for place, metric in enumerate(found.by):
        for side in found.sides:
            figure, one = side.figures[place], found.between(base.name, side.name, metric)
            change_and_verdict = (TableCell(NOTHING, tone="faint"), TableCell("baseline", tone="faint"))
            if one is not None:
                change_and_verdict = (_difference(one), _effect_verdict(found, one))
            head = capital(label(metric)) if side is base else ""
            rows.append((head, side.name, count(figure.n), _figure(figure), *change_and_verdict))
    number, paired = len(found.differences), {each.paired for each in found.differences}
    note = f"{_ALL} {_how(paired)} {_intervals(found, f'all {number} changes' if number > 1 else 'the change')}"
    return table_of(name, _title(found), "Metric | Stage | #n | #Value | #Change | ", rows, note)


def _pairs(name: str, found: ComparisonAnswer) -> Table:
    columns = "Metric | Of | Less | #n | #Difference | "
    rows = tuple(
        (
            capital(label(one.metric)),
            one.head,
            one.base,
            TableCell(count(min(one.n)), "paired" if one.paired else "unpaired"),
            _difference(one),
            _verdict(one, head=True),
        )
        for one in found.differences
    )
    names = quoted(side.name for side in found.sides)
    note = f"The intervals of a metric hold together at 95 %: each is one of {found.confidence * 100:.4g} %."
    return table_of(name, f"Every difference between {names}", columns, rows, note)


def _mistakes(findings: Findings) -> Table:
    columns = "Traffic | Mistake | To be answered | #Sent | #As documented | #429 instead | #Otherwise | "
    rows: tuple[Row, ...] = tuple(
        (
            one.traffic,
            "none, an error is expected" if one.kind == ERROR_EXPECTED else one.kind,
            one.answer,
            *(count(number) for number in (one.sent, one.as_documented, one.throttled, one.otherwise)),
            _tested(one.sent, one.as_documented, one.otherwise),
        )
        for one in findings.on_purpose
    )
    note = "A kind of which none was sent is not tested, however well the others were answered."
    return table_of("answer-mistakes", "Mistakes on purpose, and how they were answered", columns, rows, note)


def _tested(sent: int, right: int, wrong: int) -> TableCell:
    if wrong:
        return TableCell("answered otherwise", tone="bad")
    if not right:
        return TableCell("not tested" if not sent else "not tested: 429 only", tone="unsure")
    return TableCell("as documented", tone="good")


def _figure(figure: SideFigure) -> TableCell:
    tone: Tone = "faint" if figure.value is None and not figure.infinite else ""
    return TableCell(value(figure), interval(figure.interval, figure.unit) or figure.why, tone)


def _difference(one: SideDifference) -> TableCell:
    amount = NOTHING if one.difference is None else signed(one.difference, UNITS[one.metric])
    return TableCell(amount, change(one))


def _against(found: ComparisonAnswer, side: ComparedSide) -> TableCell:
    """Return a side's difference from the best side by the first metric."""
    if found.best is None or side.name == found.best:
        return TableCell("best" if side.name == found.best else NOTHING, tone="good" if found.best else "faint")
    one = found.between(found.best, side.name, found.by[0])
    if one is None or one.interval is None:
        return TableCell("unknown", "" if one is None else one.why, "unsure")
    shown = _verdict(one, head=one.head == side.name)
    low, high = one.interval
    if one.head != side.name:
        low, high = (None if high is None else -high), (None if low is None else -low)
    return TableCell(shown.text, change(msgspec.structs.replace(one, interval=(low, high))), shown.tone)


def _effect_verdict(found: ComparisonAnswer, one: SideDifference) -> TableCell:
    shown = _verdict(one, head=True)
    return shown if matters(found, one) or not one.told_apart else TableCell(f"{shown.text}, too little to matter")


def _verdict(one: SideDifference, *, head: bool) -> TableCell:
    """Return the verdict on a difference, for its head or its base."""
    if one.interval is None:
        return TableCell("not judged", tone="unsure")
    if not one.told_apart:
        return TableCell("cannot be told apart", tone="unsure")
    if one.better is head:
        return TableCell("better", tone="good")
    return TableCell(worse_word(one.metric), tone="bad")


def _title(found: ComparisonAnswer) -> str:
    if found.kind == "effect":
        return f"“{found.entry}” in {quoted(side.name for side in found.sides)}"
    return f"{quoted(side.name for side in found.sides)} by {label(found.by[0])}"


def _how(paired: set[bool]) -> str:
    if paired == {True}:
        return "Compared pair by pair: arrivals that sent the same row of the inputs."
    if paired == {False}:
        return "Compared unpaired."
    return "Compared pair by pair where arrival k of both sends row k of the same inputs, else unpaired."


def _intervals(found: ComparisonAnswer, what: str) -> str:
    cut = " Of stages with more arrivals, the first 100 000 are compared." if found.thinned else ""
    cut += _BURST if found.bursts else ""
    each = f" (each is one of {found.confidence * 100:.4g} %)" if found.confidence > 0.9500001 else ""
    return f"Small print: 95 % intervals; those of differences hold for {what} together{each}.{cut}"
