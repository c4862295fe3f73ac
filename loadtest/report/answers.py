"""The answer to a scenario's question about comparisons, deliberate mistakes or bursts, as a clause and as tables."""

import math
from functools import partial
from typing import Final

from msgspec.structs import replace

from loadtest.analysis.answers import ComparedSide, ComparisonAnswer, SideDifference, SideFigure
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import ERROR_EXPECTED, DeliberateErrors
from loadtest.assumed_limits import CONCURRENCY
from loadtest.compare.changes import LEAST_MS, LEAST_RATIO
from loadtest.contract import LIMIT_OF_OPERATION, POLLED_OPERATIONS, Operation
from loadtest.metrics import METRICS, TIMES, UNITS
from loadtest.report.deciding import entry_name, stage_parts
from loadtest.report.limits import as_predicted
from loadtest.report.page import UNKNOWN, Table, TableCell, TableColumns, Tone, table_of
from loadtest.words import NOTHING, capital, count, counted, quantity, quoted, share, signed, times_as

_LABELS: Final = {
    "throttled_rate": "429 rate of operations",
    "requests.throttled_rate": "429 rate of requests",
    "execution_time": "executionTime",
    "overhead": "wait beyond executionTime",
}
_BEST: Final = {
    "overhead": "waits least, {} beyond executionTime",
    "response_time": "is fastest, {}",
    "time_to_result": "shows results soonest, {}",
}
_SOONEST: Final = "shows results soonest, {} after executionTime"
"""Replaces the text of ``overhead`` in ``_BEST`` if all sides are async runs."""
_PRICE: Final = "requests_per_operation"
_TIMES: Final = {1.0: "a whole quota", 2.0: "twice the quota"}
_NUMBERS: Final = {2: "two", 3: "three", 4: "four", 5: "five"}
_MOST_NAMED: Final = 3
"""More stages than this, or this many tied alternatives, are counted in a clause, not named."""


def answer(findings: Findings) -> str:
    """Return the answer as a clause without a full stop; empty without a comparison, mistake or burst of a quota."""
    found = findings.answers
    if not found:
        return _mistakes(findings) or _bursts(findings)
    if by_duration := _by_duration(findings):
        return by_duration
    first = next((one for one in found if one.kind == "effect" and _changed(one)), found[0])
    text = _effect(first) if first.kind == "effect" else _alternatives(findings, first)
    return text + (f" ({counted(len(found) - 1, 'more comparison')} below)" if found[1:] else "")


def label(metric: str) -> str:
    """Return a metric's name: ``response time p50``, ``429 rate of requests``, ``requests per operation``."""
    name, _, statistic = metric.partition(".")
    return _LABELS.get(metric) or f"{_LABELS.get(name, name)} {statistic}".replace("_", " ").rstrip()


def value(figure: SideFigure) -> str:
    """Format a figure with its unit. A time is infinite, shown as ``never``, if too few operations ended ok."""
    if figure.infinite:
        return "never"
    return NOTHING if figure.value is None else quantity(figure.value, figure.unit)


def _change(one: SideDifference) -> str:
    """Format a difference's interval (``−3 ms to +5 ms``), or return the reason why there is none."""
    unit = UNITS[one.metric]
    if one.interval is None:
        return one.why
    low, high = one.interval
    if low is not None:
        return f"at least {signed(low, unit)}" if high is None else f"{signed(low, unit)} to {signed(high, unit)}"
    if high is not None:
        return f"at most {signed(high, unit)}"
    return "infinite" if one.told_apart else "any amount"


def _worse_word(metric: str) -> str:
    return "slower" if metric.partition(".")[0] in TIMES else "worse"


def _alternatives(findings: Findings, found: ComparisonAnswer) -> str:
    first, prices = found.by[0], found.by[1:]
    if found.best is None or found.chosen is None:
        return f"none of {quoted(side.name for side in found.sides)} can be chosen by {label(first)}"
    price = found.by.index(_PRICE) if _PRICE in prices else min(1, len(prices))
    best, tied = found.side(found.best), [name for name in found.tied if name != found.best]
    text = f"“{best.name}” {_is_best(findings, found, best.figures[0])}"
    if prices:
        text += f", {_each(best.figures[price])}"
    if found.chosen != found.best:
        return f"{text}; “{found.chosen}” may match it ({_each(found.side(found.chosen).figures[price])})"
    if tied:
        names = quoted(tied) if len(tied) < _MOST_NAMED else f"{len(tied)} alternatives"
        text += f"; {names} may match it"
    if found.worse:
        sign = -1 if METRICS[first].more_is_better else 1
        worst = max((found.side(name) for name in found.worse), key=lambda side: sign * side.figures[0].size)
        text += f"; “{worst.name}” is worst ({value(worst.figures[0])})"
    return text


