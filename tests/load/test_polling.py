"""When a job is asked for again: policies without a clock."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.retry import Pacer, PollingPolicy

S = 1_000_000_000


def times(policy: PollingPolicy, *, answer_takes: int = 0, draw: float = 1.0) -> list[float]:
    """Seconds after the accepted submit at which polls are sent to a job that never ends."""
    sent, last = [], 0
    while (due := policy.next_poll(0, last, len(sent) + 1, draw)) is not None:
        sent.append(due / S)
        last = due + answer_takes
    return sent


@pytest.mark.parametrize(
    ("policy", "answer_takes", "draw", "expected"),
    [
        (PollingPolicy(S, 4 * S), 0, 1, [1, 2, 3, 4]),  # the last one exactly when it gives up
        (PollingPolicy(S, 4 * S - 1), 0, 1, [1, 2, 3]),
        (PollingPolicy(S, 4 * S), S // 2, 1, [1, 2.5, 4]),  # an interval after the answer, not after the last poll
        (PollingPolicy(2 * S, S), 0, 1, []),
        (PollingPolicy(S, 20 * S, factor=2), 0, 1, [1, 3, 7, 15]),
        (PollingPolicy(S, 20 * S, factor=2, max=5 * S), 0, 1, [1, 3, 7, 12, 17]),
        (PollingPolicy(S, 4 * S, jitter=True), 0, 0, [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]),
        (PollingPolicy(S, 4 * S, jitter=True), 0, 1, [1, 2, 3, 4]),
        (PollingPolicy(S, 4 * S), 0, 0, [1, 2, 3, 4]),  # no jitter, whatever is drawn
    ],
)
def test_polls_come_when_the_policy_says(
    policy: PollingPolicy, answer_takes: int, draw: float, expected: list[float]
) -> None:
    """Fixed, growing, capped, jittered; until the time to give up."""
    assert times(policy, answer_takes=answer_takes, draw=draw) == expected


policies = st.builds(
    PollingPolicy,
    interval=st.integers(1_000_000, 10 * S),
    give_up=st.integers(0, 100 * S),
    factor=st.floats(1, 100),
    max=st.integers(1_000_000, 100 * S),
    jitter=st.booleans(),
)


@given(policies, st.integers(1, 10_000), st.floats(0, 1))
def test_a_poll_is_never_before_the_last_answer_nor_after_giving_up(
    policy: PollingPolicy, number: int, draw: float
) -> None:
    """For any policy and any number of polls: no overflow, at least half the interval (or the cap) of waiting."""
    due = policy.next_poll(1000, 5000, number, draw)
    assert due is None or 5000 + min(policy.interval, policy.max) // 2 <= due <= 1000 + policy.give_up


@given(st.floats(0.01, 1000), st.lists(st.integers(0, 10 * S), max_size=50).map(sorted))
def test_paced_polls_keep_their_distance(rate: float, due: list[int]) -> None:
    """However many are due at once: never before they are due, in order, and never closer than the rate allows."""
    pacer = Pacer(rate)
    slots = [pacer.slot(moment) for moment in due]
    gap = round(1e9 / rate)
    assert all(slot >= moment for slot, moment in zip(slots, due, strict=True))
    assert all(two - one >= gap for one, two in itertools.pairwise(slots))
    if due:
        assert slots[0] == due[0]


def test_pacing_costs_nothing_below_its_rate() -> None:
    """Polls that are apart anyway stay where they are."""
    pacer = Pacer(10)
    assert [pacer.slot(moment) for moment in (0, S, 2 * S)] == [0, S, 2 * S]
