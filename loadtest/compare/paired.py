"""Comparison of two versions in pairs of blocks: the order of the blocks, and the rule that judges them.

A block is one run of the whole scenario against one version. The blocks of a pair follow each other, so drift affects
both alike. For times and rates, the rule uses only the differences within pairs.
"""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from loadtest.compare import verdict
from loadtest.compare.amounts import full_name, in_percent
from loadtest.compare.changes import LEAST_RATIO, PRIOR_DF, AnyChange, estimate, make_change, winsorised
from loadtest.compare.measurements import NATURES, Key, Measurement, RunMeasurements, mismatch
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.record.blocks import Side
from loadtest.stats.differences import student, variance
from loadtest.words import counted

DISCARDED: Final = 1
"""This many pairs at the beginning are discarded, because both sides still warm up."""
LOOKS: Final = (4, 6, 8, 10, 12)
"""A comparison is judged at these numbers of valid pairs and after its last. Even numbers complete ABBA groups."""
LEVELS: Final = verdict.Levels(family=0.005, confirm=None, power=0.8)
"""Levels at every look. If nothing changed, at most about 3 % of comparisons regress (``bench/README.md``)."""
MOST_PAIRS: Final = 200
"""A comparison has at most this many pairs. Discarded pairs do not count."""
_Pair = tuple[RunMeasurements, RunMeasurements]


def next_look(valid: int, most: int) -> int:
    """Return the number of valid pairs at the next look: the next of ``LOOKS``, but at most ``most``."""
    return min(most, next((look for look in LOOKS if look > valid), most))


def block_order(seed: int, pairs: int) -> tuple[Side, ...]:
    """Return the side of each block. Every two pairs have the order ABBA or BAAB, drawn by the seed.

    The second pair mirrors the first, so that a linear drift cancels. If the number of pairs, including discarded
    pairs, is odd, the first pair has no mirror image. Periodic disturbances would bias a fixed order, so it is random.
    """
    # The order must only be reproducible, not secret.
    source = random.Random(f"blocks {seed}")  # noqa: S311
    order: list[Side] = []
    while len(order) < 2 * pairs:
        first, second = source.sample(("base", "head"), 2)
        order += [first, second, second, first]  # type: ignore[list-item] # sample loses literal types
    return tuple(order[len(order) - 2 * pairs :])


def compare_pairs(pairs: Sequence[_Pair], *, title: str = "", discarded: int = DISCARDED) -> RunComparison:
    """Compare the two sides of pairs of blocks (base, head). Pairs are in order of time.

    Without a regression, one inconclusive tested metric makes the comparison inconclusive. The first ``discarded``
    pairs are left out.
    """
    counted_pairs = pairs[discarded:]
    valid = [pair for pair in counted_pairs if pair[0].valid and pair[1].valid]
    kept = valid or list(pairs)
    if not kept:
        raise ValueError("there is no pair of blocks to compare")
    bases, heads = ([pair[side] for pair in kept] for side in (0, 1))
    begun = verdict.draft("paired", title, bases, heads, (_side(bases), _side(heads)))
    for base, head in kept:
        if field := mismatch(base, head, paired=True):
            return verdict.conclude(begun, "not comparable", f"The two sides cannot be compared: {field}.")
    invalid = [block for pair in counted_pairs for block in pair if not block.valid]
    if invalid and len(valid) < LOOKS[0]:
        return verdict.conclude(begun, "invalid", f"Too few valid pairs ({len(valid)}): {invalid[0].sentence}")
    changes, shown, lost = _compare_blocks(valid)
    metrics = verdict.judge_family(changes, shown, LEVELS, None)
    reasons = _reasons(len(pairs), discarded, len(invalid), metrics)
    return verdict.decide(begun, metrics, verdict.controls(valid, paired=True), LOOKS[0], lost=lost, more=reasons)


