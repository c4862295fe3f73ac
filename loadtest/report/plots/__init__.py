"""The plots of runs and comparisons. They are drawn without pyplot, so they need no screen."""

import gc
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import active_children, get_context
from typing import Any, Final, TypeVar

from matplotlib.figure import Figure

from loadtest.analysis.findings import Findings
from loadtest.errors import InputError
from loadtest.report.page import Chapter, Plot, Point
from loadtest.report.plots import execution, limits, operations, response_time
from loadtest.report.plots.drawing import Drawing, finished
from loadtest.report.plots.style import styled


@dataclass(frozen=True)
class _Kind:
    """A run's plot: its drawing function and its chapter. If it ``leads``, it may stand before all chapters."""

    draw: Callable[[Findings], Drawing | Point | None]
    chapter: Chapter
    leads: bool = False


_PLOTS: Final = {
    "answer": _Kind(operations.draw_answers, Chapter.COMPARED, leads=True),
    "windows": _Kind(limits.draw_windows, Chapter.LIMITS, leads=True),
    "rates": _Kind(limits.draw_rates, Chapter.LIMITS, leads=True),
    "throttling": _Kind(limits.draw_429_rate, Chapter.LIMITS),
    "response-time": _Kind(response_time.draw_scatter, Chapter.TIMES, leads=True),
    "by-rate": _Kind(response_time.draw_by_rate, Chapter.TIMES, leads=True),
    "execution-time": _Kind(execution.draw_decomposition, Chapter.TIMES, leads=True),
    "heat": _Kind(response_time.draw_heat, Chapter.TIMES),
    "service-time": _Kind(response_time.draw_service, Chapter.TIMES),
    "spectrum": _Kind(response_time.draw_spectrum, Chapter.TIMES),
    "execution-over-time": _Kind(execution.over_time, Chapter.EXECUTION),
    "execution-latency": _Kind(execution.against_latency, Chapter.EXECUTION),
    "overhead": _Kind(execution.draw_overhead, Chapter.EXECUTION),
    "polling": _Kind(operations.draw_polls, Chapter.JOBS),
    "slowest": _Kind(operations.draw_slowest, Chapter.SLOWEST),
    "start-lag": _Kind(operations.draw_lag, Chapter.LOAD),
}
NAMES: Final = tuple(_PLOTS)
"""Names of a run's plots, in the order of the report."""


def figure(name: str, findings: Findings) -> Figure | None:
    """Return one plot of a run as a Matplotlib figure, for a notebook.

    Returns:
        The figure, or None if the plot has no data.

    Raises:
        InputError: if there is no such plot.
    """
    if name not in _PLOTS:
        raise InputError(f"no plot is called {name!r}", f"The plots are {', '.join(NAMES)}.")
    with styled(name):
        drawn = _PLOTS[name].draw(findings)
        return drawn.figure if isinstance(drawn, Drawing) else None


def draw_all(findings: Findings, *, png: bool = False, processes: int | None = None) -> tuple[Plot | Point, ...]:
    """Draw a run's plots.

    A plot without data gives a point with the reason, or nothing if the plot does not suit the run. The plots have
    the same bytes for any number of ``processes``. The default is ``cores()``.
    """
    missing: list[Point] = []

    def drawing(kind: _Kind) -> Drawing | None:
        drawn = kind.draw(findings)
        if isinstance(drawn, Point):
            missing.append(drawn)
        return drawn if isinstance(drawn, Drawing) else None

    drawn = draw_plots({name: partial(drawing, kind) for name, kind in _PLOTS.items()}, png=png, processes=processes)
    plots = (replace(one, chapter=_PLOTS[one.name].chapter, leads=_PLOTS[one.name].leads) for one in drawn)
    return *plots, *missing


def draw_plots(
    plots: Mapping[str, Callable[[], Drawing | None]], *, png: bool = False, processes: int | None = None
) -> tuple[Plot, ...]:
    """Draw plots by name. Plots without data are left out.

    This process fills the figures, because child processes must not use Arrow. Then all processes draw them.
    """
    tasks = {}
    for name, draw in plots.items():
        with styled(name):
            drawn = draw()
        if drawn is not None:
            tasks[name] = partial(finished, name, drawn, png=png)
    return tuple(shared_out(tasks, cores() if processes is None else processes).values())


_Result = TypeVar("_Result")
_inherited: dict[str, Callable[[], Any]] = {}
"""The tasks that a child process inherited when it was forked; empty in the parent."""


def cores() -> int:
    """Return the number of processes that draw: one per core, at most four. Return 1 if forks may be unsafe."""
    if sys.platform != "linux" or threading.active_count() > 1 or "gevent" in sys.modules:
        return 1
    return min(4, len(os.sched_getaffinity(0)))


def shared_out(tasks: Mapping[str, Callable[[], _Result]], processes: int) -> dict[str, _Result]:
    """Run tasks in forked children, and return the results in the order of the tasks.

    Children inherit imports and data. This process runs tasks, too, and repeats tasks that children did not finish.
    """
    found: dict[str, _Result] = {}
    if min(processes, len(tasks)) > 1:
        others = active_children()
        # Python warns of forks in a process with threads, but NumPy's idle threads hold no lock that a child needs.
        with warnings.catch_warnings(), suppress(OSError, TimeoutError, BrokenProcessPool):
            warnings.simplefilter("ignore", DeprecationWarning)
            # This process works, too, because one more child would cost more time for copied memory than it gains.
            pool = ProcessPoolExecutor(processes - 1, get_context("fork"), _inherit, (tasks,))
            futures: dict[str, Future[_Result]] = {name: pool.submit(_run, name) for name in tasks}
            # Children begin with the first task, this process with the last.
            found = {name: tasks[name]() for name in reversed(futures) if futures[name].cancel()}
            for name, future in futures.items():
                found[name] = found[name] if name in found else future.result(60.0)  # s
        for child in active_children():
            if child not in others:
                child.kill()
    return {name: found[name] if name in found else task() for name, task in tasks.items()}


def _inherit(tasks: Mapping[str, Callable[[], Any]]) -> None:
    gc.disable()  # a collection would copy memory shared with the parent
    _inherited.update(tasks)


def _run(name: str) -> Any:
    return _inherited[name]()
