"""The answer to a scenario's question in a sentence: its comparisons, or else its deliberate mistakes or bursts.

Any other scenario is answered by its times and limits (``headline``).
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
from loadtest.report.limits import AGREES
from loadtest.units import Unit
from loadtest.words import NOTHING, count, counted, quantity, quoted, share, signed, times_as

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
"""For compared jobs, overhead is the time from a job's end until its result is seen."""
_PRICE: Final = "requests_per_operation"
_TIMES: Final = {1.0: "a whole quota", 2.0: "twice the quota"}
_NUMBERS: Final = {2: "two", 3: "three", 4: "four", 5: "five"}
_MOST_NAMED: Final = 3
"""Maximum number of stages that a sentence names; it counts further stages."""


def answer(findings: Findings) -> str:
    """Return the answer as a clause without a full stop; empty without comparisons, mistakes and bursts."""
    if not findings.answers:
        return _mistakes(findings) or _bursts(findings)
    if by_duration := _by_duration(findings):
        return by_duration
    told = [(_sentence(findings, one), one) for one in findings.answers]
    first = next((text for text, one in told if one.kind == "effect" and _changed(one)), told[0][0])
    return first + (f" ({counted(len(told) - 1, 'more comparison')} below)" if told[1:] else "")


def label(metric: str) -> str:
    """Return a metric's name: ``response time p50``, ``429 rate``, ``requests per operation``."""
    if metric in _LABELS:
        return _LABELS[metric]
    name, _, statistic = metric.partition(".")
    text = _LABELS.get(name, name.replace("_", " "))
    return f"{text} {statistic.replace('_', ' ')}" if statistic else text


def value(figure: SideFigure) -> str:
    """Format a figure with its unit; ``never`` if an arrival that never became ok determines it."""
    if figure.infinite:
        return "never"
    return NOTHING if figure.value is None else quantity(figure.value, figure.unit)


def interval(bounds: Bounds | None, unit: Unit) -> str:
    """Format an interval: ``104 ms to 120 ms``; empty without one."""
    if bounds is None:
        return ""
    low, high = bounds
    ends = ("" if low is None else quantity(low, unit), "never" if high is None else quantity(high, unit))
    return " to ".join(end for end in ends if end)


def change(one: SideDifference) -> str:
    """Format the interval of a difference: ``−3 ms to +5 ms``; or the reason for having none."""
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


def _sentence(findings: Findings, found: ComparisonAnswer) -> str:
    return _effect(found) if found.kind == "effect" else _alternatives(findings, found)


def _alternatives(findings: Findings, found: ComparisonAnswer) -> str:
    """Return the best side by the first metric, its price, and the worst or a cheaper equivalent side."""
    first = found.by[0]
    if found.best is None or found.chosen is None:
        return f"none of {quoted(side.name for side in found.sides)} can be chosen by {label(first)}"
    best, tied = found.side(found.best), [name for name in found.tied if name != found.best]
    polled = all(findings.record.info.traffic[side.name].operation in POLLED_OPERATIONS for side in found.sides)
    text, others = f"“{best.name}” {_is_best(first, best.figures[0], polled=polled)}", list[str]()
    place = found.by.index(_PRICE) if _PRICE in found.by[1:] else 1
    if found.by[1:]:
        price = value(best.figures[place])
        text += (
            f", for {price} requests each" if found.by[place] == _PRICE else f", at {label(found.by[place])} {price}"
        )
    if found.chosen != found.best:
        others = [f"“{found.chosen}” ({value(found.side(found.chosen).figures[place])}) cannot be told apart"]
    elif tied:
        others = [f"{quoted(tied) if len(tied) < _MOST_NAMED else f'{len(tied)} others'} cannot be told apart"]
    if found.chosen == found.best and found.worse:
        more = METRICS[first].more_is_better
        worst = (min if more else max)(
            (found.side(name) for name in found.worse), key=lambda side: side.figures[0].size
        )
        others.append(f"“{worst.name}” is worst ({value(worst.figures[0])})")
    return "; ".join((text, *others))


