"""What a decision says of the future holds, for every algorithm: each claim is put to the limiter itself."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from plugins.limiter_cases import CLOSE, NOW, TIMED, Case, arrivals, cases, every_spec, limits, specs

from loadtest.errors import WrongValueError
from loadtest.limits import (
    ALGORITHMS,
    AlgorithmName,
    Decision,
    Limiter,
    LimiterSpec,
    check_spec,
    make,
    replay,
)
from loadtest.limits.limiters import ConcurrencyLimit, FixedWindow
from loadtest.units import Limit

GRAIN = 5e-7
"""Two steps of today's unix time as a float."""


def after(case: Case) -> tuple[Limiter, Decision]:
    """A limiter that has seen all requests, and its last decision."""
    limiter = case.make()
    return limiter, [limiter.decide(time) for time in case.times][-1]


def passing(limiter: Limiter, now: float) -> int:
    """How many requests pass at once, of at most 50."""
    return sum(limiter.decide(now).allowed for _ in range(50))


@given(cases(*TIMED))
def test_retry_after_is_honest(case: Case) -> None:
    """A request just before it is refused, one at it is accepted; it is 0 exactly while some remain.

    Up to the steps that clocks of floats go in: a time and what is added to it may lie a step before a boundary.
    """
    limiter, decision = after(case)
    assert (decision.retry_after == 0) == (decision.remaining > 0)
    assert decision.allowed or decision.remaining == 0
    at = case.times[-1] + decision.retry_after
    assert copy.deepcopy(limiter).decide(at + GRAIN).allowed
    if decision.retry_after > CLOSE:
        assert not copy.deepcopy(limiter).decide(at - CLOSE).allowed


@given(cases())
def test_remaining_is_true(case: Case) -> None:
    """Exactly that many more pass at the same moment, each of them saying one less."""
    limiter, decision = after(case)
    for left in reversed(range(decision.remaining)):
        decision = limiter.decide(case.times[-1])
        assert (decision.allowed, decision.remaining) == (True, left)
    assert not limiter.decide(case.times[-1]).allowed


@given(cases(*TIMED))
def test_after_reset_after_all_is_whole_again(case: Case) -> None:
    """As many pass at once then as with a fresh limiter, and not long before, unless a clock is waited for."""
    limiter, decision = after(case)
    whole = case.burst if ALGORITHMS[case.spec.algorithm].has_burst else case.limit.count
    at = case.times[-1] + decision.reset_after
    assert passing(copy.deepcopy(limiter), at + GRAIN) == whole
    early = at - decision.reset_after / 3 - CLOSE
    if decision.reset_after > 4 * CLOSE:
        assert passing(limiter, early) < whole or "window" in case.spec.algorithm or case.spec.round_down


@given(st.data(), cases(*TIMED))
def test_a_limiter_recovers_after_silence(data: st.DataObject, case: Case) -> None:
    """Two windows later, or two bursts, it decides on whatever comes as a fresh one, rejected requests or not."""
    limiter, _ = after(case)
    silence = 2 * max(case.limit.window, (case.burst + 1) * case.limit.window / case.limit.count)
    silence += case.spec.round_down
    start = case.times[-1] + silence
    times = [time - NOW + start for time in data.draw(arrivals(case.limit, 15))]
    if "sliding-counter" in case.spec.algorithm:
        assume(len(set(times)) == len(times))
    assert replay(limiter, times) == replay(case.make(), times)


@given(cases(*(each.name for each in ALGORITHMS.values() if each.windowed)))
def test_no_request_counts_for_longer_than_the_counted_windows(case: Case) -> None:
    limiter, _ = after(case)
    windows = ALGORITHMS[case.spec.algorithm].counted_windows
    assert passing(limiter, case.times[-1] + windows * case.limit.window + GRAIN) == min(50, case.limit.count)


def test_a_sliding_counter_counts_requests_for_more_than_a_window() -> None:
    limiter = make(LimiterSpec("sliding-counter"), Limit(10, 60.0))
    begin = NOW - NOW % 60 + 1
    assert passing(limiter, begin) == 10
    assert passing(copy.deepcopy(limiter), begin + 61) < passing(limiter, begin + 120) == 10


@given(st.data(), cases(*TIMED), st.floats(0, 10))
def test_a_clock_set_back_locks_nothing(data: st.DataObject, case: Case, windows: float) -> None:
    """From the new time on it takes no longer than usual until all is whole again, and no more passes than usual."""
    limiter, last = after(case)
    now = case.times[-1] - windows * case.limit.window
    decision = limiter.decide(now)
    if "sliding-counter" not in case.spec.algorithm:  # there the window before weighs less in another place of a window
        assert decision.remaining <= last.remaining
    longest = 2 * max(case.limit.window, (case.burst + 1) * case.limit.window / case.limit.count)
    longest += case.spec.round_down  # a second of the clock that a bucket waits for
    assert max(decision.retry_after, decision.reset_after) <= longest
    at = now + decision.retry_after
    assert decision.remaining or limiter.decide(at + CLOSE).allowed


@given(st.data(), limits, specs())
def test_any_times_at_all_are_decided_on(data: st.DataObject, limit: Limit, spec: LimiterSpec) -> None:
    """Unordered, far apart or at zero: every decision is whole and within its bounds."""
    limiter = make(spec, limit)
    most = max(spec.burst or limit.count, limit.count)
    for time in data.draw(st.lists(st.floats(0, 4e9) | st.sampled_from([0.0, NOW, NOW + 1e-7]), max_size=30)):
        decision = limiter.decide(time)
        assert 0 <= decision.remaining < most
        assert all(math.isfinite(each) and each >= 0 for each in decision[2:])
        limiter.release(time)


