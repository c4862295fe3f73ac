"""``run.json``: everything about a run except its samples. Versioned.

It covers the load generator (processes, pools, pauses, clocks), the schedule, the target, and the run itself.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from loadtest.contract import Operation
from loadtest.record.log_source import SourceInfo
from loadtest.units import Limit

SCHEMA_VERSION: Final = 1

Amount = Annotated[float, Meta(ge=0, le=1e12)]
"""A duration, rate or share within its valid range."""
Moment = Annotated[float, Meta(ge=-1e12, le=1e12)]
"""Seconds since the epoch of a run, or between two clocks."""
Number = Annotated[int, Meta(ge=0, le=2**53)]


class ClockInfo(msgspec.Struct, kw_only=True):
    """The server's clock minus ours, from ``Date`` headers, in seconds."""

    offset_s: Moment
    uncertainty_s: Amount
    answers: Number


class CpuSample(msgspec.Struct, kw_only=True):
    """CPU of one generator process over the second that ends at ``t_s`` since the epoch; 100 is one core."""

    t_s: Moment
    percent: Amount
    worker: int = 0
    machine: float | None = None
    """CPU of the process's whole machine over the same second; 100 is all of its cores."""


class PauseInfo(msgspec.Struct, kw_only=True):
    """Times when a generator process did not do the work that was due."""

    count: int = 0
    longest_ms: float = 0.0
    total_ms: float = 0.0


class PoolInfo(msgspec.Struct, kw_only=True):
    """Statistics of a pool of users in one generator process."""

    started: int
    """Initial number of users."""
    size: int
    """Final number of users."""
    cap: int
    """Maximum number of users."""
    waited: int = 0
    """Arrivals that were due when no user was idle."""
    longest_wait_ms: float = 0.0
    """Longest wait of an arrival for a user, including waits that had not ended."""
    full_s: float = 0.0
    """Seconds during which at least one arrival waited."""


class CpuLoopInfo(msgspec.Struct, kw_only=True):
    """Duration of a fixed loop, timed once a second, which depends on the machine's speed but not on the service."""

    n: int = 0
    before_ms: float | None = None
    """Median of a few timings just before the epoch, without load."""
    p50_ms: float | None = None
    se: float | None = None
    """Standard error of the logarithm of ``p50_ms``, from parts of the run; null if there are too few parts."""


class GeneratorInfo(msgspec.Struct, kw_only=True):
    """One generator process's own statistics, from the epoch to the end of the drain."""

    worker: int = 0
    watched_s: float = 0.0
    stalls: PauseInfo = msgspec.field(default_factory=PauseInfo)
    """Delays of the event loop, when a greenlet that wakes every 50 ms woke at least 50 ms late."""
    collections: PauseInfo = msgspec.field(default_factory=PauseInfo)
    """Garbage collections of at least 10 ms."""
    cpu_loop: CpuLoopInfo = msgspec.field(default_factory=CpuLoopInfo)
    """Empty in older records."""
    pools: dict[str, PoolInfo] = {}
    """By traffic entry."""
    lost: bool = False
    """Whether the process died or was cut off before the run's end; its figures are then the last that it reported."""


class PeerInfo(msgspec.Struct, kw_only=True):
    """Statistics of connecting to one address."""

    connections: int = 0
    failed: int = 0  # connection attempts that failed


class WorkerInfo(msgspec.Struct, kw_only=True):
    """One of several worker processes of a run. Times in s since the epoch."""

    worker: int
    """Index from 1, as in samples."""
    host: str
    joined_s: float
    """Time when it began to share the schedule; 0 for the start of the run."""
    left_s: float | None = None
    """Time when it left or was declared lost; null if it stayed to the end."""
    end: Literal["stayed", "left", "lost"] = "stayed"
    returned: int = 0
    """Number of times that it returned after it was assumed lost."""
    samples: int = 0
    """Rows of the record that it sent."""
    offset_ms: float = 0.0
    """Its monotonic clock minus the master's, estimated from their messages."""
    uncertainty_ms: float = 0.0
    shared_clock: bool = False
    """Whether the worker was on the master's machine and shared its clock, so that no offset was applied."""


class AssignmentInfo(msgspec.Struct, kw_only=True):
    """The workers that share the schedule from ``from_s`` (since the epoch) on, in order."""

    number: int
    from_s: float
    workers: list[int]


