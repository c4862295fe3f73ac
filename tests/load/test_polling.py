"""When a job is asked for again: policies without a clock."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.pool import Pacer, next_poll
from loadtest.scenario.traffic import Polling

S = 1_000_000_000


def policy(interval: float, give_up: float, **more: Any) -> Polling:
    """As a scenario has it, in seconds."""
    return Polling.model_construct(interval=interval, give_up=give_up, **more)


def times(polling: Polling, *, answer_takes: int = 0, draw: float = 1.0) -> list[float]:
    """Seconds after the accepted submit at which polls are sent to a job that never ends."""
    sent, last = [], 0
    while (due := next_poll(polling, 0, last, len(sent) + 1, draw)) is not None:
        sent.append(due / S)
        last = due + answer_takes
    return sent


@pytest.mark.parametrize(
    ("polling", "answer_takes", "draw", "expected"),
    [
        (policy(1, 4), 0, 1, [1, 2, 3, 4]),  # the last one exactly when it gives up
        (policy(1, 3.999), 0, 1, [1, 2, 3]),
        (policy(1, 4), S // 2, 1, [1, 2.5, 4]),  # an interval after the answer, not after the last poll
        (policy(2, 1), 0, 1, []),
        (policy(1, 20, policy="exponential", factor=2), 0, 1, [1, 3, 7, 15]),
        (policy(1, 20, policy="exponential", factor=2, max=5), 0, 1, [1, 3, 7, 12, 17]),
        (policy(1, 4, jitter=True), 0, 0, [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]),
        (policy(1, 4, jitter=True), 0, 1, [1, 2, 3, 4]),
        (policy(1, 4), 0, 0, [1, 2, 3, 4]),  # no jitter, whatever is drawn
    ],
)
def test_polls_come_when_the_policy_says(polling, answer_takes, draw, expected):
    """Fixed, growing, capped, jittered; until the time to give up."""
    assert times(polling, answer_takes=answer_takes, draw=draw) == expected


policies = st.builds(
    policy,
    st.floats(0.001, 10),
    st.floats(0, 100),
    policy=st.sampled_from(["fixed", "exponential"]),
    factor=st.floats(1, 100),
    max=st.floats(10, 100),
    jitter=st.booleans(),
)


@given(policies, st.integers(1, 10_000), st.floats(0, 1))
def test_a_poll_is_never_before_the_last_answer_nor_after_giving_up(polling: Polling, number: int, draw: float) -> None:
    """For any policy and any number of polls: no overflow, at least half the interval of waiting."""
    due = next_poll(polling, 1000, 5000, number, draw)
    assert due is None or 5000 + polling.interval * 1e9 / 2 - 1 <= due <= 1000 + polling.give_up * 1e9 + 1


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
