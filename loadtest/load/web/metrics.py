"""``/metrics`` for Prometheus: what a run shows, read from the live figures when somebody asks.

Beside the web UI, and with ``--metrics-port`` in runs without one. Counters begin anew with each run, as with a process
that was restarted. Times are in seconds; the histograms' buckets are ours (``TIME_BOUNDS_MS``).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import gevent.pywsgi
from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from loadtest.load.engine import Engine
from loadtest.load.live import LiveFigures
from loadtest.load.live_series import TIME_BOUNDS_MS, RecentTimes
from loadtest.load.web.guard import is_own
from loadtest.load.web.live_state import budget_rows
from loadtest.processes import LOOPBACK

_PHASES: Final = ("preparing", "running", "draining", "over")
_RATE_OVER: Final = 10

WsgiApp = Callable[..., Any]


class RunMetrics(Collector):
    """The metrics of the run under way, or of the one before."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Every metric, as it is now."""
        engine = self._engine
        phase = GaugeMetricFamily("loadtest_phase", "1 for the phase that the run is in.", labels=["phase"])
        for name in _PHASES:
            phase.add_metric([name], float(engine.phase == name))
        yield phase
        if engine.latest is None:
            return
        session, generator = engine.latest
        info, live = session.info, session.live
        about = {"run": info.id, "scenario": info.scenario.name, "target": info.target.url}
        yield InfoMetricFamily("loadtest_run", "Which run this is.", about)
        yield from _counters(live)
        yield from _histograms(live)
        yield from _gauges(live, len(session.recorder.pending), over=engine.phase == "over")
        used = session.endpoint.budget.used if engine.phase == "over" else generator.budget_used
        spent = GaugeMetricFamily("loadtest_budget_used", "Spent of the request budget.", labels=["what"])
        allowed = GaugeMetricFamily("loadtest_budget_allowed", "What the request budget allows.", labels=["what"])
        for row in budget_rows(info.target.budget, used):
            spent.add_metric([row.name], row.used)
            if row.allowed is not None:
                allowed.add_metric([row.name], row.allowed)
        yield from (spent, allowed)


def _counters(live: LiveFigures) -> Iterator[Metric]:
    offered = CounterMetricFamily("loadtest_arrivals_offered", "Arrivals that became due.", labels=["traffic"])
    operations = CounterMetricFamily(
        "loadtest_operations", "Operations that ended, by outcome.", labels=["traffic", "outcome"]
    )
    requests = CounterMetricFamily(
        "loadtest_requests",
        "Requests that were sent, by class of the answer's status (none without an answer) and outcome.",
        labels=["traffic", "kind", "status_class", "outcome"],
    )
    for traffic, count in live.offered.items():
        offered.add_metric([traffic], count)
    for traffic, entry in live.entries.items():
        ended, sent = Counter[str](), Counter[tuple[str, str, str]]()
        for stage in entry.stages.values():
            ended.update(stage.operations)
            for (kind, status, outcome), count in stage.requests.items():
                sent[str(kind), "none" if status is None else f"{status // 100}xx", outcome] += count
        for ending, count in ended.items():
            operations.add_metric([traffic, ending], count)
        for labels, count in sent.items():
            requests.add_metric([traffic, *labels], count)
    yield from (offered, operations, requests)


def _histograms(live: LiveFigures) -> Iterator[Metric]:
    response = HistogramMetricFamily(
        "loadtest_response_time_seconds",
        "From the intended start to the end, of operations that were ok or timed out.",
        labels=["traffic"],
    )
    execution = HistogramMetricFamily(
        "loadtest_execution_time_seconds", "executionTime, as the service says it.", labels=["traffic"]
    )
    for traffic, entry in live.entries.items():
        response.add_metric([traffic], _buckets(entry.response_time), entry.response_time.total_ms / 1000)
        execution.add_metric([traffic], _buckets(entry.execution_time), entry.execution_time.total_ms / 1000)
    yield from (response, execution)


def _buckets(times: RecentTimes) -> list[tuple[str, float]]:
    buckets, below = [], 0
    for bound, count in zip(TIME_BOUNDS_MS, times.counts, strict=False):
        below += count
        buckets.append((str(bound / 1000), float(below)))
    return [*buckets, ("+Inf", float(sum(times.counts)))]


def _gauges(live: LiveFigures, pending: int, *, over: bool) -> Iterator[Metric]:
    rate = GaugeMetricFamily(
        "loadtest_offered_rate", f"Arrivals per second in the last {_RATE_OVER} s.", labels=["traffic"]
    )
    in_flight = GaugeMetricFamily(
        "loadtest_operations_in_flight", "Operations that were offered and have not ended.", labels=["traffic"]
    )
    jobs = GaugeMetricFamily("loadtest_pending_jobs", "Jobs that were accepted and not yet seen to end.", pending)
    lag = GaugeMetricFamily(
        "loadtest_dispatch_lag_seconds", "Of the last window, the worst traffic entry's.", labels=["quantile"]
    )
    for traffic, count in live.offered.items():
        rate.add_metric([traffic], 0.0 if over else live.offered_rate(traffic, _RATE_OVER))
        in_flight.add_metric([traffic], count - live.entry(traffic).ended)
    for quantile in (0.5, 0.99):
        if (ms := live.dispatch_lag_ms(quantile)) is not None:
            lag.add_metric([str(quantile)], ms / 1000)
    yield from (rate, in_flight, jobs, lag)


def metrics_app(engine: Engine) -> WsgiApp:
    """A WSGI application that answers with the metrics, in the format that the client accepts."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RunMetrics(engine))
    return make_wsgi_app(registry)


def serve_metrics(engine: Engine, port: int) -> None:
    """Serve the metrics at ``/metrics`` on a port of loopback, as long as the process lives."""
    answer = metrics_app(engine)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        # A page from anywhere that has a name of its own lead here may not read them.
        if not is_own(environ.get("HTTP_HOST", LOOPBACK)):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"served to 127.0.0.1 and localhost only\n"]
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"the metrics are at /metrics\n"]
        return answer(environ, start_response)

    gevent.pywsgi.WSGIServer((LOOPBACK, port), application, log=None).start()
