"""Routes for the server's health, its metrics and its API document.

These routes are not part of the API. They need neither key nor endpoint, and count against no limit.

Every request is counted, but metrics are read only every few seconds. Each component therefore counts in plain
integers, and only this module uses Prometheus. Labels never contain an API key, an endpoint or a job id.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.resources import files
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, make_asgi_app
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from loadtest.contract import LimitName
from loadtest.reference_api.execution import BOUNDS, Workflow
from loadtest.reference_api.jobs import JobStore, State
from loadtest.reference_api.messages import DRAWN, AsgiScope, Header, Message, ServerReply, encode
from loadtest.reference_settings import ServerConfig

_NO_LIMIT: Final = "none"
_NEGOTIATED: Final = (b"accept", b"accept-encoding")
_BUCKETS: Final = (*(str(bound / 1000) for bound in BOUNDS), "+Inf")
_OK: Final = ServerReply(200, encode({"status": "ok"}))
_STOPPING: Final = ServerReply(503, encode({"status": "stopping"}))


class Monitoring(Collector):
    """Health, metrics and API document of a server. Jobs and decisions are counted elsewhere."""

    def __init__(
        self,
        config: ServerConfig,
        decisions: Mapping[str, Mapping[LimitName, int]],
        jobs: JobStore,
        workflows: Mapping[str, Workflow],
    ) -> None:
        self.abandoned = 0
        """Number of requests whose client hung up before the response."""
        self.stopping = False
        """Whether the server is stopping. A signal sets this even while the event loop is blocked."""
        self._answered: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._config = config
        self._decisions = decisions
        self._jobs = jobs
        self._workflows = workflows
        registry = CollectorRegistry(auto_describe=True)
        registry.register(self)
        ProcessCollector(registry=registry)
        self._metrics_app = make_asgi_app(registry)
        text = files("loadtest.reference_api").joinpath("openapi.yaml").read_bytes()
        self._document = ServerReply(200, text, content_type=(b"content-type", b"application/yaml"))
        self.routes: dict[str, Callable[[AsgiScope], Awaitable[ServerReply]]] = {
            "/healthz": self._health,
            "/metrics": self._metrics,
            "/openapi.yaml": self._describe,
        }
        """Handlers of GET requests, by path."""

    def answered(self, scope: AsgiScope | None, status: int) -> None:
        """Count a response. ``scope`` is None if the response answers bytes that were not a valid request."""
        self._answered[_NO_LIMIT if scope is None else scope.get(DRAWN, _NO_LIMIT), status] += 1

    async def _health(self, _scope: AsgiScope) -> ServerReply:
        return _STOPPING if self.stopping else _OK

    async def _describe(self, _scope: AsgiScope) -> ServerReply:
        return self._document

    async def _metrics(self, scope: AsgiScope) -> ServerReply:
        """Return all metrics in the format that the headers ask for. If the headers are malformed, use the default."""
        headers = [header for header in scope["headers"] if header[0] in _NEGOTIATED]
        try:
            return await self._ask(headers, scope["query_string"])
        except (TypeError, ValueError):  # a version in `accept` is not a number, or the bytes are not text
            return await self._ask([], b"")

    async def _ask(self, headers: list[Header], query: bytes) -> ServerReply:
        # Only the library's ASGI application negotiates formats, so this calls it as a server would.
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._metrics_app({"type": "http", "headers": headers, "query_string": query}, receive, send)
        start, body = sent
        given = {name.lower(): value for name, value in start["headers"]}
        content_type = (b"content-type", given.pop(b"content-type"))
        return ServerReply(start["status"], body["body"], tuple(given.items()), content_type)

    def collect(self) -> Iterator[Metric]:
        jobs = self._jobs
        config = self._config
        pools = {workflow.threads for workflow in self._workflows.values() if workflow.threads}
        answered = {(limit, str(status)): count for (limit, status), count in sorted(self._answered.items())}
        decisions = {(limit, one): n for one, counts in self._decisions.items() for limit, n in counts.items()}
        ended, states = ({(str(state),): n for state, n in counts.items()} for counts in (jobs.ended, jobs.counts))
        counter = CounterMetricFamily
        gauge = GaugeMetricFamily
        for kind, name, about, labels, values in (
            (counter, "requests", "Requests answered, by limit and status.", ("limit", "status"), answered),
            (counter, "requests_abandoned", "Requests whose client hung up before the response.", (), self.abandoned),
            (counter, "limiter_decisions", "Decisions of rate limiters.", ("limit", "decision"), decisions),
            (counter, "jobs_accepted", "Jobs accepted.", (), jobs.accepted),
            (counter, "jobs_finished", "Jobs that ended.", ("state",), ended),
            (gauge, "jobs", "Jobs that wait, run or are stored.", ("state",), states),
            (gauge, "queue_limit", "Maximum number of jobs that wait for a worker.", (), config.queue),
            (gauge, "workers_busy", "Workers that execute a job.", (), jobs.counts[State.RUNNING]),
            (gauge, "workers_limit", "Number of workers.", (), config.workers),
            (gauge, "threads_busy", "Threads that execute a workflow.", (), sum(pool.busy for pool in pools)),
            (gauge, "threads_limit", "Maximum number of threads.", (), config.threads),
        ):
            family = kind(f"workflow_{name}", about, labels=labels)
            for names, value in values.items() if isinstance(values, dict) else [((), values)]:
                family.add_metric(names, value)
            yield family
        executions = HistogramMetricFamily(
            "workflow_execution_seconds",
            "executionTime of sync runs and jobs, including failures.",
            labels=("workflow",),
        )
        for name, workflow in self._workflows.items():
            buckets = list(zip(_BUCKETS, map(float, accumulate(workflow.times.counts)), strict=True))
            executions.add_metric((name,), buckets, workflow.times.total / 1000)
        yield executions
