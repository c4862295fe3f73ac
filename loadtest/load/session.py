"""Shared state of the load generator during a run, such as the endpoint, the record and the clock.

Samples also become Locust's request events, for Locust's statistics and for listeners in the modules of user classes.
In these events, 429s have a separate name, because the time of a rejection is not a response time. A polled operation
consists of requests, so it is not counted again in Locust's row *Aggregated*.
"""

import os
import secrets
import time
import traceback
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from gevent import GreenletExit
from locust.env import Environment
from locust.stats import RequestStats, StatsError

from loadtest.assumed_limits import AssumedLimits
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
from loadtest.load.connection import Address, make_resolver
from loadtest.load.health import ServerClock
from loadtest.load.live import LiveFigures
from loadtest.load.payloads import JobHistory, JobIds
from loadtest.load.pool import Pool, TrafficEntry
from loadtest.load.recorder import Output, Recorder
from loadtest.load.request_budget import RequestBudget
from loadtest.plan import schedules
from loadtest.record.progress import Phase, Progress
from loadtest.record.run_info import RunInfo
from loadtest.record.samples import SETUP, Sample
from loadtest.scenario import Scenario
from loadtest.schedule import Arrival
from loadtest.targets import Target, allow, header_values, tls_context

_FOLD_EVERY: Final = 5_000
"""The live figures are updated after this many counted arrivals and samples."""
_SESSIONS: WeakKeyDictionary[Environment, "Session"] = WeakKeyDictionary()


def session_of(environment: Environment) -> "Session":
    """Return the current session of a Locust environment, for users that Locust creates."""
    if environment not in _SESSIONS:
        raise GreenletExit  # the run could not begin, as the log says. This ends the user without another message
    return _SESSIONS[environment]


