import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins import record_maker as maker

from loadtest import limits
from loadtest.analysis.findings import find
from loadtest.analysis.rejections.observed_429 import look_into
from loadtest.analysis.rejections.phases import boundaries
from loadtest.analysis.rejections.usage import bottleneck_limit
from loadtest.analysis.run_record import load_record
from loadtest.limits import LimiterSpec
from loadtest.limits.limiters import FixedWindow
from loadtest.limits.replays import replay
from loadtest.record.run_info import ClockInfo
from loadtest.units import Limit


@given(
    st.lists(st.floats(0, 500, allow_nan=False), max_size=80), st.integers(1, 8), st.sampled_from([0.7, 1.0, 3.3, 60.0])
)
def test_the_fast_replay_is_the_limiter(times: list[float], count: int, window: float) -> None:
    """The vectorised fixed window decides exactly as the leaf does."""
    ordered = np.sort(np.asarray(times, float)) + 1.7e9
    expected = limits.replay(FixedWindow(Limit(count, window)), ordered.tolist())
    assert replay(LimiterSpec(), Limit(count, window), ordered).tolist() == expected


@pytest.mark.parametrize("name", sorted(limits.ALGORITHMS))
def test_every_known_limiter_can_be_replayed(name: str) -> None:
    """An algorithm of the leaf needs nothing more to be expected from."""
    times = np.arange(0.0, 120.0, 0.25) + 1.7e9
    passed = replay(LimiterSpec(name), Limit(100, 60.0), times, times + 30.0)
    assert 0 < passed.sum() < len(times)


@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.42])
def test_expected_429s_find_the_phase_of_the_servers_windows(tmp_path: Path, shift: float) -> None:
    """Whatever the server's clock says within its uncertainty, the expected share is the observed one."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("above", 0, 130, 250 / 60)])}
    rows = maker.Simulation(traffic, shift_s=shift).run()
    run = maker.info(traffic, clock=ClockInfo(offset_s=0.0, uncertainty_s=0.5, answers=9))
    record = load_record(maker.save(tmp_path / "run", run, rows))
    found = record.expectation
    observed = (record.requests["status"] == 429).mean()
    assert found.agreement == 1.0
    assert found.rejected.mean() == pytest.approx(observed)
    assert observed > 0.3


def test_a_server_with_another_limit_is_not_explained(tmp_path: Path) -> None:
    """Where the assumed limit is wrong, expectation and observation part: nothing is fitted but the phase."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("above", 0, 120, 2)])}
    rows = maker.Simulation(traffic, limits={"sync_run": (20, 60.0)}).run()
    record = load_record(maker.save(tmp_path / "run", maker.info(traffic), rows))
    assert (record.requests["status"] == 429).mean() > 0.7
    assert record.expectation.rejected.mean() < 0.3


def test_the_warm_up_spends_quota(tmp_path: Path) -> None:
    """A window half spent by the warm-up rejects the sooner: its requests are replayed though they are in no figure."""
    stages = [maker.stage("warmup", 0, 10, 8, warmup=True), maker.stage("within", 10, 10, 8)]
    traffic = {"t": maker.plan("sync_run", stages)}
    epoch = math.ceil(maker.EPOCH / 60e9) * 60 * 10**9 + 10**9
    offset = (epoch - maker.EPOCH) / 1e9
    rows = maker.Simulation(traffic, shift_s=offset).run()
    run = maker.info(traffic, clock=ClockInfo(offset_s=offset, uncertainty_s=0.2, answers=9))
    record = load_record(maker.save(tmp_path / "run", run, rows))
    found = record.expectation
    in_figures = found.rejected[record.in_figures]
    assert in_figures.sum() == 60  # 160 sent in one window of 100
    assert (record.requests["status"] == 429).sum() == 60


def test_without_an_epoch_or_a_known_limiter_nothing_is_expected(tmp_path: Path) -> None:
    """What can't be known is said, not guessed."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 5, 1)])}
    rows = maker.Simulation(traffic).run()
    run = maker.info(traffic, epoch_unix_ns=None)
    assert "windows are unknown" in load_record(maker.save(tmp_path / "a", run, rows)).expectation.why_not
    run = maker.info(traffic)
    run.target.limiter = "oracle"
    assert "oracle" in load_record(maker.save(tmp_path / "b", run, rows)).expectation.why_not


def test_window_boundaries_are_the_servers(tmp_path: Path) -> None:
    """Boundaries lie at whole windows of the server's clock."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("above", 0, 130, 250 / 60)])}
    rows = maker.Simulation(traffic, shift_s=0.25).run()
    record = load_record(maker.save(tmp_path / "run", maker.info(traffic), rows))
    found = record.expectation
    fits = [each.fit for each in look_into(record).limits.values()]
    assert {fit.shift_s for fit in fits if fit is not None} == {found.clock_shift_s}, "a report has one clock"
    server = boundaries(record, 60.0) + maker.EPOCH / 1e9 + found.clock_shift_s
    assert len(server) == 2
    assert np.allclose(server % 60, 0) or np.allclose(server % 60, 60)


def test_the_binding_limit_of_the_tour_is_retrieval(tmp_path: Path) -> None:
    """Submits above what can be read back: the polls' limit binds, and the use of each limit counts all traffic."""
    uses = find(load_record(maker.tour(tmp_path / "run", scale=1 / 3))).uses
    within = {use.limit: use for use in uses if use.stretch == "within"}
    assert within["retrieval"].sent > 90, "look-ups and polls"
    assert within["retrieval"].share == pytest.approx(within["retrieval"].sent / 500 * 3)
    assert bottleneck_limit(uses).limit == "retrieval"
    assert bottleneck_limit([]) is None
