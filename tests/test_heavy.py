"""The suite keeps its own promises."""

import pytest
from plugins.heavy import COLLECTED

MOST = 40
"""More are too many: what can be tested on a smaller scale is."""


def test_few_tests_are_heavy(pytestconfig: pytest.Config) -> None:
    """`make test` tests nearly everything: at most 40 tests are left to `make test-heavy`."""
    assert pytestconfig.stash[COLLECTED] <= MOST
