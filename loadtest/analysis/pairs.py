"""How far two sides of a run are apart in one metric, arrival by arrival where both sent the same inputs."""

import numpy as np

from loadtest.analysis.arrival_values import Values
from loadtest.analysis.written import written_entry
from loadtest.metrics import METRICS
from loadtest.record.run_info import RunInfo
from loadtest.stats import QUANTILES, Difference, mean_difference, percentile_difference, share_difference


def same_inputs(info: RunInfo, one: str, other: str) -> bool:
    """Whether arrival k of two entries sends the same row of the same inputs."""
    first, second = written_entry(info, one), written_entry(info, other)
    return first.inputs is not None and first.inputs_order == "sequential" and first.sends == second.sends


def shift_of_inputs(info: RunInfo, entry: str, base: int, head: int) -> int | None:
    """By how many arrivals two stages of an entry are apart, if these send the same rows of inputs in the same order.

    Args:
        info: of the run.
        entry: the traffic entry.
        base: the first arrival of one stage.
        head: of the other.
    """
    rows = info.traffic[entry].input_rows
    if rows is None or written_entry(info, entry).inputs_order != "sequential" or (head - base) % rows:
        return None
    return head - base


def compare(
    metric: str,
    base: Values | None,
    head: Values | None,
    *,
    shift: int | None,
    factor: float = 1.0,
    confidence: float = 0.95,
) -> Difference | None:
    """The difference of two sides' values; None for a metric that no single arrival has a value of.

    Args:
        metric: with its statistic.
        base: the values of one side.
        head: of the other.
        shift: arrival k of the base and k + shift of the head are a pair; None: there are no pairs.
        factor: head − factor × base.
        confidence: of the interval.
    """
    if base is None or head is None or metric.endswith(".max"):
        return None
    one, other, paired = base.numbers, head.numbers, False
    if shift is not None and base.arrivals is not None and head.arrivals is not None:
        _, left, right = np.intersect1d(base.arrivals, head.arrivals - shift, return_indices=True)
        order = np.argsort(left)
        one, other, paired = one[left[order]], other[right[order]], True
    statistic = metric.rpartition(".")[2]
    if statistic in QUANTILES:
        return percentile_difference(
            one, other, QUANTILES[statistic], paired=paired, factor=factor, confidence=confidence
        )
    made = share_difference if METRICS[metric].unit == "share" else mean_difference
    return made(one, other, paired=paired, factor=factor, confidence=confidence)