@given(cases())
def test_a_replay_is_the_limiter_step_by_step(case: Case) -> None:
    """Requests that take no time: `replay` says of each what `decide` does, and a part of it is its beginning."""
    limiter, steps = case.make(), []
    for time in case.times:
        steps.append(limiter.decide(time).allowed)
        if steps[-1]:
            limiter.release(time)
    assert replay(case.make(), case.times) == steps
    half = len(steps) // 2
    assert replay(case.make(), case.times[:half]) == steps[:half]


@given(cases(counting=False))
def test_rejected_requests_are_not_counted_unless_asked_for(case: Case) -> None:
    """Leaving the rejected requests out changes nothing about the others."""
    passed = replay(case.make(), case.times)
    kept = [time for time, ok in zip(case.times, passed, strict=True) if ok]
    assert all(replay(case.make(), kept))


@given(cases(*TIMED, counting=False))
def test_a_larger_limit_lets_no_less_pass(case: Case) -> None:
    """One request more per window, of the same requests: at every moment at least as many have passed."""
    assume(case.spec.burst is None)
    larger = case._replace(limit=Limit(case.limit.count + 1, case.limit.window))
    assert sum(replay(larger.make(), case.times)) >= sum(replay(case.make(), case.times))


@given(cases("sliding-log", "sliding-counter", "token-bucket", "gcra", counting=True))
def test_counting_rejected_requests_lets_no_more_pass(case: Case) -> None:
    """Whoever goes on asking is at no moment better off for it."""
    lenient = case._replace(spec=replace(case.spec, count_rejected=False))
    strict, other = replay(case.make(), case.times), replay(lenient.make(), case.times)
    assert all(sum(strict[:k]) <= sum(other[:k]) for k in range(len(strict)))


def test_a_fixed_windows_decision_says_when_it_ends() -> None:
    """`remaining` counts down to 0, and both times are those to the boundary, also on a rejection."""
    limiter = FixedWindow(Limit(2, 60.0))
    answers = [limiter.decide(NOW + at) for at in (10, 20, 30)]
    assert answers == [(True, 1, 50, 0, 0), (True, 0, 40, 40, 0), (False, 0, 30, 30, 0)]


def test_a_release_too_many_makes_no_room() -> None:
    """However often it is told that requests ended, a concurrency limit has room for N."""
    limiter = ConcurrencyLimit(Limit(2, 1.0))
    for _ in range(5):
        limiter.release(NOW)
    assert [limiter.decide(NOW).allowed for _ in range(3)] == [True, True, False]


def test_a_replay_needs_an_end_for_each_time() -> None:
    """Ends that are missing are an error, and not requests that are left out."""
    with pytest.raises(ValueError, match="shorter"):
        replay(ConcurrencyLimit(Limit(1, 1.0)), [NOW, NOW], [NOW])


def test_every_algorithm_is_listed_once() -> None:
    """Options, files and reports take names from one table, and the type says the same names."""
    assert tuple(ALGORITHMS) == get_args(AlgorithmName)
    assert all(name == algorithm.name and algorithm.called for name, algorithm in ALGORITHMS.items())


@pytest.mark.parametrize("spec", every_spec(), ids=str)
def test_the_servers_clock_matters_where_a_spec_says_so(spec: LimiterSpec) -> None:
    """The same requests at other moments are decided alike, unless windows or refills are on the server's clock."""
    times = NOW + np.cumsum(np.random.default_rng(3).exponential(20.0, 60))
    shifts = np.arange(0, 60, 0.9).tolist()
    decisions = {tuple(replay(make(spec, Limit(3, 60.0)), (times + shift).tolist())) for shift in shifts}
    assert (len(decisions) > 1) == spec.on_clock


def test_every_algorithm_is_documented() -> None:
    """The page for users describes each by the name that options take."""
    page = (Path(__file__).parents[2] / "docs" / "rate-limits.md").read_text(encoding="utf-8")
    assert [name for name in ALGORITHMS if f"\n| `{name}`" in page] == list(ALGORITHMS)


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        (LimiterSpec("fixed_windw"), "algorithm", "Did you mean 'fixed-window'"),
        (LimiterSpec("xyz"), "algorithm", "Choose one of fixed-window, "),
        (
            LimiterSpec("sliding-log", 5),
            "burst",
            "sliding-log has no burst: Leave it out, or choose one of token-bucket",
        ),
        (LimiterSpec("gcra", 0), "burst", "accepts nothing"),
        (LimiterSpec("fixed-window", None, True), "count_rejected", "does not change fixed-window"),
        (LimiterSpec("leaky-queue", 5, True), "count_rejected", "choose one of sliding-log"),
        (LimiterSpec("sliding-log", phase=1.0), "phase", "or choose one of fixed-window, "),
        (LimiterSpec("fixed-window", phase=-1.0), "phase", "Give 0 s or more"),
        (LimiterSpec("gcra", round_down=True), "round_down", "token-bucket"),
    ],
)
def test_a_spec_of_no_limiter_is_refused(spec: LimiterSpec, field: str, words: str) -> None:
    """What an algorithm makes nothing of is an error that names the field and says what to do instead."""
    for refuse in (check_spec, lambda spec: make(spec, Limit(1, 1.0))):
        with pytest.raises(WrongValueError) as caught:
            refuse(spec)
        assert words in f"{caught.value.problem}: {caught.value.remedy}"
        assert caught.value.key == field
