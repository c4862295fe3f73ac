"""Clients that hang up, runs that take too long, servers that stop: nobody's work goes on for nobody."""

import asyncio
from typing import Any

import pytest

from loadtest.target.bodies import DisconnectedError
from loadtest.target.hangup import until_disconnect


def test_waiting_is_cancelled_when_the_client_hangs_up() -> None:
    """The work sees its cancellation, and the caller is told that nobody waits."""
    events: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    async def hang_up() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def run() -> None:
        with pytest.raises(DisconnectedError):
            await until_disconnect(work(), hang_up)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert events == ["cancelled"]
