"""What run.json holds of who made the load: processes, pools, pauses, clocks."""

from typing import Literal

import msgspec


class ClockInfo(msgspec.Struct, kw_only=True):
    """Server clock minus ours, from ``Date`` headers. Seconds."""

    offset_s: float
    uncertainty_s: float
    answers: int


class CpuSample(msgspec.Struct, kw_only=True):
    """CPU of one generator process over the second that ends at ``t_s`` since the epoch; 100 is one core."""

    t_s: float
    percent: float
    worker: int = 0
    machine: float | None = None
    """Of the whole machine that the process is on, over the same second; 100 is all of its cores."""


class PauseInfo(msgspec.Struct, kw_only=True):
    """Pauses in which a generator process did nothing of its work, though it was due."""

    count: int = 0
    longest_ms: float = 0.0
    total_ms: float = 0.0


class PoolInfo(msgspec.Struct, kw_only=True):
    """How a pool of users fared in one generator process."""

    started: int
    """Users that it started with."""
    size: int
    """Users that it had in the end."""
    cap: int
    """Most that it might have had."""
    waited: int = 0
    """Arrivals that were due when no user was idle."""
    longest_wait_ms: float = 0.0
    """Longest that one of them waited for a user, or had waited at the end."""
    full_s: float = 0.0
    """Seconds in which at least one was waiting."""


class GeneratorInfo(msgspec.Struct, kw_only=True):
    """What one generator process knows of itself, from the epoch to the end of the drain."""

    worker: int = 0
    watched_s: float = 0.0
    stalls: PauseInfo = msgspec.field(default_factory=PauseInfo)
    """Of the event loop: a greenlet that wakes every 50 ms woke at least 50 ms late."""
    collections: PauseInfo = msgspec.field(default_factory=PauseInfo)
    """Garbage collections of at least 10 ms."""
    pools: dict[str, PoolInfo] = {}
    """By traffic entry."""
    lost: bool = False
    """It died, or was cut off, before the run's end; the figures are the last that were heard of it."""


class PeerInfo(msgspec.Struct, kw_only=True):
    """How connecting to an address went."""

    connections: int = 0
    failed: int = 0  # those that could not be made


class WorkerInfo(msgspec.Struct, kw_only=True):
    """One worker process of a run that had several. Times in s since the epoch."""

    worker: int
    """Its index, as in samples; from 1 on."""
    host: str
    joined_s: float
    """When it began to share the schedule; 0 from the begin on."""
    left_s: float | None = None
    """When it left, or was given up; null if it stayed to the end."""
    end: Literal["stayed", "left", "lost"] = "stayed"
    returned: int = 0
    """How often it was believed lost, and came back."""
    samples: int = 0
    """Rows of the record that it sent."""
    offset_ms: float = 0.0
    """Its monotonic clock minus the master's, as their messages tell."""
    uncertainty_ms: float = 0.0
    shared_clock: bool = False
    """It read the master's own clock, being on the same machine, so that the offset was not applied."""


class EpochInfo(msgspec.Struct, kw_only=True):
    """From ``from_s`` (since the epoch) on, these workers shared the schedule, in this order."""

    number: int
    from_s: float
    workers: list[int]
