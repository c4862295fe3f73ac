"""How sure figures are: ranges over the phases of the server's windows, and intervals from blocks of time."""

from pathlib import Path
from typing import Any

import interval_coverage as bench
import numpy as np
import pytest
from plugins import record_maker as maker

from loadtest import limits
from loadtest.analysis.distribution import distribution
from loadtest.analysis.findings import Findings, find
from loadtest.analysis.intervals import (
    CONSTANT,
    DRIFTS,
    TOO_FEW,
    MetricInterval,
    find_interval,
    percentile_interval,
    share_interval,
)
from loadtest.analysis.rejections.phases import rejected_by_phase
from loadtest.analysis.run_record import load_record
from loadtest.analysis.time_blocks import BinnedTimes, Grid, grid
from loadtest.limits import LimiterSpec
from loadtest.stats.order_statistics import interval_ranks
from loadtest.units import Limit

RUNS = 60


@pytest.fixture(scope="module")
def cells() -> Grid:
    found = grid(0.0, 60.0)
    assert found is not None
    return found


@pytest.mark.parametrize("regime", ["1 s", "stalls", "10 s"])
def test_intervals_from_blocks_hold_the_truth(regime: str) -> None:
    """The short form of ``bench/interval_coverage.py``: of 60 runs at least 51 hold it."""
    for metric, found in bench.coverage(regime, RUNS, truth_runs=400).items():
        assert found.stated >= 0.7 * RUNS, metric
        assert found.held >= 0.85 * found.stated, metric


def test_what_drifts_through_the_stage_has_no_interval(cells: Grid) -> None:
    """Of times that double from begin to end nothing repeats, so that no percentile and no share has an interval."""
    when = np.arange(600) / 10
    values = 100 * 2 ** (when / 60) * np.random.default_rng(6).lognormal(0, 0.1, size=600)
    whole, places = distribution(values), cells.place(when)
    times, failed = BinnedTimes(cells, whole), np.bincount(places[::7], minlength=cells.bins)
    times.add(places, values)
    assert {percentile_interval(times, whole, quantile).why_not for quantile in (0.5, 0.9, 0.95)} == {DRIFTS}
    assert share_interval(failed, np.bincount(places), times).why_not == DRIFTS


def test_independent_requests_have_about_the_interval_of_order_statistics(cells: Grid) -> None:
    """Knowing of correlation costs little where there is none."""
    random, ratios = np.random.default_rng(4), []
    for _ in range(20):
        values = random.lognormal(5, 0.5, size=600)
        whole = distribution(values)
        times = BinnedTimes(cells, whole)
        times.add(cells.place(np.arange(600) / 10), values)
        found, ranks = percentile_interval(times, whole, 0.5), interval_ranks(600, 0.5)
        assert found.low is not None
        assert found.high is not None
        assert ranks is not None
        low, high = whole.at(ranks)
        ratios.append((found.high - found.low) / (high - low))
        assert found.effective_n <= 600
    assert 1 <= np.mean(ratios) < 1.4


def test_there_is_none_where_nothing_shows_how_it_varies(cells: Grid) -> None:
    """Not of what is always the same, nor of what all happened at once."""
    always, never = np.full(cells.bins, 10), np.zeros(cells.bins, np.int64)
    assert share_interval(never, always).why_not == CONSTANT
    assert share_interval(always, always).why_not == CONSTANT
    burst = never.copy()
    burst[3] = 100
    assert share_interval(never, burst).why_not == TOO_FEW


def test_time_outs_leave_a_percentile_without_an_upper_bound(cells: Grid) -> None:
    """A time-out is as long as it may be: a bound that reaches it is none."""
    values = np.random.default_rng(2).lognormal(5, 0.5, size=600)
    whole = distribution(values, values > np.quantile(values, 0.96))
    times = BinnedTimes(cells, whole)
    times.add(cells.place(np.arange(600) / 10), values)
    assert percentile_interval(times, whole, 0.5).low is not None
    found = percentile_interval(times, whole, 0.95)
    assert found.low is None
    assert "time-outs" in found.why_not


