"""The server's clock from its Date headers, against exchanges with a server whose clock is known."""

import random
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.exchange import HttpExchange
from loadtest.load.health import ServerClock
from loadtest.record.run_info import ClockInfo

ANCHOR = time.time_ns() - time.monotonic_ns()
"""Wall minus monotonic, as the clock takes it a moment later."""
SLACK = 0.002
"""By how much that moment, and rounding to 0.1 ms, may shift an estimate."""


def exchange(start: float, end: float, date: str | bytes | None) -> HttpExchange:
    """An exchange between two wall times (s), answered with a Date."""
    return HttpExchange(
        start=round(start * 1e9) - ANCHOR,
        end=round(end * 1e9) - ANCHOR,
        date=date.encode() if isinstance(date, str) else date,
    )


def observe(offset: float, *, count: int, gap: float, trip: float, seed: int = 1, stale: float = 0.0) -> ClockInfo:
    """What is estimated from exchanges with a server whose clock is ``offset`` seconds ahead of ours.

    Args:
        offset: server's clock minus ours.
        count: of exchanges.
        gap: seconds from one to the next.
        trip: longest round trip.
        seed: of the trips.
        stale: longest age (s) of the time that Date is made from.
    """
    rng = random.Random(seed)
    clock = ServerClock()
    at = 1_800_000_000 + rng.random()
    for _ in range(count):
        took = trip * (0.2 + 0.8 * rng.random())
        stamped = at + took * rng.random() + offset - stale * rng.random()
        clock.see(exchange(at, at + took, formatdate(stamped, usegmt=True)))
        at += gap
    found = clock.estimate(exact=True)
    assert found.answers == count
    return found


@given(
    st.floats(-100_000, 100_000), st.integers(1, 200), st.floats(0.001, 3), st.floats(0.0005, 0.5), st.integers(0, 99)
)
def test_the_true_offset_is_within_the_uncertainty(offset, count, gap, trip, seed):
    """Whatever the offset, the rate and the round trips: an exact Date never leads to a wrong interval."""
    found = observe(offset, count=count, gap=gap, trip=trip, seed=seed)
    assert abs(found.offset_s - offset) <= found.uncertainty_s + SLACK


def test_changes_of_second_narrow_it_to_a_round_trip() -> None:
    """Ten seconds at 100/s with 5 ms of round trip: known to some ms, from headers that are exact to the second."""
    found = observe(-3.217, count=1000, gap=0.01, trip=0.005)
    assert found.uncertainty_s <= 0.01
    assert found.offset_s == pytest.approx(-3.217, abs=0.01 + SLACK)


def test_one_answer_says_half_a_second() -> None:
    """The answer's second, and its round trip."""
    found = observe(2.0, count=1, gap=1, trip=0.02)
    assert 0.5 <= found.uncertainty_s <= 0.5 + 0.02


def test_a_date_of_jumping_age_says_half_a_second() -> None:
    """A server whose Date is now fresh, now half a second old contradicts itself: no false precision."""
    found = observe(10.0, count=500, gap=0.02, trip=0.002, stale=0.6)
    assert found.uncertainty_s == 0.5
    assert found.offset_s == pytest.approx(10.0, abs=1.1)


@pytest.mark.parametrize(
    "date", [None, b"", b"yesterday", b"\xff\xfe", b"Mon, 99 Nov 2025 10:00:00 GMT", b"0" * 10_000]
)
def test_what_is_no_date_says_nothing(date: bytes | None) -> None:
    """Neither an estimate nor an exception, also between answers that are well."""
    clock = ServerClock()
    clock.see(exchange(1_800_000_000, 1_800_000_000.1, date))
    assert clock.estimate(exact=True) is None
    clock.see(exchange(1_800_000_000.2, 1_800_000_000.3, formatdate(1_800_000_000.2, usegmt=True)))
    clock.see(exchange(1_800_000_000.4, 1_800_000_000.5, date))
    found = clock.estimate(exact=True)
    assert abs(found.offset_s) <= found.uncertainty_s + SLACK


@given(st.binary(max_size=40) | st.text("MonTue, 0123456789:GMT+-JanFeb.", max_size=40).map(str.encode))
def test_any_bytes_as_a_date_are_survived(date: bytes) -> None:
    """The header comes from the service under load."""
    clock = ServerClock()
    clock.see(exchange(1_800_000_000, 1_800_000_000.1, date))
    clock.estimate(exact=True)


@pytest.mark.parametrize(
    "text", ["Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:00:00", "Fri Jan 15 08:00:00 2027"]
)
def test_a_date_without_a_zone_is_gmt(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever zone this machine is in."""
    monkeypatch.setenv("TZ", "X-14")
    time.tzset()
    try:
        clock = ServerClock()
        clock.see(exchange(1_800_000_000.4, 1_800_000_000.6, text))
        found = clock.estimate(exact=True)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert abs(found.offset_s) < 0.2


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.7, 0.99])
def test_a_date_renewed_once_a_second_is_not_trusted_to_the_millisecond(phase: float) -> None:
    """A server that renews its Date at a phase of its own (uvicorn does) looks late; the truth stays within reach."""
    clock = ServerClock()
    at = 1_800_000_000.0
    for number in range(400):
        moment = at + number * 0.01
        renewed = (moment - phase) // 1 + phase
        clock.see(exchange(moment, moment + 0.001, formatdate(renewed, usegmt=True)))
    found = clock.estimate(exact=False)
    assert abs(found.offset_s) <= found.uncertainty_s + SLACK
