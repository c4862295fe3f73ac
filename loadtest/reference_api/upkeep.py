"""What whoever keeps the server up asks it: whether it is well, what it has counted, what its API is.

These routes are no part of the API: they need no key and no endpoint, and draw on no limit.

Counting is on the path of every request, and a scrape comes once in seconds: who does the work counts for itself in
plain integers, and only here is anything known of Prometheus. Names and units follow its conventions. Labels have few
values, all known beforehand: never an API key, an endpoint or a job id.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.resources import files
from itertools import accumulate
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, make_asgi_app
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from loadtest.reference_api.http.answers import Header, Message, Reply, Scope, encode
from loadtest.reference_api.jobs import JobStore
from loadtest.reference_api.limits import DRAWN, RateLimits
from loadtest.reference_api.workflows.execution import BOUNDS, ExecutionTimes, Workflow
from loadtest.reference_settings import ServerConfig

HEALTH: Final = "/healthz"
METRICS: Final = "/metrics"
DOCUMENT: Final = "/openapi.yaml"
"""The paths; the document lies beside this file, and is served as it is."""

NO_LIMIT: Final = "none"
"""Stands for the limit name of requests that drew on no limit."""

_NEGOTIATED: Final = (b"accept", b"accept-encoding")
_BUCKETS: Final = (*(str(bound / 1000) for bound in BOUNDS), "+Inf")
_OK: Final = Reply(200, encode({"status": "ok"}))
_STOPPING: Final = Reply(503, encode({"status": "stopping"}))


class Reading(NamedTuple):
    """What a server has counted since it started, and how it is now.

    Attributes:
        requests: answers, by limit name (or ``NO_LIMIT``) and status.
        abandoned: requests whose client hung up before the answer.
        allowed: requests that a limiter let pass, by limit name.
        rejected: requests that a limiter refused, by limit name.
        accepted: jobs that were accepted.
        finished: jobs that ended, by terminal state.
        jobs: how many jobs there are now, by state.
        queue: how many jobs may wait.
        workers: how many workers execute a job now, and how many there are.
        threads: how many threads execute a function now, and how many there may be.
        times: of executions, by workflow.
    """

    requests: Mapping[tuple[str, int], int]
    abandoned: int
    allowed: Mapping[Any, int]
    rejected: Mapping[Any, int]
    accepted: int
    finished: Mapping[Any, int]
    jobs: Mapping[Any, int]
    queue: int
    workers: tuple[int, int]
    threads: tuple[int, int]
    times: Mapping[str, ExecutionTimes]


class Metrics:
    """``/metrics`` of one server, in a registry of its own.

    Args:
        read: gives what is to be shown; called at each scrape.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        registry = CollectorRegistry(auto_describe=True)
        registry.register(_Collector(read))
        ProcessCollector(registry=registry)
        self._app = make_asgi_app(registry)

    async def reply(self, scope: Scope) -> Reply:
        """The answer to a GET, in the format that its headers ask for; in the plain one if they can't be read."""
        headers = [header for header in scope["headers"] if header[0] in _NEGOTIATED]
        try:
            return await self._ask(headers, scope["query_string"])
        except (TypeError, ValueError):  # a version that is no number, or bytes that are no text
            return await self._ask([], b"")

    async def _ask(self, headers: list[Header], query: bytes) -> Reply:
        # The library has its negotiation in its ASGI application only, which is therefore asked as a server would.
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app({"type": "http", "headers": headers, "query_string": query}, receive, send)
        start, body = sent
        given = {name.lower(): value for name, value in start["headers"]}
        content_type = (b"content-type", given.pop(b"content-type"))
        return Reply(start["status"], body["body"], tuple(given.items()), content_type)


class _Collector(Collector):
    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        reading = self._read()
        yield from _of_requests(reading)
        yield from _of_jobs(reading)
        yield _of_executions(reading)


