"""The limiters that may be in force, with their likelihoods, and the choice of the experiment that separates them best.

A hypothesis is a row of three parameters: count N and window W (for buckets, burst B and the seconds per refilled
request), and the offset of the server's clock. Each hypothesis is replayed with all requests, for several random draws
of their arrival times. If the replay of a draw accepts more or fewer requests of a burst than the server, this draw
gets less weight, and another draw may replace it (a particle filter: Gordon, Salmond and Smith, IEE Proceedings F
1993). Likely rows are kept and varied, within and beyond their range.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from loadtest.arrays import Floats, Ints
from loadtest.limits import ALGORITHMS, AlgorithmName, LimiterSpec
from loadtest.limits.probing.evidence import NETWORK_S, SAME, WINDOWS, ProbeEvidence
from loadtest.limits.replays import REPLAYS, LimiterReplay
from loadtest.units import Limit

COMMON_WINDOWS: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
"""Common window lengths in seconds: a convention."""
REACH_S: Final = 0.5 + NETWORK_S
"""The server's clock differs from ours by at most this many seconds, delays included (bench/README.md)."""
RATES: Final = 30.0
"""Rates within this factor of the documented rate are tried, and windows down to the documented window ÷ this factor.
This is an assumption."""
FAR: Final = math.log(500)
"""A limiter is excluded only if the natural log of its likelihood is at least this far below the best. If the
likelihoods are right, a given wrong limiter is this far ahead of the true limiter in at most 0.2 % of probes."""
_PER_MISS: Final = 3.5
"""Each surplus or missing accepted request of a burst makes a draw e^3.5 = 33 times less likely, or less so if network
delays may be the cause. 3.5 is between FAR / 2 and FAR, so that a single miss does not exclude a limiter, and a miss
in each of two experiments can."""
_LIKELY: Final = 1.5 * _PER_MISS
"""Parameters are likely if the natural log of their likelihood is at most this far below the best of their model."""
_USUAL: Final = 2.0
"""If network delays decide how many requests of a burst are accepted, even the true limiter may lose up to this much
log-likelihood."""
_SHORT_S: Final = 1.0
"""A probe cannot tell whether windows up to this length in s begin with a request or by the clock, because clocks may
differ by 0.5 s."""
_ROWS: Final = 20
"""At most this many rows of a model are varied. More would slow down the probe (bench/probe_confusion.py)."""
DRAWS: Final = 16
"""Number of draws of arrival times. The number of tried parameter values derives from it. More would be slower."""
_FINEST: Final = 0.0005
"""Smallest relative step of rates and offsets. In a window of a minute, it is 30 ms, less than network delays."""
Experiment = Sequence[tuple[float, int]]
"""Bursts: the start of each in unix seconds of our clock, and its number of requests."""
_TRIED: Final = 1000
"""This many random experiments are compared. More would make each choice slower (bench/probe_confusion.py)."""
_VOLLEYS: Final = 3
"""An experiment has at most this many bursts. More would also make each choice slower."""
_CASES: Final = 10
"""To compare experiments, this many random likely limiters stand for each model (``_cases``). More would also make each
choice slower."""
_EXPERIMENTS: Final = 20
"""The cost of an experiment in ``best`` includes 1 ÷ this number, because choosing an experiment takes about 0.1 s."""
_GAP: Final = 1.5
"""An experiment's bursts are at most about this many windows apart, so most lie in the same window or the next."""


