"""Standard errors of a run's figures, computed from blocks of time because requests are correlated.

Machine and service have slow and fast periods, which all requests share. Standard errors that treat requests as
independent can be too small by half or more. Each stage is therefore divided into bins of time. Blocks of neighbouring
bins are drawn at random, with replacement, and form replicates of the stage
(``stats.correlated_bins.circular_blocks``). The standard error of a figure follows from its standard deviation over the
replicates. Bins hold counts of operations, and of times by level (a range of times), so memory does not grow with the
record. Draws are seeded, so standard errors are reproducible.
"""

import math
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import distribution
from loadtest.analysis.columns import FAILED, OK, THROTTLED, TIMED_OUT, groups, tally
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.reader import Chunk
from loadtest.analysis.run_record import Record
from loadtest.analysis.times import FORMULAS, dispatch_lag
from loadtest.arrays import Floats, Ints
from loadtest.contract import EXECUTING_OPERATIONS, THROTTLED_STATUS
from loadtest.stats.correlated_bins import PaceModels, circular_blocks, fill_batches, filled_blocks, pace_of
from loadtest.stats.shares import share_scores

RESPONSE: Final = "response_time_ms"
EXECUTION: Final = "execution_time_ms"
OVERHEAD: Final = "overhead_ms"
LEAST_BLOCKS: Final = 5
"""With fewer non-empty blocks than this, a standard error may be off by more than a third."""
LEAST_MS: Final = 0.01
"""Shorter times count as this value, because clocks do not resolve them and zero has no logarithm."""
_BLOCK_S: Final = (1.0, 30.0)
"""A block lasts a tenth of its stage, within these limits in s; but see ``_MOST_BLOCKS``."""
_MOST_BLOCKS: Final = 40
"""A stage has at most this many blocks, so a stage of more than 20 minutes has blocks of more than 30 s."""
_BINS_OF_BLOCK: Final = 3
_REPLICATES: Final = 400
"""Number of replicates. The relative error of a standard error is then 1 ÷ √(2 · 400), about 4 %."""
_SEED: Final = 1992
_EVEN_LEVELS: Final = 160
_TAIL_LEVELS: Final = 64
"""``BinnedTimes`` has up to ``_EVEN_LEVELS`` levels at evenly spaced ranks, and up to ``_TAIL_LEVELS`` more in the
slowest fifth, denser towards the slowest times."""


class Grid(NamedTuple):
    """Bins of time, which are drawn in blocks for each replicate. ``start_s`` is in s since the epoch."""

    start_s: float
    seconds: float
    bins: int

    @property
    def block_s(self) -> float:
        return self.seconds / self.bins * _BINS_OF_BLOCK

    def place(self, seconds: Floats) -> Ints:
        """Return the bin of each time since the epoch. A time outside all bins belongs to the nearest bin."""
        # An unknown time belongs to the first bin. Only invalid records have unknown times.
        found: Ints = np.nan_to_num((seconds - self.start_s) * (self.bins / self.seconds)).astype(np.int64)
        return np.clip(found, 0, self.bins - 1)

    def resampled(self, counts: NDArray[np.generic]) -> Floats:
        """Return the sums over the bins of each replicate. The first axis of ``counts`` is the bin."""
        return (draws(self.bins, _BINS_OF_BLOCK) @ counts.astype(np.float32)).astype(np.float64)

    def scatter(self, replicates: Floats) -> float:
        """Return the standard error of a figure from its value in each replicate."""
        # Replicates are drawn from the stage itself, so they vary too little. The divisor corrects this.
        return float(replicates.std() / math.sqrt(1 - _BINS_OF_BLOCK / self.bins))

    def carries(self, counts: Ints) -> bool:
        """Whether enough blocks are non-empty for a standard error."""
        return filled_blocks(counts, _BINS_OF_BLOCK) >= LEAST_BLOCKS


def grid(start_s: float, seconds: float) -> Grid | None:
    """Return the bins of a period; None if it is too short for blocks."""
    if not seconds >= LEAST_BLOCKS * _BLOCK_S[0]:
        return None
    block = max(min(max(seconds / 10, _BLOCK_S[0]), _BLOCK_S[1]), seconds / _MOST_BLOCKS)
    return Grid(start_s, seconds, round(seconds / block * _BINS_OF_BLOCK))


