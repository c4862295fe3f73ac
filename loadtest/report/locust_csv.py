"""``stats.csv``: a run in the shape of Locust's ``_stats.csv``, which Jenkins' Performance plugin reads.

The numbers are ours: from every sample, not from Locust's rounded and cumulative statistics.
"""

import csv
import io
from typing import Final

from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.record import Record
from loadtest.analysis.results import Figures
from loadtest.record.run_info import StagePlan
from loadtest.stats import rank

_PERCENTILES: Final = (0.5, 0.66, 0.75, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999, 1.0)
_HEAD: Final = (
    "Type", "Name", "Request Count", "Failure Count", "Median Response Time", "Average Response Time",
    "Min Response Time", "Max Response Time", "Average Content Size", "Requests/s", "Failures/s",
    *(f"{quantile * 100:g}%" for quantile in _PERCENTILES),
)  # fmt: skip


def render(findings: Findings) -> str:
    """The file's text: a row for each traffic entry, and one for all requests together.

    Response times are Locust's: of single requests, which are service times here. Failures are 429s and errors.
    """
    record = findings.record
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(_HEAD)
    for name, figures in findings.metrics.traffic.items():
        rows.writerow(_row(record.info.traffic[name].operation, name, figures, record, record.stages(traffic=name)))
    rows.writerow(_row("", "Aggregated", findings.metrics.overall, record, record.stages()))
    return text.getvalue()


def _row(kind: str, name: str, figures: Figures, record: Record, stages: list[tuple[str, StagePlan]]) -> list[object]:
    requests, cells = figures.requests, record.cells(stages)
    times = record.times.of["service_time_ms"].get(cells)
    failed = requests.errors + requests.throttled
    seconds = figures.seconds
    return [
        kind, name, requests.sent, failed, *_times(times),
        round(record.counts.received(cells)), requests.sent_rate or 0.0, failed / seconds if seconds else 0.0,
        *(times.at([rank(times.n, quantile)])[0] if times.n else "N/A" for quantile in _PERCENTILES),
    ]  # fmt: skip


def _times(times: Distribution) -> list[float]:
    if not times.n:
        return [0.0] * 4
    return [float(times.at([rank(times.n, 0.5)])[0]), times.mean or 0.0, times.least, times.most]
