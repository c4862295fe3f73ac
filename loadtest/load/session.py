"""What the users of one run share: where to send, what to send, and where the samples go.

``TrafficEntry`` is what the users of one traffic entry need to know of it; ``Session`` is the run.
"""

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from weakref import WeakKeyDictionary

from locust.env import Environment

from loadtest.contract import (
    JOB_OPERATIONS,
    LIMIT_OF_OPERATION,
    THROTTLED_STATUS,
    LimitName,
    Operation,
)
from loadtest.faults import CONTROL_VARIABLE
from loadtest.load.client import Endpoint
from loadtest.load.clocks import ServerClock
from loadtest.load.http.connection import Address
from loadtest.load.http.exchange import Timeouts
from loadtest.load.http.resolver import make_resolver
from loadtest.load.live import LiveFigures
from loadtest.load.payloads import (
    Bodies,
    JobHistory,
    JobIds,
    Matcher,
    read_inputs,
    read_job_ids,
    read_schema,
)
from loadtest.load.pool import Pool
from loadtest.load.recorder import Output, Recorder
from loadtest.load.request_budget import RequestBudget
from loadtest.load.request_events import count_operations_apart, fire_request
from loadtest.load.retry import Pacer
from loadtest.plan import AssumedLimits, schedules
from loadtest.record.progress import Phase, Progress
from loadtest.record.run_info import RunInfo, TrafficPlan
from loadtest.record.samples import Sample
from loadtest.scenario import WARMUP, MistakeKind, Scenario, Traffic
from loadtest.seeded_random import seeded_random
from loadtest.targets import Target
from loadtest.targets.connection import header_values, tls_context


@dataclass(frozen=True, slots=True)
class TrafficEntry:
    """What the users of one traffic entry need to know of it."""

    name: str
    index: int
    operation: Operation
    traffic: Traffic
    plan: TrafficPlan
    seed: int
    pool: Pool
    timeouts: Timeouts
    pacer: Pacer | None
    """Of all its polls together; None where they are not paced."""
    job_ids: JobIds
    bodies: Bodies
    matcher: Matcher | None
    """Of results; None where any will do."""
    expected: dict[str, frozenset[int]]
    """Statuses that are no failure to Locust, by stage."""

    def key_index(self, number: int) -> int:
        """The key of arrival ``number``: its retries and polls keep it."""
        return self.plan.key_start + number % self.plan.key_count

    def mistake(self, number: int) -> MistakeKind | None:
        """What arrival ``number`` is to get wrong on purpose, if anything."""
        return self.traffic.mistakes.pick(self.seed, self.name, number)

    def draw(self, *about: object) -> float:
        """A number from 0 to 1, the same in every run with this seed."""
        return seeded_random(self.seed, self.name, *about)


def make_entry(
    name: str, index: int, traffic: Traffic, info: RunInfo, *, base: Path, own_jobs: JobIds, keys: int
) -> TrafficEntry:
    """Make an entry ready.

    Raises:
        InputError: if a file that it names cannot be used.
    """
    plan = info.traffic[name]
    expect = traffic.expect
    schema = None if expect.result_schema is None else read_schema(base / expect.result_schema)
    rows = None if traffic.inputs is None else read_inputs(base / traffic.inputs)
    # Arrivals that send the same row can be compared pair by pair.
    plan.input_rows = None if rows is None else len(rows)
    return TrafficEntry(
        name=name,
        index=index,
        operation=traffic.operation,
        traffic=traffic,
        plan=plan,
        seed=info.seed,
        pool=Pool(plan.users, plan.max_users),
        timeouts=Timeouts(traffic.timeout, traffic.connect_timeout, traffic.read_timeout),
        pacer=_pacer(traffic, plan, info),
        job_ids=_job_ids(traffic, base, own_jobs, keys),
        bodies=Bodies(
            traffic.workflow or "say-hello",
            traffic.parameters,
            rows,
            order=traffic.inputs_order,
            seed=(info.seed, name),
        ),
        matcher=None if expect.result is None and schema is None else Matcher(expect.result, schema),
        expected=_expected(traffic, plan),
    )


def _pacer(traffic: Traffic, plan: TrafficPlan, info: RunInfo) -> Pacer | None:
    if traffic.polling.pace is None:
        return None
    assumed = AssumedLimits.recorded(info.target)
    return Pacer(traffic.polling.pace.per_second(assumed.limits[LimitName.RETRIEVAL], assumed.quotas(plan.key_count)))


def _job_ids(traffic: Traffic, base: Path, own_jobs: JobIds, keys: int) -> JobIds:
    if traffic.operation not in JOB_OPERATIONS or traffic.job_ids == "seeded":
        return JobIds(keys)
    return own_jobs if traffic.job_ids == "run" else read_job_ids(base / traffic.job_ids, keys)


def _expected(traffic: Traffic, plan: TrafficPlan) -> dict[str, frozenset[int]]:
    by_stage = {name: frozenset(stage.expect) for stage in traffic.stages for name, _, _ in stage.parts}
    by_stage[WARMUP] = frozenset(traffic.stages[0].expect)
    for stage in plan.stages:
        if stage.expect_429:
            by_stage[stage.name] = by_stage.get(stage.name, frozenset()) | {THROTTLED_STATUS}
    return by_stage


_SESSIONS: WeakKeyDictionary[Environment, "Session"] = WeakKeyDictionary()


def session_of(environment: Environment) -> "Session":
    """The session under way in a Locust environment: Locust makes the users, and knows nothing of it."""
    return _SESSIONS[environment]


