"""Messages between the master and the workers of a run: the bodies of one kind of Locust message.

A worker connects (``Hello``), receives the run (``Setup``), and reports twice a second until it is done
(``WorkerReport``); the master acknowledges each report. No message contains an API key. Both sides must have the same
version of this package.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from loadtest.record.run_info import BudgetUse, ClockInfo, CpuSample, GeneratorInfo, PeerInfo
from loadtest.schedule import Arrival

NAME: Final = "loadtest"
"""Name of the Locust message."""
PROTOCOL: Final = 5
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return the id of this machine's boot; processes with the same id share the monotonic clock.

    The id is empty if the system does not show it.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


class Hello(msgspec.Struct, tag=True):
    """A worker has connected."""

    protocol: int
    version: str
    """Version of the package."""
    host: str
    keys: int
    """Number of API keys."""


class RunMessage(msgspec.Struct, tag=True):
    """A message of one run."""

    run: str
    """The run's id."""


class Batch(msgspec.Struct, array_like=True, kw_only=True):
    """Some of a worker's samples."""

    number: int
    """Number of the batch, from 1; the record has batches in this order."""
    samples: list[bytes]
    """Lists of samples, packed."""


class WorkerReport(RunMessage, tag=True, kw_only=True):
    """A worker's state and its new samples."""

    sent_ns: int
    """Sending time on the worker's monotonic clock."""
    ready: bool = False
    """Whether all its users have asked for an arrival, and its clock is known."""
    waiting: bool = True
    """Whether it is ready for a part of the schedule and has none."""
    assignment: int = 0
    """Number of the last assignment received."""
    taken_over: int = 0
    """Number of arrivals received from other workers."""
    exhausted: bool = False
    """Whether it has offered all its arrivals, or was stopped."""
    quiet: bool = False
    """Whether nothing waits to be sent, and nothing is in flight."""
    closed: bool = False
    """Whether it has sent all its samples."""
    offered: dict[str, int] = {}
    """Number of offered arrivals by traffic entry."""
    late: int = 0
    """Number of arrivals that it offered late."""
    newly_offered: dict[str, dict[int, int]] = {}
    """Arrivals offered since the previous report, by traffic entry and second of the run; for the live page."""
    batch: Batch | None = None
    used: BudgetUse = msgspec.field(default_factory=BudgetUse)
    cpu: list[CpuSample] = []
    """CPU samples since the previous report."""
    generator: GeneratorInfo | None = None
    peers: dict[str, PeerInfo] = {}
    """Connections by address."""
    clock: ClockInfo | None = None
    """Estimate of the target's clock relative to the master's."""
    offset_ns: int = 0
    """The worker's monotonic clock minus the master's."""
    uncertainty_ns: int = 0
    shared_clock: bool = False
    """Whether it has the master's clock, so that the offset is not applied."""
    abort: str | None = None
    """Reason to end the run."""
    bug: str | None = None
    """Traceback of an error that is not the target's."""
    user_error: str | None = None
    """One sentence about the bug if a class that the scenario names raised it."""


class CutAnswer(RunMessage, tag=True):
    """Whether a worker will stop at the cut that was proposed."""

    number: int
    accepted: bool
    reached_ns: int
    reserved: BudgetUse
    """The worker's maximum total use of the request budget before the next assignment."""


class Leave(RunMessage, tag=True):
    """A worker asks to leave."""


class HandBack(RunMessage, tag=True):
    """Assigned arrivals that a worker will not send."""

    arrivals: list[Arrival]


class SetupFailed(RunMessage, tag=True):
    """Reason and remedy of a worker that cannot take part."""

    message: str


FromWorker = Hello | WorkerReport | CutAnswer | Leave | HandBack | SetupFailed


class Refuse(msgspec.Struct, tag=True):
    """Reason and remedy of a master that rejects a worker."""

    message: str


class Setup(RunMessage, tag=True):
    """The data of a run that a worker needs."""

    worker: int
    """The worker's index, from 1; each of its samples contains this index."""
    info: bytes
    """Content of run.json."""
    trace: str
    """First half of all trace ids of the run."""
    worker_count: int
    """Number of workers now, among which the users are divided."""
    boot: str
    """The master's ``boot_id``."""


class KnownJobs(RunMessage, tag=True):
    """Jobs for retrievals."""

    entry: str | None
    """The traffic entry of seeded jobs; null for jobs of the run."""
    jobs: list[tuple[str, int]]


class ProposeCut(RunMessage, tag=True):
    """The assignment will change: offer nothing from the cut until the next assignment."""

    number: int
    cut_ns: int
    """The cut, since the epoch."""


class Assign(RunMessage, tag=True, kw_only=True):
    """The workers that share the schedule from a moment on, in this order."""

    number: int
    epoch_ns: int
    """The run's epoch, on the master's monotonic clock."""
    epoch_unix_ns: int
    from_ns: int
    """The moment, since the epoch."""
    workers: list[str]
    allowed: dict[str, BudgetUse] | None = None
    """Each worker's maximum total use of the request budget; null without a budget."""


class TakeOver(RunMessage, tag=True):
    """Arrivals that another worker handed back."""

    arrivals: list[Arrival]


class Stop(RunMessage, tag=True):
    """Offer nothing more."""

    discard: bool
    """Whether arrivals that wait for a user are discarded."""


class Close(RunMessage, tag=True):
    """Send all remaining samples."""

    aborted: bool


class Acknowledge(RunMessage, tag=True):
    """The answer to a report."""

    echo_ns: int
    """Sending time of the report on the worker's clock."""
    received_ns: int
    replied_ns: int
    """Sending time of this answer on the master's clock."""
    batch: int
    """Number of the last batch in the record."""
    rejoin: bool = False
    """Whether the worker was lost, and its part of the schedule was reassigned."""


FromMaster = Refuse | Setup | KnownJobs | ProposeCut | Assign | TakeOver | Stop | Close | Acknowledge

encode = msgspec.msgpack.Encoder().encode
from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
"""This and ``from_master`` raise ``msgspec.MsgspecError`` for a message of another version."""
from_master: Callable[[bytes], FromMaster] = msgspec.msgpack.Decoder(FromMaster).decode
