"""What jobs wait for: time to result, queue wait, poll lag, each as the band within which polling lets it be known."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from loadtest.analysis import numbers
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import JobFigures
from loadtest.contract import Operation
from loadtest.report.plots.style import INK, MUTED, OPERATIONS, Drawing, NoData, legend, panels, plain
from loadtest.stats import interval_ranks

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


def draw(findings: Findings) -> Drawing | NoData:
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
    return Drawing(_title(found), caption, figure)


def why_none(findings: Findings) -> str:
    """Why there is nothing to say of jobs; empty if there is."""
    cells = [figures for figures in findings.metrics.traffic.values() if isinstance(figures, JobFigures)]
    if not cells:
        return "no traffic entry submits jobs"
    if any(cell.time_to_result_lower_ms.n for cell in cells):
        return ""
    sent = sum(cell.requests.sent for cell in cells)
    if not sent:
        return "no job was submitted"
    if sum(cell.requests.throttled for cell in cells) == sent:
        return "every submit got 429"
    return "no job was accepted, or none was seen to end and none was given up"


def _stages(findings: Findings) -> list[_Stage]:
    record, found = findings.record, []
    times = record.times.of
    for cell in record.cells([(n, s) for n, s in record.stages(operation=Operation.ASYNC_RUN)]):
        entry, stage = record.book.cells[cell]
        lower = times["time_to_result_lower_ms"].get([cell])
        if not lower.n:
            continue
        queue = times["queue_wait_lower_ms"].get([cell]), times["queue_wait_upper_ms"].get([cell])
        lag, execution = (times[name].get([cell]) for name in ("poll_lag_upper_ms", "execution_time_ms"))
        result = lower, record.times.ended.get([cell])
        found.append(_Stage(entry, stage.name, lower.n, result, queue, lag, execution))
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


def _title(found: list[_Stage]) -> str:
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
        words += (
            f"; the median queue wait is {waited if low >= _NOTHING * high else f'at most {numbers.duration_ms(high)}'}"
        )
    return words
