"""Two versions compared in pairs of blocks: the order of the blocks, and the rule for the differences of the pairs.

A block is one run of the whole scenario. Blocks of both sides alternate in one process, so drift (of the machine, the
time of day, a neighbour) affects both sides of a pair alike. The difference of a pair is the unit of evidence.
"""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from loadtest.compare import sentences
from loadtest.compare.changes import (
    EACH_FINDS,
    LEAST_RATIO,
    AnyChange,
    ChangeEvidence,
    count,
    estimate,
    known_se,
    unfit,
)
from loadtest.compare.measurements import NATURES, Key, Measurement, RunMeasurements, mismatch
from loadtest.compare.noise import PRIOR_DF, MetricSpread, controls
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.verdict import Levels, SideRuns, conclude, decide, judge_family, only_shown
from loadtest.record.blocks import Side
from loadtest.stats.means import student, variance
from loadtest.words import counted

DISCARDED: Final = 1
"""Initial pairs that are discarded, because both sides warm up in them."""
LEAST_PAIRS: Final = 3
"""Minimum number of pairs, without discarded pairs."""
LEVELS: Final = Levels(suspect=0.15, confirm=0.05, holm_when_confirming=True)
"""At most 15 % of unchanged comparisons are rerun, and .15 × .05 = .75 % confirmed. At equal false alarms, two similar
levels find more than a strict and then a lenient level."""
_ENOUGH: Final = math.log(1.10)
"""The effect that ``pairs_needed`` must find, on the log scale."""
_MOST_PAIRS: Final = 200
_Pair = tuple[RunMeasurements, RunMeasurements]


def block_order(seed: int, pairs: int) -> tuple[Side, ...]:
    """Return the side of each block: pairs in ABBA or BAAB order, drawn by the seed.

    Two consecutive pairs are mirrored, so that a linear drift cancels. The first side is drawn anew for every two
    pairs, because plain alternation is biased by periodic disturbances.

    Args:
        seed: seed of the comparison.
        pairs: number of pairs, including discarded pairs. An odd number ends with half of ABBA or BAAB.
    """
    # The order must only be reproducible, not secret.
    source = random.Random(f"blocks {seed}")  # noqa: S311
    order: list[Side] = []
    while len(order) < 2 * pairs:
        first, second = source.sample(("base", "head"), 2)
        order += [first, second, second, first]  # type: ignore[list-item] # sample loses literal types
    return tuple(order[: 2 * pairs])


def compare_pairs(
    pairs: Sequence[_Pair],
    *,
    confirming: Collection[Key] | None = None,
    title: str = "",
    discarded: int = DISCARDED,
) -> RunComparison:
    """Compare two sides by the differences of pairs of blocks.

    Args:
        pairs: (base, head) of every pair in order of time, discarded pairs first.
        confirming: None for a first comparison; for its rerun the suspected keys.
        title: title of the scenario.
        discarded: number of initial pairs to leave out.
    """
    valid = [pair for pair in pairs[discarded:] if pair[0].valid and pair[1].valid]
    kept = valid or list(pairs)
    if not kept:
        raise ValueError("there is no pair of blocks to compare")
    sides = SideRuns(
        kind="paired",
        title=title,
        base_runs=tuple(base for base, _ in kept),
        head_runs=tuple(head for _, head in kept),
        base=_side([base for base, _ in kept]),
        head=_side([head for _, head in kept]),
        confirming=confirming,
        least=LEAST_PAIRS,
    )
    for base, head in kept:
        if field := mismatch(base, head, paired=True):
            return conclude(sides, "not comparable", f"The two sides cannot be compared: {field}.")
    invalid = [block for pair in pairs[discarded:] for block in pair if not block.valid]
    if invalid and len(valid) < LEAST_PAIRS:
        return conclude(sides, "invalid", f"Too few valid pairs ({len(valid)}): {invalid[0].sentence}")
    changes, shown = _compare_blocks(valid)
    metrics = judge_family(changes, shown, LEVELS, confirming)
    reasons = _reasons(len(pairs), discarded, len(invalid), metrics)
    return decide(sides, metrics, controls(valid, paired=True), reasons)


