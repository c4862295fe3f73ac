"""The answer to a scenario's question in sentences: what its comparisons come to, or else what it did on purpose.

What a scenario compares comes first. Without that, mistakes on purpose are counted, and bursts of a whole quota are
said to be accepted or refused; any other scenario is answered by its times and limits (``headline``).
"""

import math
from collections.abc import Sequence
from typing import Final

from loadtest.analysis.answers import Bounds, ComparedSide, ComparisonAnswer, SideDifference, SideFigure
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import ERROR_EXPECTED, RequestCounts
from loadtest.assumed_limits import CONCURRENCY
from loadtest.compare.changes import LEAST_MS, LEAST_RATIO
from loadtest.contract import LIMIT_OF_OPERATION, Operation
from loadtest.metrics import METRICS, TIMES, UNITS
from loadtest.report.limits import AGREES, assumed_limiter
from loadtest.units import Unit
from loadtest.words import NOTHING, capital, count, joined, quantity, quoted, share, signed, times_as

_LABELS: Final = {
    "throttled_rate": "429 rate",
    "requests.throttled_rate": "429 rate of requests",
    "execution_time": "executionTime",
    "overhead": "wait beyond executionTime",
}
_VERBS: Final = {
    "overhead": "waits {} beyond executionTime",
    "response_time": "takes {}",
    "time_to_result": "has its result after {}",
}
_MOST_TIED: Final = 3
"""Sides that are described in a sentence, of those that cannot be told apart; the table has them all."""
_TIMES: Final = {1.0: "a whole quota", 2.0: "twice the quota"}
_NUMBERS: Final = {2: "the two", 3: "the three"}


def answer(findings: Findings) -> str:
    """The answer, as clauses without a full stop; empty where the scenario neither compares nor errs nor bursts."""
    if findings.answers:
        return ". ".join(capital(sentence(one)) for one in findings.answers)
    return _mistakes(findings) or _bursts(findings)


def label(metric: str) -> str:
    """A metric in words: ``response time p50``, ``429 rate``, ``requests per operation``."""
    if metric in _LABELS:
        return _LABELS[metric]
    name, _, statistic = metric.partition(".")
    text = _LABELS.get(name, name.replace("_", " "))
    return f"{text} {statistic.replace('_', ' ')}" if statistic else text


def value(figure: SideFigure) -> str:
    """A figure with its unit; ``never`` where an arrival that never became ok decides it."""
    if figure.infinite:
        return "never"
    return NOTHING if figure.value is None else quantity(figure.value, figure.unit)


def interval(bounds: Bounds | None, unit: Unit) -> str:
    """An interval with its unit: ``104 ms to 120 ms``; empty without one."""
    if bounds is None:
        return ""
    low, high = bounds
    ends = ("" if low is None else quantity(low, unit), "never" if high is None else quantity(high, unit))
    return " to ".join(end for end in ends if end)


def change(one: SideDifference) -> str:
    """The interval of a difference: ``−3 ms to +5 ms``; why there is none."""
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
    """What the worse side of a metric is: ``slower`` by a time, else ``worse``."""
    return "slower" if metric.partition(".")[0] in TIMES else "worse"


def sentence(found: ComparisonAnswer) -> str:
    """What a comparison comes to, in one sentence without its full stop."""
    return _effect(found) if found.kind == "effect" else _alternatives(found)


def _alternatives(found: ComparisonAnswer) -> str:
    first = found.by[0]
    if found.chosen is None:
        names = quoted(side.name for side in found.sides)
        return f"none of {names} can be chosen by {label(first)}: it is not known, or never reached, for each of them"
    order = [found.chosen, *(name for name in _by_first(found, found.tied) if name != found.chosen)]
    text = "; ".join(_described(found, found.side(name), whole=name == found.chosen) for name in order[:_MOST_TIED])
    n = min(side.figures[0].n for side in found.sides if side.name in (*found.tied, *found.worse))
    parts = []
    if len(order) > 1:
        which = _NUMBERS[len(order)] if len(order) <= _MOST_TIED else quoted(order)
        # By the first metric: the others, which are its price, may well tell them apart.
        parts.append(f"{which} cannot be told apart" + (f" by {label(first)}" if len(found.by) > 1 else ""))
    if found.worse:
        worse = (f"“{name}” ({value(found.side(name).figures[0])})" for name in _by_first(found, found.worse))
        pairs = [found.between(one, other, first) for one in order for other in found.worse]
        than = "" if len(order) == 1 else " than both" if len(order) == 2 else " than these"
        if not all(pair is not None and pair.told_apart for pair in pairs):
            than = f" than “{found.best}”"
        verb = "is" if len(found.worse) == 1 else "are"
        parts.append(f"{joined(list(worse))} {verb} {worse_word(first)}{than}")
    return f"{text}: at n = {count(n)} {', '.join(parts)}" if parts else text


