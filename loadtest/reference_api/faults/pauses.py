"""Time that passes: for one request, or for the whole server."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from loadtest.faults.kinds import Freeze
from loadtest.reference_api.faults.board import Board

_SLICE: Final = 0.05


async def pause(seconds: float) -> None:
    """Sleep, and never less than ``seconds``: an event loop's timers tick in whole ms, and may fire early."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:  # noqa: ASYNC110 -- it waits for time, not for an event
        await asyncio.sleep(max(left, 0.001))


class Freezer:
    """Stops the whole server for a while, by not letting its event loop go on.

    The kernel goes on accepting connections, and threads go on with what they have.

    Args:
        board: the faults.
        stopping: whether the server was told to end, which thaws it.
    """

    def __init__(self, board: Board, stopping: Callable[[], bool]) -> None:
        self._board = board
        self._stopping = stopping
        self._timer: asyncio.TimerHandle | None = None
        board.on_change.append(self.plan)

    def freeze(self, until: float) -> None:
        """Freeze until that time, in monotonic seconds, or until the server is to end."""
        # In slices, between which a signal's handler can say so.
        while (left := until - time.monotonic()) > 0 and not self._stopping():
            time.sleep(min(left, _SLICE))

    def plan(self) -> None:
        """See to it that freezes come when they are due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._board.clock()
        due = [each for each in self._board if isinstance(each.fault, Freeze) and each.fault.ms is None]
        begins = [max(each.begin, now) for each in due if each.end > now and each.zero is not None]
        if begins:
            self._timer = asyncio.get_running_loop().call_later(min(begins) - now, self._freeze)

    def _freeze(self) -> None:
        now = self._board.clock()
        for each in self._board:
            if isinstance(each.fault, Freeze) and each.fault.ms is None and each.active(now):
                each.hits += 1
                self.freeze(each.end)
        if not self._stopping():
            self.plan()
