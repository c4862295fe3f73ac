"""The uncertainty of shares and percentiles of correlated values, from counts in bins of time.

The model: each value is the sum of a pace, which all values at one time share (a first-order autoregression), and of
independent noise. A few bins do not determine the pace's correlation time and its part of the variance. Every pair of a
grid is therefore weighted by its restricted likelihood (Harville, "Bayesian inference for variance components",
Biometrika 1974). A bound is a quantile of the mixture of all pairs.

The prior weights were tuned with simulated runs, with other seeds than those of ``bench/interval_coverage.py``. The
table "How often they hold" of ``bench/README.md`` was measured with them.
"""

import math
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from loadtest.arrays import Bools, Floats, Ints

_LASTS: Final = np.array([0.004, 0.012, 0.025, 0.045, 0.075, 0.12, 0.2, 0.33, 0.6])
"""Correlation times of the pace (until the correlation has fallen to 1/e), as shares of the stage."""
_LASTS_WEIGHTS: Final = np.array([1, 1, 1, 0.8, 0.4, 0.4, 0.7, 0.7, 0.1])
"""Prior weights of ``_LASTS``."""
_PACES: Final = np.array([0, 0.02, 0.06, 0.13, 0.25, 0.5, 0.9, 1.6, 3, 6])
"""Variance of the pace ÷ variance within bins."""
_PARTS: Final = np.array([0, 0.01, 0.03, 0.06, 0.1, 0.17, 0.28, 0.42, 0.6, 0.8])
"""The pace's part of the variance of events (0 or 1)."""
_PARTS_WEIGHTS: Final = np.array([8, 1, 1, 1, 1, 1, 1, 1, 1, 1])
"""Prior weights of ``_PARTS``."""
_TAILS: Final = (0.035, 0.06)
"""Probability of the mixture beyond each end of an interval, for p50 and for a higher percentile."""
_SHARE_TAIL: Final = 0.0125
"""The same for a share."""
_LEVEL_TAIL: Final = 0.02
"""The same for the share of values below a value, which decides whether that may be a percentile."""
_DRIFT: Final = 3
"""Number of the last ``_LASTS`` that are too long for the pace to vary repeatedly within the stage."""
_HALVINGS: Final = 30
"""Number of bisections for a bound: its precision in binary digits."""
_BATCHES: Final = 8
"""Number of batches in a stage."""
NORMAL: Final = 1.959963984540054
"""Normal deviate of a two-sided 95 % interval."""


class PaceModels(NamedTuple):
    """Weighted models of the pace, ``[correlation time, variance]``, in units of normal scores.

    Attributes:
        weights: posterior probabilities of the models.
        own: variance of the independent noise.
        shared: variance of the pace.
        of_mean: variance of the mean pace of the stage ÷ ``shared``.
        n: number of values.
    """

    weights: Floats
    own: Floats
    shared: Floats
    of_mean: Floats
    n: int

    @property
    def drifts(self) -> bool:
        """Whether the correlation time is probably a fifth of the stage or longer, so that nothing repeats in it."""
        return bool(self.weights[-_DRIFT:, 1:].sum() > 0.9)


def pace_of(counts: Ints) -> PaceModels:
    """Weigh the models of a stage's pace.

    Args:
        counts: number of values, ``[bin, level]``.
    """
    of_each, of_bin = counts.sum(axis=0), counts.sum(axis=1)
    n, bins = int(of_each.sum()), len(of_bin)
    scores = _normal_quantiles(np.clip(np.cumsum(of_each) - of_each / 2, 0.25, n - 0.25) / n)
    sums = counts @ scores
    within = max(float(of_each @ scores**2 - (sums**2 / np.maximum(of_bin, 1)).sum()) / max(n - bins, 1), 1e-6)
    rest = (sums - of_bin * (of_each @ scores) / n)[:, None]
    each, spectra, shared = n / bins, _spectra(bins), _PACES * within
    # A pace that changes within a bin adds to the variance within bins.
    own = np.array([np.maximum(within - shared * (1 - one.of_bin), within / 20) for one in spectra])
    models = [each * alone + each**2 * shared * one.powers[:, None] for one, alone in zip(spectra, own, strict=True)]
    logs = np.concatenate([_log_likelihood(one, rest, some) for one, some in zip(spectra, models, strict=True)])
    of_mean = np.array([[one.of_mean] for one in spectra])
    return PaceModels(_normalised(logs + np.log(_LASTS_WEIGHTS)[:, None]), own, shared, of_mean, n)


