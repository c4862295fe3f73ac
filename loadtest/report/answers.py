"""The answer to a scenario's question, as a clause about its comparisons, deliberate mistakes or bursts.

If a scenario has none of these, ``headline`` answers with times and limits.
"""

import math
from typing import Final

from loadtest.analysis.answers import Bounds, ComparedSide, ComparisonAnswer, SideDifference, SideFigure
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import ERROR_EXPECTED
from loadtest.assumed_limits import CONCURRENCY
from loadtest.compare.changes import LEAST_MS, LEAST_RATIO
from loadtest.contract import LIMIT_OF_OPERATION, POLLED_OPERATIONS, Operation
from loadtest.metrics import METRICS, TIMES, UNITS
from loadtest.report.deciding import stage_parts
from loadtest.report.limits import as_predicted
from loadtest.units import Unit
from loadtest.words import NOTHING, count, counted, quantity, quoted, signed, times_as

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
"""Used if all sides are jobs. Overhead is then the time from a job's end until its result is seen."""
_PRICE: Final = "requests_per_operation"
_TIMES: Final = {1.0: "a whole quota", 2.0: "twice the quota"}
_NUMBERS: Final = {2: "two", 3: "three", 4: "four", 5: "five"}
_MOST_NAMED: Final = 3
"""A sentence names at most this many stages. More stages are only counted."""


def answer(findings: Findings) -> str:
    """Return the answer as a clause without a full stop; empty without comparisons, mistakes and bursts."""
    found = findings.answers
    if not found:
        return _mistakes(findings) or _bursts(findings)
    if by_duration := _by_duration(findings):
        return by_duration
    first = next((one for one in found if one.kind == "effect" and _changed(one)), found[0])
    text = _effect(first) if first.kind == "effect" else _alternatives(findings, first)
    return text + (f" ({counted(len(found) - 1, 'more comparison')} below)" if found[1:] else "")


def label(metric: str) -> str:
    """Return a metric's name: ``response time p50``, ``429 rate``, ``requests per operation``."""
    if metric in _LABELS:
        return _LABELS[metric]
    name, _, statistic = metric.partition(".")
    return f"{_LABELS.get(name, name)} {statistic}".replace("_", " ").rstrip()


def value(figure: SideFigure) -> str:
    """Format a figure with its unit. An operation that never became ok has an infinite time, shown as ``never``."""
    if figure.infinite:
        return "never"
    return NOTHING if figure.value is None else quantity(figure.value, figure.unit)


def interval(bounds: Bounds | None, unit: Unit) -> str:
    """Format an interval: ``104 ms to 120 ms``; empty without bounds."""
    if bounds is None:
        return ""
    low, high = bounds
    ends = ("" if low is None else quantity(low, unit), "never" if high is None else quantity(high, unit))
    return " to ".join(end for end in ends if end)


def change(one: SideDifference) -> str:
    """Format the interval of a difference (``−3 ms to +5 ms``), or say that it has no bounds."""
    unit = UNITS[one.metric]
    if one.interval is None:
        return one.why
    low, high = one.interval
    if low is None and high is None:
        return "without end" if one.told_apart else "by any amount"
    if low is None or high is None:
        return f"at least {signed(low, unit)}" if low is not None else f"at most {signed(high or 0.0, unit)}"
    return f"{signed(low, unit)} to {signed(high, unit)}"


def worse_word(metric: str) -> str:
    """Return the comparative of a metric: ``slower`` for times, else ``worse``."""
    return "slower" if metric.partition(".")[0] in TIMES else "worse"


def _alternatives(findings: Findings, found: ComparisonAnswer) -> str:
    """Name the best side by the first metric and its price. Then name the worst side, or sides that may match it."""
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
    """Return a price: ``4.74 requests each``."""
    if figure.metric != _PRICE:
        return f"{label(figure.metric)} {value(figure)}"
    return f"{value(figure)} {'request' if figure.value == 1 else 'requests'} each"


def _is_best(findings: Findings, found: ComparisonAnswer, figure: SideFigure) -> str:
    metric = found.by[0]
    name, _, statistic = metric.partition(".")
    if name not in _BEST:
        least = "highest" if METRICS[metric].more_is_better else "lowest"
        return f"has the {least} {label(metric)}, {value(figure)}"
    polled = all(findings.record.info.traffic[side.name].operation in POLLED_OPERATIONS for side in found.sides)
    form = _SOONEST if polled and name == "overhead" else _BEST[name]
    return f"{form.format(value(figure))} ({statistic})"


def _by_duration(findings: Findings) -> str:
    """Return the durations of work at which jobs are better than sync runs; empty for other comparisons.

    Each comparison must have a sync run and a job. Their work must take longer than in the comparison before.
    """
    plans, lengths, jobs, won = findings.record.info.traffic, list[float](), list[ComparedSide](), list[bool]()
    if any(found.kind == "effect" for found in findings.answers):
        return ""
    for found in findings.answers:
        sides = {plans[side.name].operation: side for side in found.sides}
        polled = [side for operation, side in sides.items() if operation in POLLED_OPERATIONS]
        if len(found.sides) != 2 or Operation.SYNC_RUN not in sides or not polled:
            return ""
        run = findings.metrics.traffic[sides[Operation.SYNC_RUN].name]
        lengths.append(run.execution_time_ms.p50 or 0.0)
        jobs.append(polled[0])
        won.append(found.chosen == polled[0].name)
    if len(lengths) < 2 or lengths != sorted(set(lengths)):
        return ""
    several = f"the {_NUMBERS.get(len(won), len(won))} durations"
    where = f"at {sum(won)} of {several}"
    if not any(won) or all(won):
        where = f"at {'each' if any(won) else 'none'} of {several}"
    elif won == sorted(won):
        where = f"from {quantity(lengths[won.index(True)], 'ms')} on"
    return f"{where}: {_of_jobs(jobs, findings.answers[0].by)}"


