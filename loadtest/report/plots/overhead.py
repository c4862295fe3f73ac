"""Overhead, the client's wait beyond executionTime: its distribution, and its median by rate."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationStage, Summary
from loadtest.analysis.run_record import Record
from loadtest.report.deciding import deciding_of
from loadtest.report.plots import marks, style
from loadtest.report.plots.drawing import Drawing, NoData
from loadtest.report.plots.execution import ended_share, medians_title, why_none

_MOST_ROWS: Final = 5
_MOST_LEVEL: Final = 4
"""Stages whose names stand beside one another without being turned."""
_MOST_TURNED: Final = 12
"""Stages from which on only some are named."""
_FASTER: Final = 1.1
"""Minimum ratio of rates, or medians, that a title distinguishes."""


def draw(findings: Findings) -> Drawing | NoData:
    """Draw a row per executing traffic entry: its distribution, and its stages if any entry has several."""
    if why := why_none(findings):
        return NoData("Overhead beyond executionTime", why)
    shown = {name: figures for name in findings.executions if (figures := findings.metrics.traffic[name]).overhead_ms.n}
    if not shown:
        return NoData("Overhead beyond executionTime", "only the warm-up has an executionTime")
    shown, left_out = deciding_of(findings, shown, _MOST_ROWS)
    columns = 1 + any(len(figures.stages) > 1 for figures in shown.values())
    figure, axes = style.panels(columns * len(shown), 2.1, columns=columns, share_x=columns == 1)
    for place, (panel, name, colour) in enumerate(style.entries(findings.record, axes[::columns], shown)):
        _spread(panel, findings.record, name, colour)
        if columns > 1:
            panel.set_xlabel("ms (log)")
            _by_stage(axes[place * 2 + 1], shown[name].stages, colour, bursts=_has_bursts(findings, name))
    axes[-columns].set_xlabel("ms (log)")
    caption = (
        "Overhead is service time minus executionTime, and for a job the time from submit to result minus "
        "executionTime."
    )
    if columns > 1:
        caption += (
            " On the right, each stage at the rate that was sent, or in their order where all had the same "
            "or some came all at once, with the 95 % interval (sampling only) of its median; a thin line leads to the "
            "rate that was offered, where that is another. Overhead that grows with the rate is queueing."
        )
    return Drawing(_title(findings, list(shown)), caption, figure, left_out=left_out)


def _spread(panel: Axes, record: Record, name: str, colour: str) -> None:
    stages = record.stages(traffic=name)
    execution, overhead = (record.time(each, stages) for each in ("execution_time_ms", "overhead_ms"))
    style.ecdf(panel, execution, color=style.INK, ls=(0, (1, 1.5)), lw=1.1, label="executionTime")
    style.ecdf(panel, overhead, color=colour, ls="-", lw=1.5, label="overhead")
    style.log(panel, "x")
    panel.set_ylabel("at most this long, %")


def _has_bursts(findings: Findings, name: str) -> bool:
    """Whether stages of an entry came all at once: what that is per minute says nothing."""
    return any(stage.burst for stage in findings.record.info.traffic[name].stages)


def _by_stage(panel: Axes, stages: Mapping[str, OperationStage], colour: str, *, bursts: bool) -> None:
    panel.set_title("by stage")
    known = [
        (_per_minute(figures.operations.sent_rate), name, figures)
        for name, figures in stages.items()
        if figures.overhead_ms.p50 is not None
    ]
    if not known:
        panel.text(
            0.5, 0.5, "no data, because no stage\ncarries a median", transform=panel.transAxes, color=style.MUTED,
            ha="center", va="center",
        )  # fmt: skip
        return
    rates = [rate for rate, _, _ in known]
    if len(known) > 1 and (bursts or max(rates) <= _FASTER * min(rates)):
        # One beside the other, in the order of the run: at their rates they would lie upon one another.
        _points(panel, range(len(known)), [figures.overhead_ms for _, _, figures in known], colour)
        named = range(0, len(known), 1 + len(known) // _MOST_TURNED)
        panel.set_xticks(named, [known[k][1] for k in named], rotation=30 if len(known) > _MOST_LEVEL else 0)
        each = "" if bursts else f", each at about {words.rate(float(np.mean(rates)) / 60)}"
        panel.set(xlim=(-0.5, len(known) - 0.5), xlabel=f"stage{each}")
        return
    known.sort(key=lambda one: one[0])
    _points(panel, sorted(rates), [figures.overhead_ms for _, _, figures in known], colour)
    for rate, _, figures in known:
        offered, middle = _per_minute(figures.operations.offered_rate), figures.overhead_ms.p50 or 0.0
        if abs(offered - rate) > 0.02 * rate:
            panel.plot([rate, offered], [middle, middle], color=style.MUTED, lw=0.7)
    most = max(*rates, *(_per_minute(figures.operations.offered_rate) for _, _, figures in known))
    panel.set(xlim=(0, most * 1.1), xlabel="operations sent, 1/min")
    room = marks.name_stages(panel, [(rate / most / 1.1, name) for rate, name, _ in known], marks.HALF_IN)
    panel.set_ylim(0, panel.get_ylim()[1] / (1 - room))
    style.plain(panel.xaxis)


def _per_minute(per_second: float | None) -> float:
    return (per_second or 0.0) * 60


def _points(panel: Axes, x: Sequence[float], summaries: list[Summary], colour: str) -> None:
    """Draw median and p95 of each stage, unjoined, since rates in between were not measured."""
    low, high = np.array([summary.p50_interval for summary in summaries]).T
    panel.vlines(x, low, high, color=colour, lw=2.2, alpha=0.5)
    middles = np.array([summary.p50 for summary in summaries], float)
    panel.plot(x, middles, color=colour, lw=0, marker="o", ms=4.5, label="p50 of a stage")
    tails = np.array([summary.p95 for summary in summaries], float)
    if np.isfinite(tails).any():
        panel.plot(x, tails, color=style.INK, lw=0, marker="^", ms=4.5, label="p95 of a stage")
    panel.set(ylim=(0, max(float(np.nanmax([high, tails])), 1e-3) * 1.2), ylabel="overhead, ms")
    style.plain(panel.yaxis)


def _title(findings: Findings, names: list[str]) -> str:
    parts = []
    for name in names:
        figures = findings.metrics.traffic[name]
        steps = {stage: p50 for stage, part in figures.stages.items() if (p50 := part.overhead_ms.p50) is not None}
        if not steps:
            continue
        paced = [(figures.stages[stage].operations.sent_rate or 0.0, p50, stage) for stage, p50 in steps.items()]
        (slow, before, _), (fast, after, _) = min(paced), max(paced)
        quick, late = (pick(steps, key=lambda stage: steps[stage]) for pick in (min, max))
        said = words.duration_ms(figures.overhead_ms.p50)
        if fast > _FASTER * slow and not _has_bursts(findings, name):
            said = (
                f"{words.duration_ms(before)} at {words.rate(slow)}, {words.duration_ms(after)} at {words.rate(fast)}"
            )
        elif steps[late] > _FASTER * steps[quick]:
            said = f"{words.duration_ms(steps[quick])} in “{quick}”, {words.duration_ms(steps[late])} in “{late}”"
        parts.append(f"{name}{ended_share(findings, name)} {said}")
    medians = {name: findings.metrics.traffic[name].overhead_ms.p50 for name in names}
    return medians_title("overhead", medians, "; ".join(parts))
