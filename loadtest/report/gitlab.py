"""``load-performance.json``: a run in the shape of k6's summary export, which GitLab's merge-request widget reads.

The widget compares four figures of a branch with those of its target: checks passed, the 90th and 95th percentile of
the time to the first byte, and requests per second (GitLab's documentation, "Load Performance Testing").
"""

import json
from typing import Any

from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.stats import rank


def render(findings: Findings) -> str:
    """The file's text. Thresholds and checks of validity are its checks; times are in ms and of all requests."""
    record, requests = findings.record, findings.metrics.overall.requests
    cells = record.cells(record.stages())
    judged = [one.judgement == "pass" for one in findings.judged] + [check.ok for check in findings.checks]
    passed = sum(judged)
    metrics: dict[str, Any] = {
        "checks": {"passes": passed, "fails": len(judged) - passed, "value": passed / len(judged)},
        "http_reqs": {"count": requests.sent, "rate": requests.sent_rate or 0.0},
        "http_req_failed": {
            "passes": requests.errors,
            "fails": requests.sent - requests.errors,
            "value": requests.errors / requests.sent if requests.sent else 0.0,
        },
    }
    for name, ours in (("http_req_waiting", "first_byte_ms"), ("http_req_duration", "service_time_ms")):
        values = record.times.of[ours].get(cells)
        if values.n:
            metrics[name] = _trend(values)
    return json.dumps({"metrics": metrics}, indent=2) + "\n"


def _trend(values: Distribution) -> dict[str, float | None]:
    ranks = [rank(values.n, quantile) for quantile in (0.5, 0.9, 0.95)]
    median, p90, p95 = values.at(ranks).tolist()
    return {
        "avg": values.mean,
        "min": values.least,
        "med": median,
        "max": values.most,
        "p(90)": p90,
        "p(95)": p95,
    }
