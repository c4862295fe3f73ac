"""Student's t, the sample variance, and blocks for a bootstrap."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from loadtest.arrays import Ints


@lru_cache(maxsize=1024)
def student(quantile: float, df: float) -> float:
    """Return a quantile of Student's t with ``df`` degrees of freedom."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import, and most commands do not need it

    return float(stdtrit(df, quantile))


def student_tail(deviate: float, df: float) -> float:
    """Return the probability that Student's t with ``df`` degrees of freedom exceeds a deviate."""
    from scipy.special import stdtr  # noqa: PLC0415 - slow to import

    return float(stdtr(df, -deviate))


def variance(values: Sequence[float]) -> float:
    """Return the sample variance of two or more values. ``statistics.variance`` is exact, but thirty times slower."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def circular_blocks(random: np.random.Generator, draws: int, n: int, block: int) -> Ints:
    """Draw blocks of neighbouring indices from 0 to n − 1. Index 0 follows n − 1. The result is ``[draws, n]``.

    This is the circular moving-block bootstrap (Politis & Romano, "A circular block-resampling procedure for stationary
    data", 1992).
    """
    starts = random.integers(0, n, (draws, math.ceil(n / block), 1))
    return ((starts + np.arange(block)) % n).reshape(draws, -1)[:, :n]