class StagePlan(msgspec.Struct, kw_only=True):
    """One scheduled stage of a traffic entry. Times in s since the epoch, rates in requests/s."""

    name: str
    start_s: Annotated[float, Meta(ge=0, le=1e8)]
    duration_s: Annotated[float, Meta(gt=0, le=1e8)]
    rate: Amount
    """Rate at the start of the stage."""
    rate_to: Amount
    """Rate at the end of the stage; equal to ``rate`` unless the stage is a ramp."""
    burst: Number = 0
    """Operations that arrive at once at the start of the stage."""
    warmup: bool = False
    over: list[str] = []
    """Limits that the planned demand of all traffic exceeds in this stage."""
    expect_429: bool = False
    """Whether 429s are expected, because the stage is planned above one of its limits or its ``expect`` lists 429."""

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s

    @property
    def arrivals(self) -> float:
        """Mean number of arrivals: the burst, and the integral of the rate."""
        return self.burst + (self.rate + self.rate_to) / 2 * self.duration_s


def covered_seconds(stages: list[StagePlan], until_s: float) -> float:
    """Return the seconds, up to ``until_s``, that at least one of the stages covers."""
    total, reached = 0.0, 0.0
    for begin, end in sorted((stage.start_s, stage.end_s) for stage in stages):
        total += max(0.0, min(end, until_s) - max(begin, reached))
        reached = max(reached, min(end, until_s))
    return total


RECORDED: Final = "recorded"
"""Value of ``TrafficPlan.arrivals`` for an entry that repeats recorded starts."""


class TrafficPlan(msgspec.Struct, kw_only=True):
    """A scheduled traffic entry."""

    operation: Operation
    workflow: str | None
    arrivals: str
    users: int
    """Initial size of its pool, over all workers."""
    max_users: int | None = None
    """Maximum size of its pool, over all workers; null in older records, where it equals ``users``."""
    key_start: Number = 0
    """Index of its first key."""
    key_count: Number = 1
    offered: Number | None = None
    """Arrivals that became due before the end; null until the end."""
    input_rows: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    """Rows of its inputs; null without inputs, and in older records."""
    stages: list[StagePlan] = []

    @property
    def keys(self) -> range:
        return range(self.key_start, self.key_start + self.key_count)

    def stage_at(self, elapsed_s: float) -> str:
        """Return the name of the stage ``elapsed_s`` seconds after the epoch; empty outside all stages."""
        return next((s.name for s in self.stages if s.start_s <= elapsed_s < s.end_s), "")


class BudgetUse(msgspec.Struct, kw_only=True):
    """A run's use of its request budget, including preflight, seeding, polls and retries."""

    operations: int = 0
    requests: int = 0
    executions: int = 0
    """Runs and submits that were sent and not rejected with a 4xx."""


class BudgetInfo(msgspec.Struct, kw_only=True):
    """The request budget of a run, from its target's entry in ``targets.toml``; null if requests are unlimited."""

    name: str
    environment: str
    owner: str
    max_share: float
    """Maximum share of each assumed limit, over all keys, in any of its windows."""
    max_operations: int | None = None
    max_requests: int | None = None
    price_per_execution: float | None = None
    max_cost: float | None = None
    until_unix_s: float | None = None
    """The end of the allowed hours or of the entry, whichever is earlier."""
    used: BudgetUse | None = None
    """Null until the end."""


class FaultInfo(msgspec.Struct, kw_only=True):
    """A deliberate fault of an embedded target."""

    text: str
    """The fault in the syntax of ``loadtest serve --fault``."""
    words: str


class TlsInfo(msgspec.Struct, kw_only=True):
    """Files for TLS (PEM, absolute paths): trusted certificates (null: the system's), client certificate and key."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class TargetInfo(msgspec.Struct, kw_only=True):
    """The target of a run."""

    url: str
    embedded: bool
    limits: dict[str, Limit]
    """Limits by name. Rates in units of a limit refer to these, even if other limits are in force."""
    limiter: str = "fixed-window"
    """The assumed algorithm. For an embedded target, this field and those below describe the limiter in force."""
    burst: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    """Requests accepted at once; null for the algorithm's default."""
    count_rejected: bool = False
    """Whether rejected requests count too."""
    phase: float = 0.0
    """Seconds from multiples of a limit's window to the start of aligned windows."""
    round_down: bool = False
    """Whether a sliding counter rounds its estimate down, or a token bucket refills only in whole seconds."""
    limit_scope: str = "key-and-name"
    """Requests that one limiter counts: those of a ``key-and-name``, a ``key`` or a ``name``, or all (``global``)."""
    limit_all: Limit | None = None
    """The limit of all requests together, for the scopes ``key`` and ``global``."""
    draws: str = "all"
    """Requests that count against a limit: ``all`` that have a valid key, or only ``valid`` requests."""
    faults: list[FaultInfo] = []
    """Faults of an embedded target."""
    budget: BudgetInfo | None = msgspec.field(default=None, name="leash")
    """Request budget; null for a loopback target without an entry in ``targets.toml``."""
    tls: TlsInfo | None = None
    endpoint_digest: str = ""
    """Digest of ``x-wf-endpoint``, which distinguishes endpoints without revealing them; empty in older records.
    """
    headers: dict[str, str] = {}
    """Additional headers. ``$NAME`` stands for an environment variable, whose value is not recorded."""


