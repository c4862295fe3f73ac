"""What the master and the workers of a run send each other: the bodies of one kind of Locust message.

A worker speaks first (``Hello``), is given the run (``Setup``), and reports twice a second until it is done
(``WorkerReport``); the master acknowledges each report. No message carries an API key. Both sides have to be of the
same version of this package.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from loadtest.record.run_info import BudgetUse, ClockInfo, CpuSample, GeneratorInfo, PeerInfo
from loadtest.schedule import Arrival

NAME: Final = "loadtest"
"""Of the Locust message."""
PROTOCOL: Final = 3
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Which boot of which machine this is: processes with the same one read the same monotonic clock.

    Empty where the system does not show it.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


class Hello(msgspec.Struct, tag=True):
    """A worker has connected."""

    protocol: int
    version: str
    """Of the package: both sides have to agree on what a scenario means."""
    host: str
    boot: str
    """As ``boot_id`` gives it."""
    keys: int
    """How many API keys it has."""


class RunMessage(msgspec.Struct, tag=True):
    """A message of one run."""

    run: str
    """Its id."""


class Batch(msgspec.Struct, array_like=True, kw_only=True):
    """Part of what a worker recorded."""

    number: int
    """From 1 on; the record takes them in this order."""
    samples: bytes
    """An Arrow stream of its own; empty if there are none."""
    jobs: list[tuple[str, int]] = []
    """Ids of jobs that were accepted, with the index of their key."""


class WorkerReport(RunMessage, tag=True, kw_only=True):
    """How a worker is doing, and what it recorded since its last report."""

    sent_ns: int
    """On the worker's monotonic clock."""
    ready: bool = False
    """All its users have asked for an arrival, and its clock is known."""
    waiting: bool = True
    """It has no part of the schedule, and could have one."""
    assignment: int = 0
    """Number of the last assignment that it has received."""
    taken_over: int = 0
    """Arrivals of other workers that it has received so far."""
    exhausted: bool = False
    """It has offered all that it was assigned, or was told to stop."""
    quiet: bool = False
    """Nothing waits to be sent, and nothing is in flight."""
    closed: bool = False
    """Everything that it recorded has been sent, and nothing more will be."""
    offered: dict[str, int] = {}
    """Arrivals that it has offered, by traffic entry."""
    newly_offered: dict[str, dict[int, int]] = {}
    """Those since the report before, by traffic entry and second of the run: for the live page."""
    batch: Batch | None = None
    used: BudgetUse = msgspec.field(default_factory=BudgetUse)
    cpu: list[CpuSample] = []
    """Since the report before."""
    generator: GeneratorInfo | None = None
    peers: dict[str, PeerInfo] = {}
    """What it has connected to so far, by address."""
    clock: ClockInfo | None = None
    """The target's clock against the master's, as this worker sees it."""
    offset_ns: int = 0
    """The worker's monotonic clock minus the master's."""
    uncertainty_ns: int = 0
    shared_clock: bool = False
    """It reads the master's own clock, so that the offset is not applied."""
    abort: str | None = None
    """Why the run should end."""
    bug: str | None = None
    """Traceback of an error that is not the target's."""
    user_error: str | None = None
    """What it is in a sentence, where a user's own class made it."""


class CutAnswer(RunMessage, tag=True):
    """Whether a worker will stop at the cut that was proposed."""

    number: int
    accepted: bool
    reached_ns: int
    reserved: BudgetUse
    """What it has used and may still use before the next assignment."""


class Leave(RunMessage, tag=True):
    """A worker wants to leave, politely."""


class HandBack(RunMessage, tag=True):
    """Arrivals that a worker was assigned and will not send."""

    arrivals: list[Arrival]


class SetupFailed(RunMessage, tag=True):
    """A worker can't take part: why, and what to do."""

    message: str


FromWorker = Hello | WorkerReport | CutAnswer | Leave | HandBack | SetupFailed


class Refuse(msgspec.Struct, tag=True):
    """The master does not want a worker: why, and what to do."""

    message: str


class Setup(RunMessage, tag=True):
    """What a worker has to know of a run."""

    worker: int
    """Its index, from 1 on: it is in every sample that it records."""
    info: bytes
    """run.json."""
    trace: str
    """First half of all trace ids of the run."""
    worker_count: int
    """How many there are now, so that it knows its part of the users."""
    boot: str
    """As in ``Hello``, of the master."""


class KnownJobs(RunMessage, tag=True):
    """Jobs that retrievals may ask for."""

    entry: str | None
    """The traffic entry that they were seeded for; null for the run's own."""
    jobs: list[tuple[str, int]]


class ProposeCut(RunMessage, tag=True):
    """The assignment is about to change: offer nothing from the cut on, until the next assignment is there."""

    number: int
    cut_ns: int
    """Since the epoch."""


class Assign(RunMessage, tag=True, kw_only=True):
    """From a moment on, these workers share the schedule, in this order."""

    number: int
    epoch_ns: int
    """The run's epoch, on the master's monotonic clock."""
    epoch_unix_ns: int
    from_ns: int
    """Since the epoch."""
    workers: list[str]
    allowed: dict[str, BudgetUse] | None = None
    """What each worker may use of the request budget, in all since the run began; null without one."""


class TakeOver(RunMessage, tag=True):
    """Arrivals that another worker handed back."""

    arrivals: list[Arrival]


class Stop(RunMessage, tag=True):
    """Offer nothing more."""

    discard: bool
    """Whether what waits for a user is not sent any longer, either."""


class Close(RunMessage, tag=True):
    """Send what is left of the record."""

    aborted: bool


class Acknowledge(RunMessage, tag=True):
    """The answer to a report."""

    echo_ns: int
    """When the report was sent, on the worker's clock."""
    received_ns: int
    replied_ns: int
    """On the master's."""
    batch: int
    """Number of the last batch that is in the record."""
    rejoin: bool = False
    """The worker counted as lost: others were assigned its part of the schedule."""


FromMaster = Refuse | Setup | KnownJobs | ProposeCut | Assign | TakeOver | Stop | Close | Acknowledge

encode = msgspec.msgpack.Encoder().encode
from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
"""Raises ``msgspec.MsgspecError`` where it is no message of this version, as ``from_master`` does."""
from_master: Callable[[bytes], FromMaster] = msgspec.msgpack.Decoder(FromMaster).decode
