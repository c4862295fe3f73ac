"""Families of ``regression_power.py`` as measurements of runs. They are checked as the commands check them."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

import msgspec
import numpy as np
import regression_blocks as blocks
from regression_families import ENTRIES, HISTORY, HISTORY_REAL, PAIRED, PAIRED_REAL, Regime, Resampled, Scores, draw

from loadtest.compare.measurements import (
    ControlMeasurement,
    GeneratorIdentity,
    Key,
    Measurement,
    Metric,
    RunMeasurements,
    TargetIdentity,
)
from loadtest.compare.paired import compare_pairs, next_look
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.rule import judge_history
from loadtest.compare.verdict import suspects
from loadtest.stats.shares import share_score

STAGE: Final = "steady"
CHANGED: Final = "second"
"""The entry that changes if only one entry changes."""
_MEDIANS: Final = blocks.ENTRIES
_TIMES: Final = (Metric.RESPONSE_TIME_P50, Metric.RESPONSE_TIME_P95)
_EXECUTION: Final = (Metric.EXECUTION_TIME_P50, Metric.EXECUTION_TIME_P95)
_SAMPLES: Final = 400
"""Operations of an entry in a simulated run."""
LEAST_RATIO: Final = 1.05
"""Smaller ratios of times do not count as a change."""
_P50: Final = ("response_p50", "execution_p50")
_VALID_LAG_MS: Final = 50.0
"""A run with a higher dispatch lag p99 is invalid."""
_CPU_LOOP: Final = (20.0, 0.01)
"""Time of the simulated control in ms, and its relative sd."""


class Change(NamedTuple):
    """The change of the judged side.

    Attributes:
        factor: new times ÷ old times.
        everywhere: whether all entries change, or only ``CHANGED``.
        tail: whether only p95 changes.
        real: whether a workflow took longer. Otherwise, recorded times are scaled.
    """

    factor: float = 1.0
    everywhere: bool = False
    tail: bool = False
    real: bool = False

    def __str__(self) -> str:
        if self.factor == 1:
            return "no change"
        size = f"+{100 * (self.factor - 1):.0f} %"
        return f"{'p95 ' if self.tail else ''}{size} on {'all entries' if self.everywhere else 'one entry'}"


NONE: Final = Change()


class Family(NamedTuple):
    """The runs or blocks of one check.

    Attributes:
        base: the history's runs, or the base side's blocks.
        head: the new run and the rerun, or the head side's blocks.
    """

    base: tuple[RunMeasurements, ...]
    head: tuple[RunMeasurements, ...]


class Outcome(NamedTuple):
    """The result of a check.

    Attributes:
        rerun: whether a run was repeated because a metric was suspected. Pairs are never repeated.
        regressed: whether a regression was confirmed by the rerun, or by the bound of the pairs.
        entries: the entries with a confirmed metric.
        pairs: number of valid and invalid pairs that were used; 0 for a history.
        word: the verdict.
    """

    rerun: bool
    regressed: bool
    entries: frozenset[str]
    pairs: int
    word: str


def check(family: Family, paired: bool) -> Outcome:
    """Check a family. A suspected run of a history is repeated once. Pairs are made until the check decides."""
    if paired:
        pairs = list(zip(family.base, family.head, strict=True))
        made = valid = 0
        while made < len(pairs):
            look = next_look(valid, len(pairs))
            while made < len(pairs) and valid < look:
                valid += all(run.valid for run in pairs[made])
                made += 1
            found = compare_pairs(pairs[:made], discarded=0)
            if found.word in {"regressed", "pass"}:
                break
        return _outcome(found, rerun=False, pairs=made)
    first = judge_history(family.base, family.head[0])
    suspected = suspects(first)
    if not suspected:
        return _outcome(first, rerun=False)
    return _outcome(judge_history(family.base, family.head[1], confirming=suspected), rerun=True)


def _outcome(found: RunComparison, *, rerun: bool, pairs: int = 0) -> Outcome:
    entries = frozenset(one.traffic for one in found.metrics if one.verdict == "regressed")
    return Outcome(rerun, found.word == "regressed", entries, pairs, found.word)


def evidence(family: Family, paired: bool) -> dict[str, float]:
    """Return the evidence of the rule in each entry, as −log10 p.

    It is that of the entry's most significant time, in the weaker of two sessions (run and rerun). For a comparison
    with other rules, it ignores Holm's correction, levels, controls and validity. Changes below 5 % or 1 ms count as 0.
    """
    family = Family(*(tuple(msgspec.structs.replace(run, valid=True) for run in side) for side in family))
    half = len(family.base) // 2
    pairs = list(zip(family.base, family.head, strict=True)) if paired else []
    found: list[dict[Key, float]] = []
    for rerun in (False, True):
        if paired:
            comparison = compare_pairs(pairs[half:] if rerun else pairs[:half], discarded=0)
        else:
            comparison = judge_history(family.base, family.head[int(rerun)])
        found.append({one.key: _strength(one) for one in comparison.metrics})
    strongest: dict[str, float] = defaultdict(float)
    for key in found[0].keys() & found[1].keys():
        if key.metric in {*_TIMES, *_EXECUTION}:
            strongest[key.traffic] = max(strongest[key.traffic], min(one[key] for one in found))
    return strongest


def _strength(one: MetricComparison) -> float:
    if one.p is None or one.ratio is None or one.difference is None or one.ratio < LEAST_RATIO or one.difference < 1:
        return 0.0
    return -math.log10(max(one.p, 1e-300))


def families(name: str, change: Change, count: int, offset: int = 0) -> Iterator[Family]:
    """Yield the families of a regime, with a change."""
    if name in HISTORY or name in PAIRED:
        yield from _simulated({**HISTORY, **PAIRED}[name], change, count, offset, paired=name in PAIRED)
    elif name in HISTORY_REAL:
        yield from _resampled_histories(HISTORY_REAL[name], change, count, offset)
    else:
        yield from _resampled_pairs(PAIRED_REAL[name], change, count, offset)


def _simulated(regime: Regime, change: Change, count: int, offset: int, *, paired: bool) -> Iterator[Family]:
    noise = draw(regime, count, paired, offset)
    loops = np.random.default_rng(regime.seed + 5_000 + offset).standard_normal(noise.shape[:2]) * _CPU_LOOP[1]
    runs = noise.shape[1]
    heads = range(1, runs, 2) if paired else range(runs - 2, runs)
    of_times = np.array([not change.tail, True, not change.tail, True]) * math.log(change.factor)
    for place, entry in enumerate(ENTRIES):
        if change.everywhere or entry == CHANGED:
            noise[:, list(heads), place, :4] += of_times
    for scores, loop in zip(noise, loops, strict=True):
        made = [simulated_run(scores[at], float(loop[at]), at) for at in range(runs)]
        head = tuple(made[at] for at in heads)
        yield Family(tuple(made[at] for at in range(runs) if at not in heads), head)


def simulated_run(scores: Scores, loop: float, at: int) -> RunMeasurements:
    """Return a run whose measurements are exp(score) times a usual value."""
    values = []
    for place, (entry, median) in enumerate(_MEDIANS.items()):
        response, tail, execution, execution_tail, overhead, goodput = map(float, scores[place])
        log = math.log(median)
        values += [
            _time(entry, Metric.RESPONSE_TIME_P50, log + response),
            _time(entry, Metric.RESPONSE_TIME_P95, log + math.log(1.5) + tail),
            _time(entry, Metric.EXECUTION_TIME_P50, log - 0.02 + execution),
            _time(entry, Metric.EXECUTION_TIME_P95, log + math.log(1.5) - 0.02 + execution_tail),
            _time(entry, Metric.OVERHEAD_P50, math.log(2.0) + overhead),
            *_shares(entry, _SAMPLES, _SAMPLES),
            _goodput(entry, math.log(2.0) + goodput, _SAMPLES),
        ]
    control = ControlMeasurement(name="CPU loop", value_ms=_CPU_LOOP[0] * math.exp(loop))
    return _run(f"run-{at:02}", values, control)


def _time(
    entry: str, metric: Metric, log: float, se: float | None = None, *, n: int = _SAMPLES, why: str = ""
) -> Measurement:
    return Measurement(
        traffic=entry,
        stage=STAGE,
        metric=metric,
        value=math.exp(log),
        score=log,
        n=n,
        se=se,
        gated=not why,
        why_not=why,
    )


def _shares(entry: str, ok: int, n: int) -> list[Measurement]:
    """Return the error rate, and the 429 rate in excess of an expected rate of 0."""
    return [
        Measurement(
            traffic=entry,
            stage=STAGE,
            metric=Metric.ERROR_RATE,
            value=(n - ok) / n,
            score=share_score(n - ok, n),
            n=n,
        ),
        Measurement(
            traffic=entry,
            stage=STAGE,
            metric=Metric.THROTTLED_RATE,
            value=0.0,
            score=0.0,
            n=n,
            expected=0.0,
        ),
    ]


def _goodput(entry: str, log: float, n: int) -> Measurement:
    return Measurement(traffic=entry, stage=STAGE, metric=Metric.GOODPUT, value=math.exp(log), score=log, n=n)


def _run(
    name: str, measurements: list[Measurement], control: ControlMeasurement, *, valid: bool = True
) -> RunMeasurements:
    return RunMeasurements(
        run=name,
        scenario="families",
        scenario_hash="1",
        started="2026-01-01T00:00:00Z",
        commit="",
        target_version="",
        embedded=True,
        target=_TARGET,
        generator=_GENERATOR,
        valid=valid,
        verdict="pass",
        sentence="",
        controls=(control,),
        measurements=tuple(measurements),
    )


_TARGET: Final = TargetIdentity(host="embedded", endpoint="", limits="", faults=(), keys=1)
_GENERATOR: Final = GeneratorIdentity(os="", cpu="", cores="", workers=1)


class _Blocks:
    """The real blocks of a kind, as measurements. They are computed once for each change.

    Args:
        kind: constant, narrow or lognormal.
        most_sd: maximum sd of a session's blocks. Other sessions are left out.

    Attributes:
        pairs: session and number of each pair.
    """

    def __init__(self, kind: str, most_sd: float | None = None) -> None:
        found: dict[tuple[int, int, str], dict[str, blocks.Row]] = defaultdict(dict)
        for row in blocks.read():
            if row.regime == kind:
                found[row.session, row.pair, row.side][row.entry] = row
        self._rows = found
        calm = {session for session, *_ in found if most_sd is None or self.sd(session) <= most_sd}
        self.pairs = sorted({(session, pair) for session, pair, _ in found if session in calm})
        self._made: dict[tuple[int, int, str, Change], RunMeasurements] = {}

    def sd(self, session: int | None = None) -> float:
        """Return the sd of p50 from block to block, in the median entry. The larger of two times counts.

        Args:
            session: the session; None for all blocks.
        """
        chosen = [entries for (at, *_), entries in self._rows.items() if session in (at, None)]
        columns = [[getattr(rows[entry], name) for rows in chosen] for name in _P50 for entry in ENTRIES]
        sds = np.log(columns).std(axis=1, ddof=1).reshape(len(_P50), len(ENTRIES))
        return float(np.median(sds, axis=1).max())

    def block(self, session: int, pair: int, side: str, change: Change) -> RunMeasurements:
        """Return a block with a change."""
        key = (session, pair, side, change)
        if key not in self._made:
            self._made[key] = _real_block(self._rows[session, pair, side], f"{session}-{pair}-{side}", change)
        return self._made[key]


def _real_block(rows: dict[str, blocks.Row], name: str, change: Change) -> RunMeasurements:
    values = []
    for entry in ENTRIES:
        changed = change.everywhere or entry == CHANGED
        row = rows[blocks.VARIANT if changed and change.real else entry]
        log = math.log(change.factor) if changed and not change.real else 0.0
        # As in a report, a p95 needs 72 samples for an upper bound.
        why = "" if row.n >= 72 else "too few samples"
        values += [
            _time(entry, Metric.RESPONSE_TIME_P50, log + math.log(row.response_p50), n=row.n),
            _time(entry, Metric.RESPONSE_TIME_P95, log + math.log(row.response_p95), n=row.n, why=why),
            _time(entry, Metric.EXECUTION_TIME_P50, log + math.log(row.execution_p50), n=row.n),
            _time(entry, Metric.EXECUTION_TIME_P95, log + math.log(row.execution_p95), n=row.n, why=why),
            _time(entry, Metric.OVERHEAD_P50, math.log(row.overhead_p50), n=row.n),
            *_shares(entry, row.ok, row.n),
            _goodput(entry, math.log(row.ok / blocks.BLOCK_S), row.n),
        ]
    lag = rows[CHANGED].dispatch_lag_p99
    return _run(name, values, ControlMeasurement(name="dispatch lag p99", value_ms=lag), valid=lag <= _VALID_LAG_MS)


def _resampled_histories(drawn: Resampled, change: Change, count: int, offset: int) -> Iterator[Family]:
    real, random = real_blocks(drawn), np.random.default_rng(drawn.seed + offset)
    # An invalid run never enters a history, and is never judged.
    valid: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for session, pair in real.pairs:
        for side in ("base", "head"):
            if real.block(session, pair, side, NONE).valid:
                valid[session].append((session, pair, side))
    sessions = sorted(valid)
    for _ in range(count):
        chosen = random.choice(sessions, drawn.runs + 2, replace=False)
        places = [valid[session][random.integers(len(valid[session]))] for session in chosen]
        base = tuple(real.block(*place, NONE) for place in places[: drawn.runs])
        yield Family(base, tuple(real.block(*place, change) for place in places[drawn.runs :]))


def _resampled_pairs(drawn: Resampled, change: Change, count: int, offset: int) -> Iterator[Family]:
    real, random = real_blocks(drawn), np.random.default_rng(drawn.seed + offset)
    for _ in range(count):
        places = [real.pairs[at] for at in random.integers(0, len(real.pairs), drawn.runs)]
        base = tuple(real.block(*place, "base", NONE) for place in places)
        yield Family(base, tuple(real.block(*place, "head", change) for place in places))


@cache
def real_blocks(drawn: Resampled) -> _Blocks:
    """Return the blocks of a regime. They are cached, so that measurements are computed once."""
    return _Blocks(drawn.blocks, drawn.most_sd)


def described(drawn: Resampled) -> str:
    """Describe a regime's blocks by their number, their variation, and the share of invalid blocks."""
    real = real_blocks(drawn)
    sds = [real.sd(session) for session in sorted({session for session, _ in real.pairs})]
    made = [real.block(*pair, side, NONE) for pair in real.pairs for side in ("base", "head")]
    invalid = sum(not one.valid for one in made) / len(made)
    return (
        f"{len(real.pairs)} blocks a side of {len(sds)} sessions, sd from block to block {100 * np.median(sds):.1f} % "
        f"in the median session ({100 * min(sds):.1f} to {100 * max(sds):.1f} %), {100 * invalid:.0f} % invalid"
    )


def as_matrices(found: Sequence[Family]) -> tuple[Scores, Scores, list[str]]:
    """Return base and head of families as numbers for the competitors, and the entry of each column.

    The numbers are logarithms of response times and executionTimes. Other metrics would only add noise.
    """
    wanted = {*_TIMES, *_EXECUTION}
    first = found[0].base[0].measurements
    columns = [at for at, one in enumerate(first) if one.gated and one.metric in wanted]

    def numbers(runs: Sequence[RunMeasurements]) -> list[list[float]]:
        return [[run.measurements[at].score for at in columns] for run in runs]

    base = np.array([numbers(family.base) for family in found])
    head = np.array([numbers(family.head) for family in found])
    return base, head, [first[at].traffic for at in columns]