def _by_first(found: ComparisonAnswer, names: Sequence[str]) -> list[str]:
    """By the first metric, the best first; the best one of the tied is that from which the others are not told."""
    reverse = METRICS[found.by[0]].more_is_better
    return sorted(names, key=lambda name: found.side(name).figures[0].size, reverse=reverse)


def _described(found: ComparisonAnswer, side: ComparedSide, *, whole: bool) -> str:
    """``“a” waits 0.7 s beyond executionTime (p50) for 3.6 requests per operation``; shorter unless it is the first."""
    metric, figure, price = found.by[0], side.figures[0], side.figures[1:]
    name, _, statistic = metric.partition(".")
    if figure.infinite:
        said = f"never becomes ok at {statistic}"
    elif name in _VERBS:
        verb, _, rest = _VERBS[name].partition("{}")
        said = f"{verb}{value(figure)}" + (f"{rest} ({statistic})" if whole else "")
    else:
        said = f"has {_with_article(label(metric))} of {value(figure)}" if whole else f"has {value(figure)}"
    costs = [_price(one, whole=whole) for one in price]
    return f"“{side.name}” {said}" + (f" for {' and '.join(costs)}" if costs else "")


def _with_article(text: str) -> str:
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _price(figure: SideFigure, *, whole: bool) -> str:
    """What an alternative costs by one metric: ``3.6 requests per operation``; the number alone after the first."""
    if not whole:
        return value(figure)
    if UNITS[figure.metric] != "number":
        return f"{_with_article(label(figure.metric))} of {value(figure)}"
    name = label(figure.metric)
    return f"{value(figure)} {name.replace('requests', 'request', 1) if figure.value == 1 else name}"


def _effect(found: ComparisonAnswer) -> str:
    base, *heads = found.sides
    changed = [each for each in found.differences if each.told_apart and matters(found, each)]
    n = min(side.figures[0].n for side in found.sides)
    listed = "; ".join(_metric_change(found, metric) for metric in found.by)
    who, against = f"“{found.entry}”", f"“{base.name}”"
    if not changed:
        others = quoted(side.name for side in heads)
        small = any(each.told_apart for each in found.differences)
        told = "no change that matters (5\u00a0% and 1\u00a0ms or more)" if small else "no change"
        return f"{told} of {who} from {against} to {others} can be told at n = {count(n)}: {listed}"
    text = []
    for better, words in ((False, ("slower", "worse")), (True, ("faster", "better"))):
        some = [each for each in changed if each.better is better]
        if some:
            times = all(each.metric.partition(".")[0] in TIMES for each in some)
            here = {each.head for each in some}
            stages = (name for name in dict.fromkeys(each.head for each in changed) if name in here)
            text.append(f"{words[0] if times else words[1]} in {quoted(stages)}")
    return f"{who} is {' and '.join(text)} than in {against}: {listed}"


def matters(found: ComparisonAnswer, one: SideDifference) -> bool:
    """Whether a change of a time reaches the least effect that counts in comparisons of runs; others always do."""
    if one.difference is None or UNITS[one.metric] != "ms":
        return True
    base = found.side(one.base).figures[found.by.index(one.metric)].size
    return abs(one.difference) >= max(LEAST_MS, math.expm1(LEAST_RATIO) * base)


