"""Numbers as text: a rounded share never claims that all or nothing counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.words import share


@given(of=st.integers(1, 10_000_000), data=st.data())
def test_only_whole_shares_are_0_or_100_percent(of: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, of))
    shown = share(count / of).replace("\N{NO-BREAK SPACE}", " ")
    assert (shown == "0 %") == (count == 0)
    assert (shown == "100 %") == (count == of)
    if 0 < count < of:
        assert 0 < float(shown.strip("<> %")) < 100


@pytest.mark.parametrize(
    ("value", "shown"), [(0.9995, "> 99.9 %"), (0.99949, "99.9 %"), (0.0009, "< 0.1 %"), (None, "–")]
)
def test_shares_near_the_ends(value: float | None, shown: str) -> None:
    assert share(value).replace("\N{NO-BREAK SPACE}", " ") == shown
