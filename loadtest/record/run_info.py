"""``run.json``, a versioned file with the facts about a run. The run's samples are in another file."""

from bisect import bisect_right
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from loadtest.contract import Operation
from loadtest.units import Limit

SCHEMA_VERSION: Final = 1

Amount = Annotated[float, Meta(ge=0, le=1e12)]
"""A duration, rate, share or percentage."""
Moment = Annotated[float, Meta(ge=-1e12, le=1e12)]
"""Seconds since a run's epoch, or an offset between two clocks in seconds."""
Number = Annotated[int, Meta(ge=0, le=2**53)]
KeySource = Literal["header", "address", "none"]
StampPlace = Literal["start", "end"]


class ClockInfo(msgspec.Struct, kw_only=True):
    """The server's clock minus our clock, in seconds, estimated from ``Date`` headers."""

    offset_s: Moment
    uncertainty_s: Amount
    answers: Number


class CpuSample(msgspec.Struct, kw_only=True):
    """CPU use of a generator process in the second that ends at ``t_s`` since the epoch.

    ``percent`` is 100 if the process uses one core. ``machine`` is 100 if all cores of its machine are in use.
    """

    t_s: Moment
    percent: Amount
    worker: int = 0
    machine: float | None = None


class PauseInfo(msgspec.Struct, kw_only=True):
    """Pauses of a generator process. During a pause, due work waits."""

    count: int = 0
    longest_ms: float = 0.0
    total_ms: float = 0.0


class PoolInfo(msgspec.Struct, kw_only=True):
    """A pool in one generator process. It began with ``started`` users, has ``size``, and can grow to ``cap``."""

    started: int
    size: int
    cap: int
    waited: int = 0
    """Number of arrivals that were due when no user was idle."""
    longest_wait_ms: float = 0.0
    """Longest wait of an arrival for a user, including waits that never ended."""
    full_s: float = 0.0
    """Time during which at least one arrival waited."""


class CpuLoopInfo(msgspec.Struct, kw_only=True):
    """Duration of a fixed loop, timed once a second. It depends on the machine's speed, but not on the service."""

    n: int = 0
    before_ms: float | None = None
    """Median of a few timings just before the epoch, without load."""
    p50_ms: float | None = None
    se: float | None = None
    """Standard error of the logarithm of ``p50_ms``. Null in short runs."""


class GeneratorInfo(msgspec.Struct, kw_only=True):
    """Statistics of one generator process, from the epoch to the end of the drain."""

    worker: int = 0
    watched_s: float = 0.0
    stalls: PauseInfo = msgspec.field(default_factory=PauseInfo)
    """Delays of the event loop: a greenlet that should wake every 50 ms woke at least 50 ms late."""
    collections: PauseInfo = msgspec.field(default_factory=PauseInfo)
    """Garbage collections of at least 10 ms."""
    cpu_loop: CpuLoopInfo = msgspec.field(default_factory=CpuLoopInfo)
    """Empty in older records."""
    pools: dict[str, PoolInfo] = {}
    """The process's pools, by traffic entry."""
    lost: bool = False
    """Whether the process died or was cut off before the run's end. Its figures are then the last that it reported."""


class PeerInfo(msgspec.Struct, kw_only=True):
    """Numbers of connections to one address, and of failed attempts to connect."""

    connections: int = 0
    failed: int = 0


class WorkerInfo(msgspec.Struct, kw_only=True):
    """A worker process of a run, with its index from 1. Times are in s since the epoch."""

    worker: int
    host: str
    joined_s: float
    """Time when it began to share the schedule. 0 for workers that were there from the start."""
    left_s: float | None = None
    """Time when it left or was declared lost. Null if it stayed to the end."""
    end: Literal["stayed", "left", "lost"] = "stayed"
    returned: int = 0
    """Number of times that it returned after it had counted as lost."""
    samples: int = 0
    offset_ms: float = 0.0
    """The worker's monotonic clock minus the master's monotonic clock, estimated from their messages."""
    uncertainty_ms: float = 0.0
    shared_clock: bool = False
    """Whether the worker was on the master's machine and had the same clock. No offset was then applied."""


class AssignmentInfo(msgspec.Struct, kw_only=True):
    """The workers from ``from_s`` (since the epoch) on. A worker's place in the list determines its arrivals."""

    number: int
    from_s: float
    workers: list[int]


