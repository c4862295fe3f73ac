"""Servers for tests, closed at their end."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for leash_parts: test folders are no packages
from leash_parts import Answer, Stub, served


@pytest.fixture
def stub() -> Iterator[Callable[..., Stub]]:
    """Start servers that answer as a function says."""
    started: list[Stub] = []

    def start(answer: Callable[[str, str, int], Answer], address: str = "127.0.0.1") -> Stub:
        started.append(Stub(answer, address))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    """The reference API."""
    with served() as url:
        yield url