class Session:
    """One run, with its traffic, its record and its clock.

    Args:
        info: current contents of ``run.json``, including the plan.
        base: relative paths in the scenario start from this directory.
        output: destination of samples, by default the run directory. A worker's samples go to its master.
        worker: index of this worker, or 0 in a process that is not a worker.
        trace: first half of all trace ids of the run, random by default.
        control: URL that controls the faults of a target, by default from the environment.

    Raises:
        InputError: if a file that the scenario names cannot be used.
    """

    def __init__(
        self,
        environment: Environment,
        directory: Path,
        info: RunInfo,
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
        self.scenario = scenario = Scenario.model_validate(info.scenario.effective)
        scenario.read_recordings(base)
        self.endpoint = endpoint
        self.schedules = schedules(info.traffic, info.seed, scenario.traffic)
        self.own_jobs = JobIds(endpoint.key_count)
        self.history = JobHistory()
        self.entries = {name: TrafficEntry(name, scenario, info, base, self.own_jobs) for name in scenario.traffic}
        limits = {name: info.target.limits[LIMIT_OF_OPERATION[plan.operation]] for name, plan in info.traffic.items()}
        self.live = LiveFigures({name: limit.window for name, limit in limits.items()})
        self.clock = ServerClock()
        self._counts = output is None
        self.recorder = Recorder(directory, self._count, output, endpoint.secrets)
        self.epoch_ns = 0
        """``time.monotonic_ns()`` of the epoch. It is 0 until the epoch is set."""
        self.worker = worker
        self.bug: str | None = None
        """Traceback of an error in the harness or in a module that the scenario names. The error ends the run."""
        self.user_error: str | None = None
        """A sentence about ``bug`` if a class that the scenario names raised the error."""
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
        """Seconds since the epoch: negative before the epoch, and 0 while the epoch is unknown."""
        return (time.monotonic_ns() - self.epoch_ns) / 1e9 if self.epoch_ns else 0.0

    def trace_id(self, entry: TrafficEntry, arrival: int) -> str:
        """Return the W3C trace id of an operation: 32 hex digits."""
        return f"{self.trace}{entry.index + 1:04x}{arrival:012x}"

    def traceparent(self, trace_id: str) -> str:
        """Return a ``traceparent`` for an operation's next request (W3C Trace Context, version 00, sampled)."""
        return f"00-{trace_id}-{next(self._spans):016x}-01"

    def record(self, sample: Sample) -> None:
        sample.worker = self.worker
        self.recorder.append(sample)

    def _count(self, recorded: Iterator[Arrival | Sample]) -> None:
        """Count arrivals and samples for the live view, and fire Locust's events for samples of this process."""
        for number, each in enumerate(recorded):
            if number % _FOLD_EVERY == 0:
                self.live.fold()
            if isinstance(each, Arrival):
                self.live.offer(each)
                continue
            if self._counts:
                self.live.count(each)
            # An operation without polls is one request, apart from retries, so only its requests fire events.
            fires = each.row == "request" or each.operation in POLLED_OPERATIONS
            if fires and each.worker == self.worker and each.stage != SETUP:
                try:
                    fire_request(self.environment, each, self.entries[each.traffic].expected.get(each.stage, ()))
                except Exception:  # noqa: BLE001 - a listener may raise to stop a user, but this greenlet is not a user
                    self.bug = self.bug or traceback.format_exc()
        self.live.fold()

    def operation(
        self, entry: TrafficEntry, arrival: Arrival, outcome: Outcome = Outcome.LOST, reason: Reason | None = None
    ) -> Sample:
        """Return the sample of an operation that has not sent a request."""
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

    def progress(self, phase: Phase) -> Progress:
        elapsed = self.elapsed_s
        live = self.live
        entries = {
            name: live.entry(name).progress(plan.stage_at(elapsed), live.offered[name])
            for name, plan in self.info.traffic.items()
        }
        shown = round(elapsed, 1)
        total = self.duration
        return Progress(phase=phase, elapsed_s=shown, total_s=total, entries=entries, bottleneck=live.bottleneck)


def make_endpoint(info: RunInfo, keys: Sequence[str], workflow_endpoint: str, target: Target | None = None) -> Endpoint:
    """Create the endpoint of a run's target. Without ``target``, the URL is checked again.

    Raise ``InputError`` if the target must not be loaded, or a TLS file or a header's environment variable is missing.
    """
    listed = info.target.budget is not None
    target = target or allow(info.target.url, listed=listed)
    tls = tls_context(info.target.tls) if target.scheme == "https" else None
    names = make_resolver(target, listed=listed)
    headers = header_values(info.target.headers)
    codings = {coding.partition(";")[0].strip().lower() for coding in headers.get("accept-encoding", "").split(",")}
    if "gzip" in codings:
        codings.add("x-gzip")
    tls_name = target.server_name
    accepted = frozenset(codings)
    quotas = AssumedLimits.recorded(info.target).quotas(info.keys)
    return Endpoint(
        Address(target.address, target.port, tls=tls, server_name=tls_name, resolver=names, codings=accepted),
        host=target.host,
        prefix=target.prefix,
        keys=keys,
        workflow_endpoint=workflow_endpoint,
        user_agent=f"workflow-loadtest/{info.versions['workflow-loadtest']} (run {info.id})",
        headers=headers,
        secrets=[headers[name] for name, written in info.target.headers.items() if written.startswith("$")],
        budget=RequestBudget(info.target.budget, info.target.limits, quotas, info.preflight),
    )


_PHRASES: Final[dict[int, str]] = {each.value: each.phrase for each in HTTPStatus}
_SENTENCES: Final[dict[str, str]] = {each.value: each.sentence for each in Reason}


class RequestFailure(Exception):  # noqa: N818 - Locust shows the name as the error's type
    """A failed request with status and reason, for Locust's statistics."""


def fire_request(environment: Environment, sample: Sample, expected: frozenset[int] | tuple[int, ...]) -> None:
    """Fire Locust's event for the sample of a request or a polled operation, if the sample has a time."""
    # The time of a poll counts from its start, and other times from the intended start.
    since = sample.start if sample.kind == RequestKind.POLL else sample.intended_start
    untimed = sample.row == "operation" and sample.outcome not in TIMED
    if untimed or sample.end is None or since is None:
        return
    failed = sample.outcome != Outcome.OK and (sample.status is None or sample.status not in expected)
    environment.events.request.fire(
        request_type=sample.kind or sample.operation,
        name=f"{sample.traffic} {sample.status}" if sample.status == THROTTLED_STATUS else sample.traffic,
        response_time=(sample.end - since) / 1e6,
        response_length=sample.bytes_received or 0,
        exception=RequestFailure(_meaning(sample)) if failed else None,
        context={},
    )


def _meaning(sample: Sample) -> str:
    """Return the status and code of an error response, or a sentence about another failure."""
    status = sample.status
    if status is not None and status >= HTTPStatus.BAD_REQUEST:
        return f"{status} {sample.error_code or _PHRASES.get(status, 'of no known meaning')}"
    why = _SENTENCES.get(sample.reason or "", "it failed").rstrip(".")
    why += f": {sample.error_code}" if sample.error_code else ""
    return why if status is None else f"{why} (status {status})"


def count_operations_apart(stats: RequestStats) -> None:
    """Keep polled operations out of the total of Locust's statistics, which already counts their requests."""
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

    # Patch this object itself, because listeners of the environment's runner are already bound to it.
    vars(stats).update(log_request=request, log_error=error)