class PreflightRequest(msgspec.Struct, kw_only=True):
    """A request of the preflight, which counted against a limit before the run."""

    limit: str
    kind: str
    key_index: int
    unix_s: float


REFUSED: Final = "refuses connections"
"""The description of a target that refuses connections."""


class PreflightCheck(msgspec.Struct, kw_only=True):
    """One check of the preflight."""

    name: str
    result: Literal["ok", "failed", "unknown"]
    words: str
    """The finding, without secrets."""
    remedy: str = ""


class Preflight(msgspec.Struct, kw_only=True):
    """A preflight's findings and requests."""

    checks: list[PreflightCheck] = []
    sent: list[PreflightRequest] = []

    @property
    def failure(self) -> PreflightCheck | None:
        return next((check for check in self.checks if check.result == "failed"), None)


class ScenarioInfo(msgspec.Struct, kw_only=True):
    """The effective scenario, after overrides."""

    name: str
    title: str
    hash: str
    effective: dict[str, Any]
    """The scenario as plain TOML values, including thresholds."""
    files: dict[str, str] = {}
    """Digest (SHA-256, twelve hex digits) of each file that the scenario refers to; user classes by ``module.py``."""


class RunInfo(msgspec.Struct, kw_only=True):
    """Everything about a run except its samples."""

    schema: int = SCHEMA_VERSION
    id: str
    kind: Literal["run", "imported"] = "run"
    source: SourceInfo | None = None
    """The log of an imported run; null for other runs."""
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
    """Commit of the working directory's Git repository, or of the CI system; empty if unknown."""
    target_version: str = ""
    """The value of ``--target-version``."""
    started: str
    """UTC, ISO 8601."""
    epoch_unix_ns: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    """Wall time of the epoch; null until every user was ready."""
    ended: str | None = None
    elapsed_s: Moment | None = None
    """From the epoch to the end of the schedule or to the interruption, without the drain; negative if interrupted
    before the epoch."""
    end: Literal["running", "finished", "interrupted", "aborted"] = "running"
    end_reason: str | None = None
    target_died: bool = False
    """Whether the embedded target ended unexpectedly during the run."""
    samples: Number | None = None
    """Rows written; a record with fewer or more is incomplete."""
    clock: ClockInfo | None = None
    cpu: list[CpuSample] = []
    generators: list[GeneratorInfo] = []
    """Statistics of each generator process; empty in older records, and if the run was killed."""
    peers: dict[str, PeerInfo] = {}
    """Connections by address, over all workers; empty until the end."""
    worker_processes: list[WorkerInfo] = msgspec.field(default_factory=list, name="crew")
    """The worker processes; empty if one process made the run."""
    assignments: list[AssignmentInfo] = msgspec.field(default_factory=list, name="epochs")
    """The workers sharing the schedule over time; empty if one process made the run."""
    preflight: list[PreflightRequest] = []
    pending_jobs: int | None = None
    """Accepted jobs that were not seen to end; their ids are in ``pending_jobs.txt``. Null until the end."""

    @property
    def imported(self) -> bool:
        return self.source is not None

    @property
    def complete(self) -> bool:
        """Whether the run ended by itself and closed its record."""
        return self.end != "running" and self.samples is not None

    def window_phase_s(self, window_s: float, offset_s: float) -> float:
        """Return the epoch's position in a window of the server in s; 0 if the epoch was not reached.

        Windows start at multiples of their length on the server's clock, which is ``offset_s`` ahead of ours.
        """
        return 0.0 if self.epoch_unix_ns is None else (self.epoch_unix_ns / 1e9 + offset_s) % window_s