@lru_cache(maxsize=64)
def draws(bins: int, per_block: int) -> NDArray[np.float32]:
    """Return how often each replicate contains each bin, ``[replicate, bin]``."""
    places = circular_blocks(np.random.default_rng(_SEED), _REPLICATES, bins, per_block)
    flat = places + np.arange(_REPLICATES)[:, None] * bins
    return np.bincount(flat.ravel(), minlength=_REPLICATES * bins).reshape(_REPLICATES, bins).astype(np.float32)


class BinnedTimes:
    """The times of one figure by bin and level. A level is a range of times.

    ``whole`` has all these times and determines the levels. ``cuts`` are the greatest values of the levels, ascending.
    ``counts`` are numbers of values, ``[bin, level]``.
    """

    def __init__(self, grid_: Grid, whole: Distribution) -> None:
        self.grid = grid_
        n = whole.n
        self._exact = n <= _EVEN_LEVELS
        if self._exact:
            ranks = np.arange(1, n + 1)
        else:
            even, tail = np.linspace(1, n, _EVEN_LEVELS), n + 1 - np.geomspace(1, n / 5, _TAIL_LEVELS)
            ranks = np.unique(np.append(even, tail).astype(np.int64))
        self.cuts = np.unique(whole.at(ranks)) if n else np.zeros(1)
        rounded = whole.counts is not None
        self._level_of_bucket = np.searchsorted(self.cuts[:-1], distribution.MIDDLES) if rounded else None
        self.counts = np.zeros((grid_.bins, len(self.cuts)), np.int64)

    def add(self, places: Ints, values: Floats) -> None:
        """Add values in ms, each with its bin. NaN is ignored."""
        if np.isnan(values.sum()):
            known = np.flatnonzero(~np.isnan(values))
            places, values = places.take(known), values.take(known)
        # If ``whole`` is a histogram, its values are rounded. The last level therefore includes times above its cut.
        if self._level_of_bucket is None:
            level = np.searchsorted(self.cuts[:-1], values)
        else:
            level = self._level_of_bucket.take(distribution.buckets(values))
        tally(self.counts.reshape(-1), places * len(self.cuts) + level)

    @cached_property
    def pace(self) -> PaceModels | None:
        """Models of the times' pace; None if too few batches have times. Read this only after the last ``add``."""
        return pace_of(self.counts) if fill_batches(self.counts.sum(axis=1)) else None

    def error(self, quantile: float) -> float | None:
        """Return the standard error of the logarithm of a percentile; None if too few blocks have values."""
        if not self.grid.carries(self.counts.sum(axis=1)):
            return None
        below = np.cumsum(self.grid.resampled(self.counts), axis=1)
        below = below[below[:, -1] > 0]
        target = np.ceil(np.round(quantile * below[:, -1:], 6))
        level = (below < target).sum(axis=1)
        found = self.cuts[level]
        if not self._exact:
            rows, lower = np.arange(len(below)), np.maximum(level - 1, 0)
            before = np.where(level > 0, below[rows, lower], 0.0)
            share = (target[:, 0] - before) / np.maximum(below[rows, level] - before, 1e-9)
            found = self.cuts[lower] + share * (found - self.cuts[lower])
        return self.grid.scatter(np.log(np.maximum(found, LEAST_MS)))


class StageBlocks:
    """Counts and times of one stage of a traffic entry, by bin.

    Attributes:
        times: response time, and executionTime and overhead if the operation executes workflows, by field name.
        offered: number of operations by intended start. ``sent``, ``ok``, ``errors`` and ``throttled`` are also counted
            by intended start.
        decided: number of operations with a known decision of the assumed limiter. Each counts at the start of its last
            request of kind run, submit or retrieve. ``refused`` of them got a 429; the assumed limiter would reject
            ``expected``.
    """

    def __init__(self, grid_: Grid, times: dict[str, BinnedTimes]) -> None:
        self.grid, self.times = grid_, times
        counts: list[Ints] = list(np.zeros((8, grid_.bins), np.int64))
        self.offered, self.sent, self.ok, self.errors, self.throttled = counts[:5]
        self.decided, self.refused, self.expected = counts[5:]

    def error(self, figure: Callable[..., Floats], *counts: Ints) -> float | None:
        """Return the standard error of ``figure(*counts)``; None if the last count is zero in too many blocks."""
        if not self.grid.carries(counts[-1]):
            return None
        return self.grid.scatter(figure(*map(self.grid.resampled, counts)))

    def excess_error(self, window_s: float) -> float | None:
        """Return the standard error of the difference between the log odds of ``refused`` and ``expected``.

        The phase of the server's windows affects both, so its effect cancels out.
        """
        # In blocks shorter than a window, rejections at the end of each window would look like random variation.
        if self.grid.block_s < window_s:
            return None
        counts = (self.refused, self.expected, self.decided)
        return self.error(lambda seen, expected, n: share_scores(seen, n) - share_scores(expected, n), *counts)