def _compare_blocks(pairs: Sequence[_Pair]) -> tuple[list[AnyChange], list[MetricComparison]]:
    """Estimate the difference of each metric over the pairs, and list metrics that are not tested."""
    columns: defaultdict[Key, list[tuple[Measurement, Measurement | None]]] = defaultdict(list)
    for base, head in pairs:
        others = head.by_key()
        for one in base.measurements:
            columns[one.key].append((one, others.get(one.key)))
    tested, untested = [], []
    for key, column in columns.items():
        fit = [(one, other) for one, other in column if other is not None and not _unfit(one, other)]
        odd = [(one, other) for one, other in column if _unfit(one, other)]
        if len(fit) >= LEAST_PAIRS:
            tested.append(_evidence(fit))
        elif odd:
            heads = [other.value for _, other in odd if other is not None]
            value, bases = statistics.fmean(heads) if heads else None, [one.value for one, _ in odd]
            untested.append(only_shown(key, bases, value, _unfit(*odd[0])))
        else:
            few = f"fewer than {LEAST_PAIRS} pairs have it on both sides"
            untested.append(only_shown(key, [one.value for one, _ in fit], fit[-1][1].value, few))
    return estimate(tested), untested


def _unfit(base: Measurement, head: Measurement | None) -> str:
    return unfit(base) or ("the head has no such value" if head is None else unfit(head))


def _evidence(column: Sequence[tuple[Measurement, Measurement]]) -> ChangeEvidence:
    """The mean difference of the pairs: SE = s ÷ √n.

    The variance of a pair's difference is the larger of the variance between pairs, which is too small if a few
    differences agree by chance, and the variance within pairs, estimated from each block. For shares, it is the
    variance beyond counting error.
    """
    n, bases, heads = len(column), [base for base, _ in column], [head for _, head in column]
    moves = [head.score - base.score for base, head in column]
    within = statistics.fmean(known_se(base) ** 2 + known_se(head) ** 2 for base, head in column)
    metric, centre = heads[0].metric, statistics.fmean(one.score for one in bases)
    counting, size = 0.0, math.exp(centre)
    if NATURES[metric].scale == "logit":
        counting, size = statistics.fmean(count(base).variance + count(head).variance for base, head in column), 1.0
    seen = max(0.0, max(variance(moves), within) - counting)
    return ChangeEvidence(
        bases,
        heads,
        bases,
        centre,
        statistics.fmean(moves),
        parts=(0.5 / n, 0.5 / n),
        spread=MetricSpread(metric, size, 2 * NATURES[metric].prior_sd ** 2, seen, n - 1),
        resolution_ms=max(one.resolution_ms for one in (*bases, *heads)),
    )


def pairs_needed(sd: float, tests: int, effect: float = _ENOUGH) -> int | None:
    """Return the number of pairs that find an effect in 80 % of cases, including the rerun; None if 200 do not.

    Args:
        sd: standard deviation of a pair's difference, on the metric's scale.
        tests: number of gated metrics of the family.
        effect: on the metric's scale; + 10 % by default.
    """
    for pairs in range(LEAST_PAIRS, _MOST_PAIRS + 1):
        se, df = sd / math.sqrt(pairs), PRIOR_DF + pairs - 1
        critical = max(student(1 - LEVELS.suspect / tests, df) * se, LEAST_RATIO)
        if critical + student(EACH_FINDS, df) * se <= effect:
            return pairs
    return None


def _reasons(pairs: int, discarded: int, invalid: int, metrics: Sequence[MetricComparison]) -> tuple[str, ...]:
    reasons = []
    tested = [one for one in metrics if one.p is not None]
    times = [one for one in tested if one.nature.scale == "log" and one.sd is not None]
    # At 1 ms, or below the poll interval, +10 % does not matter.
    loose = [one for one in times if one.verdict == "inconclusive" and not one.suspect and sentences.in_percent(one)]
    if loose:
        worst = max(loose, key=lambda one: one.sd or 0.0)
        need = pairs_needed(worst.sd or 0.0, len(tested))
        many = f"{need} pairs" if need else f"more than {_MOST_PAIRS} pairs (use longer blocks)"
        but = "" if all(map(sentences.in_percent, times)) else ", except short and polled times,"
        reasons.append(
            f"Finding +10 % in every metric{but} takes {many}; {sentences.name(worst, metrics)} varies most."
        )
    if 0 < discarded < pairs:
        reasons.append(f"The first {'pair is' if discarded == 1 else f'{discarded} pairs are'} a warm-up and excluded.")
    if invalid:
        reasons.append(f"Pairs with an invalid block are excluded: {invalid} of {2 * (pairs - discarded)} blocks.")
    return tuple(reasons)


def _side(runs: Sequence[RunMeasurements]) -> str:
    first = runs[0]
    version = f", version {first.target_version}" if first.target_version else ""
    settings = f", faults {', '.join(first.target.faults)}" if first.target.faults else ""
    return f"{first.target.host}{version}{settings}, {counted(len(runs), 'block')}"
