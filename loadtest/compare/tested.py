"""The metrics that a verdict rests on, and their shares of its α. All other metrics only show where a change lies.

Response time, executionTime, overhead and goodput are one quantity seen four times: if all were tested, each would be
tested less sharply. executionTime p50 is tested only where the response time cannot show it.
"""

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from loadtest.compare.measurements import NATURES, Key, Measurement, Metric

_WEIGHTS: Final = {
    Metric.RESPONSE_TIME_P50: 1.0,
    Metric.RESPONSE_TIME_P95: 0.25,
    Metric.TIME_TO_RESULT_P95: 0.25,
    **{metric: 1.0 for metric, nature in NATURES.items() if nature.unit == "share"},
}
"""Shares of α relative to that of a p50. A p95 varies more, so it needs a larger change anyway."""
_HIDDEN: Final = 0.05
"""Poll interval as a share of the response time from which polls hide executionTime."""
TESTABLE: Final = frozenset({*_WEIGHTS, Metric.EXECUTION_TIME_P50})
"""Every metric that can be tested."""
ATTRIBUTES: Final = "it shows where a change lies, and is not tested"
NOT_STATED: Final = "not tested: polls hide it in the response time, and the service does not state it"


def weights(columns: Mapping[Key, Sequence[Measurement]]) -> dict[Key, float]:
    """Return the share of α of each metric, from the base side alone; 0 if it is not tested.

    executionTime p50 is tested if the poll interval exceeds 5 % of the response time, or if the response time cannot be
    judged, such as that of waiting for a limit's window.
    """
    found = {key: _WEIGHTS.get(key.metric, 0.0) for key in columns}
    for key in columns:
        if key.metric == Metric.EXECUTION_TIME_P50:
            responses = columns.get(key._replace(metric=Metric.RESPONSE_TIME_P50))
            found[key] = float(not responses or _hides(responses))
    return found


def not_stated(columns: Mapping[Key, Sequence[Measurement]], known: Collection[Key]) -> list[Key]:
    """Return executionTimes that would be tested if the service stated them; ``known`` are the measured metrics."""
    responses = (
        key for key in columns if key.metric == Metric.RESPONSE_TIME_P50 and columns[key] and _hides(columns[key])
    )
    executions = (key._replace(metric=Metric.EXECUTION_TIME_P50) for key in responses)
    return [key for key in executions if key not in known]


def _hides(responses: Sequence[Measurement]) -> bool:
    interval = statistics.median(one.resolution_ms for one in responses)
    return interval > _HIDDEN * statistics.median(one.value for one in responses)
