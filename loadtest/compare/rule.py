"""The rule that compares a run with accepted earlier runs.

Each metric has a prediction interval from the latest runs of the baseline period, to find sudden changes. If the period
is long enough, a second interval from its first runs finds slow drift, which the latest runs share.
``changes.py`` estimates changes and their variance, and ``verdict.py`` reaches the verdict.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from loadtest.compare import verdict
from loadtest.compare.amounts import full_name, listed, minute, percent, place
from loadtest.compare.changes import LEAST_MS, AnyChange, TimeChange, estimate, make_change, winsorised
from loadtest.compare.measurements import (
    NATURES,
    Key,
    Measurement,
    Metric,
    RunMeasurements,
    causes,
    mismatch,
)
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.errors import ExitCode
from loadtest.stats.differences import student_tail, variance
from loadtest.words import counted

LEAST_RUNS: Final = 5
"""A history with fewer runs than this is still learning, unless ``LEAST_CENTRE`` suffices."""
LEAST_CENTRE: Final = 2
"""After a period of at least five runs, the next baseline period needs only this many: the noise is known."""
_IMPROVED: Final = 0.001
"""Two improved runs in a row begin a baseline period if the p of ``_together``, adjusted by Holm, is at most this."""
_EACH: Final = 0.01
"""The p of each of the two runs must be at most this, so that one outlier does not begin a baseline period."""
_PENALTIES: Final = (1.25, 5.0)
"""If a run has two baselines, its p values against the latest and against the first runs are multiplied by these."""
_SE_FACTOR: Final = 1.3
"""In runs of a few minutes, time blocks underestimate the standard error by this factor."""
WINDOW: Final = 20
"""To find a sudden change, a run is compared with at most this many of the latest runs."""
ANCHOR: Final = 10
"""To find slow drift, a run is compared with this many runs at the beginning of the baseline period."""
ANCHORED_FROM: Final = 15
"""Shorter baseline periods are not tested for slow drift, because their first and latest runs are nearly the same."""
LEVELS: Final = verdict.Levels(family=0.04, confirm=0.025, power=math.sqrt(0.8))
"""Chosen with ``bench/regression_power.py``. Run *and* rerun must find a change: a power of √0.8 in each gives 80 %."""


def judge_history(
    history: Sequence[RunMeasurements],
    run: RunMeasurements,
    *,
    confirming: Collection[Key] | None = None,
    title: str = "",
    rise: float | None = None,
    noise: Sequence[RunMeasurements] = (),
) -> RunComparison:
    """Compare a run with accepted earlier runs.

    Args:
        history: accepted runs of the current baseline period, oldest first. Runs that are not comparable with ``run``
            are left out. If none remain, the comparison names the field that differs.
        run: the judged run.
        confirming: for a rerun, the suspected metrics; it can confirm only these. None for a first run.
        title: title of the scenario.
        rise: minimum rise of a share that counts. If None, ``changes.least_rise`` gives the minimum.
        noise: accepted runs of the previous baseline period. If the current period is short, their noise counts, too.
    """
    valid = [one for one in history if one.valid]
    comparable, kept = ([one for one in runs if not mismatch(one, run)] for runs in (valid, noise))
    kept = kept if len(kept) >= LEAST_RUNS and len(comparable) < ANCHOR else []
    used = comparable[:ANCHOR] + comparable[ANCHOR:][-WINDOW:]  # the rest of a long history is not compared
    version = f", version {run.target_version}" if run.target_version else ""
    head = f"{run.run}, {minute(run.started)}{version}, against {run.target.host}"
    in_words = _in_words(comparable or valid, comparable=bool(comparable)), head
    begun = verdict.draft("history", title, used, [run], in_words, confirming=confirming is not None)
    if not run.valid:
        return verdict.conclude(
            begun, "invalid", f"The run is invalid and says nothing about the service: {run.sentence}"
        )
    if history and not comparable:
        field = mismatch(valid[-1], run) if valid else "no run of the history is valid"
        return verdict.conclude(begun, "not comparable", f"The run cannot be compared with its history: {field}.")
    changes, shown = _compare_run(used, run, rise, kept, confirming or ())
    metrics = verdict.judge_family(changes, shown, LEVELS, confirming)
    controls = verdict.controls([(one, run) for one in used], paired=False)
    least = LEAST_CENTRE if kept else LEAST_RUNS
    return verdict.decide(begun, metrics, controls, least, more=causes(used[-1:], run))


def _compare_run(
    history: Sequence[RunMeasurements],
    run: RunMeasurements,
    rise: float | None,
    noise: Sequence[RunMeasurements],
    suspected: Collection[Key] = (),
) -> tuple[list[AnyChange], list[MetricComparison]]:
    """Return the changes of a run's metrics, and the metrics whose change is unknown.

    A change is relative to the latest runs, or to the first runs if its p is smaller there.
    """
    columns, before = _columns(history), _columns(noise[-WINDOW:])
    latest, anchored = [], []
    shares, heads = verdict.weights(columns), run.by_key()
    unstated, shown = verdict.not_stated(columns, heads), []
    for head in run.measurements:
        known, why = columns.pop(head.key, []), head.unfit
        bases, kept = ([one for one in part if one.definition == head.definition] for part in (known, before[head.key]))
        if why or len(bases) < (LEAST_CENTRE if len(kept) >= LEAST_RUNS else LEAST_RUNS):
            few = f"only {counted(len(bases), 'earlier run has', 'earlier runs have')} it"
            few += ", by its present definition" if len(bases) < len(known) else ""
            value = head.value if math.isfinite(head.value) else None
            shown.append(verdict.only_shown(head.key, bases, value, why or few, learning=not why))
            continue
        plain, drift = _PENALTIES if len(bases) >= ANCHORED_FROM else (1.0, 0.0)
        common: dict[str, Any] = {"earlier": bases, "weight": shares[head.key], "rise": rise}
        latest.append(_change(head, bases[-WINDOW:], kept, penalty=plain, **common))
        if drift:
            anchored.append(_change(head, bases[:ANCHOR], penalty=drift, anchored=True, **common))
    missing = "the run has no such value, although earlier runs have"
    absent: dict[Key, list[Measurement]] = {key: [] for key in suspected if key not in heads} | columns
    shown += [
        verdict.only_shown(key, bases, None, missing)
        for key, bases in absent.items()
        if 2 * len(bases) > len(history) or key in suspected
    ]
    named = {one.key for one in shown}
    shown += [verdict.only_shown(key, (), None, verdict.NOT_STATED) for key in unstated if key not in named]
    drifts = {each.key: each for each in estimate(anchored)}
    changes = [min((each, drifts.get(each.key, each)), key=lambda change: change.p()) for each in estimate(latest)]
    return changes, shown


def _columns(runs: Sequence[RunMeasurements]) -> defaultdict[Key, list[Measurement]]:
    columns: defaultdict[Key, list[Measurement]] = defaultdict(list)
    for one in (each for run in runs for each in run.measurements):
        if not one.unfit:
            columns[one.key].append(one)
    return columns


def _change(
    head: Measurement, bases: Sequence[Measurement], kept: Sequence[Measurement] = (), **options: Any
) -> AnyChange:
    """Return a run's change against k runs. For an sd s between runs, its standard error is s·√(1/k + 1).

    ``kept`` are measurements of the previous baseline period, used only for their noise. ``options`` are further fields
    of the ``MetricChange``.
    """
    nature = NATURES[head.metric]
    within = _SE_FACTOR**2 * statistics.fmean(one.known_se**2 for one in (*bases, head))
    # For shares, the variances exclude counting error.
    counting = statistics.fmean(one.count.variance for one in bases) if nature.scale == "logit" else 0.0
    prior = nature.prior_sd**2 + max(0.0, within - counting)
    periods = [winsorised([one.score for one in part], math.sqrt(prior + counting)) for part in (bases, kept) if part]
    dfs = [len(scores) - 1 for scores in periods]
    squares = [df * max(0.0, variance(scores) - counting) for df, scores in zip(dfs, periods, strict=True)]
    centre = statistics.fmean(periods[0])
    return make_change(
        centre,
        head.score - centre,
        bases=bases,
        heads=[head],
        parts=(1 / len(bases), 1.0),
        prior=prior,
        seen=sum(squares) / sum(dfs),
        seen_df=sum(dfs),
        **options,
    )


def _in_words(history: Sequence[RunMeasurements], *, comparable: bool) -> str:
    if not history:
        return "no accepted run yet"
    days = " to ".join(dict.fromkeys(run.started[:10] for run in (history[0], history[-1])))
    none = "" if comparable else ", none of them comparable"
    return f"{counted(len(history), 'accepted run')}, {days}{none}"


def improved_again(history: Sequence[RunMeasurements], run: RunMeasurements) -> tuple[Key, ...]:
    """Return the metrics that improved both in ``run`` and in the run before it, the latest of ``history``.

    ``history`` has the accepted runs of the current baseline period, oldest first.
    """
    *before, latest = history or (run,)
    if len(before) < LEAST_RUNS or not (run.valid and latest.valid):
        return ()
    changes = [_compare_run(before[-WINDOW:], each, None, ())[0] for each in (latest, run)]
    others = {one.key: one for one in changes[0] if one.weight and not one.decided()}
    both = {one.key: (others[one.key], one) for one in changes[1] if one.key in others}
    adjusted = verdict.holm(
        {key: _together(*pair) for key, pair in both.items()}, {key: others[key].weight for key in both}
    )
    return tuple(
        key
        for key, pair in both.items()
        if all(one.matters(better=True) for one in pair) and adjusted[key] <= _IMPROVED and _each(pair) <= _EACH
    )


def _each(pair: Sequence[AnyChange]) -> float:
    return max(one.p(better=True) for one in pair)


def _together(one: AnyChange, other: AnyChange) -> float:
    """Return p of an improvement of the mean of two runs. For a share, return the larger p of the two."""
    if not isinstance(one, TimeChange) or not isinstance(other, TimeChange):
        return _each((one, other))
    deviate = (one.worse + other.worse) / 2 / math.sqrt(other.variance * (1 / len(other.bases) + 0.5))
    return student_tail(-deviate, other.df)


def blind(comparison: RunComparison, must_find: float | None) -> RunComparison:
    """Make a pass inconclusive if the check could not have found a growth that it must find.

    The growth ``must_find``, such as 0.2, must be detectable in each response time p50. An entry is exempt if the
    growth is below 1 ms or the poll interval there; ``reasons`` then name it. If all are exempt, the pass becomes
    inconclusive, too. A check against fewer than ten earlier runs stays as it is.
    """
    if must_find is None or comparison.word != "pass" or len(comparison.base_runs) < ANCHOR:
        return comparison
    metrics, size = comparison.metrics, f"{100 * must_find:.3g} %"
    entries = [one for one in metrics if one.metric == Metric.RESPONSE_TIME_P50 and one.base]
    visible = [one for one in entries if must_find * (one.base or 0.0) >= max(LEAST_MS, one.resolution_ms)]
    coarse = [
        f"{percent(one.detectable)} ({full_name(one, metrics)})"
        for one in visible
        if one.detectable and one.detectable > 1 + must_find
    ]
    untested = [full_name(one, metrics) for one in visible if not one.detectable]
    hidden = [place(one, metrics) for one in entries if one not in visible]
    also = (f"+{size} is too small to see in {listed(hidden)}.",) if hidden else ()
    why = [f"its minimum detectable changes are {listed(coarse)}"] if coarse else []
    why += [f"{listed(untested)} could not be tested"] if untested else []
    why += [] if visible else ["it is too small to see in any response time p50"]
    if not why:
        return msgspec.structs.replace(comparison, reasons=(*also, *comparison.reasons))
    advice = ("More accepted runs, longer stages or a quieter machine reveal smaller changes.",) if visible else ()
    return msgspec.structs.replace(
        comparison,
        word="inconclusive",
        exit_code=int(ExitCode.INCONCLUSIVE),
        sentence=f"This check could not have found +{size}: {'; '.join(why)}.",
        reasons=(comparison.sentence, *advice, *also, *comparison.reasons),
    )
