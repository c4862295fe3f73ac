"""What each limiter lets pass at most, and that it lets no less pass: held against models that count by hand."""

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plugins.limiter_cases import CLOSE, NOW, WINDOWS, Case, arrivals, cases, limits

from loadtest.limits import replay
from loadtest.limits.limiters import ConcurrencyLimit, FixedWindow, Gcra, LeakyQueue, SlidingLog, TokenBucket
from loadtest.units import Limit

GRAIN = 5e-7
"""Times nearer than this are the same to a limiter."""


def exact(window: float) -> bool:
    """Whether floats hold the multiples of a window; else what lies on a boundary is a matter of their rounding."""
    return window == int(window)


def near_boundary(time: float, window: float) -> bool:
    """Whether a time is so near a multiple of a window that it may as well be on it."""
    return min(time % window, window - time % window) < CLOSE


def accepted(case: Case) -> list[float]:
    """Times of the requests that pass."""
    return [time for time, ok in zip(case.times, replay(case.make(), case.times), strict=True) if ok]


@given(cases("sliding-log"))
def test_a_sliding_log_never_holds_more_than_n_in_any_window(case: Case) -> None:
    """Of N + 1 that passed, the last is a window after the first, wherever the window is put."""
    passed = accepted(case)
    for first, last in zip(passed, passed[case.limit.count :], strict=False):
        assert last - first >= case.limit.window - 2 * GRAIN


@given(cases("sliding-log"))
def test_a_sliding_log_decides_by_the_requests_in_its_window(case: Case) -> None:
    """By brute force: a request passes if fewer than N that count came within W before it."""
    counted: list[float] = []
    for time, ok in zip(case.times, replay(case.make(), case.times), strict=True):
        assert ok == (sum(time < each + case.limit.window - GRAIN for each in counted) < case.limit.count)
        if ok or case.spec.count_rejected:
            counted.append(time)