def test_time_outs_that_took_less_widen_a_bound_and_take_none_away(cells: Grid) -> None:
    """Each may have taken for ever: the upper bound moves up by as many places, and all that ended is known."""
    values = np.random.default_rng(2).lognormal(5, 0.5, size=600)
    short = values < np.quantile(values, 0.05)
    whole, plain = distribution(values, short), distribution(values)
    times = BinnedTimes(cells, whole)
    times.add(cells.place(np.arange(600) / 10), values)
    one, other = percentile_interval(times, plain, 0.5), percentile_interval(times, whole, 0.5)
    assert one.high is not None
    assert other.high is not None
    assert other.low == one.low
    assert other.high == np.sort(values[~short])[np.searchsorted(np.sort(values), one.high, side="right") - 1]


@pytest.mark.parametrize(("late_ms", "kind"), [(1.0, "blocks"), (9.0, None)])
def test_times_shorter_than_the_generator_was_late_have_none(tmp_path: Path, late_ms: float, kind: str | None) -> None:
    """What the machine decides differs from run to run more than within one; the generator's own lag shows it."""
    random, rows = np.random.default_rng(7), []
    for k in range(300):
        start = k * 30.0 + late_ms * (k % 10 == 0)
        rows.append(maker.operation("t", k, k * 30.0, start + random.uniform(2, 4), start_ms=start))
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 9, 100 / 3)])}
    found = interval(maker.findings(tmp_path / "run", maker.info(traffic), rows), "within", "response_time.p50")
    assert found.kind == kind
    assert bool(kind) != ("dispatch lag" in found.why_not)


def brute(limit: Limit, spec: LimiterSpec, times: np.ndarray, counted: np.ndarray, phases: np.ndarray) -> list[int]:
    """Refused requests that count, by the limiter itself, at each phase."""
    return [
        int((~np.array(limits.replay(limits.make(spec, limit), (times - phase + 60).tolist())) & counted).sum())
        for phase in phases
    ]


def test_every_phase_is_replayed() -> None:
    """No other second has more or fewer 429s than the range; and both ends of it occur."""
    random = np.random.default_rng(6)
    times, limit = np.sort(random.uniform(1000, 1030, 240)), Limit(30, 5.0)
    counted = times > 1010
    refused = rejected_by_phase(LimiterSpec(), limit, [(times, counted[:, None])])
    tried = brute(limit, LimiterSpec(), times, counted, np.linspace(0, 5, 300, endpoint=False))
    assert (refused.rejected.min(), refused.rejected.max()) == (min(tried), max(tried))
    few, many = refused.usual(0).tolist()
    assert 0.95 <= np.mean([few <= one <= many for one in tried]) <= 1


@pytest.mark.parametrize("regime", ["2.5 times 100 per minute, 2 min", "2 times 50 per 5 s, 32 s"])
def test_the_range_over_phases_holds_every_run(regime: str) -> None:
    """Runs with the same sends, each a little late on its own, that meet the server's window at another second."""
    held, (least, most), outside = bench.windows_held(bench.WINDOWS[regime], 40)
    assert held == 40
    assert outside == 0
    assert most - least > 0.02


def made(directory: Path, *, shift_s: float, policy: str = "none", **more: Any) -> Findings:
    """Sync runs within their limit of 20 per 5 s, then at 2.5 times of it."""
    stages = [maker.stage("within", 0, 10, 3), maker.stage("above", 10, 22, 10, over=["sync_run"], expect_429=True)]
    traffic = {"t": maker.plan("sync_run", stages)}
    simulation = maker.Simulation(traffic, shift_s=shift_s, limits={**maker.DOCUMENTED, "sync_run": (20, 5.0)}, **more)
    run = maker.info(traffic)
    run.scenario.effective["traffic"] = {"t": {"retry": {"policy": policy}}}
    run.target.limits["sync_run"] = type(run.target.limits["sync_run"])(20, 5.0)
    return maker.findings(directory, run, simulation.run())


def interval(findings: Findings, stage: str, metric: str) -> MetricInterval:
    found = find_interval(findings.intervals, "t", stage, metric)
    assert found is not None
    return found


