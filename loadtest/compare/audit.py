"""An audit of a history: how often the rule would have cried wolf over it, and what it could have seen. Pure.

Every accepted run is taken for one in which nothing changed. Each is left out of its segment in turn and compared with
all others (leave-one-out); where it is suspected, the run after it takes the place of the rerun. The rule is the real
one; only the rerun is a stand-in: a real one follows within minutes and shares more of its surroundings.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from loadtest.compare.history import History, HistoryRun, segments
from loadtest.compare.measurements import NATURES, Key, Metric, RunMeasurements, mismatch
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.rule import LEAST_RUNS, judge_history
from loadtest.compare.verdict import suspects
from loadtest.stats.shares import clopper_pearson

LEAST: Final = LEAST_RUNS + 2
"""Runs of a segment that can be replayed: one is compared, one is its rerun, and the rest has to be a history."""
PLAIN_RATIO: Final = 1.10
"""The rule of thumb that is shown beside: an alarm where any time or rate is worse by more than 10 %."""
CHECKS_A_YEAR: Final = 365


class AlarmRate(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the replayed checks ended in something.

    Attributes:
        count: how many did.
        of: how many there were.
        share: 0-1.
        upper: 95 % upper bound of the share (Clopper-Pearson, one-sided); the checks are taken as independent.
        a_year: how many that are a year at one check a night.
        a_year_upper: likewise, at the upper bound.
    """

    count: int
    of: int
    share: float
    upper: float
    a_year: float
    a_year_upper: float


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """What the rule can see of one metric, medians over the replayed checks.

    Attributes:
        value: of the accepted runs; unit by the metric.
        sd: from run to run, on the metric's scale, as the rule takes it.
        detectable: the smallest change for the worse that it finds in 80 % of cases, as a ratio; None where unknown.
        checks: in how many replayed checks it was compared.
    """

    traffic: str
    stage: str
    metric: Metric
    value: float
    sd: float | None
    detectable: float | None
    checks: int


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The audit of a history.

    Attributes:
        accepted: accepted runs.
        replayed: those that were replayed; segments of fewer than ``LEAST`` runs cannot be.
        segments: stretches between accepted changes, of comparable runs.
        false_alarms: suspected, and confirmed by the run after it.
        reruns: suspected: each would have cost one more run.
        plain: what "any time or rate is worse than the mean of the others by more than 10 %" would have alarmed at.
        metrics: what the rule can see in the latest segment that was replayed.
        verdicts: how many recorded runs got which verdict.
    """

    accepted: int
    replayed: int
    segments: int
    false_alarms: AlarmRate
    reruns: AlarmRate
    plain: AlarmRate
    metrics: tuple[Sensitivity, ...]
    verdicts: dict[str, int]


def audit(history: History) -> Audit:
    """Replay the rule over a history."""
    accepted = [each for each in history.runs if each.status == "accepted"]
    parts = [part for group in _comparable(accepted) for part in segments(group)]
    parts.sort(key=lambda part: part[-1].measurements.started)
    long = [[each.measurements for each in part] for part in parts if len(part) >= LEAST]
    replays = [[_replay(part, place) for place in range(len(part))] for part in long]
    everything = [each for part in replays for each in part]
    return Audit(
        accepted=len(accepted),
        replayed=len(everything),
        segments=len(parts),
        false_alarms=_rate(sum(each.confirmed for each in everything), len(everything)),
        reruns=_rate(sum(each.suspected for each in everything), len(everything)),
        plain=_rate(sum(each.plain for each in everything), len(everything)),
        metrics=_sensitivity([each.comparison for each in replays[-1]]) if replays else (),
        verdicts=dict(Counter(each.line.verdict for each in history.runs).most_common()),
    )


def _rate(count: int, of: int) -> AlarmRate:
    share, upper = (count / of if of else 0.0), clopper_pearson(count, of)
    return AlarmRate(
        count=count, of=of, share=share, upper=upper, a_year=share * CHECKS_A_YEAR, a_year_upper=upper * CHECKS_A_YEAR
    )


def _comparable(runs: Sequence[HistoryRun]) -> list[list[HistoryRun]]:
    """Runs in groups that can be compared with one another, in order."""
    groups: list[list[HistoryRun]] = []
    for run in runs:
        for group in groups:
            if not mismatch(group[-1].measurements, run.measurements):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


class _Replay(NamedTuple):
    comparison: RunComparison
    suspected: bool
    confirmed: bool
    plain: bool


def _replay(runs: Sequence[RunMeasurements], place: int) -> _Replay:
    """One run as if it were the latest, and a neighbour as its rerun."""
    rerun = place + 1 if place + 1 < len(runs) else place - 1
    others = [run for number, run in enumerate(runs) if number not in {place, rerun}]
    comparison = judge_history(others, runs[place])
    keys = set(suspects(comparison))
    confirmed = bool(keys) and judge_history(others, runs[rerun], confirming=keys).word == "regressed"
    return _Replay(comparison, bool(keys), confirmed, _worse_by_plain_ratio(others, runs[place]))


def _worse_by_plain_ratio(others: Sequence[RunMeasurements], run: RunMeasurements) -> bool:
    values: defaultdict[Key, list[float]] = defaultdict(list)
    for one in (each for other in others for each in other.measurements):
        values[one.key].append(one.value)
    for one in run.measurements:
        nature, base = NATURES[one.metric], statistics.fmean(values[one.key] or [0.0])
        if one.gated and nature.scale == "log" and base > 0 and one.value > 0:
            ratio = one.value / base if nature.worse > 0 else base / one.value
            if ratio > PLAIN_RATIO:
                return True
    return False


def _sensitivity(comparisons: Sequence[RunComparison]) -> tuple[Sensitivity, ...]:
    found: defaultdict[Key, list[MetricComparison]] = defaultdict(list)
    for one in (each for comparison in comparisons for each in comparison.metrics):
        if one.gated and one.head is not None:
            found[one.key].append(one)
    return tuple(
        Sensitivity(
            **key._asdict(),
            value=_median([one.head for one in checks]) or 0.0,
            sd=_median([one.sd for one in checks]),
            detectable=_median([one.detectable for one in checks]),
            checks=len(checks),
        )
        for key, checks in found.items()
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
