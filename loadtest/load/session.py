"""Everything that the users of one run share: where to send, what to send, and where what happened goes."""

import secrets
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from locust.env import Environment

from loadtest.load.budget import Budget
from loadtest.load.clock import ServerClock
from loadtest.load.endpoint import Endpoint
from loadtest.load.entry import TrafficEntry, make_entry
from loadtest.load.history import JobHistory
from loadtest.load.jobs import JobIds
from loadtest.load.live import Live
from loadtest.load.pool import Pool
from loadtest.load.recorder import Output, Recorder
from loadtest.load.resolving import names_of
from loadtest.load.wire import Address
from loadtest.plan import schedules
from loadtest.runfile import RunInfo
from loadtest.samples import Sample
from loadtest.scenario import Scenario
from loadtest.targets import Target
from loadtest.targets.headers import header_values
from loadtest.targets.tls import tls_context

_SESSIONS: WeakKeyDictionary[Environment, "Session"] = WeakKeyDictionary()


def session_of(environment: Environment) -> "Session":
    """The session under way in a Locust environment: users are made by Locust, which knows nothing of it."""
    return _SESSIONS[environment]


class RequestFailure(Exception):  # noqa: N818 - its name is what Locust shows as the error's type
    """What Locust's statistics are told of a request that failed: its reason."""


class Session:
    """One run: its traffic, its record, its clock.

    Args:
        environment: Locust's.
        directory: the run directory.
        info: what ``run.json`` says so far; its plan is what will be scheduled.
        scenario: the scenario in force.
        endpoint: where to send.
        base: what a relative path in the scenario starts from.
        output: where samples go; into the run directory by default.
        worker: which of several processes this is.
        trace: first half of all trace ids, which is one in all processes of a run; drawn by default.

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
    ) -> None:
        self.environment = environment
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
        self.live = Live()
        self.clock = ServerClock()
        self.recorder = Recorder(directory, self.live, output)
        self.epoch_ns = 0
        """``time.monotonic_ns()`` of the epoch; zero before it."""
        self.worker = worker
        self.bug: str | None = None
        """The traceback of an error of our own, which ends the run."""
        self.trace = trace or secrets.token_hex(8)
        self._spans = count((worker << 48) + 1)

    @property
    def duration(self) -> float:
        """Seconds from the epoch to the end of the longest traffic entry."""
        return max(schedule.duration for schedule in self.schedules)

    @property
    def pools(self) -> dict[str, Pool]:
        """The pool of each traffic entry."""
        return {name: entry.pool for name, entry in self.entries.items()}

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
        """Record a sample, and tell Locust of it for its live view."""
        sample.worker = self.worker
        self.recorder.append(sample)
        if sample.row == "operation":
            if sample.operation == "async_run" and sample.outcome in {"ok", "timed_out"}:
                self._tell_locust(sample, "async_run", sample.intended_start)
        elif sample.kind is not None:
            # A poll is a request of its own; the first request of an operation counts from when it was wanted.
            self._tell_locust(sample, sample.kind, sample.start if sample.kind == "poll" else sample.intended_start)

    def _tell_locust(self, sample: Sample, request_type: str, since: int | None) -> None:
        if sample.end is None or since is None:
            return
        failed = sample.outcome != "ok"
        if failed and sample.status is not None:
            failed = sample.status not in self.entries[sample.traffic].expected.get(sample.stage, ())
        exception = None
        if failed:
            status = f"{sample.status} " if sample.status else ""
            exception = RequestFailure(f"{status}{sample.error_code or sample.reason}")
        self.environment.events.request.fire(
            request_type=request_type,
            name=sample.traffic,
            response_time=(sample.end - since) / 1e6,
            response_length=sample.bytes_received or 0,
            exception=exception,
            context={},
        )

    def snapshot(self) -> dict[str, Any]:
        """The live figures, and in which stage each traffic entry is."""
        elapsed = (time.monotonic_ns() - self.epoch_ns) / 1e9 if self.epoch_ns else 0.0
        stages = {
            name: next((s.name for s in plan.stages if s.start_s <= elapsed < s.start_s + s.duration_s), "")
            for name, plan in self.info.traffic.items()
        }
        return {**self.live.snapshot(elapsed), "total_s": self.duration, "stages": stages}


def make_endpoint(target: Target, keys: Sequence[str], workflow_endpoint: str, info: RunInfo) -> Endpoint:
    """The endpoint of a target that may be loaded (see ``loadtest.targets.allow``).

    Raises:
        InputError: if a file for TLS, or a header that comes from the environment, is not to be had here.
    """
    tls = tls_context(info.target.tls) if target.scheme == "https" else None
    names = names_of(target, leashed=info.target.leash is not None)
    return Endpoint(
        Address(target.address, target.port, tls, target.server_name, names),
        host=target.host,
        prefix=target.prefix,
        keys=keys,
        workflow_endpoint=workflow_endpoint,
        user_agent=f"workflow-loadtest/{info.versions['workflow-loadtest']} (run {info.id})",
        headers=header_values(info.target.headers),
        budget=Budget(info.target.leash, info.target.limits, info.keys, info.preflight),
    )