def _metric_change(found: ComparisonAnswer, metric: str) -> str:
    """``response time p50 102 ms → 104 ms (at most +5 ms)``: the whole interval where a change is told."""
    place = found.by.index(metric)
    base, *heads = found.sides
    ones = [one for head in heads if (one := found.between(base.name, head.name, metric)) is not None]
    if len(ones) > 1 and not any(one.told_apart and matters(found, one) for one in ones):
        # Of several stages in which nothing changed, the range is enough: the table has each.
        figures = sorted((head.figures[place] for head in heads), key=lambda one: one.size)
        ends = dict.fromkeys((value(figures[0]), value(figures[-1])))
        return f"{label(metric)} {value(base.figures[place])} → {' to '.join(ends)}{_at_most(ones)}"
    said = []
    for head in heads:
        one = found.between(base.name, head.name, metric)
        where = f" in “{head.name}”" if len(heads) > 1 else ""
        said.append(f"{value(head.figures[place])}{where}{_sure(one)}")
    return f"{label(metric)} {value(base.figures[place])} → {', '.join(said)}"


def _sure(one: SideDifference | None) -> str:
    if one is None or one.interval is None:
        return " (not judged)"
    return f" ({change(one)})" if one.told_apart else _at_most([one])


def _at_most(ones: Sequence[SideDifference]) -> str:
    """How much worse than the baseline the worst of several can be."""
    if any(one.interval is None for one in ones):
        return " (not judged)"
    more = METRICS[ones[0].metric].more_is_better
    worst = [one.interval[0 if more else 1] for one in ones if one.interval is not None]
    known = [each for each in worst if each is not None]
    if len(known) < len(worst):
        return " (by any amount)"
    return f" (at most {signed(min(known) if more else max(known), UNITS[ones[0].metric])})"


def _mistakes(findings: Findings) -> str:
    """How many mistakes were answered as documented; empty where none were to be made."""
    if not any(one.kind != ERROR_EXPECTED for one in findings.on_purpose):
        return ""
    sent, good = sum(one.sent for one in findings.on_purpose), sum(one.as_documented for one in findings.on_purpose)
    told, untested = [], []
    for kind in dict.fromkeys(one.kind for one in findings.on_purpose):
        some = [one for one in findings.on_purpose if one.kind == kind]
        number, refused = sum(one.sent for one in some), sum(one.throttled for one in some)
        name = "errors that the scenario expects" if kind == ERROR_EXPECTED else kind
        if not number:
            untested.append(name)
            continue
        short = f", {count(refused)} got 429 instead" if refused else ""
        told.append(f"{name} {count(sum(one.as_documented for one in some))} of {count(number)}{short}")
    head = f"{count(good)} of {count(sent)} mistakes and expected errors were answered as documented"
    if not sent:
        head = "no mistake was sent, so that no answer to one was tested"
    never = f"; not tested, as none was sent: {', '.join(untested)}" if untested and sent else ""
    whole = findings.metrics.overall.operations
    # What was meant to be right, so that a service which refuses everything does not look correct.
    others = whole.sent - sent
    rest = f"; {count(whole.ok - good)} of {count(others)} other operations were ok" if others else ""
    return head + (f": {', '.join(told)}" if told else "") + never + rest


def _bursts(findings: Findings) -> str:
    """How many of a burst of a whole quota or more were accepted; empty without one."""
    record, told = findings.record, []
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
            times = _TIMES.get(ratio, f"{times_as(ratio)} times the quota")
            sent = f"{count(counts.sent)} {plan.operation.called(counts.sent)}"
            refused = f"{count(counts.throttled)} refused" if counts.throttled else "none refused"
            bad = counts.failed + counts.timed_out
            failed = f", {count(bad)} of the accepted failed or timed out" if bad else ""
            told.append(
                f"{times} at once (“{stage.name}”, {sent}): {count(counts.sent - counts.throttled)} accepted, "
                f"{refused}{failed}{_as_expected(assumed_limiter(findings, limit), figures.requests)}"
            )
    return "; ".join(told)


def _as_expected(limiter: str, requests: RequestCounts) -> str:
    observed, expected = requests.throttled_rate, requests.expected_throttled_rate
    if observed is None or expected is None:
        return ""
    if abs(observed - expected) <= AGREES:
        return f", as {limiter} predicts"
    return f", where {limiter} predicts {share(expected)} refused"
