"""An audit of a history: the rule's false-alarm rate over it, and the smallest changes it can detect. Pure.

Every accepted run is assumed to be unchanged. Each is left out of its baseline period in turn and compared with all
other runs (leave-one-out); if it is suspected, the next run serves as its rerun. The rule is the real one, but a real
rerun follows within minutes and shares more of the environment.
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
"""Minimum number of runs of a replayable baseline period: a compared run, its rerun, and a history."""
PLAIN_RATIO: Final = 1.10
"""The rule of thumb shown for comparison: an alarm if any time or rate is worse by more than 10 %."""
CHECKS_A_YEAR: Final = 365


class AlarmRate(msgspec.Struct, frozen=True, kw_only=True):
    """A number of replayed checks with a certain result.

    Attributes:
        count: number of these checks.
        of: number of all replayed checks.
        share: 0-1.
        upper: 95 % upper bound of the share (Clopper-Pearson, one-sided); the checks are assumed to be independent.
        a_year: number per year at one check a night.
        a_year_upper: the same, at the upper bound.
    """

    count: int
    of: int
    share: float
    upper: float
    a_year: float
    a_year_upper: float


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """The changes that the rule can detect in one metric; medians over the replayed checks.

    Attributes:
        value: of the accepted runs; unit by the metric.
        sd: standard deviation between runs, on the metric's scale, as the rule uses it.
        detectable: the smallest change for the worse that it finds in 80 % of cases, as a ratio; None if unknown.
        checks: number of replayed checks that compared it.
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
        accepted: number of accepted runs.
        replayed: number of replayed runs; a baseline period of fewer than ``LEAST`` runs is not replayed.
        segments: baseline periods of comparable runs between accepted changes.
        false_alarms: checks suspected and confirmed by the next run.
        reruns: suspected checks: each would have cost a rerun.
        plain: alarms of the rule "any time or rate is more than 10 % worse than the mean of the other runs".
        metrics: detectable changes in the latest replayed baseline period.
        verdicts: number of recorded runs by verdict.
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
    """Judge one run as if it were the latest, with a neighbour as its rerun."""
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
