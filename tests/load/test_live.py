"""Live figures: what is counted where, percentiles of a window, and series whose memory is bounded."""

import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.live_parts import SECOND, operation, request

from loadtest.load.live import LATE, MOST_BUCKETS, LiveFigures, LiveSeries, RecentTimes
from loadtest.record.generator_limits import bottleneck, full_pools
from loadtest.record.run_info import GeneratorInfo, PoolInfo
from loadtest.record.samples import SETUP
from loadtest.schedule import Arrival


def values(live: LiveFigures, *name: str) -> list[float | None]:
    return [*live.series.counts[name], *live.series.gauges[name]]


def test_requests_are_counted_in_the_second_of_their_send() -> None:
    """By what became of them; a 500 was answered and failed; seeding, before the epoch, is no part of the run."""
    live = LiveFigures()
    for sample in [
        request(0.2),
        request(2.1, 429),
        request(0.9, 500),
        request(2.9, None),
        request(-3.0, stage=SETUP),
        request(1.0, start=None, status=None),
    ]:
        live.count(sample)
    live.fold()
    flow = {name: values(live, "requests", "t", "run", name) for name in ("sent", "accepted", "throttled", "failed")}
    assert flow == {"sent": [2, 0, 2], "accepted": [2], "throttled": [0, 0, 1], "failed": [1, 0, 1]}
    stage = live.entry("t").stages["only"]
    assert [stage.count(f"requests.{name}") for name in ("sent", "accepted", "throttled")] == [4, 2, 1]
    assert stage.count("requests.errors") == 2


def test_offered_arrivals_are_those_of_this_process_and_of_workers() -> None:
    """In the second of their intended start, whoever tells of them."""
    live, worker = LiveFigures(), LiveFigures()
    for at in (0, 1, 1.5):
        live.offer(Arrival("t", 0, "only", int(at * SECOND)))
    worker.offer(Arrival("t", 0, "only", int(1.2 * SECOND)))
    for count in (1, -1):  # handed back
        worker.offer(Arrival("t", 1, "only", int(1.3 * SECOND)), count)
    for figures in (live, worker):
        figures.fold()
    live.add_offered(worker.take_offered())
    live.tick(2.0, pending_jobs=7)
    assert values(live, "offered", "t") == [1, 3]
    assert worker.take_offered() == {}
    assert values(live, "pending_jobs") == [None, None, 7]


def test_percentiles_are_those_of_the_window_that_slides() -> None:
    """What is older than the window counts no longer; 429s and failures are in no time."""
    live = LiveFigures({"t": 20.0})
    for second in range(20):
        live.count(operation(second, 100, user_free=int((second - 5) * SECOND)))
        live.count(operation(second, 9_000, "throttled"))
        live.count(operation(second, 9_000, "failed"))
        live.fold()
        live.tick(second + 1.0, 0)
    assert values(live, "response_time", "t", "p99")[20] == pytest.approx(100, rel=0.04)
    for second in range(20, 41):
        live.count(operation(second, 500))
        live.fold()
        live.tick(second + 1.0, 0)
    assert values(live, "response_time", "t", "p50")[30] == pytest.approx(100, rel=0.04)
    assert values(live, "response_time", "t", "p95")[30] == pytest.approx(500, rel=0.04)
    assert values(live, "response_time", "t", "p50")[41] == pytest.approx(500, rel=0.04)


def test_dispatch_lag_begins_when_the_user_was_free() -> None:
    """What came before that is the pool's, not the dispatcher's."""
    live = LiveFigures()
    late = operation(1.0, 900, start=int(1.8 * SECOND), user_free=int(1.5 * SECOND))
    live.count(late)
    live.fold()
    live.tick(2.0, 0)
    assert live.dispatch_lag_ms(0.99) == pytest.approx(300, rel=0.04)


