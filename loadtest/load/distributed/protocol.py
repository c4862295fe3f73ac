"""Messages between the master and the workers of a run. Each is the body of a Locust message.

A worker connects (``Hello``), receives the run (``Setup``), and then sends reports (``WorkerReport``). The master
acknowledges each report. No message contains an API key. Master and workers must have the same version of this package.
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


def boot_id() -> str:
    """Return the id of this machine's boot, or "" if it is unknown. Processes with the same id run on one machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


class Hello(msgspec.Struct, tag=True):
    """First message of a worker that has connected."""

    protocol: int
    version: str
    """Version of the package."""
    host: str
    keys: int


class RunMessage(msgspec.Struct, tag=True):
    """A message about one run."""

    run: str


class Batch(msgspec.Struct, array_like=True, kw_only=True):
    """Some of a worker's samples."""

    number: int
    """Number among the worker's batches, from 1. Batches are recorded in the order of their numbers."""
    samples: list[bytes]
    """Packed lists of samples."""


class WorkerReport(RunMessage, tag=True, kw_only=True):
    """A worker's state and its new samples."""

    sent_ns: int
    """Sending time on the worker's monotonic clock."""
    ready: bool = False
    """Whether all its users have asked for their first arrival, and the offset of its clock is known."""
    waiting: bool = True
    """Whether it waits for a part of the schedule."""
    assignment: int = 0
    """Number of the last assignment received."""
    taken_over: int = 0
    """Number of arrivals received from other workers."""
    exhausted: bool = False
    """Whether it has offered all its arrivals, or was stopped."""
    quiet: bool = False
    """Whether no arrival waits for a user, and no operation is in flight."""
    closed: bool = False
    """Whether it has sent all its samples."""
    offered: dict[str, int] = {}
    """Number of offered arrivals by traffic entry."""
    late: int = 0
    newly_offered: dict[str, dict[int, int]] = {}
    """Number of arrivals offered since the previous report, by traffic entry and second. The live page shows them."""
    batch: Batch | None = None
    used: BudgetUse = msgspec.field(default_factory=BudgetUse)
    cpu: list[CpuSample] = []
    """CPU samples since the previous report."""
    generator: GeneratorInfo | None = None
    """None until its first assignment."""
    peers: dict[str, PeerInfo] = {}
    clock: ClockInfo | None = None
    """Estimate of the target's clock relative to the master's."""
    offset_ns: int = 0
    """The worker's monotonic clock minus the master's monotonic clock."""
    uncertainty_ns: int = 0
    shared_clock: bool = False
    """Whether it uses the same clock as the master. The offset is then not applied."""
    abort: str | None = None
    bug: str | None = None
    """Traceback of an error in the harness or in a module that the scenario names."""
    user_error: str | None = None
    """A sentence about ``bug`` if a class that the scenario names raised the error."""


class CutAnswer(RunMessage, tag=True):
    """A worker's answer to a proposed cut."""

    number: int
    accepted: bool
    reached_ns: int
    reserved: BudgetUse
    """Until the next assignment, the worker uses at most this much of the request budget in total."""


class Leave(RunMessage, tag=True):
    """A worker asks to leave."""


class HandBack(RunMessage, tag=True):
    """Assigned arrivals that a worker will not send."""

    arrivals: list[Arrival]


class SetupFailed(RunMessage, tag=True):
    """A worker cannot take part. ``message`` gives the reason."""

    message: str


FromWorker = Hello | WorkerReport | CutAnswer | Leave | HandBack | SetupFailed


class Refuse(msgspec.Struct, tag=True):
    """The master rejects a worker. ``message`` gives the reason and a remedy."""

    message: str


class Setup(RunMessage, tag=True):
    """Data that a worker needs for a run."""

    worker: int
    """The worker's index, from 1, as in its samples."""
    info: bytes
    """Content of run.json."""
    trace: str
    """First half of each trace id of the run."""
    worker_count: int
    """Current number of workers. The users are divided among them."""
    boot: str
    """The master's ``boot_id``."""


class KnownJobs(RunMessage, tag=True):
    """Jobs that retrievals may use."""

    entry: str | None
    """The traffic entry of seeded jobs. None for jobs that the run itself submitted."""
    jobs: list[tuple[str, int]]


class ProposeCut(RunMessage, tag=True):
    """A proposal to offer nothing from the cut until the next assignment."""

    number: int
    cut_ns: int
    """The cut, in ns since the epoch."""


class Assign(RunMessage, tag=True, kw_only=True):
    """A new assignment. From ``from_ns`` on, ``workers`` share the schedule. Their order sets their shares."""

    number: int
    epoch_ns: int
    """The run's epoch, on the master's monotonic clock."""
    epoch_unix_ns: int
    from_ns: int
    """Start of the assignment, in ns since the epoch."""
    workers: list[str]
    allowed: dict[str, BudgetUse] | None = None
    """Each worker may use at most this much of the request budget in total. None without a budget."""


class TakeOver(RunMessage, tag=True):
    """Arrivals that another worker handed back."""

    arrivals: list[Arrival]


class Stop(RunMessage, tag=True):
    """Tells a worker to offer nothing more."""

    discard: bool
    """Whether arrivals that wait for a user are discarded."""


class Close(RunMessage, tag=True):
    """Tells a worker to send all remaining samples."""

    aborted: bool


class Acknowledge(RunMessage, tag=True):
    """The master's answer to a report."""

    echo_ns: int
    """Sending time of the report on the worker's clock."""
    received_ns: int
    replied_ns: int
    """Sending time of this answer. Like ``received_ns``, it is on the master's clock."""
    batch: int
    """Number of the worker's last batch in the record."""
    rejoin: bool = False
    """Whether the worker had counted as lost. It must then offer nothing until its next assignment."""


FromMaster = Refuse | Setup | KnownJobs | ProposeCut | Assign | TakeOver | Stop | Close | Acknowledge

encode = msgspec.msgpack.Encoder().encode
from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
"""Decode a message. Like ``from_master``, it raises ``msgspec.MsgspecError`` if the message has an unknown form."""
from_master: Callable[[bytes], FromMaster] = msgspec.msgpack.Decoder(FromMaster).decode
