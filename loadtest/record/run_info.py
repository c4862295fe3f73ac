"""``run.json``: everything about a run that is not a sample. Versioned.

Who made the load (processes, pools, pauses, clocks), what was scheduled, what was loaded, and the run itself.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from loadtest.contract import Operation

SCHEMA_VERSION: Final = 1

Amount = Annotated[float, Meta(ge=0, le=1e12)]
"""A length of time, a rate or a share: a file that gives another one is damaged."""
Moment = Annotated[float, Meta(ge=-1e12, le=1e12)]
"""Seconds since the epoch of a run, or between two clocks."""
Number = Annotated[int, Meta(ge=0, le=2**53)]
"""How many."""


class ClockInfo(msgspec.Struct, kw_only=True):
    """Server clock minus ours, from ``Date`` headers. Seconds."""

    offset_s: Moment
    uncertainty_s: Amount
    answers: Number


class CpuSample(msgspec.Struct, kw_only=True):
    """CPU of one generator process over the second that ends at ``t_s`` since the epoch; 100 is one core."""

    t_s: Moment
    percent: Amount
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


class CpuLoopInfo(msgspec.Struct, kw_only=True):
    """How long a fixed loop of ours took, once a second: a slower service does not touch it, a slower machine does."""

    n: int = 0
    """How often it was timed during the run."""
    before_ms: float | None = None
    """Median of a few just before the epoch, when nothing was loaded yet."""
    p50_ms: float | None = None
    """Median during the run."""
    se: float | None = None
    """Standard error of that median's logarithm, from stretches of the run; null where there are too few."""


class GeneratorInfo(msgspec.Struct, kw_only=True):
    """What one generator process knows of itself, from the epoch to the end of the drain."""

    worker: int = 0
    watched_s: float = 0.0
    stalls: PauseInfo = msgspec.field(default_factory=PauseInfo)
    """Of the event loop: a greenlet that wakes every 50 ms woke at least 50 ms late."""
    collections: PauseInfo = msgspec.field(default_factory=PauseInfo)
    """Garbage collections of at least 10 ms."""
    cpu_loop: CpuLoopInfo = msgspec.field(default_factory=CpuLoopInfo)
    """Empty in older records."""
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
    """How often it was assumed lost, and came back."""
    samples: int = 0
    """Rows of the record that it sent."""
    offset_ms: float = 0.0
    """Its monotonic clock minus the master's, as their messages tell."""
    uncertainty_ms: float = 0.0
    shared_clock: bool = False
    """It read the master's own clock, being on the same machine, so that the offset was not applied."""


class AssignmentInfo(msgspec.Struct, kw_only=True):
    """From ``from_s`` (since the epoch) on, these workers shared the schedule, in this order."""

    number: int
    from_s: float
    workers: list[int]


class StagePlan(msgspec.Struct, kw_only=True):
    """One stage of a traffic entry, as it was scheduled. Times in s since the epoch, rates in requests/s."""

    name: str
    start_s: Annotated[float, Meta(ge=0, le=1e8)]
    duration_s: Annotated[float, Meta(gt=0, le=1e8)]
    rate: Amount
    """At the start of the stage."""
    rate_to: Amount
    """At its end: equal to ``rate`` unless it is a ramp."""
    burst: Number = 0
    """Operations that arrive all at once at its start."""
    warmup: bool = False
    over: list[str] = []
    """Limit names whose planned draw, by all traffic together, passes the limit in this stage."""
    expect_429: bool = False
    """A 429 is expected here: the stage is planned above a limit that its requests draw on, or says so."""

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


def covered_seconds(stages: list[StagePlan], until_s: float) -> float:
    """Seconds in which at least one of the stages was on, up to ``until_s``."""
    total, reached = 0.0, 0.0
    for begin, end in sorted((stage.start_s, stage.end_s) for stage in stages):
        total += max(0.0, min(end, until_s) - max(begin, reached))
        reached = max(reached, min(end, until_s))
    return total


class TrafficPlan(msgspec.Struct, kw_only=True):
    """A traffic entry, as it was scheduled."""

    operation: Operation
    workflow: str | None
    arrivals: str
    users: int
    """Users that its pool starts with, over all workers."""
    max_users: int | None = None
    """Most that its pool may grow to, over all workers; null in older records: ``users``."""
    key_start: Number = 0
    """Index of the first key that it uses."""
    key_count: Number = 1
    offered: Number | None = None
    """Arrivals that became due before the end; null until the end."""
    input_rows: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    """Rows of its inputs; null without, and in older records."""
    stages: list[StagePlan] = []

    @property
    def keys(self) -> range:
        """Indices of the keys that it uses."""
        return range(self.key_start, self.key_start + self.key_count)

    def stage_at(self, elapsed_s: float) -> str:
        """The name of the stage that it is in so many seconds after the epoch; empty between two and after the last."""
        return next((s.name for s in self.stages if s.start_s <= elapsed_s < s.end_s), "")


class LimitInfo(msgspec.Struct, kw_only=True):
    """An assumed limit: ``count`` per ``window_s`` seconds, for whatever one limiter counts."""

    count: Annotated[int, Meta(ge=1, le=2**53)]
    window_s: Annotated[float, Meta(ge=1e-3, le=1e9)]


class BudgetUse(msgspec.Struct, kw_only=True):
    """What a run used of its request budget: preflight, seeding, polls and retries included."""

    operations: int = 0
    requests: int = 0
    executions: int = 0
    """Runs and submits that were sent and not refused with a 4xx."""


