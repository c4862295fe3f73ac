"""The uncertainty of means, shares and percentiles of correlated values, computed from sums in bins.

Values are correlated because a service has slow and fast periods. In the model, each value is the sum of a pace, which
all values at one moment share, and independent noise. The pace is a first-order autoregression: its correlation at two
moments is e^(−distance ÷ correlation time). A few bins are not enough to estimate the correlation time and the variance
of the pace. Each pair of these two parameters on a grid is therefore a model, weighted by its restricted likelihood
(Harville, "Bayesian inference for variance components", Biometrika 1974). All pairs have the same prior weight.

An event is 0 or 1, for example an error, or a time below a percentile. A model of events has a correlation time and the
part of their variance that they share. The prior weight of a correlation time is its posterior weight in the models of
the pace, if these are given. For values without a pace, or if no models are given, 55 % of the prior weight is on
independent events. Under the weighted mixture of all models, the true value is beyond each bound of an interval with a
probability of 2.5 %. ``bench/README.md`` has the share of intervals that contain the true value.
"""

import math
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from loadtest.arrays import Bools, Floats, Ints

_LASTS: Final = np.geomspace(0.004, 0.35, 9)
"""Correlation times of the models, as shares of the stage. With a longer correlation time, a pace looks constant."""
_PACES: Final = np.array([0, 0.02, 0.06, 0.13, 0.25, 0.5, 0.9, 1.6, 3, 6])
"""Variance of the pace ÷ variance within bins."""
_PARTS: Final = np.array([0, 0.01, 0.03, 0.06, 0.1, 0.17, 0.28, 0.42, 0.6, 0.8])
"""Shared variance of events ÷ their total variance."""
_ANY_PART: Final = np.full(len(_PARTS), 1 / len(_PARTS))
"""Prior weights of ``_PARTS`` if values share a pace."""
_TAIL: Final = 0.025
"""Probability that the true value is beyond one end of an interval, under the mixture of all models."""
_APART: Final = (np.arange(400) + 0.5) / 400
"""Distances between two moments, as shares of the stage."""
_DRIFT: Final = 0.2
"""A pace drifts if its correlation time is at least this share of the stage."""
_LEAST_OF_BIN: Final = 4
_MOST_BINS: Final = 30
"""Values in order of time are divided into at most ``_MOST_BINS`` bins of at least ``_LEAST_OF_BIN`` values."""
_HALVINGS: Final = 30
"""Number of bisection steps."""
_BATCHES: Final = 8
"""A stage is divided into at most this many batches of neighbouring bins."""
NORMAL: Final = 1.959963984540054
"""A 95 % interval of a normal distribution ends this many standard deviations from the mean."""


class PaceModels(NamedTuple):
    """Weighted models of the pace. Arrays are ``[correlation time, variance]``.

    ``weights`` has posterior probabilities. ``parts`` has the pace's variance ÷ the variance of the values (as normal
    scores, see ``pace_of``).
    """

    weights: Floats
    parts: Floats

    @property
    def drifts(self) -> bool:
        """Whether models whose pace has a correlation time of at least ``_DRIFT`` have more than 90 % of the weight."""
        return bool(self.weights[_LASTS >= _DRIFT, 1:].sum() > 0.9)

    @property
    def prior(self) -> Floats:
        """The prior weights of the models of events, ``[correlation time, part]``."""
        some = self.weights[:, 1:].sum(axis=1, keepdims=True)
        return np.asarray(self.weights[:, :1] * _NO_PACE + some * _ANY_PART)


_NO_PACE: Final = (_ANY_PART + (_PARTS == 0)) / 2
"""Prior weights of ``_PARTS`` if values share no pace, or the pace is unknown."""