def percentile_reach(pace: PaceModels, quantile: float) -> float:
    """Return half the width of a percentile's interval in normal scores, given the pace."""
    deviate = normal_quantile(quantile)
    density = _density(deviate)
    total = pace.own + pace.shared
    together = np.interp(pace.shared / total, *_together(deviate)) / density**2
    alone = quantile * (1 - quantile) / density**2 - together
    return float(
        _mixed(pace.weights, np.sqrt(total * (together * pace.of_mean + alone / pace.n)), _TAILS[quantile > 0.5])
    )


def share_reach(events: Ints, whole: Ints, pace: PaceModels | None = None) -> float:
    """Return half the width of a share's interval, in standard deviations of a single event (0 or 1).

    Args:
        events: number of events in each bin.
        whole: number of values in each bin.
        pace: models of the same operations, whose correlation times apply here too.
    """
    return float(_mixed(*_weigh_shares(events[:, None], whole, pace), _SHARE_TAIL)[0])


def may_be_off(events: Ints, whole: Ints, pace: PaceModels, deviations: Floats) -> Bools:
    """Return whether the error of each column's share may reach a deviation.

    Args:
        events: number of events, ``[bin, column]``.
        whole: as for ``share_reach``.
        pace: as for ``share_reach``.
        deviations: by column, in standard deviations of a single event (0 or 1).
    """
    weights, errors = _weigh_shares(events, whole, pace)
    return np.asarray(_beyond(weights, errors, deviations) >= _LEVEL_TAIL)


def _weigh_shares(events: Ints, whole: Ints, pace: PaceModels | None) -> tuple[Floats, Floats]:
    """Return the weights of each column's models, and the standard error of a share by each model."""
    bins, total = len(whole), float(whole.sum())
    each, share = total / bins, events.sum(axis=0) / total
    rest = (events - whole[:, None] * share) / np.sqrt(np.maximum(share * (1 - share), 1e-12))
    start = _LASTS_WEIGHTS if pace is None else np.maximum(pace.weights.sum(axis=1), 1e-9)
    spectra, prior = _spectra(bins), np.log(start[:, None] * _PARTS_WEIGHTS)
    models = [each * (1 - _PARTS) + each**2 * _PARTS * one.powers[:, None] for one in spectra]
    logs = np.stack([_log_likelihood(one, rest, some) for one, some in zip(spectra, models, strict=True)], axis=1)
    of_mean = np.array([[one.of_mean] for one in spectra])
    return _normalised(logs + prior), np.sqrt((1 - _PARTS) / total + _PARTS * of_mean)


def level_of(share: Floats, quantile: float) -> int:
    """Return the first level whose cumulative share reaches a quantile."""
    return min(int(np.searchsorted(share, quantile - 1e-9)), len(share) - 1)


def bins_of_batch(bins: int) -> int:
    """Return the number of bins in a batch."""
    return math.ceil(bins / _BATCHES)


def filled_blocks(counts: Ints, bins: int) -> int:
    """Count the non-empty blocks among consecutive blocks of ``bins`` bins."""
    whole = len(counts) // bins * bins
    return int(np.count_nonzero(counts[:whole].reshape(-1, bins).sum(axis=1)))


