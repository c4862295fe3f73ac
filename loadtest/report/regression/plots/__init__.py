"""The plots of a comparison: changes with their intervals, pairs or runs in order, distributions of both sides."""

from collections.abc import Callable
from functools import partial
from typing import Final

from loadtest.regression.results import Comparison
from loadtest.report.plots import finished
from loadtest.report.plots.style import Drawing
from loadtest.report.regression.plots import distributions, forest, over_runs
from loadtest.report.report import Plot

_DRAW: Final[dict[str, Callable[[Comparison], Drawing | None]]] = {
    "changes": forest.draw,
    "over-runs": over_runs.draw_first,
    "distributions": distributions.draw,
    "over-runs-others": over_runs.draw_others,
}
FOLDED: Final = ("over-runs-others",)
"""Those that a page shows only when asked to."""
FOLDER: Final = "comparison-plots"
"""Where their files are, beside ``comparison.json``; a run's own plots are elsewhere."""


def draw_all(comparison: Comparison) -> tuple[Plot, ...]:
    """Draw every plot that there are data for."""
    drawn = (finished(name, partial(draw, comparison)) for name, draw in _DRAW.items())
    return tuple(plot for plot in drawn if plot is not None)
