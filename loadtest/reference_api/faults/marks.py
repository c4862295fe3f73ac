"""What is remembered of jobs that were hit, within bounds."""

from contextvars import ContextVar
from typing import Final, Generic, TypeVar

from loadtest.faults import AnyFault

MOST: Final = 200_000
"""Entries that are kept of each sort; the oldest go first."""

_T = TypeVar("_T")

HITS: ContextVar[list[AnyFault]] = ContextVar("HITS")
"""What has hit the request at hand; not set outside of one."""


def note(*faults: AnyFault) -> None:
    """Note that faults hit the request at hand, if there is one."""
    if (hits := HITS.get(None)) is not None:
        hits.extend(fault for fault in faults if fault not in hits)


class Recent(Generic[_T]):
    """A dictionary by job id that forgets what is oldest."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: dict[str, _T] = {}

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, job_id: str) -> _T | None:
        """What was put there, if it is still known."""
        return self._kept.get(job_id)

    def put(self, job_id: str, value: _T) -> None:
        """Remember ``value``."""
        self._kept[job_id] = value
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