def _of_jobs(sides: list[ComparedSide], by: list[str]) -> str:
    """Return the range of the jobs' waits over all comparisons, and the requests per job."""
    waits = sorted((side.figures[0] for side in sides), key=lambda figure: figure.size)
    name, _, statistic = by[0].partition(".")
    span = f"{value(waits[0])} to {value(waits[-1])}"
    text = f"jobs wait {span} beyond executionTime" if name == "overhead" else f"{label(name)} of jobs is {span}"
    if _PRICE not in by:
        return f"{text} ({statistic})"
    most = max((side.figures[by.index(_PRICE)] for side in sides), key=lambda figure: figure.size)
    return f"{text}, up to {_each(most)}"


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
    word = worse_word(metric)
    if better:
        word = "faster" if word == "slower" else "better"
    stages = quoted(one.head for one in ones) if len(ones) <= _MOST_NAMED else f"{len(ones)} of {len(heads)} stages"
    place = found.by.index(metric)
    figures = sorted((found.side(one.head).figures[place] for one in ones), key=lambda figure: figure.size)
    ends = " to ".join(dict.fromkeys((value(figures[0]), value(figures[-1]))))
    than = f"than in “{base.name}”: {label(metric)} {ends}, against {value(base.figures[place])}"
    return f"{name} is {word} in {stages} {than}"


def matters(found: ComparisonAnswer, one: SideDifference) -> bool:
    """Whether a difference may matter. A time's interval must reach the minimum effect of comparisons of runs."""
    if UNITS[one.metric] != "ms" or one.interval is None:
        return True
    base = found.side(one.base).figures[found.by.index(one.metric)].size
    least = max(LEAST_MS, math.expm1(LEAST_RATIO) * base)
    return any(end is None or abs(end) >= least for end in one.interval)


def _at_most(ones: list[SideDifference]) -> str:
    """Return the lowest and highest bound of the changes; empty if a change has no interval."""
    ends = [end for one in ones for end in one.interval or ()]
    if len(ends) < 2 * len(ones):
        return ""
    known, unit = [end for end in ends if end is not None], UNITS[ones[0].metric]
    if len(known) < len(ends):
        return ", and may have changed by any amount"
    return f", its change {signed(min(known), unit)} to {signed(max(known), unit)} (95\u00a0%)"


def _mistakes(findings: Findings) -> str:
    """Return how many deliberate mistakes were answered as documented; empty if none were planned."""
    found = findings.on_purpose
    if all(one.kind == ERROR_EXPECTED for one in found):
        return ""
    sent, good = sum(one.sent for one in found), sum(one.as_documented for one in found)
    if not sent:
        return "no mistake was sent, so none was tested"
    never = dict.fromkeys(one.kind for one in found if not one.sent)
    untested = f"; {quoted(never)} was not tested" if never else ""
    if good < sent:
        wrong = max(found, key=lambda one: one.sent - one.as_documented)
        least = f"{wrong.kind} least ({count(wrong.as_documented)} of {count(wrong.sent)})"
        return f"{count(good)} of {count(sent)} mistakes were answered as documented; {least}{untested}"
    # The text also counts correct operations that were ok, because a service that rejects everything is not correct.
    whole = findings.metrics.overall.operations
    others = whole.sent - sent
    rest = f"; {count(whole.ok - good)} of {count(others)} other operations were ok" if others and not never else ""
    return f"all {count(sent)} mistakes and expected errors were answered as documented{untested}{rest}"


def _bursts(findings: Findings) -> str:
    """Return how many operations of each large burst were accepted. A burst is large if it reaches the quota."""
    record, found = findings.record, list[str]()
    assumed, rates = record.assumed_limits, list[tuple[float | None, float | None]]()
    for key, figures in stage_parts(findings):
        limit = assumed.drawn_on(LIMIT_OF_OPERATION[key.operation])
        if assumed.spec.algorithm == CONCURRENCY or limit not in record.limits():
            continue
        counts, ratio = figures.operations, key.stage.burst / (assumed.limit_on(limit).count * record.quotas_on(limit))
        if ratio < 1 or not counts.sent:
            continue
        burst, accepted = _TIMES.get(ratio, f"{times_as(ratio)} times the quota"), counts.sent - counts.throttled
        many = f"all {count(accepted)}" if accepted == counts.sent else f"{count(accepted)} of {count(counts.sent)}"
        found.append(f"of {burst} {many}" if found else f"of {burst} at once {many} were accepted")
        rates.append((figures.requests.throttled_rate, figures.requests.expected_throttled_rate))
    known = [(seen, expected) for seen, expected in rates if seen is not None and expected is not None]
    worst = max(known, key=lambda rate: abs(rate[0] - rate[1]), default=None)
    return f"{'; '.join(found[:2])}{'' if worst is None else as_predicted(*worst)}"
