"""Findings in as few sentences as they have causes: entries that changed alike are named together."""

from collections.abc import Callable, Sequence
from typing import Final

from loadtest.regression.measurements import NATURES
from loadtest.regression.results import Finding, MetricComparison
from loadtest.regression.sentences import alike_sentence, in_percent, where

_MOST: Final = 3
Interval = tuple[float, float]


def summary(findings: Sequence[Finding], metrics: Sequence[MetricComparison]) -> str:
    """Findings in sentences, without the last full stop; after three of them, how many more findings there are."""
    groups = alike(findings)
    texts = [_sentence(group, metrics) for group in groups[:_MOST]]
    if left := sum(len(group) for group in groups[_MOST:]):
        texts.append(f"{left} more finding{'' if left == 1 else 's'}")
    return ". ".join(texts)


def alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings in groups that one cause explains: the same metric, and a common value in all intervals.

    The first finding of a group leads it, unless it is of a time below 20 ms and others are not: +20 ms of something
    that does nothing is the most certain, and the least of interest. What changed by as many ms and what changed by the
    same ratio are both alike; the reading that explains more entries is taken.
    """
    left, groups = list(findings), []
    while left:
        same = [one for one in left if (one.kind, one.cause.metric) == (left[0].kind, left[0].cause.metric)]
        group = max(_sharing(same, _difference), _sharing(same, _ratio), key=len)
        groups.append(sorted(group, key=lambda one: not in_percent(one.cause)))
        left = [one for one in left if all(one is not member for member in group)]
    return groups


def _sharing(same: Sequence[Finding], interval: Callable[[MetricComparison], Interval | None]) -> list[Finding]:
    """The first finding, and each other one while all intervals have a value in common."""
    common = interval(same[0].cause)
    group = [same[0]]
    for one in same[1:]:
        other = interval(one.cause)
        if common is None or other is None:
            continue
        low, high = max(common[0], other[0]), min(common[1], other[1])
        if low <= high:
            common = (low, high)
            group.append(one)
    return group


def _difference(one: MetricComparison) -> Interval | None:
    return one.difference_interval


def _ratio(one: MetricComparison) -> Interval | None:
    return None if NATURES[one.metric].scale == "logit" else one.ratio_interval


def _sentence(group: Sequence[Finding], metrics: Sequence[MetricComparison]) -> str:
    """A finding's own sentence; of several what they have in common, and the figures of the first."""
    if len(group) == 1:
        return group[0].sentence
    causes = [one.cause for one in group]
    labels = [where((one.traffic, one.stage), metrics) for one in causes]
    shown = dict.fromkeys(symptom.metric for one in group for symptom in one.symptoms)
    return alike_sentence(labels, causes, list(shown))