def _each(figure: SideFigure) -> str:
    """Format requests per operation as ``4.74 requests each``, and any other figure with its name."""
    if figure.metric != _PRICE:
        return f"{label(figure.metric)} {value(figure)}"
    return f"{value(figure)} {'request' if figure.value == 1 else 'requests'} each"


def _is_best(findings: Findings, found: ComparisonAnswer, figure: SideFigure) -> str:
    name, _, statistic = figure.metric.partition(".")
    if name not in _BEST:
        least = "highest" if METRICS[figure.metric].more_is_better else "lowest"
        return f"has the {least} {label(figure.metric)}, {value(figure)}"
    polled = all(findings.record.info.traffic[side.name].operation in POLLED_OPERATIONS for side in found.sides)
    form = _SOONEST if polled and name == "overhead" else _BEST[name]
    return f"{form.format(value(figure))} ({statistic})"


def _by_duration(findings: Findings) -> str:
    """Return a clause on the durations of work at which jobs were chosen over sync runs; empty for other comparisons.

    The clause needs at least two comparisons, each of a sync run with a job, in ascending order of executionTime.
    """
    plans = findings.record.info.traffic
    rows = list[tuple[float, ComparedSide, bool]]()
    if any(found.kind == "effect" for found in findings.answers):
        return ""
    for found in findings.answers:
        sides = {plans[side.name].operation: side for side in found.sides}
        polled = [side for operation, side in sides.items() if operation in POLLED_OPERATIONS]
        if len(found.sides) != 2 or Operation.SYNC_RUN not in sides or not polled:
            return ""
        run = findings.metrics.traffic[sides[Operation.SYNC_RUN].name]
        rows.append((run.execution_time_ms.p50 or 0.0, polled[0], found.chosen == polled[0].name))
    lengths, jobs, won = map(list, zip(*rows, strict=True))
    if len(lengths) < 2 or lengths != sorted(set(lengths)):
        return ""
    which = "each" if all(won) else sum(won) or "none"
    where = f"jobs are chosen at {which} of the {_NUMBERS.get(len(won), len(won))} durations"
    if any(won) and not all(won) and won == sorted(won):
        where = f"jobs are chosen from {quantity(lengths[won.index(True)], 'ms')} on"
    by = findings.answers[0].by
    waits = sorted((side.figures[0] for side in jobs), key=lambda figure: figure.size)
    name, _, statistic = by[0].partition(".")
    span = f"{value(waits[0])} to {value(waits[-1])}"
    text = f"they wait {span} beyond executionTime" if name == "overhead" else f"their {label(name)} is {span}"
    if _PRICE not in by:
        return f"{where}; {text} ({statistic})"
    most = max((side.figures[by.index(_PRICE)] for side in jobs), key=lambda figure: figure.size)
    return f"{where}; {text}, up to {_each(most)}"


def _changed(found: ComparisonAnswer) -> list[SideDifference]:
    return [each for each in found.differences if each.told_apart and matters(found, each)]


def _effect(found: ComparisonAnswer) -> str:
    base, *heads = found.sides
    changed, name = _changed(found), f"“{found.entry}”"
    if not changed:
        kind = "no change that matters" if any(one.told_apart for one in found.differences) else "no measurable change"
        ones = [one for one in found.differences if one.metric == found.by[0]]
        stages = quoted(side.name for side in heads) if len(heads) <= _MOST_NAMED else f"{len(heads)} stages"
        return f"{kind} of {name} in {stages}: {label(found.by[0])} was {value(base.figures[0])}{_at_most(ones)}"
    metric, better = changed[0].metric, changed[0].better
    ones = [one for one in changed if one.metric == metric and one.better is better]
    word = _worse_word(metric)
    if better:
        word = "faster" if word == "slower" else "better"
    stages = quoted(one.head for one in ones) if len(ones) <= _MOST_NAMED else f"{len(ones)} of {len(heads)} stages"
    place = found.by.index(metric)
    figures = sorted((found.side(one.head).figures[place] for one in ones), key=lambda figure: figure.size)
    ends = " to ".join(dict.fromkeys((value(figures[0]), value(figures[-1]))))
    than = f"than in “{base.name}”: {label(metric)} {ends}, against {value(base.figures[place])}"
    return f"{name} is {word} in {stages} {than}"