class Hypotheses:
    """A model: all hypotheses of one variant of an algorithm."""

    def __init__(
        self, algorithm: AlgorithmName, documented: Limit, *, count_rejected: bool = False, round_down: bool = False
    ) -> None:
        self.algorithm, self.count_rejected, self.round_down = algorithm, count_rejected, round_down
        self.bucket = ALGORITHMS[algorithm].has_burst
        self.aligned = LimiterSpec(algorithm, round_down=round_down).on_clock
        self._any_phase = self.aligned and not ALGORITHMS[algorithm].can_round_down
        self._chained = not (self.bucket or self.aligned) and ALGORITHMS[algorithm].can_round_down
        """Whether windows follow each other from the first request on. The time of this request is then a parameter."""
        self._usual = NETWORK_S if self._chained else REACH_S
        """The largest offset in s that clock error or the network explains."""
        self._documented = documented
        self.rows: Floats = np.empty((0, 3))
        """N, W, and the offset in s of the clock or first request. For buckets: B, seconds per request, and offset."""
        self.fits: Floats = np.empty((0, 0))
        """Natural log of each row's likelihood in each experiment."""
        self.well: Floats = np.empty(0)
        """Log-likelihood of each row without losses that network delays may have caused. It is at most 0."""
        self.replay: LimiterReplay
        self.places: Ints
        """The index in ``replay`` of each row."""

    @property
    def key(self) -> tuple[str, bool]:
        """The properties by which the probe tells limiters apart.

        They do not include rounding. They ignore how windows of a second or less start, because the network hides it.
        """
        if self.fills_each_second:
            return "fixed-window", False
        short = not self.bucket and self.range(1)[1] <= _SHORT_S
        return self.algorithm.removesuffix("-from-first") if short else self.algorithm, self.count_rejected

    @property
    def rates(self) -> tuple[float, float]:
        """The smallest and largest likely rate, in requests/s."""
        counts, windows, _ = self.rows[self.likely].T
        rates = (1.0 if self.bucket else counts) / windows
        return float(rates.min()), float(rates.max())

    @property
    def fills_each_second(self) -> bool:
        """Whether the bucket is shown as a window of 1 s: each second refills all but at most 2 of its tokens.

        This requires a documented window of at most 1 s.
        """
        stepped = self.bucket and self.round_down and not self.count_rejected
        if not stepped or self._documented.window > _SHORT_S:
            return False
        bursts, refills, _ = self.rows[self.likely].T
        return bool((bursts - 1 / refills <= 2).all())

    @property
    def phase(self) -> tuple[float, float] | None:
        """Bounds on the start of a window, in s after multiples of W on our clock.

        It is None if clock error explains the phase, and for all algorithms except fixed-window.
        """
        low, high = self.range(2)
        if not self._any_phase or (low <= REACH_S and high >= -REACH_S):
            return None
        return -high % self.range(1)[1], -low % self.range(1)[1]

    @property
    def scores(self) -> Floats:
        return np.asarray(self.fits.sum(axis=1))

    @property
    def best(self) -> float:
        return float(self.scores.max())

    @property
    def likely(self) -> Ints:
        """The indices of the likely rows."""
        return np.flatnonzero(self.scores >= self.scores.max(initial=-np.inf) - _LIKELY)

    def without(self) -> Floats:
        """For each experiment, the best log-likelihood that a row has without this experiment."""
        return np.asarray((self.scores[:, None] - self.fits).max(axis=0))

    def range(self, column: int) -> tuple[float, float]:
        """The smallest and largest likely value of a parameter."""
        likely = self.rows[self.likely, column]
        return float(likely.min()), float(likely.max())

    def weigh(self, seen: ProbeEvidence) -> None:
        """Propose rows the first time, and later vary the likely rows. Weigh the rows by all answers."""
        rows = np.unique((self._varied(seen) if len(self.rows) else self._first(seen)).round(7), axis=0)
        counts, windows, shifts = rows.T
        if not self.bucket:  # a window for one request resembles a bucket of one, so N is at least 2
            reach = windows / 2 if self._any_phase else np.minimum(self._usual, windows / 2)
            possible = (counts >= 2) & (np.abs(shifts) <= reach + 1e-6)
        else:  # leave out buckets that are full at each whole second: they are fixed windows
            possible = (counts >= 1) & (np.abs(shifts) <= 0.5) & ((counts * windows > 1) | (not self.round_down))
        self.rows = rows[possible]
        if len(self.rows):
            self._weigh(seen)
            self.places = kept = self._spread(4 * _ROWS)
            self.rows, self.fits, self.well = self.rows[kept], self.fits[kept], self.well[kept]

    def _spread(self, most: int) -> Ints:
        """Return the indices of up to ``most`` rows, spread over the window lengths. Unlikely rows are left out."""
        order = np.argsort(-self.scores, kind="stable")
        order = order[self.scores[order] >= self.best - 2 * FAR]
        if len(order) <= most:
            return order
        rank, windows = np.zeros(len(order)), self.rows[order, 1]
        for window in () if self.bucket else np.unique(windows):
            rank[windows == window] = np.arange((windows == window).sum())
        order = order[np.argsort(rank, kind="stable")]
        others = np.sort(order[most // 2 :])
        return np.concatenate((order[: most // 2], others[np.linspace(0, len(others) - 1, most // 2).astype(int)]))

    def _first(self, seen: ProbeEvidence) -> Floats:
        """Return rows with common windows. For a bucket, return possible B with rates around the documented rate."""
        if self.bucket:
            passed, shortest, longest = seen.first
            # A clock of whole seconds may show a second more or less than passed.
            shortest = max(0, shortest - self.round_down)
            longest = longest + self.round_down
            found = []
            offsets = self._offsets(1.0, seen)
            for rate in self._documented.rate * np.geomspace(1 / RATES, RATES, 5 * DRAWS):
                low = max(1, passed - math.ceil(rate * longest))
                high = passed - math.floor(rate * shortest) + 1
                bursts = sorted({*np.linspace(low, high, DRAWS // 3).round()})
                found += [(count, 1 / rate, shift) for count in bursts for shift in offsets]
            return np.array(found)
        near = (max(1, each + more) for each in seen.full for more in (-2, -1, 0, 1))
        counts = sorted({self._documented.count, *near})
        documented = self._documented.window
        windows = sorted(each for each in {documented, *COMMON_WINDOWS} if documented / RATES <= each)
        # The first window that is longer than a probe represents all longer windows.
        windows = windows[: 1 + sum(each <= WINDOWS * documented for each in windows)]
        return np.array(
            [row for each in windows for row in itertools.product(counts, [each], self._offsets(each, seen))]
        )

    def _varied(self, seen: ProbeEvidence) -> Floats:
        """Return the likely rows, rows near them, and rows with the documented count or rate."""
        likely = self.rows[self._spread(_ROWS)]
        varied = [likely, likely + np.array([1, 0, 0]), likely - np.array([1, 0, 0])]
        if self.bucket:
            low, high = np.log(self.range(1))
            refills = np.append(np.exp(_around(low, high, _FINEST)), 1 / self._documented.rate)
            bursts = np.unique(np.linspace(*self.range(0), 3).round())
            varied.append(np.array(list(itertools.product(bursts, refills, self._offsets(1.0, seen)))))
            between = math.exp((high - low) / DRAWS)
            varied += [likely * np.array([1, each, 1]) for each in (between, 1 / between)]
        else:
            counts = {*seen.full, self._documented.count, *likely[:4, 0]}
            pairs = {(count, likely[0, 1]) for count in counts} | set(map(tuple, likely[:, :2].tolist()))
            offsets = {window: self._offsets(window, seen) for _, window in pairs}
            rows = [(*pair, shift) for pair in pairs for shift in offsets[pair[1]]]
            varied.append(np.array(rows))
        return np.concatenate(varied)

    def _offsets(self, window: float, seen: ProbeEvidence) -> Floats:
        """Return the offsets to try, in s. If any phase is possible, some offsets make a window end between bursts."""
        if self.bucket and self.aligned:  # steps of 0.2 s: ``_weigh`` adds up to ±0.1 s
            return np.linspace(-0.4, 0.4, 5)
        if not (self.aligned or self._chained):
            return np.zeros(1)
        likely = self.rows[self.likely]
        near = np.linspace(-self._usual, self._usual, DRAWS + 1)
        if len(known := likely[likely[:, 1] == window, 2]):
            near = _around(known.min(), known.max(), _FINEST * window)
        ends = (window / 2 - seen.pauses()) % window - window / 2 if self._any_phase else near
        return np.union1d(near, ends)

    def _weigh(self, seen: ProbeEvidence) -> None:
        counts, windows, shifts = (np.tile(column, (DRAWS, 1)) for column in self.rows.T)
        if self.bucket and self.aligned:  # rows have steps of 0.2 s, so add −0.1 to 0.1 s to draws
            shifts += np.linspace(-NETWORK_S, NETWORK_S, DRAWS)[:, None]
        replay = REPLAYS[self.algorithm](
            counts, windows, shifts, count_rejected=self.count_rejected, round_down=self.round_down
        )
        chance, refill_s = np.random.default_rng(1), self._documented.window / 60
        if self.bucket:
            refill_s = float(np.median(self.rows[:, 1]))
        self.fits, self.well = np.zeros((len(self.rows), len(seen.experiments))), np.zeros(len(self.rows))
        for place, experiment in enumerate(seen.experiments):
            for volley in experiment:
                times, sizes = seen.arrivals(volley, DRAWS, refill_s)
                late = self.rows[:, 2] if self._chained and volley is seen.experiments[0][0] else 0.0
                arrived = zip(times[:, :, None] + late, sizes, strict=True)
                passed = sum(replay.volley(now, int(size)) for now, size in arrived)
                missed = np.abs(passed - volley.passed)
                uncertain = np.flatnonzero((missed != missed[0]).any(axis=0))
                found = -_PER_MISS * missed[0]
                well = found.copy()
                if len(uncertain):
                    some = missed[:, uncertain]
                    wide = np.sqrt(np.maximum((some * some).mean(axis=0) - some.mean(axis=0) ** 2, 0.0))
                    weights = np.exp(-_PER_MISS * some / (1 + wide))
                    explained = np.log(weights.mean(axis=0) + 1e-30)
                    found[uncertain] = explained - np.log1p(wide)
                    well[uncertain] = explained + _USUAL * wide / (1 + wide)
                    replay.choose(_again(weights, chance.random()), uncertain)
                weight = seen.weight(volley, self._documented.window)
                self.fits[:, place] += weight * found
                self.well += weight * np.minimum(well, 0.0)
        self.replay = replay


def _around(low: float, high: float, nearest: float) -> Floats:
    """Return values over a range, and values beyond it at distances of 1, 2, 4, … times ``nearest``."""
    beyond = nearest * 2.0 ** np.arange(DRAWS // 2)
    return np.concatenate((low - beyond, np.linspace(low, high, DRAWS // 2 + 1), high + beyond))


def _again(weights: Floats, start: float) -> Ints:
    """For each column of ``weights``, choose draws in proportion to their weights (systematic resampling)."""
    ends = np.cumsum(weights + 1e-30, axis=0)
    marks = (np.arange(DRAWS)[:, None] + start) / DRAWS * ends[-1]
    return np.asarray((ends[:-1] <= marks[:, None]).sum(axis=1))


def every_model(documented: Limit) -> list[Hypotheses]:
    """Return a model of each variant of the algorithms in ``REPLAYS``."""
    return [
        Hypotheses(each.name, documented, count_rejected=counting, round_down=rounding)
        for each in ALGORITHMS.values()
        if each.name in REPLAYS
        for counting in each.variants
        for rounding in each.roundings
    ]


def best(
    rivals: Sequence[Hypotheses],
    *,
    now: float,
    most: int,
    left: int,
    blur: float,
    until: float,
    budget: tuple[float, float],
    lasts: Callable[[Floats], Floats],
) -> Experiment | None:
    """Return the experiment that separates the most pairs of cases per cost; None if it separates too few or none fits.

    A case is a likely limiter of a rival model. ``most`` is the largest size of a burst. ``left`` requests remain.
    Bursts are at least ``blur`` s apart. ``until`` is the latest start of the last burst. The cost is relative to the
    requests and seconds of a whole probe (``budget``). ``lasts`` returns the seconds over which bursts of given sizes
    arrive.
    """
    chance = np.random.default_rng(left)
    cases = [_cases(rival, chance) for rival in rivals]
    idle = np.array([replay.idle() for replay, _ in cases])
    times, counts = _designs(rivals, idle, most, blur, chance)
    times += now
    fit = (counts.sum(axis=0) <= left) & (times[-1] <= until)
    times, counts = times[:, fit], counts[:, fit]
    if not counts.size:
        return None
    separated = _separated([(_foreseen(replay, times, counts, lasts(counts)), of) for replay, of in cases], counts)
    cost = 1 / _EXPERIMENTS + counts.sum(axis=0) / budget[0] + (times[-1] - now) / budget[1]
    chosen = int(np.argmax(separated / cost))
    if separated[chosen] < 2 / _CASES**2:
        return None
    return [(float(at), int(count)) for at, count in zip(times[:, chosen], counts[:, chosen], strict=True) if count]


def _separated(seen: Sequence[tuple[Floats, Floats]], counts: Floats) -> Floats:
    """Return the weighted share of pairs of cases that each experiment separates, summed over pairs of models.

    An experiment separates two cases if their numbers of accepted requests in a burst differ by at least 1, and by at
    least 2 % of the burst. Pairs of cases of one model count less. They count least if only their offsets differ.
    """
    noticed = np.maximum(1.0, SAME * counts)[:, None, None].astype(np.float32)
    separated = np.zeros(counts.shape[1])
    for (one, numbers), (other, others) in itertools.combinations_with_replacement(seen, 2):
        apart = (np.abs(one[:, :, None] - other[:, None]) >= noticed).any(axis=0)
        worth = np.ones((_CASES, _CASES))
        if one is other:
            worth = np.where((numbers[:, None] == others).all(axis=2), 0.5, 1.0) / len(seen)
        separated += (apart * worth[:, :, None]).mean(axis=(0, 1))
    return separated


def _designs(
    rivals: Sequence[Hypotheses], idle: Floats, most: int, blur: float, chance: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw random experiments: times (in s from now) and sizes of their bursts."""
    lengths = [rival.rows[:, 1] for rival in rivals if not rival.bucket]
    window = chance.choice(np.concatenate(lengths) if lengths else idle, _TRIED)
    rest = np.where(chance.random(_TRIED) < 0.5, 0.0, chance.choice(idle, _TRIED) + blur)
    first = rest + chance.random(_TRIED) * window
    gaps = _GAP * chance.random((_VOLLEYS - 1, _TRIED)) * window + blur
    times = np.cumsum(np.vstack((first, gaps)), axis=0)
    counts = np.ceil(chance.random((_VOLLEYS, _TRIED)) * most)
    counts[np.arange(_VOLLEYS)[:, None] >= chance.integers(1, _VOLLEYS + 1, _TRIED)] = 0
    for place in range(1, _VOLLEYS):  # an unused burst takes no time
        times[place] = np.where(counts[place] > 0, times[place], times[place - 1])
    return times, counts


def _cases(rival: Hypotheses, chance: np.random.Generator) -> tuple[LimiterReplay, Floats]:
    """Return some likely limiters of one model in their present state, and their parameters without the offsets."""
    rows = chance.choice(rival.likely, _CASES)
    cases = chance.integers(DRAWS, size=_CASES)
    return rival.replay.taken(cases, rival.places[rows]), rival.rows[rows, :2]


def _foreseen(replay: LimiterReplay, times: Floats, counts: Floats, lasts: Floats) -> Floats:
    moments = int(np.clip(lasts.max() / lasts.min() // 2, 3, 8))
    edges, passing = np.linspace(0, 1, moments + 1), []
    for at, count, last in zip(times, counts, lasts, strict=True):
        sent = np.diff(np.round(np.outer(edges, count)), axis=0)
        some = zip((edges[1:] + edges[:-1]) / 2, sent, strict=True)
        passing.append(sum(replay.volley(at + part * last, each) for part, each in some))
    return np.array(passing, np.float32)