def _of_requests(reading: Reading) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "workflow_requests", "Requests answered, by the limit that they drew on.", labels=("limit", "status")
    )
    for (limit, status), count in sorted(reading.requests.items()):
        requests.add_metric((limit, str(status)), count)
    yield requests
    abandoned = "Requests whose client hung up before the answer."
    yield CounterMetricFamily("workflow_requests_abandoned", abandoned, value=reading.abandoned)
    decisions = CounterMetricFamily(
        "workflow_limiter_decisions", "Requests that a rate limiter decided on.", labels=("limit", "decision")
    )
    for decision, counts in (("allowed", reading.allowed), ("rejected", reading.rejected)):
        for limit, count in counts.items():
            decisions.add_metric((limit, decision), count)
    yield decisions


def _of_jobs(reading: Reading) -> Iterator[Metric]:
    yield CounterMetricFamily("workflow_jobs_accepted", "Jobs accepted.", value=reading.accepted)
    yield _by_state(CounterMetricFamily, "workflow_jobs_finished", "Jobs that ended.", reading.finished)
    yield _by_state(GaugeMetricFamily, "workflow_jobs", "Jobs that wait, run or are kept.", reading.jobs)
    for name, text, value in (
        ("workflow_queue_limit", "Jobs that may wait for a worker.", reading.queue),
        ("workflow_workers_busy", "Workers that execute a job.", reading.workers[0]),
        ("workflow_workers_limit", "Workers that there are.", reading.workers[1]),
        ("workflow_threads_busy", "Threads that execute a workflow.", reading.threads[0]),
        ("workflow_threads_limit", "Threads that there may be.", reading.threads[1]),
    ):
        yield GaugeMetricFamily(name, text, value=value)


def _by_state(
    family: type[CounterMetricFamily | GaugeMetricFamily], name: str, text: str, counts: Mapping[Any, int]
) -> Metric:
    metric = family(name, text, labels=("state",))
    for state, count in counts.items():
        metric.add_metric((str(state),), count)
    return metric


def _of_executions(reading: Reading) -> Metric:
    executions = HistogramMetricFamily(
        "workflow_execution_seconds", "executionTime of sync runs and jobs, failed ones too.", labels=("workflow",)
    )
    for workflow, times in reading.times.items():
        buckets = list(zip(_BUCKETS, map(float, accumulate(times.counts)), strict=True))
        executions.add_metric((workflow,), buckets, times.total / 1000)
    return executions


class Upkeep:
    """Health, counts and document of one server.

    Args:
        config: its bounds.
        limits: its limits.
        jobs: its jobs.
        workflows: its workflows, by name.

    Attributes:
        routes: how a GET is answered, by path.
        abandoned: requests whose client hung up before the answer.
    """

    def __init__(
        self, config: ServerConfig, limits: RateLimits, jobs: JobStore, workflows: Mapping[str, Workflow]
    ) -> None:
        self.abandoned = 0
        self._stopping = False
        self._answered: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._config = config
        self._limits = limits
        self._jobs = jobs
        self._workflows = workflows
        text = files("loadtest.reference_api").joinpath("openapi.yaml").read_bytes()
        self._document = Reply(200, text, content_type=(b"content-type", b"application/yaml"))
        self.routes: dict[str, Callable[[Scope], Awaitable[Reply]]] = {
            HEALTH: self._health,
            METRICS: Metrics(self._read).reply,
            DOCUMENT: self._describe,
        }

    def answered(self, scope: Scope | None, status: int) -> None:
        """Count an answer; ``scope`` is None where there was no request that could be understood."""
        self._answered[NO_LIMIT if scope is None else scope.get(DRAWN, NO_LIMIT), status] += 1

    def stop(self) -> None:
        """The server was told to stop."""
        self._stopping = True

    async def _health(self, _scope: Scope) -> Reply:
        return _STOPPING if self._stopping else _OK

    async def _describe(self, _scope: Scope) -> Reply:
        return self._document

    def _read(self) -> Reading:
        pools = {workflow.threads for workflow in self._workflows.values()}
        return Reading(
            requests=self._answered,
            abandoned=self.abandoned,
            allowed=self._limits.allowed,
            rejected=self._limits.rejected,
            accepted=self._jobs.accepted,
            finished=self._jobs.ended,
            jobs=self._jobs.counts,
            queue=self._config.queue,
            workers=(self._jobs.running, self._config.workers),
            threads=(sum(pool.busy for pool in pools if pool), self._config.threads),
            times={name: workflow.times for name, workflow in self._workflows.items()},
        )