def matters(found: ComparisonAnswer, one: SideDifference) -> bool:
    """Return False if both ends of a time difference's interval are too small to count in a comparison of runs."""
    if UNITS[one.metric] != "ms" or one.interval is None:
        return True
    base = found.side(one.base).figures[found.by.index(one.metric)].size
    least = max(LEAST_MS, math.expm1(LEAST_RATIO) * base)
    return any(end is None or abs(end) >= least for end in one.interval)


def _at_most(ones: list[SideDifference]) -> str:
    """Return a clause with the range of the changes; empty if a change has no interval."""
    ends = [end for one in ones for end in one.interval or ()]
    if len(ends) < 2 * len(ones):
        return ""
    known, unit = [end for end in ends if end is not None], UNITS[ones[0].metric]
    if len(known) < len(ends):
        return ", its change unbounded on at least one side"
    return f", its change {signed(min(known), unit)} to {signed(max(known), unit)} (95\u00a0%)"


def _mistakes(findings: Findings) -> str:
    found = findings.on_purpose
    if all(one.kind == ERROR_EXPECTED for one in found):
        return ""
    sent, good = sum(one.sent for one in found), sum(one.as_documented for one in found)
    if not sent:
        return "no mistake was sent, so none was tested"
    never = dict.fromkeys(one.kind for one in found if not one.sent)
    untested = f"; not tested: {quoted(never)}" if never else ""
    if good < sent:
        wrong = max(found, key=lambda one: one.sent - one.as_documented)
        least = f"{wrong.kind} least ({count(wrong.as_documented)} of {count(wrong.sent)}){untested}"
        return f"{count(good)} of {count(sent)} mistakes and expected errors were answered as documented; {least}"
    # A service may answer every request with an error, so the text also counts ok operations without mistakes.
    whole = findings.metrics.overall.operations
    others = whole.sent - sent
    rest = f"; {count(whole.ok - good)} of {count(others)} other operations were ok" if others and not never else ""
    return f"all {count(sent)} mistakes and expected errors were answered as documented{untested}{rest}"


def _bursts(findings: Findings) -> str:
    """Return a clause with the accepted operations of the first two bursts that reach the quota."""
    record, found = findings.record, list[str]()
    assumed = record.assumed_limits
    rates = list[tuple[float, float]]()
    if assumed.spec.algorithm == CONCURRENCY:
        return ""
    for key, figures in stage_parts(findings):
        limit = assumed.drawn_on(LIMIT_OF_OPERATION[key.operation])
        counts = figures.operations
        if limit not in record.limits() or not counts.sent:
            continue
        ratio = key.stage.burst / (assumed.limit_on(limit).count * record.quotas_on(limit))
        if ratio < 1:
            continue
        burst, accepted = _TIMES.get(ratio, f"{times_as(ratio)} times the quota"), counts.sent - counts.throttled
        many = f"all {count(accepted)}" if accepted == counts.sent else f"{count(accepted)} of {count(counts.sent)}"
        found.append(f"of {burst} {many}" if found else f"of {burst} at once {many} were accepted")
        seen = figures.requests.throttled_rate
        expected = figures.requests.expected_throttled_rate
        rates += [(seen, expected)] if seen is not None and expected is not None else []
    worst = max(rates, key=lambda rate: abs(rate[0] - rate[1]), default=None)
    return f"{'; '.join(found[:2])}{'' if worst is None else as_predicted(*worst)}"


def answer_tables(findings: Findings) -> tuple[Table, ...]:
    """Return the tables that answer the scenario's question: the comparisons, or else the deliberate mistakes."""
    tables = [_effect_table(one) if one.kind == "effect" else _sides_table(findings, one) for one in findings.answers]
    if not tables and any(one.kind != ERROR_EXPECTED for one in findings.on_purpose):
        tables = [_mistakes_table(findings)]
    return tuple(tables)


def pair_tables(findings: Findings) -> tuple[Table, ...]:
    """Return a table of all pairwise differences for each comparison of alternatives.

    A comparison of two alternatives by one metric is left out: its table of alternatives has the only difference.
    """
    found = (one for one in findings.answers if one.kind == "alternatives")
    return tuple(_pairs_table(one) for one in found if len(one.sides) > 2 or len(one.by) > 1)


def _sides_table(findings: Findings, found: ComparisonAnswer) -> Table:
    def name(side: ComparedSide) -> TableCell:
        parts = ("chosen" if side.name == found.chosen else "", entry_name(findings, side.name).detail)
        return TableCell(side.name, ", ".join(part for part in parts if part), "head")

    against = f"Against “{found.best}”" if found.best is not None else "Against the best"
    columns: TableColumns[ComparedSide] = {
        "Alternative": name,
        "#Sent": lambda side: side.sent,
        "#ok": lambda side: share(side.ok / side.sent if side.sent else None),
        **{f"#{capital(label(metric))}": partial(_figure, place) for place, metric in enumerate(found.by)},
        against: lambda side: _against(found, side),
    }
    sides = sorted(found.sides, key=lambda side: side.name != found.chosen)
    pairs = len(found.differences) // len(found.by)
    note = _note(found, found.by[:1], f"all {pairs} pairs at once" if pairs > 1 else "")
    title = f"{quoted(side.name for side in found.sides)} by {label(found.by[0])}"
    return table_of(title, columns, sides, note)


