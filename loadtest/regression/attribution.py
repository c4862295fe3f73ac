"""Where the time went, by what happens before any workflow runs and by workflows that do nothing; never an excuse."""

import math
from collections.abc import Collection, Sequence
from typing import Final

from loadtest.regression.measurements import Metric, RunMeasurements
from loadtest.regression.results import Finding, MetricComparison
from loadtest.regression.sentences import number, signed

_PART: Final = 0.25
"""Of the suspect's change: less leaves most of the cause elsewhere, more is a part of it that matters."""
_TAILS: Final = frozenset({Metric.EXECUTION_TIME_P95, Metric.RESPONSE_TIME_P95, Metric.TIME_TO_RESULT_P95})


def attribution(
    runs: Sequence[RunMeasurements], metrics: Sequence[MetricComparison], findings: Sequence[Finding]
) -> tuple[str, ...]:
    """What 404s and do-nothing workflows say of the finding that grew the most; nothing where they cannot tell.

    A sentence needs the 95 % interval of their own change in ms: it excludes a quarter of the suspect's change, or it
    is above it. "Not slower beyond chance" is no evidence: of 1 ms, +80 % may be within chance.

    Args:
        runs: the last of the base and of the head: a workflow that did nothing before may take long now.
        metrics: all that were compared.
        findings: what was found.
    """
    texts = []
    for entries, name, elsewhere, here in (
        (
            {name for run in runs for name in run.not_found_entries},
            "Requests that are answered 404, before any workflow runs,",
            "the time is lost later, where workflows run",
            "so much is lost before any workflow runs",
        ),
        (
            {name for run in runs for name in run.idle_entries},
            "Workflows that do nothing",
            "the cause is in what the other workflows do",
            "so much is lost around the workflows, not in them",
        ),
    ):
        suspect = _suspect(findings, entries)
        if suspect is None or suspect.difference is None:
            continue
        seen = _intervals(metrics, entries, suspect)
        if not seen:
            continue
        whole = f"of the {number(suspect.difference)} ms"
        most, least = max(high for _, high in seen), min(low for low, _ in seen)
        if most <= _PART * suspect.difference:
            texts.append(f"{name} changed by at most {number(max(most, 0.0))} ms {whole}: {elsewhere}.")
        elif least >= _PART * suspect.difference:
            size = f"{signed(least)} to {signed(most)} ms"
            texts.append(f"{name} became slower, too, by {size} (95 %) {whole}: {here}.")
    return tuple(texts)


def _suspect(findings: Sequence[Finding], entries: Collection[str]) -> MetricComparison | None:
    """The first time that grew, of the entries that are asked about others."""
    return next((one.cause for one in findings if one.kind == "grown" and one.traffic not in entries), None)


def _intervals(
    metrics: Sequence[MetricComparison], entries: Collection[str], suspect: MetricComparison
) -> list[tuple[float, float]]:
    """The intervals of the entries' own change in ms, of p95 where the suspect is one."""
    metric = Metric.RESPONSE_TIME_P95 if suspect.metric in _TAILS else Metric.RESPONSE_TIME_P50
    return [
        one.difference_interval
        for one in metrics
        if one.traffic in entries
        and (one.stage, one.metric) == (suspect.stage, metric)
        and one.difference_interval is not None
        and all(map(math.isfinite, one.difference_interval))
    ]
