"""The uncertainty of shares and percentiles whose values are correlated, from their counts in bins of time.

All values of a moment share a pace: an autoregression of first order, with noise that each value has alone. Few bins
leave open how long the pace lasts and how much of the variance it makes. So every pair of a grid is weighted by its
restricted likelihood (Harville, "Bayesian inference for variance components", Biometrika 1974). A bound is a quantile
of the mixture.

The weights before any data were tuned with simulated runs, on other seeds than those of ``bench/interval_coverage.py``;
the table "How often they hold" of ``bench/README.md`` fixes them.
"""

import math
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from loadtest.arrays import Bools, Floats, Ints

_LASTS: Final = np.array([0.004, 0.012, 0.025, 0.045, 0.075, 0.12, 0.2, 0.33, 0.6])
"""Shares of the stage after which the pace's correlation has fallen to 1/e …"""
_LASTS_WEIGHTS: Final = np.array([1, 1, 1, 0.8, 0.4, 0.4, 0.7, 0.7, 0.1])
"""… and their weights before any data."""
_PACES: Final = np.array([0, 0.02, 0.06, 0.13, 0.25, 0.5, 0.9, 1.6, 3, 6])
"""Variance of the pace ÷ variance within bins."""
_PARTS: Final = np.array([0, 0.01, 0.03, 0.06, 0.1, 0.17, 0.28, 0.42, 0.6, 0.8])
"""Share of the variance of zeros and ones that the pace makes …"""
_PARTS_WEIGHTS: Final = np.array([8, 1, 1, 1, 1, 1, 1, 1, 1, 1])
"""… and their weights before any data."""
_TAILS: Final = (0.035, 0.06)
"""Of the mixture, on each side of an interval of p50 and of a higher percentile, which the other bounds widen."""
_SHARE_TAIL: Final = 0.0125
"""Likewise of a share …"""
_LEVEL_TAIL: Final = 0.02
"""… and of the share below a value, by which it may be a percentile."""
_DRIFT: Final = 3
"""The last so many of ``_LASTS`` are so long that nothing in the stage repeats."""
_HALVINGS: Final = 30
"""A bound is exact to so many binary digits."""
NORMAL: Final = 1.959963984540054
"""Normal deviate of a two-sided 95 % interval."""


class PaceModels(NamedTuple):
    """Weighted models of what all values of a moment share, ``[lasting, variance]``; in units of normal scores.

    Attributes:
        weights: of the models.
        own: variance of what each value has alone.
        shared: variance of the pace.
        of_mean: variance of the mean pace of the stage ÷ ``shared``.
        n: values.
    """

    weights: Floats
    own: Floats
    shared: Floats
    of_mean: Floats
    n: int

    @property
    def drifts(self) -> bool:
        """Whether correlation probably lasts for a fifth of the stage or longer: nothing in it repeats."""
        return bool(self.weights[-_DRIFT:, 1:].sum() > 0.9)


def pace_of(counts: Ints) -> PaceModels:
    """Weigh the models of a stage's pace.

    Args:
        counts: ``[bin, level]`` values.
    """
    of_each, of_bin = counts.sum(axis=0), counts.sum(axis=1)
    n, bins = int(of_each.sum()), len(of_bin)
    scores = _normal_quantiles(np.clip(np.cumsum(of_each) - of_each / 2, 0.25, n - 0.25) / n)
    sums = counts @ scores
    within = max(float(of_each @ scores**2 - (sums**2 / np.maximum(of_bin, 1)).sum()) / max(n - bins, 1), 1e-6)
    rest, each, spectra, shared = (
        (sums - of_bin * (of_each @ scores) / n)[:, None],
        n / bins,
        _spectra(bins),
        _PACES * within,
    )
    # A pace that changes within a bin adds to the variance within bins.
    own = np.array([np.maximum(within - shared * (1 - one.of_bin), within / 20) for one in spectra])
    models = [each * alone + each**2 * shared * one.powers[:, None] for one, alone in zip(spectra, own, strict=True)]
    logs = np.concatenate([_log_likelihood(one, rest, some) for one, some in zip(spectra, models, strict=True)])
    of_mean = np.array([[one.of_mean] for one in spectra])
    return PaceModels(_normalised(logs + np.log(_LASTS_WEIGHTS)[:, None]), own, shared, of_mean, n)


def percentile_reach(pace: PaceModels, quantile: float) -> float:
    """Return by how much a percentile of normal scores may be off, so far as all values of a moment move together."""
    deviate = normal_quantile(quantile)
    density = _density(deviate)
    total = pace.own + pace.shared
    together = np.interp(pace.shared / total, *_together(deviate)) / density**2
    alone = quantile * (1 - quantile) / density**2 - together
    return float(
        _mixed(pace.weights, np.sqrt(total * (together * pace.of_mean + alone / pace.n)), _TAILS[quantile > 0.5])
    )


def share_reach(events: Ints, whole: Ints, pace: PaceModels | None = None) -> float:
    """Return by how many standard deviations of a single zero or one a share may be off.

    Args:
        events: by bin.
        whole: likewise; of how many.
        pace: of the same operations: what it shows of lasting holds here, too.
    """
    return float(_mixed(*_weigh_shares(events[:, None], whole, pace), _SHARE_TAIL)[0])


def may_be_off(events: Ints, whole: Ints, pace: PaceModels, deviations: Floats) -> Bools:
    """Return whether shares of columns of events may be off by so many standard deviations of a single zero or one.

    Args:
        events: ``[bin, column]``.
        whole: as for ``share_reach``.
        pace: likewise.
        deviations: by column.
    """
    weights, errors = _weigh_shares(events, whole, pace)
    return np.asarray(_beyond(weights, errors, deviations) >= _LEVEL_TAIL)


