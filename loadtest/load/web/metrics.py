"""``/metrics`` for Prometheus, computed from the live figures at each request.

The web UI serves it. In runs without a web UI, ``--metrics-port`` serves it. Counters restart with each run. Times are
in seconds. ``TIME_BOUNDS_MS`` sets the buckets of histograms.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import gevent.pywsgi
from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from loadtest.load.engine import Engine, LoadGenerator
from loadtest.load.live import TIME_BOUNDS_MS, RecentTimes
from loadtest.load.session import Session
from loadtest.load.web.live_state import budget_rows
from loadtest.processes import LOOPBACK, LOOPBACK_NAMES
from loadtest.record.progress import Phase

_RATE_OVER: Final = 10

WsgiApp = Callable[..., Any]
_Family = tuple[Callable[..., Any], str, str, list[str], Iterable[Sequence[Any]]]


class RunMetrics(Collector):
    """Metrics of the current or last run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        engine = self._engine
        phases = [([name], float(engine.phase == name)) for name in get_args(Phase)]
        families: list[_Family] = [
            (GaugeMetricFamily, "phase", "1 for the current phase of the run.", ["phase"], phases)
        ]
        if engine.latest is not None:
            families += _families(*engine.latest, over=engine.phase == "over")
        for kind, name, about, labels, rows in families:
            family = kind(f"loadtest_{name}", about, labels=labels)
            for row in rows:
                family.add_metric(*row)
            yield family


def _families(session: Session, generator: LoadGenerator, *, over: bool) -> list[_Family]:
    """Return the metrics of a run. Each row has the arguments of ``add_metric``: the label values, then the figures."""
    info = session.info
    live = session.live
    about = {"run": info.id, "scenario": info.scenario.name, "target": info.target.url}
    ended, sent = Counter[tuple[str, str]](), Counter[tuple[str, str, str, str]]()
    for traffic, entry in live.entries.items():
        for stage in entry.stages.values():
            for cell, count in stage.operations.items():
                ended[traffic, cell.outcome] += count
            for cell, count in stage.requests.items():
                status = "none" if cell.status is None else f"{cell.status // 100}xx"
                sent[traffic, str(cell.kind), status, cell.outcome] += count
    offered = [([name], count) for name, count in live.offered.items()]
    statuses = "Sent requests by outcome and by class of the response's status (none without a response)."
    took = "Time from the intended start to the end, for operations that were ok or timed out."
    response_times = [([name], *_histogram(entry.response_time)) for name, entry in live.entries.items()]
    execution_times = [([name], *_histogram(entry.execution_time)) for name, entry in live.entries.items()]
    rates = [([name], 0.0 if over else live.offered_rate(name, _RATE_OVER)) for name in live.offered]
    per_s = f"Arrivals per second in the last {_RATE_OVER} s."
    in_flight = [([name], count - live.entry(name).ended) for name, count in live.offered.items()]
    pending = len(session.recorder.pending)
    lag = "Recent dispatch lag, for the traffic entry with the highest lag."
    lags = [([str(share)], ms / 1000) for share in (0.5, 0.99) if (ms := live.dispatch_lag_ms(share)) is not None]
    budget = budget_rows(info.target.budget, generator.budget_used)
    used = [([name], amount) for name, amount, _ in budget]
    allowed = [([name], most) for name, _, most in budget if most is not None]
    counter = CounterMetricFamily
    gauge = GaugeMetricFamily
    histogram = HistogramMetricFamily
    return [
        (InfoMetricFamily, "run", "The current or last run.", [], [([], about)]),
        (counter, "arrivals_offered", "Arrivals that became due.", ["traffic"], offered),
        (counter, "operations", "Operations that ended, by outcome.", ["traffic", "outcome"], ended.items()),
        (counter, "requests", statuses, ["traffic", "kind", "status_class", "outcome"], sent.items()),
        (histogram, "response_time_seconds", took, ["traffic"], response_times),
        (histogram, "execution_time_seconds", "executionTime that the service states.", ["traffic"], execution_times),
        (gauge, "offered_rate", per_s, ["traffic"], rates),
        (gauge, "operations_in_flight", "Offered operations that have not ended.", ["traffic"], in_flight),
        (gauge, "pending_jobs", "Accepted jobs whose end was not observed.", [], [((), pending)]),
        (gauge, "dispatch_lag_seconds", lag, ["quantile"], lags),
        (gauge, "budget_used", "Used part of the request budget.", ["what"], used),
        (gauge, "budget_allowed", "Bounds of the request budget.", ["what"], allowed),
    ]


def _histogram(times: RecentTimes) -> tuple[list[tuple[str, float]], float]:
    """Return the cumulative counts up to each bound, and the sum of all times. Bounds and sum are in s."""
    bounds = [*(str(bound / 1000) for bound in TIME_BOUNDS_MS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(times.counts)), strict=True)), times.total_ms / 1000


def metrics_app(engine: Engine) -> WsgiApp:
    """Create a WSGI application that serves the metrics in a format that the client accepts."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RunMetrics(engine))
    return make_wsgi_app(registry)


def is_own(host: str) -> bool:
    """Whether a ``Host`` header names this machine. After DNS rebinding, the header has another name."""
    try:
        return urlsplit(f"//{host}").hostname in LOOPBACK_NAMES
    except ValueError:
        return False


def serve_metrics(engine: Engine, port: int) -> None:
    """Serve ``/metrics`` on a loopback port until the process ends."""
    answer = metrics_app(engine)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        # Other names may belong to a foreign page after DNS rebinding.
        if not is_own(environ.get("HTTP_HOST", LOOPBACK)):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"served at 127.0.0.1 and localhost only\n"]
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"the metrics are at /metrics\n"]
        return answer(environ, start_response)

    gevent.pywsgi.WSGIServer((LOOPBACK, port), application, log=None).start()