def pace_of(counts: Ints) -> PaceModels:
    """Weigh the models of a stage's pace.

    ``counts`` are numbers of values, ``[bin, level]``. A level is a range of values. Each value counts as its normal
    score: the normal quantile of its level's middle rank ÷ n.
    """
    of_each, of_bin = counts.sum(axis=0), counts.sum(axis=1)
    n, bins = int(of_each.sum()), len(of_bin)
    scores = _normal_quantiles(np.clip(np.cumsum(of_each) - of_each / 2, 0.25, n - 0.25) / n)
    sums = counts @ scores
    within = max(float(of_each @ scores**2 - (sums**2 / np.maximum(of_bin, 1)).sum()) / max(n - bins, 1), 1e-6)
    rest = (sums - of_bin * (of_each @ scores) / n)[:, None]
    each, spectra, shared = n / bins, _spectra(bins), _PACES * within
    # ``within`` includes changes of the pace within a bin. They are subtracted, because they are not independent noise.
    own = np.array([np.maximum(within - shared * (1 - one.of_bin), within / 20) for one in spectra])
    models = [each * alone + each**2 * shared * one.powers[:, None] for one, alone in zip(spectra, own, strict=True)]
    logs = np.concatenate([_log_likelihood(one, rest, some) for one, some in zip(spectra, models, strict=True)])
    return PaceModels(_normalised(logs), shared / (own + shared))


def effective_share_n(events: Ints, whole: Ints, pace: PaceModels | None = None) -> float:
    """Return the number of independent values whose share would be as uncertain as that of these values.

    ``whole`` has the number of values in each bin, and ``events`` has the number of events among them. ``pace`` has
    the models of the stage's pace.
    """
    share = events.sum() / whole.sum()
    rest = (events - whole * share) / math.sqrt(max(share * (1 - share), 1e-12))
    n = float(whole.sum())
    return _equivalent(*_weigh(rest[:, None], n, _NO_PACE if pace is None else pace.prior), n)