@settings(max_examples=settings.default.max_examples // 4)
@given(cases("fixed-window"))
def test_an_aligned_window_holds_n_and_never_less(case: Case) -> None:
    """However requests come, each window of the wall clock, or a phase later, has min(N, offered) accepted."""
    assume(exact(case.limit.window))
    offered = Counter((time - case.spec.phase) // case.limit.window for time in case.times)
    taken = Counter((time - case.spec.phase) // case.limit.window for time in accepted(case))
    assert taken == {window: min(count, case.limit.count) for window, count in offered.items()}


@given(cases("fixed-window", "fixed-window-from-first"))
def test_a_fixed_window_lets_at_most_2n_pass_within_one_length(case: Case) -> None:
    """The known weakness, and its bound: a window's length anywhere touches two windows."""
    passed = accepted(case)
    for first, last in zip(passed, passed[2 * case.limit.count :], strict=False):
        assert last - first >= case.limit.window - 2 * GRAIN


@given(cases("fixed-window-from-first"))
def test_a_window_from_the_first_request_holds_n_and_never_less(case: Case) -> None:
    """By brute force: the first request after a window's end opens the next, and N pass in each."""
    start, used = -math.inf, 0
    for time, ok in zip(case.times, replay(case.make(), case.times), strict=True):
        if time >= start + case.limit.window - GRAIN:
            start, used = time, 0
        assert ok == (used < case.limit.count)
        used += ok


@settings(max_examples=settings.default.max_examples // 4)
@given(cases("sliding-counter"))
def test_a_sliding_counter_decides_by_both_windows(case: Case) -> None:
    """In exact arithmetic: p(1 − f) + c + 1 ≤ N, rounded down or not, up to what the rounding of times can do."""
    window, phase = Fraction(case.limit.window), Fraction(case.spec.phase)
    counts: Counter[int] = Counter()
    inexact = case.spec.phase or not exact(case.limit.window)
    assume(not inexact or not any(near_boundary(time - case.spec.phase, case.limit.window) for time in case.times))
    for time, ok in zip(case.times, replay(case.make(), case.times), strict=True):
        index, passed = divmod(Fraction(time) - phase, window)
        weighed = counts[index - 1] * (1 - passed / window) + counts[index] + 1
        if abs(weighed % 1 * (1 - weighed % 1)) > 2 * CLOSE * case.limit.rate + 1e-9:
            assert ok == ((math.floor(weighed) if case.spec.round_down else weighed) <= case.limit.count)
        counts[index] += ok or case.spec.count_rejected


@given(cases("token-bucket", "gcra", "leaky-queue", counting=False))
def test_a_bucket_lets_at_most_b_and_its_rate_pass(case: Case) -> None:
    """Over any interval from one passed request to another: at most B + ρT, both included."""
    passed, rate = accepted(case), case.limit.rate
    for i, first in enumerate(passed):
        for j in range(i, len(passed)):
            assert j - i + 1 <= case.burst + rate * (passed[j] - first + 2 * GRAIN + case.spec.round_down) + 1e-6


@given(cases("token-bucket", "gcra", "leaky-queue"))
def test_a_bucket_passes_whatever_it_has_a_token_for(case: Case) -> None:
    """In exact arithmetic: a request passes if there is a whole token, up to what the rounding of times can do."""
    rate = Fraction(case.limit.count) / Fraction(case.limit.window)
    tokens, last = Fraction(case.burst), Fraction(math.floor(case.times[0]))
    for time, ok in zip(case.times, replay(case.make(), case.times), strict=True):
        now = Fraction(math.floor(time) if case.spec.round_down else time)
        tokens = min(Fraction(case.burst), tokens + (now - last) * rate)
        last = now
        if abs(tokens - 1) > CLOSE * case.limit.rate + 1e-9:
            assert ok == (tokens > 1)
        if ok or case.spec.count_rejected:
            tokens = max(tokens - 1, Fraction(-case.burst))


@given(st.data(), limits, st.integers(1, 12), st.booleans())
def test_a_token_bucket_and_gcra_of_one_burst_are_the_same(data, limit, burst, counting):
    """Tokens and theoretical arrival times are two ways to write one rule, times included."""
    bucket, gcra = (kind(limit, burst, count_rejected=counting) for kind in (TokenBucket, Gcra))
    for time in data.draw(arrivals(limit)):
        one, other = bucket.decide(time), gcra.decide(time)
        assert one[:2] == other[:2]
        assert one[2:] == pytest.approx(other[2:], abs=1e-9 * limit.window)


@given(cases("leaky-queue"))
def test_a_leaky_queue_lets_out_one_at_a_time_and_holds_at_most_b(case: Case) -> None:
    """Outputs keep their order and T₁ between them, fewer than B wait at any time, and none waits without need."""
    limiter, spacing = case.make(), case.limit.window / case.limit.count
    out: list[float] = []
    for time in case.times:
        decision = limiter.decide(time)
        if decision.allowed:
            turn = max(time, out[-1] + spacing) if out else time
            assert time + decision.delay == pytest.approx(turn, abs=CLOSE)
            assert decision.delay <= (case.burst - 1) * spacing + CLOSE
            assert sum(each > time + CLOSE for each in out) < case.burst
            out.append(time + decision.delay)
        else:
            assert sum(each > time - CLOSE for each in out) >= case.burst - 1


@given(
    st.integers(1, 5), st.lists(st.tuples(st.floats(0, 100), st.floats(0, 30) | st.just(0.0)), max_size=60).map(sorted)
)
def test_a_concurrency_limit_never_has_more_than_n_at_once(count: int, requests: list[tuple[float, float]]) -> None:
    """By brute force over begin and end of each: below N a request passes, at N it does not."""
    times, ends = [NOW + at for at, _ in requests], [NOW + at + takes for at, takes in requests]
    running: list[float] = []
    for time, end, ok in zip(times, ends, replay(ConcurrencyLimit(Limit(count, 1.0)), times, ends), strict=True):
        running = [each for each in running if each > time]
        assert ok == (len(running) < count)
        running += [end] * ok
        assert len(running) <= count


@pytest.mark.parametrize(
    ("aligned", "sends", "passed"),
    [
        # 2 per 10 s; times are offsets from a wall boundary
        (True, [0, 1, 2, 9.9, 10, 11, 12], [1, 1, 0, 0, 1, 1, 0]),
        (True, [9, 9.5, 10, 10.5, 11], [1, 1, 1, 1, 0]),  # 2N across a boundary
        (False, [9, 9.5, 10, 10.5, 18.9, 19], [1, 1, 0, 0, 0, 1]),  # the window starts at the first request
        (False, [0, 25, 26, 34.9, 35], [1, 1, 1, 0, 1]),  # idle time opens no window
    ],
)
def test_fixed_window_decides_by_the_window_it_is_in(aligned: bool, sends: list[float], passed: list[int]) -> None:
    """A table of sends at 2 per 10 s, each against what a hand count gives."""
    limiter = FixedWindow(Limit(2, 10.0), aligned=aligned)
    assert replay(limiter, [NOW + send for send in sends]) == [bool(each) for each in passed]


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_follow_each_other_without_a_gap(window: float) -> None:
    """Where boundaries are no round numbers, too, each window ends at the very time that the next begins."""
    limiter = FixedWindow(Limit(1, window))
    time = NOW + 0.3 * window
    for _ in range(100):
        decision = limiter.decide(time)
        boundary = time + decision.reset_after
        assert decision.allowed
        assert not limiter.decide(math.nextafter(boundary, 0)).allowed
        time = boundary


def test_a_log_of_a_billion_costs_nothing_before_it_is_used() -> None:
    """Only what passed is remembered, and of a log that counts rejected requests the newest N."""
    assert len(SlidingLog(Limit(10**9, 60.0))._log) == 0
    counting = SlidingLog(Limit(5, 60.0), count_rejected=True)
    for k in range(1000):
        counting.decide(NOW + k * 0.001)
    assert len(counting._log) == 5


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", [TokenBucket, Gcra, LeakyQueue])
def test_a_billion_at_once_are_counted_one_by_one(kind: type[TokenBucket | Gcra | LeakyQueue], window: float) -> None:
    """However small the time between two requests is beside the clock's digits, each takes one of the burst."""
    limiter = kind(Limit(10**9, window), 1000)
    passed = [limiter.decide(NOW).allowed for _ in range(1002)]
    assert passed.count(True) == 1000
