"""Which machine and which version a process is of.

What master and workers tell each other, as bodies of one kind of Locust message.

A worker speaks first (``Hello``), is given the run (``Setup``), and reports twice a second until it is done; each
report is answered (``Beat``). No key is in any of them.
"""

import socket
from pathlib import Path
from typing import Final

import msgspec

from loadtest.record.run_info import ClockInfo, CpuSample, GeneratorInfo, PeerInfo
from loadtest.schedule import Arrival

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def host_name() -> str:
    """The machine's name."""
    return socket.gethostname()


def boot_id() -> str:
    """Which boot of which machine this is: processes with the same one read the same monotonic clock.

    Empty where the system does not say it.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


NAME: Final = "loadtest"
"""Of the Locust message."""
PROTOCOL: Final = 1


class Hello(msgspec.Struct, tag=True):
    """A worker is there."""

    protocol: int
    version: str
    """Of the package: both sides have to agree on what a scenario means."""
    host: str
    boot: str
    """Which boot of which machine; the same for processes that share a monotonic clock. Empty where that is unknown."""
    keys: int
    """How many API keys it has."""


class Used(msgspec.Struct, array_like=True):
    """What was taken from a budget, or may be."""

    operations: int = 0
    requests: int = 0
    executions: int = 0


class Batch(msgspec.Struct, array_like=True, kw_only=True):
    """Part of what a worker recorded."""

    number: int
    """From 1 on; the record takes them in this order."""
    samples: bytes
    """An Arrow stream of its own; empty if there are none."""
    jobs: list[tuple[str, int]] = []
    """Ids of jobs that were accepted, with the index of their key."""


class Report(msgspec.Struct, tag=True, kw_only=True):
    """How a worker fares, and what it recorded since its last report."""

    run: str
    sent_ns: int
    """On the worker's monotonic clock."""
    ready: bool = False
    """All its users have asked for an arrival, and its clock is known."""
    waiting: bool = True
    """It has no part of the schedule, and could have one."""
    epoch: int = 0
    """Number of the last one that it has heard of."""
    given: int = 0
    """Arrivals of others that it was given so far."""
    exhausted: bool = False
    """It has offered all that it was assigned, or was told to stop."""
    quiet: bool = False
    """Nothing waits to be sent, and nothing is in flight."""
    closed: bool = False
    """Everything that it recorded has been sent, and nothing more will be."""
    offered: dict[str, int] = {}
    """Arrivals that it has offered, by traffic entry."""
    batch: Batch | None = None
    used: Used = msgspec.field(default_factory=Used)
    cpu: list[CpuSample] = []
    """Since the report before."""
    generator: GeneratorInfo | None = None
    peers: dict[str, PeerInfo] = {}
    """What it has connected to so far, by address."""
    clock: ClockInfo | None = None
    """The target's clock against the master's, as far as this worker saw."""
    offset_ns: int = 0
    """The worker's monotonic clock minus the master's."""
    uncertainty_ns: int = 0
    shared_clock: bool = False
    """It reads the master's own clock, so that the offset is not applied."""
    abort: str | None = None
    """Why the run should end."""
    bug: str | None = None
    """Traceback of an error of our own."""


class CutAnswer(msgspec.Struct, tag=True):
    """Whether a worker will stop at the cut that was proposed."""

    run: str
    number: int
    accepted: bool
    reached_ns: int
    reserved: Used
    """What it has used and may still use before the next epoch."""


class Leave(msgspec.Struct, tag=True):
    """A worker wants to leave, politely."""

    run: str


class HandBack(msgspec.Struct, tag=True):
    """Arrivals that a worker was given and will not send."""

    run: str
    arrivals: list[Arrival]


class Trouble(msgspec.Struct, tag=True):
    """A worker can't take part: why, and what to do."""

    run: str
    message: str


FromWorker = Hello | Report | CutAnswer | Leave | HandBack | Trouble


class Refuse(msgspec.Struct, tag=True):
    """A worker is not wanted: why, and what to do."""

    message: str


class Setup(msgspec.Struct, tag=True):
    """What a worker has to know of a run."""

    run: str
    worker: int
    """Its index: it is in every sample that it records. From 1 on."""
    info: bytes
    """run.json."""
    trace: str
    """First half of all trace ids of the run."""
    workers: int
    """How many there are now, so that it knows its part of the users."""
    boot: str
    """As in ``Hello``, of the master."""


class Jobs(msgspec.Struct, tag=True):
    """Jobs that retrievals may ask for."""

    run: str
    entry: str | None
    """The traffic entry that they were seeded for; null for the run's own."""
    jobs: list[tuple[str, int]]


class Propose(msgspec.Struct, tag=True):
    """A new epoch is to begin: offer nothing from here on, until it is there."""

    run: str
    number: int
    cut_ns: int
    """Since the run's epoch."""


class Epoch(msgspec.Struct, tag=True, kw_only=True):
    """From a moment on, these workers share the schedule, in this order."""

    run: str
    number: int
    start_ns: int
    """The run's epoch, on the master's monotonic clock."""
    start_unix_ns: int
    from_ns: int
    """Since the run's epoch."""
    workers: list[str]
    allowed: dict[str, Used] | None = None
    """Of each worker, in all since the run's begin, where a leash holds."""


class Give(msgspec.Struct, tag=True):
    """Arrivals that another worker handed back."""

    run: str
    arrivals: list[Arrival]


class Stop(msgspec.Struct, tag=True):
    """Offer nothing more."""

    run: str
    discard: bool
    """What waits for a user is not sent any longer, either."""


class Close(msgspec.Struct, tag=True):
    """Send what is left of the record."""

    run: str
    aborted: bool


class Beat(msgspec.Struct, tag=True):
    """The answer to a report."""

    run: str
    echo_ns: int
    """When the report was sent, on the worker's clock."""
    received_ns: int
    replied_ns: int
    """On the master's."""
    batch: int
    """Number of the last batch that is in the record."""
    rejoin: bool = False
    """The worker was believed lost: what it was assigned was shared out again."""


FromMaster = Refuse | Setup | Jobs | Propose | Epoch | Give | Stop | Close | Beat

_from_worker = msgspec.msgpack.Decoder(FromWorker)
_from_master = msgspec.msgpack.Decoder(FromMaster)
encode = msgspec.msgpack.Encoder().encode


def from_worker(body: bytes) -> FromWorker:
    """Decode what a worker said.

    Raises:
        msgspec.MsgspecError: if it is nothing that this version knows.
    """
    said: FromWorker = _from_worker.decode(body)
    return said


def from_master(body: bytes) -> FromMaster:
    """Decode what the master said; errors as ``from_worker``."""
    said: FromMaster = _from_master.decode(body)
    return said