def test_a_run_gives_the_range_that_other_phases_lie_in(tmp_path: Path) -> None:
    """429 rate and goodput of runs that began at another second are in the range of each; within the limits it is 0."""
    runs = [made(tmp_path / f"{shift}", shift_s=shift) for shift in (0.05, 0.3, 0.55)]
    for metric in ("throttled_rate", "goodput"):
        found = [interval(run, "above", metric) for run in runs]
        for one in found:
            assert (one.kind, one.why_not) == ("phases", "")
            assert all(one.low <= other.value <= one.high for other in found)
        calm = interval(runs[0], "within", metric)
        assert calm.low == calm.high == calm.value


def test_errors_of_what_passed_widen_the_range_of_goodput(tmp_path: Path) -> None:
    """They are the service's, and vary; what is refused does not depend on them."""
    found = made(tmp_path / "run", shift_s=0.3, error_share=0.2)
    goodput, rate = interval(found, "above", "goodput"), interval(found, "above", "throttled_rate")
    assert rate.kind == "phases"
    assert goodput.kind in ("phases and blocks", None)
    assert goodput.kind is not None or "that end ok has no interval" in goodput.why_not


def test_entries_with_polls_or_retries_have_no_range(tmp_path: Path) -> None:
    """What they send depends on the phase, and they say so; so does whoever shares their limit."""
    found = find(load_record(maker.tour(tmp_path / "run", scale=0.5)))
    for metric in ("throttled_rate", "goodput"):
        one = find_interval(found.intervals, "lookups", "above", metric)
        assert one.kind is None
        assert "“jobs” sends polls" in one.why_not
    # The documented limits give half of the tour these ranges; the limiter of submits sees no polls.
    for traffic, least, most in (("greetings", 0.332, 0.588), ("jobs", 0.0, 0.155)):
        rate = find_interval(found.intervals, traffic, "above", "throttled_rate")
        assert rate.low is not None
        assert rate.high is not None
        assert (round(rate.low, 3), round(rate.high, 3)) == (least, most)


def test_polls_above_their_limit_leave_goodput_no_range(tmp_path: Path) -> None:
    """What passes is known at every phase; what of it is seen to end in time is not."""
    traffic = {"jobs": maker.plan("async_run", [maker.stage("above", 0, 12, 20)])}
    traffic["jobs"].stages[0].over = ["retrieval"]
    rows = maker.Simulation(traffic).run()
    found = maker.findings(tmp_path / "run", maker.info(traffic), rows)
    goodput = find_interval(found.intervals, "jobs", "above", "goodput")
    rate = find_interval(found.intervals, "jobs", "above", "throttled_rate")
    assert "polls above the retrieval limit" in goodput.why_not
    assert rate.kind == "phases"


def test_a_policy_of_retries_is_enough(tmp_path: Path) -> None:
    """It need not have been at work: at another phase it might be."""
    found = made(tmp_path / "run", shift_s=0.3, policy="exponential")
    for stage in ("within", "above"):
        one = interval(found, stage, "throttled_rate")
        assert one.kind is None
    assert "“t” sends retries" in one.why_not
    assert "retries above a limit wait" in interval(found, "above", "response_time.p50").why_not


def test_what_is_sent_with_another_key_takes_no_range_away(tmp_path: Path) -> None:
    """Each key has a limiter of its own: retries with one say nothing of what another one meets."""
    limits = {**maker.DOCUMENTED, "sync_run": (20, 5.0)}
    rows, traffic = [], {}
    for key, name in enumerate(("t", "other")):
        stage = maker.stage("above", 0, 22, 10, over=["sync_run"], expect_429=True)
        traffic[name] = maker.plan("sync_run", [stage])
        own = maker.Simulation({name: traffic[name]}, limits=limits).run()
        for row in own:
            row.key_index = key
        rows += own
    run = maker.info(traffic, keys=2)
    run.scenario.effective["traffic"] = {"t": {}, "other": {"retry": {"policy": "exponential"}}}
    run.target.limits["sync_run"] = type(run.target.limits["sync_run"])(20, 5.0)
    found = maker.findings(tmp_path / "run", run, sorted(rows, key=lambda row: row.end or 0))
    assert interval(found, "above", "throttled_rate").kind == "phases"
    other = find_interval(found.intervals, "other", "above", "throttled_rate")
    assert other is not None
    assert "“other” sends retries" in other.why_not