def fill_batches(counts: Ints) -> bool:
    """Whether at most one batch of a stage is empty."""
    batch = bins_of_batch(len(counts))
    return filled_blocks(counts, batch) >= len(counts) // batch - 1


def equivalent_n(reach: float, n: float) -> float:
    """Return the number of independent values whose share is as uncertain; ``reach`` is as of ``share_reach``."""
    return min(n, (NORMAL / max(reach, 1e-9)) ** 2)


class _Spectrum(NamedTuple):
    """The correlation of bin means of a pace: its eigenvalues, vectors (in rows) and the sum of each vector.

    Attributes:
        of_bin: variance of the mean of a bin ÷ variance of the pace.
        of_mean: variance of the mean of all bins ÷ variance of the pace.
    """

    powers: Floats
    vectors: Floats
    sums: Floats
    of_bin: float
    of_mean: float


@lru_cache(maxsize=32)
def _spectra(bins: int) -> list[_Spectrum]:
    """Return the spectrum for each of ``_LASTS``: an Ornstein–Uhlenbeck process, averaged over each bin."""
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
        spectrum: the pace's spectrum.
        rest: deviation of each bin from the mean, ``[bin, column]``.
        models: variances along the spectrum, ``[bin, model]``.
    """
    seen, precision = spectrum.vectors @ rest, 1 / models
    information = spectrum.sums**2 @ precision
    mean = (spectrum.sums[:, None] * seen).T @ precision
    squares = (seen**2).T @ precision - mean**2 / information
    return np.asarray(-(np.log(models).sum(axis=0) + np.log(information) + squares) / 2)


def _normalised(logs: Floats) -> Floats:
    """Convert logarithms to weights with the sum 1 over the last two axes, the models."""
    weights = np.exp(logs - logs.max(axis=(-2, -1), keepdims=True))
    return np.asarray(weights / weights.sum(axis=(-2, -1), keepdims=True))


def _beyond(weights: Floats, errors: Floats, deviations: Floats) -> Floats:
    """Probability that mixtures of normal distributions exceed deviations."""
    from scipy.special import ndtr  # noqa: PLC0415 - slow to import, and most commands need none of it

    return np.asarray((weights * ndtr(-deviations[..., None, None] / errors)).sum(axis=(-2, -1)))


def _mixed(weights: Floats, errors: Floats, tail: float) -> Floats:
    """Deviation that mixtures of normal distributions exceed with the probability ``tail``."""
    low, high = np.zeros(weights.shape[:-2]), np.full(weights.shape[:-2], 10 * errors.max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = _beyond(weights, errors, middle) > tail
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return high


def normal_quantile(share: float) -> float:
    """Return the normal deviate below which this share of the values lies."""
    return float(_normal_quantiles(np.array(share)))


def normal_share(deviate: float) -> float:
    """Return the share of normal values below a deviate."""
    return math.erfc(-deviate / math.sqrt(2)) / 2


def score_density(quantile: float) -> float:
    """Return the density of normal scores at a quantile ÷ √(q(1 − q)), the standard deviation of being below it."""
    return _density(normal_quantile(quantile)) / math.sqrt(quantile * (1 - quantile))


def _density(deviate: float) -> float:
    return math.exp(-deviate * deviate / 2) / math.sqrt(2 * math.pi)


def _normal_quantiles(shares: Floats) -> Floats:
    from scipy.special import ndtri  # noqa: PLC0415 - as above

    return np.asarray(ndtri(shares))


@lru_cache(maxsize=16)
def _together(deviate: float) -> tuple[Floats, Floats]:
    """Shared parts of the variance of two normal values, and for each the covariance of both being below a deviate."""
    parts = np.linspace(0, 0.99, 100)
    middles = (parts[1:] + parts[:-1]) / 2
    density = np.exp(-(deviate**2) / (1 + middles)) / (2 * math.pi * np.sqrt(1 - middles**2))
    return parts, np.append(0, np.cumsum(density * np.diff(parts)))
