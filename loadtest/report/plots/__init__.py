"""The plots of a report, one module each. The only room for matplotlib; drawn without pyplot, so without a screen."""

from collections.abc import Callable
from typing import Final

from matplotlib.figure import Figure

from loadtest.analysis.findings import Findings
from loadtest.report.plots import answers, by_rate, data, execution, jobs, lag, limits, overhead, response_time, slowest
from loadtest.report.plots.style import Drawing, NoData, styled, to_png, to_svg
from loadtest.report.report import ANSWER, Plot

_DRAW: Final[dict[str, Callable[[Findings], Drawing | NoData | None]]] = {
    ANSWER: answers.draw,
    "rates": limits.draw_rates,
    "throttling": limits.draw_429_rate,
    "windows": limits.draw_windows,
    "response-time": response_time.draw_scatter,
    "heat": response_time.draw_heat,
    "by-rate": by_rate.draw,
    "service-time": response_time.draw_service,
    "spectrum": response_time.draw_spectrum,
    "execution-time": execution.draw_decomposition,
    "execution-over-time": execution.over_time,
    "execution-latency": execution.against_latency,
    "overhead": overhead.draw,
    "waiting": jobs.draw_waiting,
    "polling": jobs.draw_polls,
    "slowest": slowest.draw,
    "start-lag": lag.draw,
}
NAMES: Final = tuple(_DRAW)
"""Every plot, in the order of the report."""
SOMETIMES: Final = (ANSWER, "heat", "by-rate")
"""Those that are left out where they would say nothing."""


def figure(name: str, findings: Findings) -> Figure | None:
    """One plot as an ordinary figure, for a notebook.

    Args:
        name: one of ``NAMES``.
        findings: what ``loadtest.analysis.understand`` found.

    Returns:
        None if there are no data for it.
    """
    with styled(name):
        drawn = _DRAW[name](findings)
        if not isinstance(drawn, Drawing):
            return None
        return drawn.figure


def draw_all(findings: Findings) -> tuple[Plot, ...]:
    """Draw every plot of a report that says something, or is missed where it doesn't."""
    drawn = (_draw(name, findings) for name in NAMES)
    return tuple(plot for plot in drawn if plot is not None)


def _draw(name: str, findings: Findings) -> Plot | None:
    return finished(name, lambda: _DRAW[name](findings))


def finished(name: str, draw: Callable[[], Drawing | NoData | None]) -> Plot | None:
    """Draw a plot and make it a value for pages: SVG, PNG, and its numbers.

    Args:
        name: of its file, without suffix.
        draw: called inside the project's style.
    """
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
