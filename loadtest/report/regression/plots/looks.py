"""How both sides and each verdict look in every plot of a comparison."""

import math
from typing import Any, Final

from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from loadtest.regression.results import MetricComparison
from loadtest.report.plots.style import BAD, FADED, GOOD, INK, MUTED, UNSURE
from loadtest.report.regression import amounts

BAND: Final[dict[str, Any]] = {"color": FADED, "alpha": 0.35, "lw": 0}
"""What is expected of no change."""
BASE: Final = MUTED
HEAD: Final = INK
VERDICTS: Final[dict[str, tuple[str, str]]] = {
    "suspected": (BAD, "D"),
    "regressed": (BAD, "X"),
    "improved": (GOOD, "P"),
    "unchanged": (INK, "o"),
    "inconclusive": (UNSURE, "D"),
    "learning": (MUTED, "s"),
    "not comparable": (MUTED, "v"),
}
"""Colour and marker: told apart in grey, too."""
_LETTERS: Final = 30
_DECADES_FROM: Final = 20
"""From this ratio on an axis has powers of ten."""


def short(name: str, letters: int = _LETTERS) -> str:
    """A name that fits into a plot; the table has all of it."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def label(one: MetricComparison, *, stages: bool, letters: int = _LETTERS) -> str:
    """``greetings: executionTime p50``."""
    return f"{short(amounts.where(one, stages=stages), letters)}: {amounts.name(one)}"


def verdict(one: MetricComparison) -> str:
    """Its verdict in a word; ``suspected`` where a rerun has to confirm it."""
    return "suspected" if one.suspect else one.verdict


def marked(one: MetricComparison, **more: Any) -> dict[str, Any]:
    """Colour and marker of its verdict."""
    colour, marker = VERDICTS[verdict(one)]
    return {"color": colour, "marker": marker, **more}


def change_axis(axis: Axis) -> None:
    """Label an axis of log ratios with changes: −20 %, 0, +20 %, × 3."""
    low, high = axis.get_view_interval()
    reach = max(abs(low), abs(high))
    steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    step = next((one for one in steps if reach <= 4.5 * one), None)
    if step is None:
        base, most = (2.0, 6) if reach < math.log(_DECADES_FROM) else (10.0, 9)
        every = max(1, math.ceil(reach / math.log(base) / 4))
        ratios = [base**k for k in range(-most * every, most * every + 1, every)]
    else:
        ratios = [1 + step * k for k in range(-20, 120) if 1 + step * k > 0]
    ticks = [math.log(ratio) for ratio in ratios if low <= math.log(ratio) <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(float(value))))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _tick(value: float) -> str:
    ratio = math.exp(value)
    if abs(value) < 1e-9:
        return "0"
    if ratio >= 3 or ratio <= 0.3:
        return f"× {amounts.factor(ratio)}"
    return amounts.percent(round(ratio, 6)).replace(".0", "")
