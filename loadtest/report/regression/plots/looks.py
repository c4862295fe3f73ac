"""How both sides and each verdict look in every plot of a comparison."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from loadtest.compare.results import MetricComparison
from loadtest.report import amounts
from loadtest.report.plots.style import BAD, FADED, GOOD, INK, MUTED, UNSURE

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
_MOST_TICKS: Final = 7
_LEAST_GAPS: Final = 7.0
"""So many labels would fill an axis."""
_LEAST_FACTOR: Final = 1e-9
"""1 − 20 · 5 % is not quite zero."""


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
    axis.set_major_locator(FixedLocator(_ticks(*axis.get_view_interval())))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(float(value))))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _ticks(low: float, high: float) -> list[float]:
    """Log ratios to label: the finest steps of which there are few, and none too close to the next one."""
    ticks = [0.0]
    for ratios in _scales():
        ticks = [math.log(ratio) for ratio in ratios if low <= math.log(ratio) <= high]
        gaps = [after - before for before, after in pairwise(ticks)]
        if len(ticks) <= _MOST_TICKS and all(gap * _LEAST_GAPS >= high - low for gap in gaps):
            break
    return ticks


def _scales() -> Iterator[list[float]]:
    """Ratios in steps of some per cent, then powers, from the finest on; each scale has 1."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        yield [1 + step * k for k in range(-20, 21) if 1 + step * k > _LEAST_FACTOR]
    for base in (2.0, 4.0, 10.0, 100.0, 1e3, 1e6):
        yield [base**k for k in range(-6, 7)]


def _tick(value: float) -> str:
    ratio = math.exp(value)
    if abs(value) < 1e-9:
        return "0"
    if ratio >= 3 or ratio <= 0.3:
        return f"× {amounts.factor(ratio)}"
    return amounts.percent(round(ratio, 6)).replace(".0", "")
