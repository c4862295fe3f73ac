"""One run, as everything that makes its load shares it: where to send, the record, and the clock.

Samples become Locust's request events, too, which feed its statistics and a user's listeners. Locust's tables know
requests by kind and name. A 429 is under a name of its own, since what a refusal took says nothing of how long answers
take. A polled operation consists of requests, so its row is not counted in *Aggregated*.
"""

import os
import secrets
import time
from collections.abc import Sequence
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from locust.env import Environment
from locust.stats import RequestStats, StatsError

from loadtest.contract import (
    LIMIT_OF_OPERATION,
    POLLED_OPERATIONS,
    THROTTLED_STATUS,
    TIMED,
    Outcome,
    Reason,
    RequestKind,
)
from loadtest.faults import CONTROL_VARIABLE
from loadtest.load.client import Endpoint
from loadtest.load.clocks import ServerClock
from loadtest.load.entry import TrafficEntry, make_entry
from loadtest.load.http.connection import Address, make_resolver
from loadtest.load.live import LiveFigures
from loadtest.load.payloads import JobHistory, JobIds
from loadtest.load.pool import Pool
from loadtest.load.recorder import Output, Recorder
from loadtest.load.request_budget import RequestBudget
from loadtest.plan import schedules
from loadtest.record.progress import Phase, Progress
from loadtest.record.run_info import RunInfo
from loadtest.record.samples import Sample
from loadtest.scenario import Scenario
from loadtest.schedule import Arrival
from loadtest.targets import Target, allow, header_values, tls_context

_SESSIONS: WeakKeyDictionary[Environment, "Session"] = WeakKeyDictionary()


def session_of(environment: Environment) -> "Session":
    """The session under way in a Locust environment: Locust makes the users, and knows nothing of it."""
    return _SESSIONS[environment]


class Session:
    """One run: its traffic, its record, its clock.

    Args:
        environment: Locust's.
        directory: of the run.
        info: what ``run.json`` has so far; its plan will be scheduled.
        scenario: the one in force.
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
        self.entries = {name: make_entry(name, scenario, info, base, self.own_jobs) for name in scenario.traffic}
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
        sample.worker = self.worker
        self.recorder.append(sample)
        fire_request(self.environment, sample, self.entries[sample.traffic].expected.get(sample.stage, ()))

    def unsent(self, entry: TrafficEntry, arrival: Arrival, outcome: Outcome, reason: Reason) -> Sample:
        """The sample of an operation of which nothing was sent."""
        return Sample(
            row="operation",
            traffic=entry.name,
            operation=entry.operation,
            stage=arrival.stage,
            outcome=outcome,
            reason=reason,
            arrival=arrival.number,
            intended_start=arrival.intended_ns,
            key_index=entry.key_index(arrival.number),
            request_id=self.trace_id(entry, arrival.number),
        )

    def progress(self, phase: Phase, bottleneck: str = "") -> Progress:
        elapsed = self.elapsed_s
        entries = {
            name: self.live.entry(name).progress(plan.stage_at(elapsed), self.live.offered[name])
            for name, plan in self.info.traffic.items()
        }
        return Progress(
            phase=phase,
            elapsed_s=round(elapsed, 1),
            total_s=self.duration,
            entries=entries,
            bottleneck=bottleneck,
        )


def make_endpoint(info: RunInfo, keys: Sequence[str], workflow_endpoint: str, target: Target | None = None) -> Endpoint:
    """The endpoint of a run's target, which is checked once more where it is not given.

    Raises:
        InputError: if it may not be loaded, or a file for TLS, or a variable of a header's value, is missing here.
    """
    listed = info.target.budget is not None
    target = target or allow(info.target.url, listed=listed)
    tls = tls_context(info.target.tls) if target.scheme == "https" else None
    names = make_resolver(target, listed=listed)
    headers = header_values(info.target.headers)
    codings = {coding.partition(";")[0].strip().lower() for coding in headers.get("accept-encoding", "").split(",")}
    if "gzip" in codings:
        codings.add("x-gzip")
    return Endpoint(
        Address(target.address, target.port, tls, target.server_name, names, frozenset(codings)),
        host=target.host,
        prefix=target.prefix,
        keys=keys,
        workflow_endpoint=workflow_endpoint,
        user_agent=f"workflow-loadtest/{info.versions['workflow-loadtest']} (run {info.id})",
        headers=headers,
        secrets=[headers[name] for name, written in info.target.headers.items() if written.startswith("$")],
        budget=RequestBudget(info.target.budget, info.target.limits, info.keys, info.preflight),
    )


_PHRASES: Final[dict[int, str]] = {each.value: each.phrase for each in HTTPStatus}
_SENTENCES: Final[dict[str, str]] = {each.value: each.sentence for each in Reason}


class RequestFailure(Exception):  # noqa: N818 - its name is what Locust shows as the error's type
    """A request that failed, with status and meaning, for Locust's statistics."""


def fire_request(environment: Environment, sample: Sample, expected: frozenset[int] | tuple[int, ...]) -> None:
    """Fire Locust's event for a sample, if it is of a request or of a polled operation."""
    kind: str
    if sample.row == "operation":
        if sample.operation not in POLLED_OPERATIONS or sample.outcome not in TIMED:
            return
        # Other operations are their only request, retries aside.
        kind, since = sample.operation, sample.intended_start
    elif sample.kind is not None:
        # A poll is a request of its own; the first request of an operation counts from when it was wanted.
        kind = sample.kind
        since = sample.start if sample.kind == RequestKind.POLL else sample.intended_start
    else:
        return
    if sample.end is None or since is None:
        return
    failed = sample.outcome != Outcome.OK and (sample.status is None or sample.status not in expected)
    environment.events.request.fire(
        request_type=kind,
        name=f"{sample.traffic} {sample.status}" if sample.status == THROTTLED_STATUS else sample.traffic,
        response_time=(sample.end - since) / 1e6,
        response_length=sample.bytes_received or 0,
        exception=RequestFailure(_meaning(sample)) if failed else None,
        context={},
    )


def _meaning(sample: Sample) -> str:
    """Status and code of an answer that is an error; else what went wrong, as a sentence."""
    status = sample.status
    if status is not None and status >= HTTPStatus.BAD_REQUEST:
        return f"{status} {sample.error_code or _PHRASES.get(status, 'of no known meaning')}"
    why = _SENTENCES.get(sample.reason or "", "it failed").rstrip(".")
    why += f": {sample.error_code}" if sample.error_code else ""
    return why if status is None else f"{why} (status {status})"


def count_operations_apart(stats: RequestStats) -> None:
    """Keep operations out of the total of Locust's statistics: their requests are in it."""
    log_request, log_error = stats.log_request, stats.log_error

    def request(method: str, name: str, response_time: int, content_length: int) -> None:
        if method in POLLED_OPERATIONS:
            stats.entries[(name, method)].log(response_time, content_length)
        else:
            log_request(method, name, response_time, content_length)

    def error(method: str, name: str, error: Exception | str | None) -> None:
        if method not in POLLED_OPERATIONS:
            log_error(method, name, error)
            return
        stats.entries[(name, method)].log_error(error)
        found = stats.errors.setdefault(StatsError.create_key(method, name, error), StatsError(method, name, error))
        found.occurred()

    # Of this environment's object alone; its runner has listeners that are bound to it already.
    vars(stats).update(log_request=request, log_error=error)
