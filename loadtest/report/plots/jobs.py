"""What jobs wait for, each as the band within which polling lets it be known; and what polling them costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from loadtest.analysis import numbers
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import JobFigures, JobStage
from loadtest.contract import Operation
from loadtest.report.plots.style import INK, MUTED, OPERATIONS, PAPER, Drawing, NoData, legend, legend_of, panels, plain
from loadtest.report.tables.jobs import polling_table
from loadtest.stats import interval_ranks, ranks_to_draw

_MOST_ROWS: Final = 4
"""Stages that are drawn: those with the most jobs; the table has all."""
_POINTS: Final = 201
"""Odd, so that the median is one of them."""
_NOTHING: Final = 0.01
"""Share of the upper bound below which the lower one is as good as none."""
_TITLE: Final = "What jobs wait for"


@dataclass(frozen=True, eq=False)
class _Stage:
    """The jobs of one stage: accepted ones, and distributions of what is known of them."""

    entry: str
    name: str
    accepted: int
    result: tuple[Distribution, Distribution]
    queue: tuple[Distribution, Distribution]
    lag: Distribution
    execution: Distribution


def draw_waiting(findings: Findings) -> Drawing | NoData:
    """One row of panels for each traffic entry and stage that had jobs accepted."""
    if why := why_none(findings):
        return NoData(_TITLE, why)
    found = sorted(_stages(findings), key=lambda one: -one.accepted)[:_MOST_ROWS]
    order = [(one.entry, one.name) for one in _stages(findings)]
    found.sort(key=lambda one: order.index((one.entry, one.name)))
    figure, axes = panels(3 * len(found), 1.95, columns=3, share_x=False)
    for row, one in enumerate(found):
        _row(axes[row * 3 : row * 3 + 3], one)
    legend(figure, axes)
    caption = (
        "Shares of the jobs that were accepted, each within a band: a result is ready at some time between the last "
        "request that saw the job pending and the poll that saw its end, and nothing sees when; a poll that got 429 "
        "saw nothing. Queue wait is what is left of that, from acceptance on, less executionTime. Poll lag is anything "
        "from nothing to the line. Jobs that never ended have no upper bound: their band is open to the right. Queue "
        "wait and poll lag are of jobs that ended. Axes begin at zero and end near the 99th percentile; more to the "
        "left is better."
    )
    return Drawing(_waiting_title(found), caption, figure)


def why_none(findings: Findings) -> str:
    """Why there is nothing to say of jobs; empty if there is."""
    jobs = [figures for figures in findings.metrics.traffic.values() if isinstance(figures, JobFigures)]
    if not jobs:
        return "no traffic entry submits jobs"
    if any(figures.time_to_result_lower_ms.n for figures in jobs):
        return ""
    sent = sum(figures.requests.sent for figures in jobs)
    if not sent:
        return "no job was submitted"
    if sum(figures.requests.throttled for figures in jobs) == sent:
        return "every submit got 429"
    return "no job was accepted, or none was seen to end and none was given up"


def _stages(findings: Findings) -> list[_Stage]:
    record, found = findings.record, []
    for key in record.stages(operation=Operation.ASYNC_RUN):
        lower = record.time("time_to_result_lower_ms", [key])
        if not lower.n:
            continue
        queue = record.time("queue_wait_lower_ms", [key]), record.time("queue_wait_upper_ms", [key])
        lag, execution = record.time("poll_lag_upper_ms", [key]), record.time("execution_time_ms", [key])
        result = lower, record.times.ended.get(record.stage_indices([key]))
        found.append(_Stage(key.traffic, key.stage.name, lower.n, result, queue, lag, execution))
    return found


def _row(axes: list[Axes], one: _Stage) -> None:
    left, middle, right = axes
    ended = one.result[1].n
    colour = OPERATIONS[Operation.ASYNC_RUN]
    end = _end(one.result[1] if one.result[1].n else one.result[0])
    if one.execution.n:
        known = _at(one.execution, one.execution.n)
        left.plot(known, _shares(), color=INK, lw=0.9, ls=(0, (1, 1.5)), label="executionTime, of those that ended")
    _band(left, one.result, one.accepted, end, colour)
    words = f"{numbers.count(one.accepted)} jobs"
    words += f", {numbers.count(one.accepted - ended)} never ended" if ended < one.accepted else ""
    titles = (f"{one.entry}  ·  {one.name}: time to result", "queue wait", "poll lag")
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title)
        panel.set_xlabel("ms")
    left.set_xlabel(f"ms  ·  {words}")
    left.set_ylabel("at most this long, %")
    if not ended:
        for panel in (middle, right):
            panel.annotate("no data, because\nno job was seen to end", (0.5, 0.5), xycoords="axes fraction",
                           ha="center", va="center", color=MUTED)  # fmt: skip
            panel.set_xlim(0, end)
            panel.set_ylim(0, 102)
        return
    if one.queue[1].n:
        _band(middle, one.queue, one.queue[1].n, _end(one.queue[1]), colour)
    nothing = np.zeros(_POINTS)
    reach = _end(one.lag)
    upper = np.minimum(_at(one.lag, one.lag.n), reach * 1.1)
    _fill(right, nothing, upper, colour)
    right.plot(upper, _shares(), color=colour, lw=1.5, label="upper bound")
    _axis(right, reach)


def _band(panel: Axes, bounds: tuple[Distribution, Distribution], n: int, end: float, colour: str) -> None:
    """Both bounds as shares of ``n``, and what lies between them."""
    lower, upper = (_at(bound, n) for bound in bounds)
    _fill(panel, lower, np.minimum(upper, end * 1.1), colour)
    panel.plot(lower, _shares(), color=INK, lw=1.1, ls=(0, (5, 1.5)), label="lower bound")
    panel.plot(upper, _shares(), color=colour, lw=1.5, label="upper bound")
    _axis(panel, end)


def _fill(panel: Axes, lower: NDArray[np.float64], upper: NDArray[np.float64], colour: str) -> None:
    look: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "hatch": "///", "linewidth": 0, "alpha": 0.55}
    panel.fill_betweenx(_shares(), lower, upper, label="not told apart by polling", **look)


def _shares() -> NDArray[np.float64]:
    return np.linspace(0, 100, _POINTS)


def _at(values: Distribution, n: int) -> NDArray[np.float64]:
    """The value at each share of ``n``; infinite for those that have none."""
    ranks = np.maximum(1, np.ceil(_shares() / 100 * n - 1e-9)).astype(np.int64)
    found = np.full(_POINTS, np.inf)
    inside = ranks <= values.n
    found[inside] = values.at(ranks[inside])
    return found


def _end(values: Distribution) -> float:
    """Where an axis ends: near the 99th percentile, without a long tail."""
    if not values.n:
        return 1.0
    return max(float(values.at([max(1, round(values.n * 0.99))])[0]) * 1.12, 0.001)


def _axis(panel: Axes, end: float) -> None:
    panel.set_xlim(0, end)
    panel.set_ylim(0, 102)
    plain(panel.xaxis)


def _waiting_title(found: list[_Stage]) -> str:
    one = max(found, key=lambda stage: (stage.result[1].n, stage.accepted))
    where = f"{one.entry}, “{one.name}”"
    if not one.result[1].n:
        return f"{where}: no job was seen to end"
    half = [_at(bound, one.accepted)[_POINTS // 2] for bound in one.result]
    if not np.isfinite(half[1]):
        return f"{where}: only {numbers.share(one.result[1].n / one.accepted)} of the accepted jobs were seen to end"
    if interval_ranks(one.accepted, 0.5) is None:
        return f"{where}: too few jobs for a median time to result"
    low, high = half
    ready = f"after {numbers.duration_ms(low)} to {numbers.duration_ms(high)}"
    if low < _NOTHING * high:
        ready = f"within {numbers.duration_ms(high)}"
    words = f"{where}: half of the results were ready {ready}"
    if interval_ranks(one.queue[1].n, 0.5) is not None:
        low, high = (_at(bound, bound.n)[_POINTS // 2] for bound in one.queue)
        waited = f"{numbers.duration_ms(low)} to {numbers.duration_ms(high)}"
        waited = waited if low >= _NOTHING * high else f"at most {numbers.duration_ms(high)}"
        words += f"; the median queue wait of those that ended is {waited}"
    return words


_LINES: Final[tuple[Any, ...]] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1, 1.5)))
_MOST_RANKS: Final = 400


def draw_polls(findings: Findings) -> Drawing | NoData:
    """Polls of a job as shares of jobs; beside it, what each stage spent of the retrieval limit."""
    if why := why_none(findings):
        return NoData("What polling costs", why)
    figure, (left, right) = panels(2, 2.4, columns=2, share_x=False)
    _per_job(left, findings)
    _spent(right, figure, findings)
    caption = (
        "On the left, of jobs that ended or were given up, the share that took at most so many polls. On the right, "
        "what polls and retrieves asked of the retrieval limit in the time of each stage, by when they were sent; "
        "beyond the line, some must be refused. Each job needs one retrieval at least; the rest is the price of the "
        "polling interval."
    )
    return Drawing(_polls_title(findings), caption, figure, (polling_table(findings),))


def _per_job(panel: Axes, findings: Findings) -> None:
    record, drawn, most = findings.record, 0, 1.0
    for key in record.stages(operation=Operation.ASYNC_RUN):
        polls = record.time("polls", [key])
        if not polls.n:
            continue
        ranks = ranks_to_draw(polls.n, _MOST_RANKS)
        values = polls.at(ranks)
        shown = np.unique(values)
        shares = ranks[np.searchsorted(values, shown, side="right") - 1] / polls.n * 100
        style = {"color": OPERATIONS[Operation.ASYNC_RUN], "ls": _LINES[drawn % len(_LINES)], "lw": 1.5}
        panel.plot(
            np.r_[shown[0], shown],
            np.r_[0, shares],
            drawstyle="steps-post",
            label=f"{key.traffic} · {key.stage.name}",
            **style,
        )
        drawn, most = drawn + 1, max(most, float(shown[-1]))
    panel.set_xlim(0, most * 1.5 + 0.5)  # a legend beside the last step
    panel.set_ylim(0, 102)
    plain(panel.xaxis)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("polls of a job")
    panel.set_ylabel("share of jobs, %")
    panel.set_title("Polls of a job")
    panel.legend(loc="lower right")


def _spent(panel: Axes, figure: Figure, findings: Findings) -> None:
    stages = {name: figures.polling for name, figures in _polls_stages(findings).items()}
    of_limit = all(each.share_of_limit is not None for each in stages.values())
    bars = []
    for name, each in stages.items():
        polls = (each.share_of_limit if of_limit else each.share_of_retrievals) or 0.0
        everything = (each.limit_use or 0.0) if of_limit else float(bool(each.retrievals))
        bars.append((name, polls * 100, (everything - polls) * 100, each.retrievals))
    longest = max([polls + rest for _, polls, rest, _ in bars] + [100])
    handles: list[Any] = []
    for place, (_, polls, rest, count) in enumerate(bars):
        handles = [
            panel.barh(place, polls, height=0.5, color=OPERATIONS[Operation.ASYNC_RUN]),
            panel.barh(place, rest, left=polls, height=0.5, color=OPERATIONS[Operation.RETRIEVAL], alpha=0.6),
        ]  # fmt: skip
        share = f"{numbers.count(polls)}\u00a0%" if polls > 100 else numbers.share(polls / 100)
        panel.annotate(
            f"polls {share}  ·  n = {numbers.count(count)}", (0, place - 0.38), xytext=(2, 0),
            textcoords="offset points", va="center", fontsize=8, zorder=4,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    panel.set_yticks(range(len(bars)), [name for name, *_ in bars])
    panel.set_ylim(len(bars) - 0.4, -0.75)
    panel.set_xlim(0, longest * 1.05)
    plain(panel.xaxis)
    if of_limit:
        handles.append(panel.axvline(100, color=INK, lw=1.0, ls=(0, (4, 2))))
    panel.set_xlabel("asked of the retrieval limit, %" if of_limit else "of all retrievals, %")
    panel.set_title("Asked of the retrieval limit" if of_limit else "Of all retrievals")
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)
    legend_of(figure, handles, ["polls", "retrieves", "what the limit allows"][: len(handles)])


def _polls_stages(findings: Findings) -> Mapping[str, JobStage]:
    found = findings.metrics.operations.get(Operation.ASYNC_RUN)
    return found.stages if isinstance(found, JobFigures) else {}


def _polls_title(findings: Findings) -> str:
    spent = [(figures.polling, name) for name, figures in _polls_stages(findings).items() if figures.polling.retrievals]
    if not spent:
        return "No job was asked for"
    most, name = max(spent, key=lambda each: each[0].share_of_limit or each[0].share_of_retrievals or 0.0)
    words = f"In “{name}”, polls are {numbers.share(most.share_of_retrievals)} of the retrievals"
    if most.share_of_limit is None:
        return words
    factor = most.share_of_limit
    of = f"{numbers.times(factor)}{' of' if factor <= 1 else ''}"
    return f"{words} and ask for {of} what their limit allows"
