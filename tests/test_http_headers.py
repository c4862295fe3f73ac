"""Headers that both halves read: dates, waits, the server's clock."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.http_headers import ClockOffset, package_version, parse_date, parse_retry_after, user_agent

THEN = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("12", 12.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("9" * 400, 999_999_999_999.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", THEN),
        ("Sun, 06 Nov 1994 08:49:37 -0000", THEN),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
    ],
)
def test_a_wait_is_seconds_or_a_date(text: str, wanted: float | datetime | None) -> None:
    """Whatever else it is says nothing; a date without a zone is GMT."""
    assert parse_retry_after(text) == wanted


@given(st.text())
def test_no_date_raises(text: str) -> None:
    """A server may send anything."""
    moment = parse_date(text)
    assert moment is None or moment.tzinfo is not None


@given(st.floats(-1e6, 1e6), st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 10)), min_size=1, max_size=20))
def test_the_offset_lies_within_its_bounds(offset: float, answers: list[tuple[float, float]]) -> None:
    """Of a server whose ``Date`` is cut to the second, whenever it was taken between our send and our receipt."""
    bounds = ClockOffset()
    assert not bounds.known
    for sent, took in answers:
        bounds.see((sent + took / 2 + offset) // 1, sent, sent + took)
    assert bounds.known
    assert bounds.low - 1e-6 <= offset <= bounds.high + 1e-6


def test_requests_say_who_sends_them() -> None:
    """Product, version, purpose; a package that is not there is of an unknown version."""
    assert user_agent("run x") == f"workflow-loadtest/{package_version()} (run x)"
    assert package_version("no-such-package") == "unknown"
