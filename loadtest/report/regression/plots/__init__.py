"""The plots of a comparison: changes with their intervals, pairs or runs in order, distributions of both sides."""

from collections.abc import Callable
from functools import partial
from typing import Final

from loadtest.compare.history import History
from loadtest.compare.results import RunComparison
from loadtest.report.page import Plot
from loadtest.report.plots import finished
from loadtest.report.plots.style import Drawing
from loadtest.report.regression.plots import distributions, forest, over_runs

_DRAW: Final[dict[str, Callable[[RunComparison, over_runs.Before], Drawing | None]]] = {
    "changes": lambda comparison, _: forest.draw(comparison),
    "over-runs": over_runs.draw_first,
    "distributions": lambda comparison, _: distributions.draw(comparison),
    "over-runs-others": over_runs.draw_others,
}
FOLDED: Final = ("over-runs-others",)
"""Those that a page shows only when asked to."""
FOLDER: Final = "comparison-plots"
"""Where their files are, beside ``comparison.json``; a run's own plots are elsewhere."""


def draw_all(comparison: RunComparison, history: History | None = None) -> tuple[Plot, ...]:
    """Draw every plot that there are data for."""
    before = over_runs.Before() if history is None else over_runs.segments_before(comparison, history)
    drawn = (finished(name, partial(draw, comparison, before)) for name, draw in _DRAW.items())
    return tuple(plot for plot in drawn if plot is not None)
