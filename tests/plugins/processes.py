"""What tests that start processes need: a clean environment, conditions to wait for, ports that stay free."""

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

Fixture = Callable[..., Any]
"""A fixture that is called, where its own type says nothing more."""
_PORTS = range(20_000, 32_000)
"""Below those that Linux hands out by itself: nobody is given one between its choice and its use."""
_dice = random.SystemRandom()  # `random` itself is seeded alike in every worker


def clean_environment(**extra: str) -> dict[str, str]:
    """Our environment without what would steer the harness; reports come without plots, which take half of the time."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WORKFLOW_", "LOADTEST_", "LOCUST_"))}
    return {**kept, "LOADTEST_PLOTS": "0", **extra}


PATIENCE = 60.0
"""Seconds that tests wait for a condition or an end: a machine may be ten times slower than an idle one."""


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Poll a condition until it gives something true.

    What takes long to look at, as a record that grows, is looked at less often: no more than a fifth of the time.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(min(0.2, max(0.01, 4 * (time.monotonic() - began))))


async def until_async(condition: Callable[[], Any]) -> Any:
    """The same where a loop runs, whose other tasks go on meanwhile."""
    async with asyncio.timeout(PATIENCE):
        while not (value := condition()):  # noqa: ASYNC110 - what it waits for is state, which tells nobody
            await asyncio.sleep(0.001)
    return value


def free_ports(count: int) -> list[int]:
    """So many ports of 127.0.0.1 on which nothing listens."""
    found: set[int] = set()
    while len(found) < count:
        port = _dice.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    return free_ports(1)[0]