def _weigh_shares(events: Ints, whole: Ints, pace: PaceModels | None) -> tuple[Floats, Floats]:
    """Weigh the models of columns; and return the standard error that each model gives a share."""
    bins, total = len(whole), float(whole.sum())
    each, share = total / bins, events.sum(axis=0) / total
    rest = (events - whole[:, None] * share) / np.sqrt(np.maximum(share * (1 - share), 1e-12))
    start = _LASTS_WEIGHTS if pace is None else np.maximum(pace.weights.sum(axis=1), 1e-9)
    spectra, prior = _spectra(bins), np.log(start[:, None] * _PARTS_WEIGHTS)
    models = [each * (1 - _PARTS) + each**2 * _PARTS * one.powers[:, None] for one in spectra]
    logs = np.stack([_log_likelihood(one, rest, some) for one, some in zip(spectra, models, strict=True)], axis=1)
    of_mean = np.array([[one.of_mean] for one in spectra])
    return _normalised(logs + prior), np.sqrt((1 - _PARTS) / total + _PARTS * of_mean)


def effective_n(reach: float, n: float) -> float:
    """Return to how many independent values n amount whose share may be off by so many standard deviations of one."""
    return min(n, (NORMAL / max(reach, 1e-9)) ** 2)


class _Spectrum(NamedTuple):
    """The correlation of bin means of a pace: its eigenvalues, vectors (in rows) and the sum of each vector.

    Attributes:
        of_bin: variance of the mean of a bin ÷ that of the pace.
        of_mean: likewise of the mean of all bins.
    """

    powers: Floats
    vectors: Floats
    sums: Floats
    of_bin: float
    of_mean: float


@lru_cache(maxsize=32)
def _spectra(bins: int) -> list[_Spectrum]:
    """Return the spectrum of each of ``_LASTS``; of an Ornstein–Uhlenbeck process, averaged over each bin."""
    apart = np.abs(np.subtract.outer(np.arange(bins), np.arange(bins)))
    found = []
    for lasts in (_LASTS * bins).tolist():
        kept = math.exp(-1 / lasts)
        of_bin = 2 * lasts**2 * (1 / lasts - 1 + kept)
        between = lasts**2 * (1 - kept) ** 2 * np.exp(-np.maximum(apart - 1, 0) / lasts)
        powers, vectors = np.linalg.eigh(np.where(apart == 0, of_bin, between))
        powers, sums = np.maximum(powers, 0), vectors.sum(axis=0)
        found.append(_Spectrum(powers, vectors.T, sums, of_bin, float(sums**2 @ powers) / bins**2))
    return found


def _log_likelihood(spectrum: _Spectrum, rest: Floats, models: Floats) -> Floats:
    """Return the restricted log likelihood ``[column, model]``.

    Args:
        spectrum: of the pace.
        rest: ``[bin, column]``; what each bin is off the mean by.
        models: ``[bin, model]``; variances along the spectrum.
    """
    seen, precision = spectrum.vectors @ rest, 1 / models
    information = spectrum.sums**2 @ precision
    mean = (spectrum.sums[:, None] * seen).T @ precision
    squares = (seen**2).T @ precision - mean**2 / information
    return np.asarray(-(np.log(models).sum(axis=0) + np.log(information) + squares) / 2)


def _normalised(logs: Floats) -> Floats:
    """Return weights of models, which are the last two axes, from logarithms."""
    weights = np.exp(logs - logs.max(axis=(-2, -1), keepdims=True))
    return np.asarray(weights / weights.sum(axis=(-2, -1), keepdims=True))


def _beyond(weights: Floats, errors: Floats, deviations: Floats) -> Floats:
    """Return the probability that mixtures of normal distributions exceed deviations."""
    from scipy.special import ndtr  # noqa: PLC0415 - slow to import, and most commands need none of it

    return np.asarray((weights * ndtr(-deviations[..., None, None] / errors)).sum(axis=(-2, -1)))


def _mixed(weights: Floats, errors: Floats, tail: float) -> Floats:
    """Return the deviation that mixtures of normal distributions exceed with the probability ``tail``."""
    low, high = np.zeros(weights.shape[:-2]), np.full(weights.shape[:-2], 10 * errors.max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = _beyond(weights, errors, middle) > tail
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return high


def normal_quantile(share: float) -> float:
    """Return the normal deviate that a share of the values is below."""
    return float(_normal_quantiles(np.array(share)))


def normal_share(deviate: float) -> float:
    """Return the share of normal values below a deviate."""
    return math.erfc(-deviate / math.sqrt(2)) / 2


def score_density(quantile: float) -> float:
    """Return the density of normal scores at a quantile, in standard deviations of being below it."""
    return _density(normal_quantile(quantile)) / math.sqrt(quantile * (1 - quantile))


def _density(deviate: float) -> float:
    return math.exp(-deviate * deviate / 2) / math.sqrt(2 * math.pi)


def _normal_quantiles(shares: Floats) -> Floats:
    from scipy.special import ndtri  # noqa: PLC0415 - as above

    return np.asarray(ndtri(shares))


@lru_cache(maxsize=16)
def _together(deviate: float) -> tuple[Floats, Floats]:
    """Return parts of the variance that normal values share, and the covariance of their being below a deviate."""
    parts = np.linspace(0, 0.99, 100)
    middles = (parts[1:] + parts[:-1]) / 2
    density = np.exp(-(deviate**2) / (1 + middles)) / (2 * math.pi * np.sqrt(1 - middles**2))
    return parts, np.append(0, np.cumsum(density * np.diff(parts)))