def effective_n(values: Floats) -> float:
    """Return the number of independent values whose mean would be as uncertain as that of these time-ordered values."""
    n, spread = values.size, float(values.std())
    bins = min(_MOST_BINS, n // _LEAST_OF_BIN)
    if bins < 2 or spread == 0:
        return float(n)
    starts = np.arange(bins) * n // bins
    rest = np.add.reduceat(values - values.mean(), starts) / spread
    return _equivalent(*_weigh(rest[:, None], n, _NO_PACE), n)


def plausible(below: Ints, whole: Ints, pace: PaceModels, quantile: float) -> tuple[Bools, float]:
    """Return whether each level may contain the quantile, and the effective number of values (see ``effective_n``).

    A level is excluded if the share of values up to it is significantly too low, or if the share up to the previous
    level is significantly too high. Both the models of the pace and the models of the event "a value is at most this
    level" have to exclude it, because the slowest times may vary differently from the others.

    ``below`` is the number of values up to each level, ``[bin, level]``, and ``whole`` is the number in each bin.
    ``pace`` has the models of the same values.
    """
    n, spread = float(whole.sum()), math.sqrt(quantile * (1 - quantile))
    share = below.sum(axis=0) / n
    rest = (below - whole[:, None] * share) / np.sqrt(np.maximum(share * (1 - share), 1e-12))
    unsure = _beyond(*_weigh(rest, n, pace.prior), np.abs(share - quantile) / spread) >= _TAIL
    # The correlation of two events falls with their distance in time. Its mean over all pairs of moments is the part of
    # a share's variance that more values do not reduce.
    kept = pace.parts[..., None] * np.exp(-_APART / _LASTS[:, None])[:, None]
    together = np.interp(kept, *_together(quantile)) @ (1 - _APART) * (2 / len(_APART))
    errors = np.sqrt(together + (1 - np.interp(pace.parts, *_together(quantile))) / n)
    # Errors of shares are closer to normal after conversion to normal scores.
    deviate = float(_normal_quantiles(np.array(quantile)))
    density = math.exp(-(deviate**2) / 2) / math.sqrt(2 * math.pi)
    scores = np.abs(_normal_quantiles(share) - deviate) * density / spread
    unsure = (unsure | (_beyond(pace.weights, errors, scores) >= _TAIL)) & (share < 1)
    low_enough = np.append(True, unsure | (share <= quantile))[:-1]
    return (unsure | (share >= quantile)) & low_enough, _equivalent(pace.weights, errors, n)


def _weigh(rest: Floats, n: float, prior: Floats) -> tuple[Floats, Floats]:
    """Return the weights of each column's models, and the standard error of the mean of n values under each model.

    A column is a set of values, for example the events of one level. ``rest`` is the deviation of each bin's sum from
    its expectation, in standard deviations of a value, ``[bin, column]``. ``prior`` has weights, ``[correlation time,
    part]``.
    """
    spectra, each = _spectra(len(rest)), n / len(rest)
    models = [each * (1 - _PARTS) + each**2 * _PARTS * one.powers[:, None] for one in spectra]
    logs = np.stack([_log_likelihood(one, rest, some) for one, some in zip(spectra, models, strict=True)], axis=1)
    of_mean = np.array([[one.of_mean] for one in spectra])
    return _normalised(logs + np.log(np.maximum(prior, 1e-9))), np.sqrt((1 - _PARTS) / n + _PARTS * of_mean)


def _equivalent(weights: Floats, errors: Floats, n: float) -> float:
    """Return the number of independent values whose mean would be equally uncertain; at most n."""
    low = 0.0
    high = float(10 * errors.max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if np.all(_beyond(weights, errors, np.array(middle)) > _TAIL) else (low, middle)
    return min(n, (NORMAL / high) ** 2)


def circular_blocks(random: np.random.Generator, draws: int, n: int, block: int) -> Ints:
    """Draw blocks of neighbouring indices from 0 to n − 1. Index 0 follows n − 1. The result is ``[draws, n]``.

    The method is from Politis & Romano, "A circular block-resampling procedure for stationary data", 1992.
    """
    starts = random.integers(0, n, (draws, math.ceil(n / block), 1))
    return ((starts + np.arange(block)) % n).reshape(draws, -1)[:, :n]


def bins_of_batch(bins: int) -> int:
    """Return the number of bins per batch of a stage with ``bins`` bins."""
    return math.ceil(bins / _BATCHES)


def filled_blocks(counts: Ints, bins: int) -> int:
    """Count the non-empty blocks of ``bins`` successive bins. Bins after the last complete block are left out."""
    whole = len(counts) // bins * bins
    return int(np.count_nonzero(counts[:whole].reshape(-1, bins).sum(axis=1)))


def fill_batches(counts: Ints) -> bool:
    """Whether at most one of a stage's complete batches is empty."""
    batch = bins_of_batch(len(counts))
    return filled_blocks(counts, batch) >= len(counts) // batch - 1


class _Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors (in rows) of the covariance of the bin means of a pace with variance 1.

    ``of_bin`` is the variance of a bin's mean ÷ the pace's variance. ``of_mean`` is the same for the mean of all bins.
    """

    powers: Floats
    vectors: Floats
    sums: Floats
    of_bin: float
    of_mean: float


@lru_cache(maxsize=32)
def _spectra(bins: int) -> list[_Spectrum]:
    """Return the spectrum of an Ornstein–Uhlenbeck process, averaged over each bin, for each of ``_LASTS``."""
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

    ``rest`` is the deviation of each bin's sum from its expectation, ``[bin, column]``. ``models`` are variances along
    the eigenvectors, ``[bin, model]``.
    """
    seen, precision = spectrum.vectors @ rest, 1 / models
    information = spectrum.sums**2 @ precision
    mean = (spectrum.sums[:, None] * seen).T @ precision
    squares = (seen**2).T @ precision - mean**2 / information
    return np.asarray(-(np.log(models).sum(axis=0) + np.log(information) + squares) / 2)


def _normalised(logs: Floats) -> Floats:
    """Convert logarithms to weights that add up to 1 over the models, the last two axes."""
    weights = np.exp(logs - logs.max(axis=(-2, -1), keepdims=True))
    return np.asarray(weights / weights.sum(axis=(-2, -1), keepdims=True))


def _beyond(weights: Floats, errors: Floats, deviations: Floats) -> Floats:
    """Return the probability that each mixture of normal distributions exceeds a deviation."""
    from scipy.special import ndtr  # noqa: PLC0415 - slow to import, and most commands do not need it

    return np.asarray((weights * ndtr(-deviations[..., None, None] / errors)).sum(axis=(-2, -1)))


def _normal_quantiles(shares: Floats) -> Floats:
    from scipy.special import ndtri  # noqa: PLC0415 - slow to import

    return np.asarray(ndtri(shares))


@lru_cache(maxsize=16)
def _together(quantile: float) -> tuple[Floats, Floats]:
    """Return correlations of two normal values, and for each the correlation of the events "below the quantile"."""
    deviate = float(_normal_quantiles(np.array(quantile)))
    parts = np.linspace(0, 0.99, 100)
    middles = (parts[1:] + parts[:-1]) / 2
    density = np.exp(-(deviate**2) / (1 + middles)) / (2 * math.pi * np.sqrt(1 - middles**2))
    return parts, np.append(0, np.cumsum(density * np.diff(parts))) / (quantile * (1 - quantile))
