"""Which faults are in force, and which of them hit a request."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Final, NamedTuple

from loadtest.contract import LimitName
from loadtest.faults import AnyFault, check_keys
from loadtest.faults.kinds import (
    BackToPending,
    DuplicateResult,
    FalseExecutionTime,
    NeverFinish,
    SlowExecution,
    Starve,
    WrongResult,
)
from loadtest.target.faults.armed import Armed, arm


class Strike(NamedTuple):
    """A fault that hits a request, and the seconds that it makes it wait."""

    fault: AnyFault
    wait: float


class Board:
    """All faults of a server.

    Args:
        seed: of every draw.
        keys: how many API keys there are.
        clock: monotonic seconds.
    """

    def __init__(self, seed: int, keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.header = b""
        """The kinds of all faults, for a header of every answer."""
        self.on_change: list[Callable[[], None]] = []
        """Called when faults were added, removed or restarted."""
        self._seed = seed
        self._keys = keys
        self._armed: dict[int, Armed] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._armed)

    def __iter__(self) -> Iterator[Armed]:
        return iter(self._armed.values())

    def add(self, faults: Iterable[AnyFault], zero: float | None) -> list[Armed]:
        """Put faults in force, whose ``start`` counts from ``zero`` (monotonic seconds; None: from ``restart``).

        Raises:
            InputError: if one is about an API key that there isn't; none is added then.
        """
        wanted = list(faults)
        for fault in wanted:
            check_keys(fault, self._keys)
        added = [arm(next(self._numbers), fault, zero, self._seed) for fault in wanted]
        self._armed.update({each.number: each for each in added})
        self._changed()
        return added

    def remove(self, number: int | None = None) -> int:
        """Take one fault out of force, or all; gives how many there were."""
        numbers = list(self._armed) if number is None else [number]
        removed = [self._armed.pop(each, None) for each in numbers]
        self._changed()
        return sum(each is not None for each in removed)

    def restart(self, zero: float) -> None:
        """Let every fault's ``start`` count from ``zero``, monotonic seconds."""
        for each in self:
            each.restart(zero)
        self._changed()

    def strikes(self, name: LimitName, key: int, *, work: bool) -> list[Strike]:
        """The faults that hit a request, drawn for each that concerns it.

        Args:
            name: what kind of request it is.
            key: its API key.
            work: whether to draw those about the execution, job and result, or those about the exchange.
        """
        now = self.clock()
        return [
            Strike(each.fault, wait)
            for each in self
            if is_work(each.fault) is work and each.concerns(name, key) and (wait := each.strike(now)) is not None
        ]

    def _changed(self) -> None:
        self.header = ",".join(dict.fromkeys(each.fault.kind for each in self)).encode()
        for tell in self.on_change:
            tell()


_WORK: Final = (SlowExecution, NeverFinish, WrongResult, FalseExecutionTime, BackToPending, Starve)


def is_work(fault: AnyFault) -> bool:
    """Whether a fault is about executions, jobs and results, and not about the exchange of a request and its answer."""
    return isinstance(fault, _WORK) or (isinstance(fault, DuplicateResult) and fault.what == "result")