def test_only_three_seconds_of_late_arrivals_are_overload() -> None:
    """A stall makes arrivals late in two seconds at most; an early tick ends no overload; a share of 1 % counts."""
    live = LiveFigures()

    def overloaded(elapsed: float, offered: int, late: int) -> bool:
        live.offered["t"] += offered
        live.late += late
        live.tick(elapsed, 0)
        return live.held == [LATE]

    assert not any(overloaded(at, 100, late) for at, late in enumerate((0, 60, 40, 4, 5, 9, 0), start=1))
    seconds = ((8, 1_000, 9), (9, 1_000, 10), (10, 1_000, 900), (10.01, 0, 0), (11, 1_000, 10), (12, 1_000, 9))
    assert [overloaded(*each) for each in seconds] == [False, False, False, False, True, False]


def test_three_seconds_of_a_full_pool_are_said() -> None:
    """However few arrivals a second wait for a user; a pool that may still grow is not full."""
    live, waited = LiveFigures(), 0

    def held(elapsed: float, waits: int, size: int = 2) -> list[str]:
        nonlocal waited
        live.offered["t"] += 50
        waited += waits
        pool = PoolInfo(started=2, size=size, cap=2 if size == 2 else 9, waited=waited, full_s=0.0)
        live.tick(elapsed, 0, full_pools([GeneratorInfo(worker=0, pools={"t": pool})]))
        return live.held

    assert [held(at, waits) for at, waits in enumerate((1, 1, 0, 1, 2, 1), start=1)] == [[]] * 5 + [["t"]]
    assert held(7.0, 1, size=3) == []
    assert "Raise traffic.t.max_users" in bottleneck([], late=False, full={"t": 2})


def test_buckets_become_wider_and_never_more() -> None:
    """A soak of a day: nothing counted is lost, and a gauge shows its later value."""
    series = LiveSeries()
    sent, gauge = series.counts["sent",], series.gauges["pending",]
    for second in range(0, 86_400, 7):
        series.count(second, sent, count=2)
        series.note(("pending",), second, second)
    assert series.width_s == 128
    assert max(len(sent), len(gauge)) <= MOST_BUCKETS
    assert sum(sent) == 2 * len(range(0, 86_400, 7))
    shown = [value for value in gauge if value is not None]
    assert shown == sorted(shown)
    assert shown[-1] == 86_394


@given(st.lists(st.integers(0, 10 * MOST_BUCKETS), max_size=60))
def test_what_has_changed_is_known(seconds: list[int]) -> None:
    """Whoever takes over every bucket from the first changed one on has the series as it is."""
    series, copy = LiveSeries(), Counter[int]()
    track, width = series.counts["sent",], 1
    for second in seconds:
        series.count(second, track)
        begin, series.changed_from = series.changed_from, None
        assert begin is not None
        if series.width_s != width:
            copy.clear()
            width = series.width_s
            assert begin == 0
        copy.update({place: track[place] - copy[place] for place in range(begin, len(track))})
    assert [copy[place] for place in range(len(track))] == track


def test_figures_do_not_grow_with_the_number_of_samples() -> None:
    """Whether or not the live page is read: after each group of samples, only counts and histograms are kept."""
    live, sizes = LiveFigures(), []
    for _ in range(3):
        for number in range(500):
            live.count(operation(1.0, number + 1.0, user_free=0))
            live.count(request(1.0, execution_time_ms=float(number)))
        live.fold()
        sizes.append(len(pickle.dumps(live.entries)))
    assert sizes[2] - sizes[0] < 500


@given(st.lists(st.lists(st.floats(0, 1e5), max_size=5), max_size=30))
def test_a_window_forgets_what_it_took_in(seconds: list[list[float]]) -> None:
    """Times of any seconds: a window later there are none, and all of them are counted."""
    times = RecentTimes(10.0)
    for second, added in enumerate(seconds):
        times.extend(added)
        times.slide(second + 1.0)
    for second in range(len(seconds), len(seconds) + 10):
        times.slide(second + 1.0)
    assert times.quantile(0.5) is None
    assert sum(times.counts) == sum(map(len, seconds))