def log_goodput(ok: Floats, offered: Floats) -> Floats:
    """Return the logarithm of ok ÷ offered operations. Goodput is this ratio × the scheduled rate."""
    some = offered > 0
    return np.asarray(np.log((ok[some] + 0.5) / offered[some]))


class TimeBlocks:
    """Collects counts and times by bin for each stage that figures include, and the dispatch lag of all these stages.

    ``stages`` has blocks by index of the stage. Stages that are too short for blocks are absent.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self.stages: dict[int, StageBlocks] = {}
        for traffic, stage, operation, index in record.vocabulary.stage_keys:
            found = grid(stage.start_s, min(stage.end_s, record.covered_s) - stage.start_s)
            if found is None or stage.warmup:
                continue
            wholes = {RESPONSE: record.response_times(traffic).get([index])}
            if operation in EXECUTING_OPERATIONS:
                wholes |= {name: record.times[name].get([index]) for name in (EXECUTION, OVERHEAD)}
            self.stages[index] = StageBlocks(found, {name: BinnedTimes(found, whole) for name, whole in wholes.items()})
        self.uneven: set[int] = set()
        """Stages in which an executionTime has a fraction of a ms. In other stages, executionTimes may be rounded."""
        lag = record.time("dispatch_lag_ms", record.stages())
        whole_run = grid(0.0, record.covered_s)
        self.dispatch_lag = None if whole_run is None else BinnedTimes(whole_run, lag)
        # The limiter's decisions are already known, so they need no second pass over the record.
        places = record.deciding_requests
        would_be = record.expectation.rejected
        places = places[~np.isnan(would_be[places])]
        sent = record.sent_requests
        rejected = would_be[places] > 0
        refused, start = sent["status"][places] == THROTTLED_STATUS, sent["start"][places] / 1e9
        for index, at in groups(sent["stage_index"][places]):
            if (blocks := self.stages.get(index)) is not None:
                own = slice(None) if at is None else at
                bins = blocks.grid.place(start[own])
                tally(blocks.decided, bins)
                tally(blocks.refused, bins[refused[own]])
                tally(blocks.expected, bins[rejected[own]])

    def add(self, chunk: Chunk) -> None:
        for index, rows in chunk.operations.by_judged_stage:
            seconds = rows.floats("intended_start") / 1e9
            if self.dispatch_lag is not None:
                self.dispatch_lag.add(self.dispatch_lag.grid.place(seconds), dispatch_lag(rows))
            execution = rows.floats("execution_time_ms")
            if index not in self.uneven and np.any((execution != np.floor(execution)) & ~np.isnan(execution)):
                self.uneven.add(index)
            if (stage := self.stages.get(index)) is None:
                continue
            places = stage.grid.place(seconds)
            outcome = rows.words("outcome")
            tally(stage.offered, places)
            tally(stage.sent, places[~np.isnan(rows.floats("start"))])
            tally(stage.ok, places[outcome == OK])
            tally(stage.errors, places[np.isin(outcome, (FAILED, TIMED_OUT))])
            tally(stage.throttled, places[outcome == THROTTLED])
            traffic = self._record.vocabulary.stage_keys[index].traffic
            timed = rows.ok if traffic in self._record.not_found_entries else rows.without_mistakes.answered
            if timed is not rows:
                places = stage.grid.place(timed.floats("intended_start") / 1e9)
            for name, times in stage.times.items():
                times.add(places, FORMULAS[name](timed))
