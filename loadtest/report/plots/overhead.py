"""Overhead: what a client waits beyond executionTime, as a distribution and against the rate of each stage."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationStage, Summary
from loadtest.arrays import Floats
from loadtest.report.plots.drawing import Drawing, NoData
from loadtest.report.plots.execution import ended_share, why_none
from loadtest.report.plots.style import INK, MUTED, OPERATIONS, PAPER, ecdf, legend, panels, plain, plain_log

_MOST_ROWS: Final = 5
_MOST_NAMED: Final = 3
"""Entries that a title names one by one."""
_MOST_LEVEL: Final = 4
"""Stages whose names stand beside one another without being turned."""
_FASTER: Final = 1.1
"""By how much rates, or medians, have to differ for a title to tell them apart."""


def draw(findings: Findings) -> Drawing | NoData:
    """A row for each traffic entry that executes: its distribution, and its stages beside it if one has several."""
    if why := why_none(findings):
        return NoData("Overhead beyond executionTime", why)
    record = findings.record
    names = [name for name in findings.executions if findings.metrics.traffic[name].overhead_ms.n]
    names = names[:_MOST_ROWS]
    if not names:
        return NoData("Overhead beyond executionTime", "only the warm-up has an executionTime")
    columns = 1 + any(len(findings.metrics.traffic[name].stages) > 1 for name in names)
    figure, axes = panels(columns * len(names), 2.1, columns=columns, share_x=columns == 1)
    for name, left, right in zip(names, axes[::columns], axes[columns - 1 :: columns], strict=True):
        operation = record.info.traffic[name].operation
        _spread(left, findings, name, OPERATIONS[operation])
        left.set_title(f"{name}  ·  {operation}")
        if right is not left:
            left.set_xlabel("ms (log)")
            stages = findings.metrics.traffic[name].stages
            _by_rate(right, stages, OPERATIONS[operation], bursts=_has_bursts(findings, name))
            right.set_title("by stage")
    axes[-columns].set_xlabel("ms (log)")
    legend(figure, axes)
    caption = (
        "Overhead is service time less executionTime; of a job, everything from its submit to its result: queueing and "
        "polling too, so that it can’t be shorter than the first poll’s wait. Lower is better."
    )
    if columns > 1:
        caption += (
            " On the right, each stage at the rate that was sent, or in their order where all had the same "
            "or some came all at once, with the 95 % interval (sampling only) of its median; a thin line leads to the "
            "rate that was offered, where that is another. Overhead that grows with the rate is queueing."
        )
    return Drawing(_title(findings, names), caption, figure)


def _spread(panel: Axes, findings: Findings, name: str, colour: str) -> None:
    record = findings.record
    stage_indices = record.stage_indices(record.stages(traffic=name))
    for metric, label, ink, line in (
        ("execution_time_ms", "executionTime", INK, (0, (1, 1.5))),
        ("overhead_ms", "overhead", colour, "-"),
    ):
        width = 1.5 if ink == colour else 1.1
        ecdf(panel, record.times[metric].get(stage_indices), color=ink, ls=line, lw=width, label=label)
    panel.set_xscale("log")
    plain_log(panel.xaxis)
    panel.set_ylabel("at most this long, %")


def _has_bursts(findings: Findings, name: str) -> bool:
    """Whether stages of an entry came all at once: what that is per minute says nothing."""
    return any(stage.burst for stage in findings.record.info.traffic[name].stages)


def _by_rate(panel: Axes, stages: Mapping[str, OperationStage], colour: str, *, bursts: bool) -> None:
    known = [(name, figures) for name, figures in stages.items() if figures.overhead_ms.p50 is not None]
    if not known:
        panel.annotate("no data, because no stage\ncarries a median", (0.5, 0.5), xycoords="axes fraction",
                       ha="center", va="center", color=MUTED)  # fmt: skip
        return
    rates = np.array([(figures.operations.sent_rate or 0.0) * 60 for _, figures in known])
    if len(known) > 1 and (bursts or rates.max() <= _FASTER * rates.min()):
        # One beside the other, in the order of the run: at their rates they would lie upon one another.
        _points(panel, np.arange(len(known), dtype=float), [figures.overhead_ms for _, figures in known], colour)
        panel.set_xticks(range(len(known)), [name for name, _ in known], rotation=30 if len(known) > _MOST_LEVEL else 0)
        panel.set_xlim(-0.5, len(known) - 0.5)
        panel.set_xlabel("stage" if bursts else f"stage, each at about {words.rate(float(rates.mean()) / 60)}")
        return
    order = np.argsort(rates, kind="stable")
    known, rates = [known[k] for k in order], rates[order]
    _points(panel, rates, [figures.overhead_ms for _, figures in known], colour)
    for (name, figures), rate in zip(known, rates.tolist(), strict=True):
        offered, middle = (figures.operations.offered_rate or 0.0) * 60, figures.overhead_ms.p50 or 0.0
        if abs(offered - rate) > 0.02 * rate:
            panel.plot([rate, offered], [middle, middle], color=MUTED, lw=0.7)
        panel.annotate(name, (rate, middle), xytext=(6, 5), textcoords="offset points", fontsize=7.5, color=MUTED,
                       bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.5})  # fmt: skip
    panel.set_xlim(0, float(max(rates.max(), *((c.operations.offered_rate or 0.0) * 60 for _, c in known))) * 1.25)
    plain(panel.xaxis)
    panel.set_xlabel("operations sent, 1/min")


def _points(panel: Axes, x: Floats, summaries: list[Summary], colour: str) -> None:
    """Median and p95 of each stage, the median with its interval; not joined: what lies between was not measured."""
    middles = np.array([summary.p50 for summary in summaries])
    low, high = np.array([summary.p50_interval for summary in summaries]).T
    panel.vlines(x, low, high, color=colour, lw=2.2, alpha=0.5)
    panel.plot(x, middles, color=colour, lw=0, marker="o", ms=4.5, label="p50 of a stage")
    tails = np.array([np.nan if summary.p95 is None else summary.p95 for summary in summaries])
    if np.isfinite(tails).any():
        panel.plot(x, tails, color=INK, lw=0, marker="^", ms=4.5, label="p95 of a stage")
    top = float(np.nanmax(np.concatenate((high, tails))))
    panel.set_ylim(0, max(top, 1e-3) * 1.2)
    plain(panel.yaxis)
    panel.set_ylabel("overhead, ms")


def _title(findings: Findings, names: list[str]) -> str:
    stage_indices = findings.metrics.traffic
    medians = {name: p50 for name in names if (p50 := stage_indices[name].overhead_ms.p50) is not None}
    if len(medians) > _MOST_NAMED:
        return f"Median overhead of ok operations: {words.listed(medians, words.duration_ms)}"
    parts = []
    for name in names:
        figures = findings.metrics.traffic[name]
        steps = [
            (part.operations.sent_rate or 0.0, p50, stage)
            for stage, part in figures.stages.items()
            if (p50 := part.overhead_ms.p50) is not None
        ]
        if not steps:
            continue
        ended = ended_share(findings, name)
        (slow, before, _), (fast, after, _) = min(steps), max(steps)
        (_, least, quick), (_, most, late) = (pick(steps, key=lambda step: step[1]) for pick in (min, max))
        if fast > _FASTER * slow and not _has_bursts(findings, name):
            ends = f"{words.duration_ms(before)} at {words.rate(slow)}, {words.duration_ms(after)}"
            parts.append(f"{name}{ended} {ends} at {words.rate(fast)}")
        elif most > _FASTER * least:
            parts.append(
                f"{name}{ended} {words.duration_ms(least)} in “{quick}”, {words.duration_ms(most)} in “{late}”"
            )
        else:
            parts.append(f"{name}{ended} {words.duration_ms(figures.overhead_ms.p50)}")
    return f"Median overhead of ok operations: {'; '.join(parts)}" if parts else "Too few answers for a median overhead"
