"""Our limiters beside those of the `limits` package, on its in-memory storage and a clock of ours.

It has three of our algorithms, and differs from them in two places: an entry of its moving window still counts when it
is exactly W old; and its fixed window (which begins with the first request) counts rejected requests, without effect.
"""

from collections.abc import Iterator
from types import SimpleNamespace

import limits as peer
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from limits.storage import MemoryStorage, memory
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from plugins.limiter_cases import CLOSE, NOW

from loadtest.limits.limiters import FixedWindow, SlidingCounter, SlidingLog
from loadtest.units import Limit

KEY = "key"
SECONDS = [1, 7, 60]
"""Windows: the package knows whole seconds only."""


class Clock:
    """What the storage takes for the module ``time``."""

    now = NOW

    def time(self) -> float:
        """Unix seconds."""
        return self.now


class NoTimer:
    """Stands for the thread that clears away what is over, and would do so at a moment of its own."""

    def __init__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        """Do nothing."""

    def is_alive(self) -> bool:
        """Whether it runs."""
        return True


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    """The package's clock, in our hands."""
    with pytest.MonkeyPatch.context() as patch:
        ours = Clock()
        patch.setattr(memory, "time", ours)
        patch.setattr(memory, "threading", SimpleNamespace(Timer=NoTimer, RLock=memory.threading.RLock))
        yield ours


@st.composite
def traffic(draw: st.DrawFn) -> tuple[Limit, list[float]]:
    """A limit, and ascending times."""
    count, window = draw(st.integers(1, 8)), draw(st.sampled_from(SECONDS))
    gaps = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0 * count]) | st.floats(0, 3)
    times, at = [], NOW + draw(st.floats(0, 2)) * window
    for gap in draw(st.lists(gaps, max_size=50)):
        at += gap * window / count
        times.append(at)
    return Limit(count, float(window)), times


def item(limit: Limit) -> peer.RateLimitItem:
    """The limit as the package writes it."""
    return peer.RateLimitItemPerSecond(limit.count, int(limit.window))


def apart(times: list[float], window: float) -> bool:
    """Whether no two are one window apart, to within what either takes for the same."""
    return all(abs(later - earlier - window) > CLOSE for earlier in times for later in times)


@given(traffic())
def test_the_fixed_window_decides_as_theirs(clock: Clock, case: tuple[Limit, list[float]]) -> None:
    """Decision, remaining and end of the window, of a window that begins with its first request."""
    limit, times = case
    assume(apart(times, limit.window))
    ours, theirs = FixedWindow(limit, aligned=False), FixedWindowRateLimiter(MemoryStorage())
    for clock.now in times:
        decision = ours.decide(clock.now)
        assert decision.allowed == theirs.hit(item(limit), KEY)
        stats = theirs.get_window_stats(item(limit), KEY)
        assert decision.remaining == stats.remaining
        assert clock.now + decision.reset_after == pytest.approx(stats.reset_time, abs=CLOSE)


@given(traffic())
def test_the_sliding_log_decides_as_their_moving_window(clock: Clock, case: tuple[Limit, list[float]]) -> None:
    """Decision, remaining, and when the oldest request that counts falls out of the window."""
    limit, times = case
    assume(apart(times, limit.window))
    ours, theirs = SlidingLog(limit), MovingWindowRateLimiter(MemoryStorage())
    for clock.now in times:
        decision = ours.decide(clock.now)
        assert decision.allowed == theirs.hit(item(limit), KEY)
        stats = theirs.get_window_stats(item(limit), KEY)
        assert decision.remaining == stats.remaining
        if not decision.remaining:
            assert clock.now + decision.retry_after == pytest.approx(stats.reset_time, abs=CLOSE)


def test_a_request_that_is_exactly_one_window_old_counts_for_theirs_only(clock: Clock) -> None:
    """For us a window of W holds its beginning and not its end; one step of the clock later both agree."""
    limit = Limit(1, 60.0)
    ours, theirs = SlidingLog(limit), MovingWindowRateLimiter(MemoryStorage())
    decisions = []
    for clock.now in (NOW, NOW + 60):
        decisions.append((ours.decide(clock.now).allowed, theirs.hit(item(limit), KEY)))
    assert decisions == [(True, True), (True, False)]


@given(traffic())
def test_the_sliding_counter_that_rounds_down_decides_as_theirs(clock: Clock, case: tuple[Limit, list[float]]) -> None:
    """Every decision, up to the moment at which the part of the window before is whole: there floats decide."""
    limit, times = case
    window = limit.window
    assume(all(min(time % window, window - time % window) > CLOSE or time % window == 0 for time in times))
    storage = MemoryStorage()
    ours, theirs = SlidingCounter(limit, round_down=True), SlidingWindowCounterRateLimiter(storage)
    for clock.now in times:
        before, left, _, _ = storage.get_sliding_window(KEY, int(window))
        weighed = before * left / window
        if before and abs(weighed - round(weighed)) <= CLOSE * limit.rate:
            return
        assert ours.decide(clock.now).allowed == theirs.hit(item(limit), KEY)