class Session:
    """One run: its traffic, its record, its clock.

    Args:
        environment: Locust's.
        directory: the run directory.
        info: what ``run.json`` has so far; its plan will be scheduled.
        scenario: the scenario in force.
        endpoint: where to send.
        base: what a relative path in the scenario starts from.
        output: where samples go; into the run directory by default.
        worker: which of several processes this is.
        trace: first half of all trace ids, which is one in all processes of a run; drawn by default.
        control: URL of the control endpoint of a target with faults; what the environment says by default.

    Raises:
        InputError: if a file that the scenario names cannot be used.
    """

    def __init__(
        self,
        environment: Environment,
        directory: Path,
        info: RunInfo,
        scenario: Scenario,
        endpoint: Endpoint,
        *,
        base: Path,
        output: Output | None = None,
        worker: int = 0,
        trace: str | None = None,
        control: str | None = None,
    ) -> None:
        self.environment = environment
        if environment not in _SESSIONS:
            count_operations_apart(environment.stats)
        _SESSIONS[environment] = self
        self.directory = directory
        self.info = info
        self.scenario = scenario
        self.endpoint = endpoint
        self.schedules = schedules(info.traffic, info.seed)
        self.own_jobs = JobIds(endpoint.key_count)
        self.history = JobHistory()
        self.entries = {
            name: make_entry(name, index, each, info, base=base, own_jobs=self.own_jobs, keys=endpoint.key_count)
            for index, (name, each) in enumerate(scenario.traffic.items())
        }
        limits = info.target.limits
        operations = {name: LIMIT_OF_OPERATION[plan.operation] for name, plan in info.traffic.items()}
        self.live = LiveFigures({name: limits[limit].window_s for name, limit in operations.items() if limit in limits})
        self.clock = ServerClock()
        self.recorder = Recorder(directory, self.live, output, endpoint.secrets)
        self.epoch_ns = 0
        """``time.monotonic_ns()`` of the epoch; zero before it."""
        self.worker = worker
        self.bug: str | None = None
        """The traceback of an error that is not the target's, which ends the run."""
        self.user_error: str | None = None
        """What it is in a sentence, where a user's own class made it; else it is ours."""
        self.trace = trace or secrets.token_hex(8)
        self.control = control or os.environ.get(CONTROL_VARIABLE)
        self._spans = count((worker << 48) + 1)

    @property
    def duration(self) -> float:
        """Seconds from the epoch to the end of the longest traffic entry."""
        return max(schedule.duration for schedule in self.schedules)

    @property
    def pools(self) -> dict[str, Pool]:
        """The pool of each traffic entry."""
        return {name: entry.pool for name, entry in self.entries.items()}

    @property
    def elapsed_s(self) -> float:
        """Seconds since the epoch, below zero before it; 0 while it is not known."""
        return (time.monotonic_ns() - self.epoch_ns) / 1e9 if self.epoch_ns else 0.0

    def since_epoch(self, monotonic_ns: int | None) -> int | None:
        """A moment of the monotonic clock as ns since the epoch."""
        return None if monotonic_ns is None else monotonic_ns - self.epoch_ns

    def trace_id(self, entry: TrafficEntry, arrival: int) -> str:
        """The W3C trace id of an operation: 32 hex digits."""
        return f"{self.trace}{entry.index + 1:04x}{arrival:012x}"

    def traceparent(self, trace_id: str) -> str:
        """A ``traceparent`` for the next request of an operation (W3C Trace Context, version 00, sampled)."""
        return f"00-{trace_id}-{next(self._spans):016x}-01"

    def record(self, sample: Sample) -> None:
        """Record a sample, and fire Locust's event for its statistics and listeners."""
        sample.worker = self.worker
        self.recorder.append(sample)
        fire_request(self.environment, sample, self.entries[sample.traffic].expected.get(sample.stage, ()))

    def progress(self, phase: Phase) -> Progress:
        """The live figures, and in which stage each traffic entry is."""
        elapsed = self.elapsed_s
        entries = {
            name: self.live.entry(name).progress(plan.stage_at(elapsed), self.live.offered[name])
            for name, plan in self.info.traffic.items()
        }
        return Progress(phase=phase, elapsed_s=round(elapsed, 1), total_s=self.duration, entries=entries)


def _codings(headers: Mapping[str, str]) -> frozenset[str]:
    """The content codings that requests with such headers ask for."""
    codings = {coding.partition(";")[0].strip().lower() for coding in headers.get("accept-encoding", "").split(",")}
    return frozenset(codings | {"x-gzip"} if "gzip" in codings else codings)


def make_endpoint(target: Target, keys: Sequence[str], workflow_endpoint: str, info: RunInfo) -> Endpoint:
    """The endpoint of a target that may be loaded (see ``loadtest.targets.allow``).

    Raises:
        InputError: if a file for TLS, or a variable that a header's value comes from, is missing here.
    """
    tls = tls_context(info.target.tls) if target.scheme == "https" else None
    names = make_resolver(target, listed=info.target.budget is not None)
    headers = header_values(info.target.headers)
    return Endpoint(
        Address(target.address, target.port, tls, target.server_name, names, _codings(headers)),
        host=target.host,
        prefix=target.prefix,
        keys=keys,
        workflow_endpoint=workflow_endpoint,
        user_agent=f"workflow-loadtest/{info.versions['workflow-loadtest']} (run {info.id})",
        headers=headers,
        secrets=[headers[name] for name, written in info.target.headers.items() if written.startswith("$")],
        budget=RequestBudget(info.target.budget, info.target.limits, info.keys, info.preflight),
    )