def _is_best(metric: str, figure: SideFigure, *, polled: bool) -> str:
    name, _, statistic = metric.partition(".")
    if name in _BEST:
        form = _SOONEST if polled and name == "overhead" else _BEST[name]
        return f"{form.format(value(figure))} ({statistic})"
    least = "highest" if METRICS[metric].more_is_better else "lowest"
    return f"has the {least} {label(metric)}, {value(figure)}"


def _by_duration(findings: Findings) -> str:
    """Return the durations at which jobs are better than sync runs; empty for other comparisons.

    Each comparison must have a sync run and a job, with longer work than the comparison before it.
    """
    traffic, pairs = findings.metrics.traffic, []
    if any(found.kind == "effect" for found in findings.answers):
        return ""
    for found in findings.answers:
        kinds = {side.name: Operation(findings.record.info.traffic[side.name].operation) for side in found.sides}
        jobs = [name for name, kind in kinds.items() if kind in POLLED_OPERATIONS]
        runs = [name for name, kind in kinds.items() if kind == Operation.SYNC_RUN]
        if len(kinds) != 2 or len(jobs) != 1 or len(runs) != 1:
            return ""
        pairs.append((found, jobs[0], traffic[runs[0]].execution_time_ms.p50 or 0.0))
    lengths = [length for *_, length in pairs]
    if len(pairs) < 2 or lengths != sorted(set(lengths)):
        return ""
    won = [found.chosen == jobs for found, jobs, _ in pairs]
    many = _NUMBERS.get(len(pairs), str(len(pairs)))
    where = f"at {sum(won)} of the {many} durations"
    if not any(won) or all(won):
        where = f"at {'each' if any(won) else 'none'} of the {many} durations"
    elif won == sorted(won):
        where = f"from {quantity(lengths[won.index(True)], 'ms')} on"
    sides = [found.side(jobs) for found, jobs, _ in pairs]
    return f"{where}: {_of_jobs(sides, pairs[0][0].by)}"


def _of_jobs(sides: list[ComparedSide], by: list[str]) -> str:
    """Return the jobs' waits over several comparisons, and their requests per job."""
    waits = sorted((side.figures[0] for side in sides), key=lambda one: one.size)
    name, _, statistic = by[0].partition(".")
    verb = {"overhead": "wait {} beyond executionTime"}.get(name, f"{label(name)} of jobs is {{}}")
    text = verb.format(f"{value(waits[0])} to {value(waits[-1])}")
    text = f"jobs {text}" if name == "overhead" else text
    if _PRICE not in by:
        return f"{text} ({statistic})"
    most = max((side.figures[by.index(_PRICE)] for side in sides), key=lambda one: one.size)
    return f"{text}, for up to {value(most)} requests each"


def _changed(found: ComparisonAnswer) -> list[SideDifference]:
    return [each for each in found.differences if each.told_apart and matters(found, each)]


def _effect(found: ComparisonAnswer) -> str:
    base, *heads = found.sides
    changed, name = _changed(found), f"“{found.entry}”"
    if not changed:
        small = any(each.told_apart for each in found.differences)
        metric, figure = found.by[0], base.figures[0]
        ones = [one for one in found.differences if one.metric == metric]
        stages = quoted(side.name for side in heads) if len(heads) <= _MOST_NAMED else f"{len(heads)} stages"
        what = "no change that matters" if small else "no measurable change"
        return f"{what} of {name} in {stages}: {label(metric)} was {value(figure)}{_at_most(ones)}"
    metric, better = changed[0].metric, changed[0].better
    ones = [each for each in changed if each.metric == metric and each.better is better]
    times = metric.partition(".")[0] in TIMES
    word = ("faster" if times else "better") if better else worse_word(metric)
    stages = quoted(each.head for each in ones)
    if len(ones) > _MOST_NAMED:
        stages = f"{len(ones)} of {len(heads)} stages"
    place = found.by.index(metric)
    figures = sorted((found.side(each.head).figures[place] for each in ones), key=lambda one: one.size)
    ends = " to ".join(dict.fromkeys((value(figures[0]), value(figures[-1]))))
    than = f"than in “{base.name}”: {label(metric)} {ends}, against {value(base.figures[place])}"
    return f"{name} is {word} in {stages} {than}"


