"""The plots of a report, one module each. The only room for matplotlib; drawn without pyplot, so without a screen."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from matplotlib.figure import Figure

from loadtest.analysis.findings import Findings
from loadtest.errors import InputError
from loadtest.report.page import ANSWER, Chapter, Plot
from loadtest.report.plots import (
    answers,
    by_rate,
    data,
    execution,
    jobs,
    lag,
    limits,
    overhead,
    response_time,
    slowest,
    spectrum,
)
from loadtest.report.plots.style import Drawing, NoData, styled, to_png, to_svg


@dataclass(frozen=True)
class _Kind:
    """A plot of a report: how it is drawn, in which chapter it stands, and whether it stands before them all."""

    draw: Callable[[Findings], Drawing | NoData | None]
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
"""The one place that names them, in the order of the report."""
NAMES: Final = tuple(_PLOTS)
"""Every plot, in the order of the report."""
SOMETIMES: Final = (ANSWER, "heat", "by-rate", "service-time", "execution-latency")
"""Those that are left out where they would say nothing."""


def figure(name: str, findings: Findings) -> Figure | None:
    """One plot as an ordinary figure, for a notebook.

    Returns:
        None if there are no data for it.

    Raises:
        InputError: if there is no such plot.
    """
    if name not in _PLOTS:
        raise InputError(f"no plot is called {name!r}", f"The plots are {', '.join(NAMES)}.")
    with styled(name):
        drawn = _PLOTS[name].draw(findings)
        if not isinstance(drawn, Drawing):
            return None
        return drawn.figure


def draw_all(findings: Findings) -> tuple[Plot, ...]:
    """Draw every plot of a report that says something, or is missed where it doesn't."""
    drawn = (_draw(name, findings) for name in NAMES)
    return tuple(plot for plot in drawn if plot is not None)


def _draw(name: str, findings: Findings) -> Plot | None:
    kind = _PLOTS[name]
    plot = finished(name, lambda: kind.draw(findings))
    return None if plot is None else replace(plot, chapter=kind.chapter, leads=kind.leads)


def finished(name: str, draw: Callable[[], Drawing | NoData | None]) -> Plot | None:
    """Draw a plot and make it a value for pages: SVG, PNG, and its numbers."""
    with styled(name):
        drawn = draw()
        if drawn is None:
            return None
        if isinstance(drawn, NoData):
            return Plot(name, drawn.title, f"No data, because {drawn.why}.")
        numbers = data.tables(drawn.figure) if drawn.data is None else drawn.data
        listed = data.as_csv(drawn.figure, numbers)
        svg = to_svg(drawn.figure)
        return Plot(name, drawn.title, drawn.caption, svg, to_png(drawn.figure, drawn.title), numbers, listed)
