"""Response time of each stage against its offered rate, which shows where a service saturates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationStage, Summary
from loadtest.report.page import Table, TableColumns, table_of
from loadtest.report.plots.drawing import Drawing, NoData, entry_panels
from loadtest.report.plots.marks import HALF_IN, WHOLE_IN, name_stages
from loadtest.report.plots.style import INK, log, plain

_LEAST: Final = 3
"""Minimum number of stages at different rates: two points always form a line."""


@dataclass(frozen=True)
class _Point:
    stage: str
    rate: float
    p50: float
    times: Summary
    throttled: float | None

    @property
    def known(self) -> bool:
        """Whether no time-out leaves the median open."""
        p50 = self.times.get("p50")
        return p50.most == p50.value


def draw(findings: Findings) -> Drawing | NoData | None:
    """One panel for each traffic entry with three stages or more at different rates; None if none has.

    Bursts are left out: they have no meaningful rate.
    """
    record, found = findings.record, {}
    for name, figures in findings.metrics.traffic.items():
        bursts = {stage.name for stage in record.info.traffic[name].stages if stage.burst}
        points = _points({stage: part for stage, part in figures.stages.items() if stage not in bursts})
        if len({round(point.rate, 6) for point in points}) >= _LEAST:
            found[name] = points
    if not found:
        return None
    figure, drawn, left_out = entry_panels(findings, found, 2.2, columns=2)
    for panel, _, points, colour in drawn:
        _panel(panel, points, colour, WHOLE_IN if len(drawn) == 1 else HALF_IN)
    figure.axes[0].set_ylabel("response time, ms (log)")
    caption = (
        "Response times (ok or timed out) of each stage at its mean offered rate, with 95 % intervals (sampling only)."
    )
    tables = tuple(_table(name, points) for _, name, points, _ in drawn)
    return Drawing(_title(found), caption, figure, tables, left_out)


def _points(stages: Mapping[str, OperationStage]) -> list[_Point]:
    points = [
        _Point(stage, rate * 60, p50, figures.response_time_ms, figures.throttled_rate)
        for stage, figures in stages.items()
        if (rate := figures.operations.offered_rate) and (p50 := figures.response_time_ms.p50)
    ]
    return sorted(points, key=lambda point: point.rate)


def _panel(panel: Axes, points: list[_Point], colour: str, wide_in: float) -> None:
    for statistic, ink, line, marker in (("p50", colour, "-", "o"), ("p95", INK, (0, (4, 1.5)), "^")):
        found = [(point.rate, point.times.get(statistic)) for point in points]
        # A percentile next to time-outs has no upper bound.
        known = [(rate, one.value, *(one.interval or (np.nan, np.nan))) for rate, one in found if one.value is not None]
        if known:
            rates, values, low, high = np.array(known, float).T
            panel.vlines(rates, low, high, color=ink, lw=2.2, alpha=0.4)
            panel.plot(rates, values, color=ink, ls=line, lw=1.0, marker=marker, ms=4.5, label=statistic)
    end = points[-1].rate * 1.1
    panel.set(yscale="log", xlim=(0, end), xlabel="operations offered, 1/min")
    room = name_stages(panel, [(point.rate / end, point.stage) for point in points], wide_in)
    low, high = panel.get_ylim()
    low, high = low / 1.1, high * 1.1  # what is steady is to look steady
    log(panel, "y", low, high * (high / low) ** (room / (1 - room)))
    plain(panel.xaxis)


def _title(found: dict[str, list[_Point]]) -> str:
    # Medians that time-outs leave open are not compared.
    known = {name: [point for point in points if point.known] for name, points in found.items()}
    known = {name: points for name, points in known.items() if len(points) > 1}
    if not known:
        return "Response time by the rate offered; time-outs leave the medians open"
    grown = [(ps[-1].p50 / ps[0].p50, name, ps[-1].rate / ps[0].rate) for name, ps in known.items()]
    factor, name, more = max(grown, key=lambda one: abs(np.log(one[0])))
    times = f"{words.times_as(factor)} times as long"
    return f"At {more:.3g} times the rate, the median response time of {name} is {times}"


def _table(name: str, points: list[_Point]) -> Table:
    columns: TableColumns[_Point] = {
        "Stage": lambda point: point.stage,
        "#Offered /min": lambda point: f"{point.rate:.4g}",
        "#n": lambda point: point.times.n,
        "#p50 ms": lambda point: words.milliseconds(point.p50),
        "#p95 ms": lambda point: words.milliseconds(point.times.p95),
        "#429": lambda point: words.share(point.throttled),
    }
    return table_of("data", f"Stages of {name}", columns, points)