def matters(found: ComparisonAnswer, one: SideDifference) -> bool:
    """Whether a difference may matter: a time's interval reaches the minimum effect used between runs."""
    if UNITS[one.metric] != "ms" or one.interval is None:
        return True
    base = found.side(one.base).figures[found.by.index(one.metric)].size
    least = max(LEAST_MS, math.expm1(LEAST_RATIO) * base)
    return any(end is None or abs(end) >= least for end in one.interval)


def _at_most(ones: list[SideDifference]) -> str:
    """Return the ends between which all of several changes lie."""
    if any(one.interval is None for one in ones):
        return ""
    ends = [end for one in ones if one.interval is not None for end in one.interval]
    known = [end for end in ends if end is not None]
    if len(known) < len(ends):
        return ", and may have changed by any amount"
    unit = UNITS[ones[0].metric]
    return f", its change {signed(min(known), unit)} to {signed(max(known), unit)} (95\u00a0%)"


def _mistakes(findings: Findings) -> str:
    """Return how many deliberate mistakes were answered as documented; empty if none were planned."""
    if all(one.kind == ERROR_EXPECTED for one in findings.on_purpose):
        return ""
    sent, good = sum(one.sent for one in findings.on_purpose), sum(one.as_documented for one in findings.on_purpose)
    if not sent:
        return "no mistake was sent, so none was tested"
    never = [one.kind for one in findings.on_purpose if not one.sent]
    untested = f"; {quoted(dict.fromkeys(never))} was not tested" if never else ""
    whole = findings.metrics.overall.operations
    # Correct operations count too: a service that rejects everything is not correct.
    others = whole.sent - sent
    rest = f"; {count(whole.ok - good)} of {count(others)} other operations were ok" if others and not never else ""
    if good < sent:
        wrong = max(findings.on_purpose, key=lambda one: one.sent - one.as_documented)
        told = f"{count(good)} of {count(sent)} mistakes were answered as documented"
        return f"{told}; {wrong.kind} least ({count(wrong.as_documented)} of {count(wrong.sent)}){untested}"
    return f"all {count(sent)} mistakes and expected errors were answered as documented{untested}{rest}"


def _bursts(findings: Findings) -> str:
    """Return how many operations of a burst of at least a quota were accepted; empty without such a burst."""
    record, told = findings.record, list[str]()
    agrees = []
    for name, plan in record.info.traffic.items():
        limit = record.assumed_limits.drawn_on(LIMIT_OF_OPERATION[Operation(plan.operation)])
        if record.assumed_limits.spec.algorithm == CONCURRENCY or limit not in record.limits():
            continue
        quota = record.assumed_limits.limit_on(limit).count * record.quotas_on(limit)
        for stage in plan.stages:
            figures = findings.metrics.traffic[name].stages.get(stage.name)
            if figures is None or not figures.operations.sent or stage.burst < quota:
                continue
            counts, ratio = figures.operations, stage.burst / quota
            what = _TIMES.get(ratio, f"{times_as(ratio)} times the quota")
            accepted = counts.sent - counts.throttled
            many = f"all {count(accepted)}" if accepted == counts.sent else f"{count(accepted)} of {count(counts.sent)}"
            told.append(f"of {what} {many}" if told else f"of {what} at once {many} were accepted")
            agrees.append((figures.requests.throttled_rate, figures.requests.expected_throttled_rate))
    return f"{'; '.join(told[:2])}{_as_expected(agrees)}" if told else ""


def _as_expected(rates: list[tuple[float | None, float | None]]) -> str:
    known = [(seen, expected) for seen, expected in rates if seen is not None and expected is not None]
    wrong = [expected for seen, expected in known if abs(seen - expected) > AGREES]
    if wrong:
        return f", where {share(wrong[-1])} were expected to get 429"
    return ", as predicted" if known else ""
