"""The plots of every page, one module each. The only room for matplotlib; drawn without pyplot, so without a screen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from matplotlib.figure import Figure

from loadtest.analysis.findings import Findings
from loadtest.capacity.results import Capacity
from loadtest.compare.history import History, HistoryRun
from loadtest.compare.results import RunComparison
from loadtest.errors import InputError
from loadtest.report.page import ANSWER, Chapter, Plot
from loadtest.report.plots import (
    answers,
    by_rate,
    capacity,
    execution,
    forest,
    jobs,
    lag,
    limits,
    over_history,
    over_runs,
    overhead,
    response_time,
    slowest,
    spectrum,
)
from loadtest.report.plots.children import cores, shared_out
from loadtest.report.plots.drawing import Drawing, NoData, finished
from loadtest.report.plots.style import styled

_Drawn = Drawing | NoData | None


@dataclass(frozen=True)
class _Kind:
    """A run's plot: its drawing function, its chapter, and whether it precedes all chapters."""

    draw: Callable[[Findings], _Drawn]
    chapter: Chapter
    leads: bool = False


_PLOTS: Final = {
    ANSWER: _Kind(answers.draw, Chapter.COMPARED),
    "windows": _Kind(limits.draw_windows, Chapter.LIMITS, leads=True),
    "rates": _Kind(limits.draw_rates, Chapter.LIMITS, leads=True),
    "throttling": _Kind(limits.draw_429_rate, Chapter.LIMITS),
    "response-time": _Kind(response_time.draw_scatter, Chapter.TIMES, leads=True),
    "by-rate": _Kind(by_rate.draw, Chapter.TIMES, leads=True),
    "execution-time": _Kind(execution.draw_decomposition, Chapter.TIMES, leads=True),
    "heat": _Kind(response_time.draw_heat, Chapter.TIMES),
    "service-time": _Kind(response_time.draw_service, Chapter.TIMES),
    "spectrum": _Kind(spectrum.draw, Chapter.TIMES),
    "execution-over-time": _Kind(execution.over_time, Chapter.EXECUTION),
    "execution-latency": _Kind(execution.against_latency, Chapter.EXECUTION),
    "overhead": _Kind(overhead.draw, Chapter.EXECUTION),
    "polling": _Kind(jobs.draw_polls, Chapter.JOBS),
    "slowest": _Kind(slowest.draw, Chapter.SLOWEST),
    "start-lag": _Kind(lag.draw, Chapter.LOAD),
}
"""A run's plots, in the order of the report."""
NAMES: Final = tuple(_PLOTS)
"""Names of a run's plots, in the order of the report."""
SOMETIMES: Final = (ANSWER, "heat", "by-rate", "service-time", "execution-latency")
"""Plots that are omitted without data, instead of giving the reason."""


def figure(name: str, findings: Findings) -> Figure | None:
    """One plot of a run as an ordinary figure, for a notebook.

    Returns:
        None if there are no data for it.

    Raises:
        InputError: if there is no such plot.
    """
    if name not in _PLOTS:
        raise InputError(f"no plot is called {name!r}", f"The plots are {', '.join(NAMES)}.")
    with styled(name):
        drawn = _PLOTS[name].draw(findings)
        return drawn.figure if isinstance(drawn, Drawing) else None


def draw_all(findings: Findings, *, png: bool = False, processes: int | None = None) -> tuple[Plot, ...]:
    """Draw a run's plots; those without data give the reason, or are omitted if in ``SOMETIMES``.

    Args:
        findings: of the run.
        png: make PNGs, too.
        processes: number of processes that draw, including this process; by default ``children.cores()``. Any number
            gives the same bytes.
    """
    drawn = _all({name: partial(kind.draw, findings) for name, kind in _PLOTS.items()}, png=png, processes=processes)
    return tuple(replace(one, chapter=_PLOTS[one.name].chapter, leads=_PLOTS[one.name].leads) for one in drawn)


def draw_comparison(comparison: RunComparison, history: History | None = None) -> tuple[Plot, ...]:
    """Draw a comparison's plots, without those that have no data."""
    before = over_runs.Before() if history is None else over_runs.segments_before(comparison, history)
    return _all(
        {
            "changes": partial(forest.draw, comparison),
            "over-runs": partial(over_runs.draw_first, comparison, before),
            "over-runs-others": partial(over_runs.draw_others, comparison, before),
        }
    )


def draw_history(runs: Sequence[HistoryRun]) -> tuple[Plot, ...]:
    """Draw the response times over the runs of a history, then each other metric."""
    return _all({name: partial(over_history.draw, runs, metrics) for name, metrics in over_history.FIGURES.items()})


def draw_capacity(found: Capacity) -> tuple[Plot, ...]:
    """Draw the levels of a capacity search; nothing without a level."""
    return _all({"capacity": partial(capacity.draw, found)})


def _all(
    plots: Mapping[str, Callable[[], _Drawn]], *, png: bool = False, processes: int | None = None
) -> tuple[Plot, ...]:
    """Fill figures in this process, which may use Arrow and pandas; children, which must not, draw them."""
    tasks = {}
    for name, draw in plots.items():
        with styled(name):
            drawn = draw()
        if drawn is not None:
            tasks[name] = partial(finished, name, drawn, png=png)
    return tuple(shared_out(tasks, cores() if processes is None else processes).values())