def _effect_table(found: ComparisonAnswer) -> Table:
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
    changes = len(found.differences)
    note = _note(found, found.by, f"all {changes} changes at once" if changes > 1 else "")
    rows = [(place, side) for place in range(len(found.by)) for side in found.sides]
    return table_of(f"“{found.entry}” in {quoted(side.name for side in found.sides)}", columns, rows, note)


def _pairs_table(found: ComparisonAnswer) -> Table:
    columns: TableColumns[SideDifference] = {
        "Metric": lambda one: capital(label(one.metric)),
        "Alternative": lambda one: one.head,
        "Minus": lambda one: one.base,
        "#n": lambda one: TableCell(count(min(one.n)), "paired" if one.paired else "unpaired"),
        "#Difference": _difference,
        "": _verdict,
    }
    names = quoted(side.name for side in found.sides)
    alone = f"each interval alone has {found.confidence * 100:.4g} %"
    note = f"With 95 % confidence, all intervals of a metric contain the true differences at once; {alone}."
    return table_of(f"Every difference between {names}", columns, found.differences, note)


def _mistakes_table(findings: Findings) -> Table:
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
    note = "A mistake is not tested if it was never sent, or got only 429s."
    return table_of("Deliberate mistakes and their responses", columns, findings.on_purpose, note)


def _figure(place: int, side: ComparedSide) -> TableCell:
    """Return a figure with its interval (``104 ms to 120 ms``), or with the reason why it has none."""
    figure = side.figures[place]
    ends = list[str]()
    if figure.interval is not None:
        low, high = figure.interval
        ends += [] if low is None else [quantity(low, figure.unit)]
        ends.append("never" if high is None else quantity(high, figure.unit))
    tone: Tone = "faint" if figure.value is None and not figure.infinite else ""
    return TableCell(value(figure), " to ".join(ends) or figure.why, tone)


def _difference(one: SideDifference) -> TableCell:
    return TableCell(NOTHING if one.difference is None else signed(one.difference, UNITS[one.metric]), _change(one))


def _against(found: ComparisonAnswer, side: ComparedSide) -> TableCell:
    if found.best is None:
        return UNKNOWN
    if side.name == found.best:
        return TableCell("best", tone="good")
    one = found.between(found.best, side.name, found.by[0])
    if one is None or one.interval is None:
        return TableCell("unknown", "" if one is None else one.why, "unsure")
    shown = _verdict(one, head=one.head == side.name)
    low, high = one.interval
    if one.head != side.name:
        low, high = (None if high is None else -high), (None if low is None else -low)
    return TableCell(shown.text, _change(replace(one, interval=(low, high))), shown.tone)


def _verdict(one: SideDifference, *, head: bool = True, small: bool = False) -> TableCell:
    """Return the verdict on a difference's head, or on its base if ``head`` is false."""
    if one.interval is None:
        return TableCell("not judged", tone="unsure")
    if not one.told_apart:
        return TableCell("cannot be told apart", tone="unsure")
    word = "better" if one.better is head else _worse_word(one.metric)
    if small:
        return TableCell(f"{word}, too little to matter")
    return TableCell(word, tone="good" if one.better is head else "bad")


def _note(found: ComparisonAnswer, by: list[str], compared: str) -> str:
    """Return a note that says which operations count, how arrivals are paired, and what the intervals cover."""
    paired = {each.paired for each in found.differences if each.metric in by}
    how = "Compared pair by pair if arrival k of both sides sends row k of the same inputs, else unpaired."
    if len(paired) == 1:
        alike = "Compared pair by pair: arrivals that sent the same row of the inputs."
        how = alike if paired.pop() else "Compared unpaired."
    each = f" (each alone at {found.confidence * 100:.4g} %)" if found.confidence > 0.9500001 else ""
    text = f"Every operation that was sent counts. Without an ok response, its time is infinite. {how} "
    text += f"The small print has 95 % intervals{compared and f'; those of differences hold for {compared}{each}'}."
    if found.thinned:
        text += " Only the first 100,000 arrivals of a stage are compared."
    if found.bursts:
        text += " A burst comes at one moment of the limiter’s window. The intervals do not cover other moments."
    return text
