import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.analysis.distribution import Distributions, distribution
from loadtest.analysis.time_blocks import BinnedTimes, Grid, StageBlocks, draws, grid, log_goodput
from loadtest.stats.order_statistics import rank
from loadtest.stats.shares import share_scores

SECONDS, RATE, RUNS = 120, 10, 100
N = SECONDS * RATE
WHEN = np.arange(N) / RATE


def runs(spread: float) -> NDArray[np.float64]:
    """The lognormal times of 100 runs, ten requests a second.

    Args:
        spread: share of the log's standard deviation that follows a process whose correlation falls to 1/e in 1 s
            (AR(1)); requests are independent of each other in the rest.
    """
    random = np.random.default_rng(12)
    keep = np.exp(-1 / RATE)
    shared = random.normal(size=(N, RUNS))
    for k in range(1, N):
        shared[k] = keep * shared[k - 1] + np.sqrt(1 - keep**2) * shared[k]
    alone = random.normal(size=(N, RUNS))
    return np.asarray(100 * np.exp(0.4 * (spread * shared + np.sqrt(1 - spread**2) * alone))).T


def log_errors(values: NDArray[np.float64], cells: Grid, *quantiles: float) -> list[float]:
    times = BinnedTimes(cells, distribution(values))
    times.add(cells.place(WHEN), values)
    errors = [times.error(quantile) for quantile in quantiles]
    assert None not in errors
    return errors


@pytest.fixture
def cells() -> Grid:
    found = grid(0.0, SECONDS)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("seconds", "block_s"), [(5, 1), (10, 1), (60, 6), (300, 30), (1200, 30), (3600, 90)]
)  # a tenth, from 1 s to 30 s; of long stages no more blocks than forty
def test_a_block_lasts_a_tenth_of_its_stage(seconds: float, block_s: float) -> None:
    found = grid(7.0, seconds)
    assert found.block_s == pytest.approx(block_s)
    assert found.place(np.array([6.0, 7.0, 7.0 + seconds * 0.9999, 1e9])).tolist() == [
        0,
        0,
        found.bins - 1,
        found.bins - 1,
    ]


def test_a_stretch_without_five_blocks_has_no_error(cells: Grid) -> None:
    """Neither one that is too short, nor one in which everything happened at once."""
    assert grid(0.0, 4.9) is None
    values = np.random.default_rng(1).lognormal(size=N)
    burst = BinnedTimes(cells, distribution(values))
    burst.add(np.zeros(N, np.int64), values)
    assert burst.error(0.5) is None
    no_stage = StageBlocks(cells, {})
    assert no_stage.error(log_goodput, no_stage.ok, no_stage.offered) is None


def test_replicates_are_made_of_neighbours_and_are_the_same_each_time() -> None:
    """Each has as many bins as there are; each bin is drawn about as often as any other."""
    drawn = draws(30, 3)
    assert (drawn.sum(axis=1) == 30).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(30), abs=0.25)
    draws.cache_clear()
    assert (draws(30, 3) == drawn).all()


@pytest.mark.parametrize("spread", [0.0, 0.8])
def test_errors_are_those_that_repeated_runs_show(cells: Grid, spread: float) -> None:
    """The sd over simulated runs, whether or not neighbours are alike; taken as independent, they show a third."""
    simulated = runs(spread)
    errors = np.array([log_errors(run, cells, 0.5, 0.95) for run in simulated])
    for quantile, found in zip((0.5, 0.95), errors.T, strict=True):
        true = np.std([np.log(np.sort(run)[rank(N, quantile) - 1]) for run in simulated])
        assert np.sqrt(np.mean(found**2)) == pytest.approx(true, rel=0.2)
    mixed = np.random.default_rng(13).permuted(simulated[:40], axis=1)
    independent = np.sqrt(np.mean([log_errors(run, cells, 0.5)[0] ** 2 for run in mixed]))
    together = np.sqrt(np.mean(errors[:40, 0] ** 2))
    assert independent / together == pytest.approx(1 / 3 if spread else 1, abs=0.1)


def test_a_histogram_gives_the_error_of_its_values(cells: Grid) -> None:
    """Above 20,000 values only buckets are kept: the error is that of the values within a tenth."""
    random = np.random.default_rng(3)
    values = random.lognormal(5, 0.4, size=30_000)
    places = cells.place(np.sort(random.uniform(0, SECONDS, len(values))))
    errors = []
    for kept in (20_000, 40_000):
        slot = Distributions(1, exact=kept)
        slot.add_to(0, values)
        times = BinnedTimes(cells, slot.get([0]))
        times.add(places, values)
        errors.append(times.error(0.95))
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert errors[0] == pytest.approx(0.4 / np.sqrt(len(values)) * 2.11, rel=0.25)  # sqrt(pq) / density of the normal


def test_what_two_counts_share_is_in_no_error_of_their_difference(cells: Grid) -> None:
    """Refusals that come in windows scatter the share, and not its difference from the expected."""
    stage = StageBlocks(cells, {})
    stage.decided += 10
    stage.expected[::6] = 10
    stage.refused[::6] = 10
    assert stage.excess_error(12.0) == 0.0
    alone = stage.error(share_scores, stage.refused, stage.decided)
    assert alone > 0.1
    stage.refused[1:10] += 1
    excess = stage.excess_error(12.0)
    assert 0.01 < excess < alone
    assert stage.excess_error(12.1) is None


def test_goodput_is_judged_given_what_was_offered(cells: Grid) -> None:
    """Arrivals that come unevenly are the schedule's doing; operations that fail now and then are not."""
    stage = StageBlocks(cells, {})
    stage.offered[:] = np.arange(cells.bins) % 7 + 1
    stage.ok[:] = stage.offered
    assert stage.error(log_goodput, stage.ok, stage.offered) == pytest.approx(0, abs=0.001)
    stage.ok[10:16] = 0
    error = stage.error(log_goodput, stage.ok, stage.offered)
    assert error > 0.05
