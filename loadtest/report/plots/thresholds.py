"""Thresholds on response times, as plots show them: a line where a time must not be longer."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes

from loadtest.analysis.findings import Findings
from loadtest.analysis.verdict import Judged
from loadtest.record.run_info import TrafficPlan
from loadtest.report.plots.style import BAD, INK

_UPPER: Final = re.compile(r"\s*response_time\.(?P<statistic>\w+)\s*<=?")


@dataclass(frozen=True)
class UpperBound:
    """A threshold that a response time must stay below.

    Attributes:
        judged: the threshold and what the run says of it.
        statistic: which it is on, such as ``p95``.
        edge_ms: the longest time that it allows.
        value_ms: what was measured.
    """

    judged: Judged
    statistic: str
    edge_ms: float
    value_ms: float

    @property
    def over_ms(self) -> float:
        """By how much the limit is exceeded; below zero where it is kept."""
        return self.value_ms - self.edge_ms


def on_response_time(findings: Findings, traffic: str | None = None) -> list[UpperBound]:
    """Those that were judged by a value, in the order of the scenario."""
    plan = None if traffic is None else findings.record.info.traffic[traffic]
    return [
        # The margin reaches from the value to the edge, whether that is a time or relative to another figure.
        UpperBound(one, match["statistic"], one.value + one.margin, one.value)
        for one in findings.judged
        if (match := _UPPER.match(one.require)) and one.value is not None and one.margin is not None
        if plan is None or _holds_for(one, traffic, plan)
    ]


def _holds_for(one: Judged, traffic: str | None, plan: TrafficPlan) -> bool:
    named = one.traffic in {None, traffic} and one.operation in {None, plan.operation}
    return named and one.stage in {None, *(stage.name for stage in plan.stages)}


_FAR: Final = 8.0
"""Times the highest value drawn, above which a line would squash all below it."""


def draw_lines(panel: Axes, findings: Findings, traffic: str) -> None:
    """Over the stage that it holds for, each with what it asks; one far above all values only named at the upper edge.

    Args:
        panel: seconds since the epoch, against ms on a log scale that has its limits.
        findings: of a run.
        traffic: the entry that is drawn.
    """
    end, (low, high) = findings.record.covered_s, panel.get_ylim()
    edges, above = [low, high], Counter[float]()
    for bound in on_response_time(findings, traffic):
        stages = [s for s in findings.record.info.traffic[traffic].stages if s.name == bound.judged.stage]
        begin = stages[0].start_s if stages else 0.0
        until = min(begin + stages[0].duration_s, end) if stages else end
        if until <= begin:
            continue
        colour = BAD if bound.judged.judgement == "fail" else INK
        words, far = bound.judged.require.partition(".")[2], bound.edge_ms > high * _FAR
        panel.annotate(
            f"{words} ↑" if far else words, (until, 1.0 if far else bound.edge_ms),
            xycoords=("data", "axes fraction" if far else "data"), xytext=(-3, -3 - 10 * above[until] if far else 2),
            textcoords="offset points", ha="right", va="top" if far else "bottom", fontsize=7.5, color=colour,
        )  # fmt: skip
        above[until] += far
        if not far:
            panel.plot([begin, until], [bound.edge_ms] * 2, color=colour, lw=1.0, ls=(0, (6, 2)), label="threshold")
            edges += [bound.edge_ms / 1.1, bound.edge_ms * 1.1]
    panel.set_ylim(min(edges), max(edges))
