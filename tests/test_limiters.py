"""Limiters as pure functions of the times they are given."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.limiters import ALGORITHMS, FixedWindow, LimiterSpec, make, replay
from loadtest.limits import Limit

limits = st.builds(Limit, st.integers(1, 50), st.sampled_from([0.1, 0.5, 1.0, 7.0, 60.0, 3600.0]))
times = st.lists(st.floats(1.7e9, 1.7e9 + 500, allow_nan=False), max_size=300).map(sorted)


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
    assert replay(limiter, [1_700_000_000 + s for s in sends]) == [bool(p) for p in passed]


def test_decision_tells_what_is_left_and_when_the_window_ends() -> None:
    """`remaining` counts down to 0 and `reset_after` is the time to the boundary, also on a rejection."""
    limiter = FixedWindow(Limit(2, 60.0))
    answers = [limiter.decide(600.0 + t) for t in (10, 20, 30)]
    assert [(a.allowed, a.remaining, a.reset_after) for a in answers] == [(True, 1, 50), (True, 0, 40), (False, 0, 30)]


@given(limits, times)
def test_never_more_than_n_in_an_aligned_window(limit: Limit, sends: list[float]) -> None:
    """However requests arrive, no wall-aligned window has more than N accepted, and none rejects before N."""
    passed = replay(FixedWindow(limit), sends)
    accepted = Counter(s // limit.window for s, ok in zip(sends, passed, strict=True) if ok)
    offered = Counter(s // limit.window for s in sends)
    if limit.window >= 0.5:  # exact in binary, so that // here and the limiter's boundary agree to the last bit
        assert accepted == {w: min(n, limit.count) for w, n in offered.items()}
    assert all(n <= limit.count + 1 for n in accepted.values())


@given(limits, times)
def test_window_from_the_first_request_holds_n(limit: Limit, sends: list[float]) -> None:
    """The accepted request N places later is at least one window away when each window starts with a request."""
    accepted = [s for s, ok in zip(sends, replay(FixedWindow(limit, aligned=False), sends), strict=True) if ok]
    start, used = -math.inf, 0
    for send in accepted:
        if send >= start + limit.window:
            start, used = send, 0
        used += 1
        assert used <= limit.count


@given(
    limit=st.builds(Limit, st.integers(1, 200), st.sampled_from([1.0, 10.0, 60.0])),
    overload=st.floats(0.2, 5),
    windows=st.floats(0.1, 4),
    phase=st.floats(0, 0.999),
)
def test_even_load_accepts_the_closed_form(limit: Limit, overload: float, windows: float, phase: float) -> None:
    """Even load passes Σ min(N, λ · length) over the windows, within one request for each window's edge."""
    rate = overload * limit.rate
    start = 1_700_000_040.0 // limit.window * limit.window + phase * limit.window
    end = start + windows * limit.window
    sends = [start + k / rate for k in range(math.ceil((end - start) * rate))]
    expected, edges, at = 0.0, 0, start
    while at < end:
        boundary = min((at // limit.window + 1) * limit.window, end)
        expected += min(limit.count, rate * (boundary - at))
        at, edges = boundary, edges + 1
    assert abs(sum(replay(FixedWindow(limit), sends)) - expected) <= edges


@given(limits, times)
def test_rejected_requests_are_not_counted(limit: Limit, sends: list[float]) -> None:
    """Leaving the rejected requests out changes nothing about the others."""
    for name in ALGORITHMS:
        passed = replay(make(LimiterSpec(name), limit), sends)
        kept = [s for s, ok in zip(sends, passed, strict=True) if ok]
        assert all(replay(make(LimiterSpec(name), limit), kept))


def test_a_clock_set_back_does_not_lock_the_limiter() -> None:
    """After the wall clock jumps back by an hour, requests pass again from the next boundary on."""
    limiter = FixedWindow(Limit(1, 60.0))
    assert replay(limiter, [7200.0, 7201.0, 3600.0, 3601.0, 3660.0]) == [True, False, False, False, True]


def test_unknown_algorithm_names_the_nearest() -> None:
    """A misspelt algorithm is an error that suggests the right one."""
    with pytest.raises(ValueError, match="did you mean 'fixed-window'"):
        make(LimiterSpec("fixed_windw"), Limit(1, 1.0))