class StagePlan(msgspec.Struct, kw_only=True):
    """One scheduled stage of a traffic entry.

    Times are in s since the epoch. The arrivals per second go from ``rate`` to ``rate_to``, which differ in a ramp.
    """

    name: str
    start_s: Annotated[float, Meta(ge=0, le=1e8)]
    duration_s: Annotated[float, Meta(gt=0, le=1e8)]
    rate: Amount
    rate_to: Amount
    burst: Number = 0
    """Number of operations that arrive at once when the stage starts."""
    warmup: bool = False
    over: list[str] = []
    """Limits that count the entry's requests and that the planned demand of all traffic exceeds."""
    expect_429: bool = False
    """Whether 429s are expected: ``over`` is not empty, or the stage's ``expect`` in the scenario lists 429."""

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s

    @property
    def arrivals(self) -> float:
        """Mean number of arrivals: the burst plus the integral of the rate."""
        return self.burst + (self.rate + self.rate_to) / 2 * self.duration_s


def covered_seconds(stages: list[StagePlan], until_s: float) -> float:
    """Return the number of seconds before ``until_s`` that at least one of the stages covers."""
    total, reached = 0.0, 0.0
    for begin, end in sorted((stage.start_s, stage.end_s) for stage in stages):
        total += max(0.0, min(end, until_s) - max(begin, reached))
        reached = max(reached, min(end, until_s))
    return total


RECORDED: Final = "recorded"  # ``TrafficPlan.arrivals`` of an entry that repeats recorded starts


class TrafficPlan(msgspec.Struct, kw_only=True):
    """A scheduled traffic entry. Its pool, over all workers, begins with ``users``, and can grow to ``max_users``."""

    operation: Operation
    workflow: str | None
    arrivals: str
    users: int
    max_users: int | None = None  # null in older records, where it equals ``users``
    key_start: Number = 0
    key_count: Number = 1
    offered: Number | None = None
    """Number of arrivals that became due before the run ended. Null until then."""
    input_rows: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    """Number of rows in the entry's inputs. Null without inputs, and in older records."""
    stages: list[StagePlan] = []

    @property
    def keys(self) -> range:
        return range(self.key_start, self.key_start + self.key_count)

    def stage_at(self, time_s: float) -> StagePlan | None:
        """Return the stage at a time (s since the epoch), or None outside all stages."""
        place = bisect_right(self.stages, time_s, key=lambda stage: stage.start_s) - 1
        return self.stages[place] if place >= 0 and time_s < self.stages[place].end_s else None


class BudgetUse(msgspec.Struct, kw_only=True):
    """The used part of a run's request budget, including preflight, seeding, polls and retries."""

    operations: int = 0
    requests: int = 0
    executions: int = 0
    """Runs and submits that were sent. Those with a 4xx count only in the preflight."""


class BudgetInfo(msgspec.Struct, kw_only=True):
    """The request budget of a run, from its target's entry in ``targets.toml``. Bounds that are null do not apply."""

    name: str
    environment: str
    owner: str
    max_share: float
    """In any window of an assumed limit, the run may use at most this share of the quotas of all its keys."""
    max_operations: int | None = None
    max_requests: int | None = None
    price_per_execution: float | None = None
    max_cost: float | None = None
    until_unix_s: float | None = None
    """The end of the allowed hours or of the entry's validity, whichever is earlier."""
    used: BudgetUse | None = None
    """Null until the end."""


class FaultInfo(msgspec.Struct, kw_only=True):
    """A deliberate fault of an embedded target. ``text`` has the syntax of ``loadtest serve --fault``."""

    text: str
    words: str


class TlsInfo(msgspec.Struct, kw_only=True):
    """PEM files for TLS, with absolute paths. If ``ca`` is null, the certificates of the system are trusted."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class TargetInfo(msgspec.Struct, kw_only=True):
    """The target of a run."""

    url: str
    embedded: bool
    limits: dict[str, Limit]
    """A scenario's rates in units of a limit refer to these limits, even if other limits are in force."""
    limiter: str = "fixed-window"
    """The assumed algorithm. The fields from here to ``draws`` describe the real limiter of an embedded target."""
    burst: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    """Number of requests that the limiter accepts at once. Null for the algorithm's default."""
    count_rejected: bool = False
    phase: float = 0.0
    """Aligned windows start this many seconds after multiples of the limit's window."""
    round_down: bool = False
    """Whether a sliding counter rounds its estimate down, or a token bucket rounds the time to whole seconds."""
    limit_scope: str = "key-and-name"
    """Scope of a limiter: key and limit (``key-and-name``), ``key``, limit (``name``), or all requests (``global``)."""
    limit_all: Limit | None = None
    """The limit on requests of all kinds together, for the scopes ``key`` and ``global``."""
    draws: str = "all"
    """Requests that count against a limit: ``all`` with a valid key, or only the ``valid`` requests."""
    faults: list[FaultInfo] = []
    budget: BudgetInfo | None = msgspec.field(default=None, name="leash")
    """Null for a loopback target without an entry in ``targets.toml``."""
    tls: TlsInfo | None = None
    endpoint_digest: str = ""
    """Digest of ``x-wf-endpoint``. It distinguishes endpoints without revealing them. Empty in older records."""
    headers: dict[str, str] = {}
    """Additional headers. ``$NAME`` stands for the value of an environment variable, which is not recorded."""


