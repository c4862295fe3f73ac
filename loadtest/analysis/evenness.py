"""How evenly arrivals left, against how evenly the schedule wanted them: the shape of arrivals decides the 429 rate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.frame import Record
from loadtest.analysis.percentiles import summarize

_BIN_S = 0.1
_ENOUGH = 5
"""Mean arrivals a bin from which the bins' spread says something; below, an even schedule spreads by itself."""


@dataclass(frozen=True, slots=True)
class Evenness:
    """Of one traffic entry.

    Attributes:
        gap_error_ms: ``summarize``d |gap between two starts − gap between their intended starts|.
        bins_sent: sd ÷ mean of the starts in bins of 100 ms; None where arrivals are too few for it.
        bins_intended: the same of the intended starts: what a perfect sender would show.
    """

    gap_error_ms: dict[str, object]
    bins_sent: float | None
    bins_intended: float | None


def evenness(record: Record) -> dict[str, Evenness]:
    """Evenness of each traffic entry's first requests; reported, never judged."""
    found = {}
    for name in record.info.traffic:
        rows = record.operations[record.operations["traffic"] == name].dropna(subset=["start", "intended_start"])
        ordered = rows.sort_values("arrival")
        start, intended = (ordered[column].to_numpy(dtype=float) / 1e9 for column in ("start", "intended_start"))
        error = np.abs(np.diff(start) - np.diff(intended)) * 1e3
        found[name] = Evenness(summarize(error), _spread(start), _spread(intended))
    return found


def _spread(times: NDArray[np.float64]) -> float | None:
    if len(times) < 2:
        return None
    span = float(times.max() - times.min())
    bins = int(span / _BIN_S)
    if bins < 2 or len(times) / bins < _ENOUGH:
        return None
    counts, _ = np.histogram(times, bins, (times.min(), times.min() + bins * _BIN_S))
    return float(counts.std() / counts.mean())
