"""Helpers for tests that start processes: a clean environment, waiting for conditions, and free ports."""

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
"""The type of a fixture that tests call."""
_PORTS = range(20_000, 32_000)
"""Linux assigns only higher ports by itself, so no process gets one of these between its choice and its use."""
_dice = random.SystemRandom()  # every worker seeds `random` with the same number


def clean_environment(**extra: str) -> dict[str, str]:
    """Return our environment without variables of the harness. Reports have no plots, which take half of the time."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WORKFLOW_", "LOADTEST_", "LOCUST_"))}
    return {**kept, "LOADTEST_PLOTS": "0", **extra}


PATIENCE = 60.0
"""Tests wait this many seconds for a condition or an end. A busy machine may be ten times slower than an idle one."""


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Poll a condition until its value is true, and return the value.

    A condition that takes long, for example because a record grows, is polled less often. Polling takes at most a fifth
    of the time.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(min(0.2, max(0.01, 4 * (time.monotonic() - began))))


async def until_async(condition: Callable[[], Any]) -> Any:
    """Poll a condition in an event loop until its value is true. Other tasks of the loop continue."""
    async with asyncio.timeout(PATIENCE):
        while not (value := condition()):  # noqa: ASYNC110 - the condition has no event to wait for
            await asyncio.sleep(0.001)
    return value


def free_ports(count: int) -> list[int]:
    """Return ``count`` ports of 127.0.0.1 on which nothing listens."""
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