class PreflightRequest(msgspec.Struct, kw_only=True):
    """A request of the preflight. It counted against a limit before the run."""

    limit: str
    kind: str
    key_index: int
    unix_s: float


REFUSED: Final = "refuses connections"  # ``PreflightCheck.words`` if nothing listens at the target's address


class PreflightCheck(msgspec.Struct, kw_only=True):
    """One check of the preflight. Its ``words`` contain no secrets."""

    name: str
    result: Literal["ok", "failed", "unknown"]
    words: str
    remedy: str = ""


class Preflight(msgspec.Struct, kw_only=True):
    """The findings of a preflight, and the requests that it sent."""

    checks: list[PreflightCheck] = []
    sent: list[PreflightRequest] = []

    @property
    def failure(self) -> PreflightCheck | None:
        return next((check for check in self.checks if check.result == "failed"), None)


class SourceInfo(msgspec.Struct, kw_only=True):
    """The log of an imported run."""

    format: str
    """``combined``, ``json``, ``haproxy``, ``fields`` or ``har``. Several formats are joined by ``, ``."""
    lines: Number
    unknown_lines: Number
    """Lines in an unknown format."""
    other_lines: Number = 0
    """Lines whose path does not belong to the API."""
    grain_s: Annotated[float, Meta(ge=0, le=1e9)]
    """Resolution of the time stamps."""
    stamp: StampPlace
    """Whether a line's time stamp states the ``start`` or the ``end`` of its request."""
    service_times: bool
    """Whether lines have durations. Without durations, the stamp counts as the request's start."""
    key: KeySource
    """The part of a line that determines the key's index."""
    zone: bool = True
    """Whether stamps have a time zone. Otherwise they count as UTC."""

    @property
    def coarse(self) -> bool:
        """Whether stamps are whole seconds or coarser. They then hide the order of requests."""
        return self.grain_s >= 1


class ScenarioInfo(msgspec.Struct, kw_only=True):
    """The effective scenario, after overrides."""

    name: str
    title: str
    hash: str
    effective: dict[str, Any]
    """The scenario as plain TOML values, including thresholds."""
    files: dict[str, str] = {}
    """Digest (SHA-256, 12 hex digits) of each file that the scenario refers to, and of the modules of user classes."""


class RunInfo(msgspec.Struct, kw_only=True):
    """The content of ``run.json``."""

    schema: int = SCHEMA_VERSION
    id: str
    kind: Literal["run", "imported"] = "run"
    source: SourceInfo | None = None
    """Null unless the run is imported."""
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
    """Commit that the CI system states, or else the commit of the working directory. Empty if unknown."""
    target_version: str = ""
    started: str
    """UTC, ISO 8601."""
    epoch_unix_ns: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    """Null until every user is ready."""
    ended: str | None = None
    elapsed_s: Moment | None = None
    """Seconds from the epoch to the end of the arrivals. Negative if the run ended before the epoch."""
    end: Literal["running", "finished", "interrupted", "aborted"] = "running"
    end_reason: str | None = None
    target_died: bool = False
    """Whether the embedded target ended unexpectedly during the run."""
    samples: Number | None = None
    """Number of rows written. If the record has fewer or more rows, the run is invalid."""
    clock: ClockInfo | None = None
    cpu: list[CpuSample] = []
    generators: list[GeneratorInfo] = []
    """The generator processes. Empty until the end, and in older records."""
    peers: dict[str, PeerInfo] = {}
    """Connections by address, over all workers. Empty until the end."""
    worker_processes: list[WorkerInfo] = msgspec.field(default_factory=list, name="crew")
    """Empty, as are the assignments, if one process generated the load."""
    assignments: list[AssignmentInfo] = msgspec.field(default_factory=list, name="epochs")
    preflight: list[PreflightRequest] = []
    pending_jobs: int | None = None
    """Number of accepted jobs whose end was not observed. ``pending_jobs.txt`` lists them. Null until the end."""

    @property
    def imported(self) -> bool:
        return self.source is not None

    @property
    def complete(self) -> bool:
        """Whether the run ended and closed its record."""
        return self.end != "running" and self.samples is not None

    def window_phase_s(self, window_s: float, offset_s: float) -> float:
        """Return the epoch's position in a window of the server in s, or 0 if the epoch is unknown.

        Windows start at multiples of their length on the server's clock, which is ``offset_s`` ahead of ours.
        """
        return 0.0 if self.epoch_unix_ns is None else (self.epoch_unix_ns / 1e9 + offset_s) % window_s