class BudgetInfo(msgspec.Struct, kw_only=True):
    """The request budget of a run: what its target's entry in ``targets.toml`` allows. Null: no bound."""

    name: str
    environment: str
    owner: str
    max_share: float
    """Of each assumed limit, over all keys, in any window of it."""
    max_operations: int | None = None
    max_requests: int | None = None
    price_per_execution: float | None = None
    max_cost: float | None = None
    until_unix_s: float | None = None
    """When the allowed hours or the entry end, whichever comes first."""
    used: BudgetUse | None = None
    """Null until the end."""


class FaultInfo(msgspec.Struct, kw_only=True):
    """A fault of an embedded target, on purpose."""

    text: str
    """As ``loadtest serve --fault`` takes it."""
    words: str


class TlsInfo(msgspec.Struct, kw_only=True):
    """Files for TLS (PEM, whole paths): certificates to trust (null: the system's), the client's own, and its key."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class TargetInfo(msgspec.Struct, kw_only=True):
    """What was loaded."""

    url: str
    embedded: bool
    limits: dict[str, LimitInfo]
    """By limit name. Rates in units of a limit refer to these, whatever is in force."""
    limiter: str = "fixed-window"
    """The assumed algorithm; for an embedded target the one in force, and so with all that follows."""
    burst: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    """Requests that may pass at once; null for the algorithm's own default."""
    count_rejected: bool = False
    """Whether rejected requests are counted, too."""
    limit_scope: str = "key-and-name"
    """What one limiter counts: requests of a ``key-and-name``, a ``key``, a ``name``, or ``global``: all."""
    limit_all: LimitInfo | None = None
    """The limit in force of all requests together, for the scopes that have one: ``key`` and ``global``."""
    draws: str = "all"
    """Which requests draw on a limit: ``all`` with a valid key, or ``valid``: those that nothing is wrong with."""
    faults: list[FaultInfo] = []
    """How an embedded target misbehaves."""
    budget: BudgetInfo | None = msgspec.field(default=None, name="leash")
    """Null where the target is loopback and no entry was named."""
    tls: TlsInfo | None = None
    endpoint_digest: str = ""
    """Of the value of ``x-wf-endpoint``: tells two apart, and gives neither away; empty in older records."""
    headers: dict[str, str] = {}
    """Beyond the documented ones. ``$NAME`` is what the environment holds by that name; it is written nowhere."""


class PreflightRequest(msgspec.Struct, kw_only=True):
    """A request that the preflight sent: it drew on a limit before the run did."""

    limit: str
    kind: str
    key_index: int
    unix_s: float


REFUSED: Final = "refuses connections"
"""What is seen of a target at whose address nothing listens."""


class PreflightCheck(msgspec.Struct, kw_only=True):
    """One thing that the preflight looked at."""

    name: str
    result: Literal["ok", "failed", "unknown"]
    words: str
    """What was seen, without a secret."""
    remedy: str = ""
    """What to do, if it failed."""


class Preflight(msgspec.Struct, kw_only=True):
    """What a preflight saw, and what it sent for it."""

    checks: list[PreflightCheck] = []
    sent: list[PreflightRequest] = []

    @property
    def failure(self) -> PreflightCheck | None:
        return next((check for check in self.checks if check.result == "failed"), None)


class ScenarioInfo(msgspec.Struct, kw_only=True):
    """The scenario in force, after overrides."""

    name: str
    title: str
    hash: str
    effective: dict[str, Any]
    """As it could be written in TOML again; thresholds included."""


class RunInfo(msgspec.Struct, kw_only=True):
    """Everything about a run that is not a sample."""

    schema: int = SCHEMA_VERSION
    id: str
    scenario: ScenarioInfo
    seed: int
    target: TargetInfo
    keys: Number
    workers: Number
    traffic: dict[str, TrafficPlan]
    versions: dict[str, str]
    machine: dict[str, str]
    command: list[str]
    commit: str = ""
    """Of the working directory's Git repository, or what the CI system says; empty if unknown."""
    target_version: str = ""
    """What ``--target-version`` said."""
    started: str
    """UTC, ISO 8601."""
    epoch_unix_ns: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    """Wall time of the epoch; null until every user was ready."""
    ended: str | None = None
    elapsed_s: Moment | None = None
    """From the epoch to the end of the schedule or of the interruption, without the drain; below zero where that came
    before the epoch."""
    end: Literal["running", "finished", "interrupted", "aborted"] = "running"
    end_reason: str | None = None
    target_died: bool = False
    """The embedded target ended during the run, without being asked to."""
    samples: Number | None = None
    """Rows written; a record with fewer or more is incomplete."""
    clock: ClockInfo | None = None
    cpu: list[CpuSample] = []
    generators: list[GeneratorInfo] = []
    """What each generator process knows of itself; empty in older records, and where a run was killed."""
    peers: dict[str, PeerInfo] = {}
    """What was connected to, by address, all workers together; until the end it is empty."""
    worker_processes: list[WorkerInfo] = msgspec.field(default_factory=list, name="crew")
    """The worker processes; empty where the run was made by one process alone."""
    assignments: list[AssignmentInfo] = msgspec.field(default_factory=list, name="epochs")
    """Who shared the schedule from when on, likewise."""
    preflight: list[PreflightRequest] = []
    pending_jobs: int | None = None
    """Jobs that were accepted and not seen to end; their ids are in ``pending_jobs.txt``. Null until the end."""

    @property
    def complete(self) -> bool:
        """Whether the run came to an end of its own and closed its record."""
        return self.end != "running" and self.samples is not None

    def window_phase_s(self, window_s: float, offset_s: float) -> float:
        """How far into a window of the server the epoch was; 0 where it was not reached.

        A window begins at multiples of its length on the server's clock, which is ``offset_s`` ahead of ours.
        """
        return 0.0 if self.epoch_unix_ns is None else (self.epoch_unix_ns / 1e9 + offset_s) % window_s
