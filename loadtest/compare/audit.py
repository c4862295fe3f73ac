"""The audit of a history: its changes, the rule's false-alarm rate, and the minimum detectable changes.

The rule is replayed only on stretches of runs without a step or trend. Each of a stretch's first 30 runs is compared
with the others of these 30, each later run with the runs before it. If a regression is suspected, a neighbouring run
serves as the rerun. A real rerun follows within minutes, in a more similar environment, so it may confirm more
false alarms.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from loadtest.compare.history import History, HistoryRun, segments
from loadtest.compare.measurements import Key, Metric, RunMeasurements, mismatch
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.rule import ANCHOR, LEAST_RUNS, WINDOW, judge_history
from loadtest.compare.shifts import HistoryChange, find_changes
from loadtest.compare.verdict import TESTABLE, suspects
from loadtest.stats.shares import clopper_pearson

LEAST: Final = LEAST_RUNS + 2
"""Stretches with fewer runs are not replayed. A replay needs a history, a compared run and its rerun."""
MOST_REPLAYS: Final = 300
"""At most this many checks are replayed, evenly spaced. If none is a false alarm, the rate's upper bound is 1 %."""
CHECKS_A_YEAR: Final = 365


class AlarmRate(msgspec.Struct, frozen=True, kw_only=True):
    """The rate of one result, such as a false alarm, among the replayed checks.

    Rates a year assume one check a night. The upper bounds (one-sided, 95 %, Clopper-Pearson) assume that checks are
    independent.
    """

    count: int
    of: int
    share: float
    upper: float
    a_year: float
    a_year_upper: float


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """The minimum detectable change of one metric. The values are medians over the replayed checks.

    Attributes:
        value: value of the metric, in its unit.
        sd: standard deviation between runs, on the metric's scale.
        detectable: the smallest worsening that is found in 80 % of cases, as a ratio; None if unknown.
        detectable_value: value of a share after the minimum detectable change.
    """

    traffic: str
    stage: str
    metric: Metric
    value: float
    sd: float | None
    detectable: float | None
    detectable_value: float | None
    checks: int


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The audit of a history.

    Attributes:
        replayed: number of replayed checks, at most ``MOST_REPLAYS``.
        calm: number of runs that could be replayed: those in stretches of at least ``LEAST`` runs without a change.
        segments: number of baseline periods of comparable runs.
        changes: steps, trends and odd runs within the baseline periods, oldest first.
        false_alarms: replayed checks whose suspected regression the rerun confirmed, although nothing changed.
        reruns: replayed checks that suspected a regression. Each would have cost a rerun.
        metrics: minimum detectable changes in the latest replayed stretch.
    """

    accepted: int
    replayed: int
    calm: int
    segments: int
    changes: tuple[HistoryChange, ...]
    false_alarms: AlarmRate
    reruns: AlarmRate
    metrics: tuple[Sensitivity, ...]
    verdicts: dict[str, int]


def audit(history: History, track: Callable[[Sequence[int]], Iterable[int]] = iter) -> Audit:
    """Find the changes in a history, and replay the rule on the runs between them. ``track`` shows progress."""
    accepted = [each for each in history.runs if each.status == "accepted"]
    cut = (part for group in _comparable(accepted) for part in segments(group))
    parts = [[_testable(each.measurements) for each in part] for part in cut]
    parts.sort(key=lambda part: part[-1].started)
    found = [find_changes(part) for part in parts]
    calm = [stretch for _, stretches in found for stretch in stretches if len(stretch) >= LEAST]
    places = [(number, place) for number, stretch in enumerate(calm) for place in range(len(stretch))]
    chosen = [at * len(places) // min(len(places), MOST_REPLAYS) for at in range(min(len(places), MOST_REPLAYS))]
    replays = [(number, *_replay(calm[number], place)) for number, place in (places[at] for at in track(chosen))]
    return Audit(
        accepted=len(accepted),
        replayed=len(replays),
        calm=len(places),
        segments=len(parts),
        changes=tuple(sorted((each for changes, _ in found for each in changes), key=lambda each: each.started)),
        false_alarms=_rate(sum(confirmed for *_, confirmed in replays), len(replays)),
        reruns=_rate(sum(bool(suspects(comparison)) for _, comparison, _ in replays), len(replays)),
        metrics=_sensitivity([comparison for number, comparison, _ in replays if number == len(calm) - 1]),
        verdicts=dict(Counter(each.line.verdict for each in history.runs).most_common()),
    )


def _testable(run: RunMeasurements) -> RunMeasurements:
    """Leave out measurements that no verdict uses. Replaying them would take most of the time."""
    kept = tuple(one for one in run.measurements if one.metric in TESTABLE)
    return msgspec.structs.replace(run, measurements=kept)


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


def _replay(runs: Sequence[RunMeasurements], place: int) -> tuple[RunComparison, bool]:
    """Judge a run, with a neighbour as its rerun. Return the comparison, and whether the rerun regressed, too."""
    rerun = place + 1 if place + 1 < len(runs) else place - 1
    known = range(max(place, min(len(runs), ANCHOR + WINDOW)))
    others = [runs[number] for number in known if number not in {place, rerun}]
    others = others[:ANCHOR] + others[ANCHOR:][-WINDOW:]
    comparison = judge_history(others, runs[place])
    keys = suspects(comparison)
    return comparison, bool(keys) and judge_history(others, runs[rerun], confirming=keys).word == "regressed"


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
            detectable_value=_median([one.detectable_value for one in checks]),
            checks=len(checks),
        )
        for key, checks in found.items()
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