def _compare_blocks(pairs: Sequence[_Pair]) -> tuple[list[AnyChange], list[MetricComparison], set[Key]]:
    """Return the changes, the metrics whose change is unknown, and the tested metrics that only the head lacks."""
    columns: defaultdict[Key, list[tuple[Measurement, Measurement | None]]] = defaultdict(list)
    for base, head in pairs:
        others = head.by_key()
        for one in base.measurements:
            columns[one.key].append((one, others.get(one.key)))
    fitting = {key: [one for one, other in column if not _unfit(one, other)] for key, column in columns.items()}
    shares = verdict.weights({key: column for key, column in fitting.items() if len(column) >= LOOKS[0]})
    hidden = verdict.not_stated(fitting, columns)
    tested = []
    untested = [verdict.only_shown(key, (), None, verdict.NOT_STATED) for key in hidden]
    for key, column in columns.items():
        fit = [(one, other) for one, other in column if other is not None and not _unfit(one, other)]
        if len(fit) >= LOOKS[0]:
            tested.append(_change(fit, shares[key]))
        elif odd := [(one, other) for one, other in column if _unfit(one, other)]:
            heads = [other.value for _, other in odd if other is not None]
            value = statistics.fmean(heads) if heads else None
            untested.append(verdict.only_shown(key, [one for one, _ in odd], value, _unfit(*odd[0])))
        else:
            few = f"fewer than {LOOKS[0]} pairs have it on both sides"
            untested.append(verdict.only_shown(key, [one for one, _ in fit], fit[-1][1].value, few))
    stated = {key: [one for one, _ in column if not one.unfit] for key, column in columns.items()}
    wanted = verdict.weights({key: bases for key, bases in stated.items() if len(bases) >= LOOKS[0]})
    lost = {
        one.key
        for one in untested
        if wanted.get(one.key) and any(head is None and not base.unfit for base, head in columns[one.key])
    }
    return estimate(tested), untested, lost


def _unfit(base: Measurement, head: Measurement | None) -> str:
    return base.unfit or ("the head has no such value" if head is None else head.unfit)


def _change(column: Sequence[tuple[Measurement, Measurement]], weight: float) -> AnyChange:
    """Return the mean difference of the pairs, with limited outliers. The standard error is s ÷ √n.

    The observed s² is the larger of two estimates: from the pairs' differences, and from time blocks within runs. The
    first is too small if a few differences agree by chance. For shares, s² is the variance beyond counting error.
    """
    n, bases, heads = len(column), [base for base, _ in column], [head for _, head in column]
    within = statistics.fmean(base.known_se**2 + head.known_se**2 for base, head in column)
    nature, counting = NATURES[heads[0].metric], 0.0
    if nature.scale == "logit":
        counting = statistics.fmean(base.count.variance + head.count.variance for base, head in column)
    prior = 2 * nature.prior_sd**2
    moves = winsorised([head.score - base.score for base, head in column], math.sqrt(prior + counting))
    return make_change(
        statistics.fmean(one.score for one in bases),
        statistics.fmean(moves),
        bases=bases,
        heads=heads,
        earlier=bases,
        parts=(0.5 / n, 0.5 / n),
        prior=prior,
        seen=max(0.0, max(variance(moves), within) - counting),
        seen_df=n - 1,
        weight=weight,
    )


def pairs_needed(sd: float, tests: int) -> int | None:
    """Return the number of pairs that find +10 % in 80 % of cases. None if 200 pairs are not enough.

    ``sd`` is the standard deviation of a pair's difference, on the log scale. ``tests`` counts the tested metrics.
    """
    for pairs in range(LOOKS[0], MOST_PAIRS + 1):
        se, df = sd / math.sqrt(pairs), PRIOR_DF + pairs - 1
        critical = max(student(1 - LEVELS.family / tests, df) * se, LEAST_RATIO)
        if critical + student(LEVELS.power, df) * se <= math.log(1.10):
            return pairs
    return None


def _reasons(pairs: int, discarded: int, invalid: int, metrics: Sequence[MetricComparison]) -> tuple[str, ...]:
    reasons = []
    tested = [one for one in metrics if one.gated and one.p is not None]
    times = [one for one in tested if one.nature.scale == "log" and one.sd is not None]
    # Short and polled times are left out. Their minimum effect, 1 ms or the poll interval, is more than 5 % of them.
    loose = [one for one in times if one.verdict == "inconclusive" and not one.suspect and in_percent(one)]
    if loose:
        worst = max(loose, key=lambda one: one.sd or 0.0)
        need = pairs_needed(worst.sd or 0.0, len(tested))
        many = f"{need} pairs" if need else f"more than {MOST_PAIRS} pairs (use longer blocks)"
        but = "" if all(map(in_percent, times)) else ", except short and polled times,"
        reasons.append(f"Finding +10 % in every metric{but} takes {many}; {full_name(worst, metrics)} varies most.")
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
