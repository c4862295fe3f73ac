"""Tables that answer a scenario's question. They show comparisons by side and by pair, and deliberate mistakes."""

from collections.abc import Iterator
from functools import partial

import msgspec

from loadtest.analysis.answers import ComparedSide, ComparisonAnswer, SideDifference
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import ERROR_EXPECTED, DeliberateErrors
from loadtest.metrics import UNITS
from loadtest.report.answers import change, interval, label, matters, value, worse_word
from loadtest.report.page import Table, TableCell, TableColumns, Tone, table_of
from loadtest.report.tables import entry_name
from loadtest.words import NOTHING, capital, count, quoted, share, signed


def answer_tables(findings: Findings) -> tuple[Table, ...]:
    """Return the tables of the first screen: the comparisons, or else the deliberate mistakes."""
    if findings.answers:
        return tuple(_effect(one) if one.kind == "effect" else _alternatives(findings, one) for one in findings.answers)
    if any(one.kind != ERROR_EXPECTED for one in findings.on_purpose):
        return (_mistakes(findings),)
    return ()


def pair_tables(findings: Findings) -> Iterator[Table]:
    """Yield tables of all pairwise differences, for the chapters."""
    for one in findings.answers:
        if one.kind == "alternatives" and (len(one.sides) > 2 or len(one.by) > 1):
            yield _pairs(one)


def _alternatives(findings: Findings, found: ComparisonAnswer) -> Table:
    def details(name: str) -> str:
        parts = ("chosen" if name == found.chosen else "", entry_name(findings, name).detail)
        return ", ".join(part for part in parts if part)

    against = f"Against “{found.best}”" if found.best is not None else "Against the best one"
    columns: TableColumns[ComparedSide] = {
        "Alternative": lambda side: TableCell(side.name, details(side.name), "head"),
        "#Sent": lambda side: side.sent,
        "#ok": lambda side: share(side.ok / side.sent if side.sent else None),
        **{f"#{capital(label(metric))}": partial(_figure, place) for place, metric in enumerate(found.by)},
        against: lambda side: _against(found, side),
    }
    sides = sorted(found.sides, key=lambda side: side.name != found.chosen)
    pairs = len(found.differences) // len(found.by)
    note = _note(found, found.by[:1], f"all {pairs} pairs" if pairs > 1 else "the pair")
    return table_of(_title(found), columns, sides, note)


def _effect(found: ComparisonAnswer) -> Table:
    base = found.sides[0]

    def change_of(row: tuple[int, ComparedSide]) -> SideDifference | None:
        return found.between(base.name, row[1].name, found.by[row[0]])

    def verdict(row: tuple[int, ComparedSide]) -> TableCell:
        one = change_of(row)
        return TableCell("baseline", tone="faint") if one is None else _verdict(one, small=not matters(found, one))

    columns: TableColumns[tuple[int, ComparedSide]] = {
        "Metric": lambda row: capital(label(found.by[row[0]])) if row[1] is base else "",
        "Stage": lambda row: row[1].name,
        "#n": lambda row: row[1].figures[row[0]].n,
        "#Value": lambda row: _figure(*row),
        "#Change": lambda row: None if (one := change_of(row)) is None else _difference(one),
        "": verdict,
    }
    number = len(found.differences)
    note = _note(found, found.by, f"all {number} changes" if number > 1 else "the change")
    rows = [(place, side) for place in range(len(found.by)) for side in found.sides]
    return table_of(_title(found), columns, rows, note)


def _pairs(found: ComparisonAnswer) -> Table:
    columns: TableColumns[SideDifference] = {
        "Metric": lambda one: capital(label(one.metric)),
        "Of": lambda one: one.head,
        "Less": lambda one: one.base,
        "#n": lambda one: TableCell(count(min(one.n)), "paired" if one.paired else "unpaired"),
        "#Difference": _difference,
        "": _verdict,
    }
    names = quoted(side.name for side in found.sides)
    note = f"All intervals of a metric hold together at 95 %. Each interval alone has {found.confidence * 100:.4g} %."
    return table_of(f"Every difference between {names}", columns, found.differences, note)


def _mistakes(findings: Findings) -> Table:
    def result(one: DeliberateErrors) -> TableCell:
        if one.otherwise:
            return TableCell("answered otherwise", tone="bad")
        if not one.as_documented:
            return TableCell("not tested: 429 only" if one.sent else "not tested", tone="unsure")
        return TableCell("as documented", tone="good")

    columns: TableColumns[DeliberateErrors] = {
        "Traffic": lambda one: one.traffic,
        "Mistake": lambda one: "none, an error is expected" if one.kind == ERROR_EXPECTED else one.kind,
        "Documented response": lambda one: one.answer,
        "#Sent": lambda one: one.sent,
        "#As documented": lambda one: one.as_documented,
        "#429 instead": lambda one: one.throttled,
        "#Otherwise": lambda one: one.otherwise,
        "": result,
    }
    note = "A kind that was never sent is not tested."
    return table_of("Deliberate mistakes and their responses", columns, findings.on_purpose, note)


def _figure(place: int, side: ComparedSide) -> TableCell:
    figure = side.figures[place]
    tone: Tone = "faint" if figure.value is None and not figure.infinite else ""
    return TableCell(value(figure), interval(figure.interval, figure.unit) or figure.why, tone)


def _difference(one: SideDifference) -> TableCell:
    amount = NOTHING if one.difference is None else signed(one.difference, UNITS[one.metric])
    return TableCell(amount, change(one))


def _against(found: ComparisonAnswer, side: ComparedSide) -> TableCell:
    """Return the difference of a side from the best side, by the first metric."""
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


def _verdict(one: SideDifference, *, head: bool = True, small: bool = False) -> TableCell:
    """Return the verdict on a difference, for its head or its base. A ``small`` difference does not matter."""
    if one.interval is None:
        return TableCell("not judged", tone="unsure")
    if not one.told_apart:
        return TableCell("cannot be told apart", tone="unsure")
    word = "better" if one.better is head else worse_word(one.metric)
    if small:
        return TableCell(f"{word}, too little to matter")
    return TableCell(word, tone="good" if one.better is head else "bad")


def _title(found: ComparisonAnswer) -> str:
    if found.kind == "effect":
        return f"“{found.entry}” in {quoted(side.name for side in found.sides)}"
    return f"{quoted(side.name for side in found.sides)} by {label(found.by[0])}"


def _note(found: ComparisonAnswer, by: list[str], compared: str) -> str:
    """Return a note that says which operations count, how arrivals are paired, and what the intervals cover."""
    paired = {each.paired for each in found.differences if each.metric in by}
    how = {True: "Compared pair by pair: arrivals that sent the same row of the inputs.", False: "Compared unpaired."}
    mixed = "Compared pair by pair if arrival k of both sides sends row k of the same inputs, else unpaired."
    each = f" (each alone at {found.confidence * 100:.4g} %)" if found.confidence > 0.9500001 else ""
    parts = (
        "Every operation that was sent counts. Without an ok response, its time is infinite.",
        how[paired.pop()] if len(paired) == 1 else mixed,
        f"Small print: 95 % intervals; those of differences hold for {compared} together{each}.",
        "In longer stages the first 100,000 arrivals are compared." if found.thinned else "",
        "A burst meets only one phase of the limiter’s window. Its interval does not cover other phases."
        if found.bursts
        else "",
    )
    return " ".join(part for part in parts if part)
