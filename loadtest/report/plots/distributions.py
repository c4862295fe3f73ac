"""Both sides' distributions, and the shift function: each quantile's change and its run-to-run noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from loadtest.arrays import Floats
from loadtest.compare.measurements import PROBABILITIES, Metric, RunMeasurements
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.sentences import in_percent
from loadtest.report import amounts
from loadtest.report.amounts import gated
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import BAND, BASE, DOT, FADED, HEAD, INK, key, keys, log, panels, plain, short
from loadtest.stats.means import student

_Time = Literal["response_time", "execution_time"]
_Affected = tuple[str, str, _Time]
"""Traffic entry, stage and time."""

_NAMES: Final[dict[_Time, str]] = {"response_time": "response time", "execution_time": "executionTime"}
_MOST: Final = 3
"""Maximum number of entries drawn."""
_TOLD: Final = (0.1, 0.5, 0.9)
"""Quantiles named in the title."""
_PANEL_IN: Final = 2.3


@dataclass(frozen=True, eq=False)
class Shift:
    """Change of each quantile of one time of a traffic entry.

    Attributes:
        entry: its name, with the stage where a scenario has several.
        time: which of its times.
        base: quantiles in ms, a row a run.
        head: likewise.
        difference: of the sides' mean quantiles, ms.
        noise: half width, per quantile, of the 95 % band of ``difference`` without a change; None for too few runs.
    """

    entry: str
    time: _Time
    base: Floats
    head: Floats
    difference: Floats
    noise: Floats | None


def shift(base: Floats, head: Floats, *, paired: bool) -> tuple[Floats, Floats | None]:
    """The shift function (Doksum 1974) of the sides' mean quantiles, and its noise from run to run.

    For each quantile by itself t · s · √(1/k + 1/n), s the standard deviation of the base runs' quantile; of pairs
    t · s ÷ √k, s the standard deviation of the pairs' differences, which cancels effects common to both sides.

    Args:
        base: quantiles, a row a run.
        head: likewise; of pairs a row for each of ``base``.
        paired: whether rows belong together.

    Returns:
        The difference, and the half width of its band; None below two base runs.
    """
    difference = head.mean(axis=0) - base.mean(axis=0)
    k, n = len(base), len(head)
    if k < 2:
        return difference, None
    t = student(0.975, k - 1)
    if paired and k == n:
        return difference, t * np.std(head - base, axis=0, ddof=1) / math.sqrt(k)
    return difference, t * np.std(base, axis=0, ddof=1) * math.sqrt(1 / k + 1 / n)


def draw(comparison: RunComparison) -> Drawing | None:
    """Draw distribution and shift function of each entry with a finding, or of the entry that changed most."""
    found = [one for of in _affected(comparison) if (one := _shift(comparison, of)) is not None][:_MOST]
    if not found:
        return None
    figure, axes = panels(2 * len(found), _PANEL_IN, columns=2, share_x=False)
    for left, right, one in zip(axes[::2], axes[1::2], found, strict=True):
        _spectrum(left, one)
        _difference(right, one)
        left.set_title(f"{short(one.entry)}{DOT}{_NAMES[one.time]}, ms")
        right.set_title("head − base, ms")
    for panel in axes[-2:]:
        panel.set_xlabel("percentile")
    keys(
        figure,
        {
            "a block" if comparison.kind == "paired" else "a run": key(color=FADED, lw=0.8),
            "base, mean": key(color=BASE, lw=2),
            "head, mean": key(color=HEAD, lw=2),
            "what run-to-run noise alone would give": Patch(**BAND),
        },
    )
    caption = (
        "Percentiles of both sides (left) and their difference (right), with the band that holds 95 % of the "
        "differences "
        "caused by noise alone at each percentile."
    )
    if any(one.noise is None for one in found):
        caption += " A single base run gives no noise estimate, so there is no band."
    return Drawing(_title(found[0]), caption, figure)


def _affected(comparison: RunComparison) -> list[_Affected]:
    causes = [finding.cause for finding in comparison.findings]
    if not causes:
        times = [one for one in gated(comparison) or comparison.metrics if _time(one) is not None]
        causes = sorted(times, key=lambda one: (not in_percent(one), -abs(amounts.worsening(one))))[:1]
    return list(dict.fromkeys((one.traffic, one.stage, _time(one) or "response_time") for one in causes))


def _time(one: MetricComparison) -> _Time | None:
    if one.metric in {Metric.EXECUTION_TIME_P50, Metric.EXECUTION_TIME_P95}:
        return "execution_time"
    return "response_time" if one.metric.endswith((".p50", ".p95")) else None


def _shift(comparison: RunComparison, of: _Affected) -> Shift | None:
    base, head = (_quantiles(runs, of) for runs in (comparison.base_runs, comparison.head_runs))
    if not len(base) or not len(head):
        return None
    traffic, stage, time = of
    entry = f"{traffic} / {stage}" if amounts.has_stages(comparison.metrics) else traffic
    return Shift(entry, time, base, head, *shift(base, head, paired=comparison.kind == "paired"))


def _quantiles(runs: Sequence[RunMeasurements], of: _Affected) -> Floats:
    return np.array(
        [
            one.quantiles_ms
            for run in runs
            for one in run.sketches
            if (one.traffic, one.stage, one.time) == of and len(one.quantiles_ms) == len(PROBABILITIES)
        ]
    )


_PERCENTILES: Final = np.array(PROBABILITIES) * 100


def _spectrum(panel: Axes, one: Shift) -> None:
    panel.plot(_PERCENTILES, one.base.T, color=FADED, lw=0.7, alpha=0.7)
    if len(one.head) > 1:
        panel.plot(_PERCENTILES, one.head.T, color=INK, lw=0.7, alpha=0.3)
    panel.plot(_PERCENTILES, one.base.mean(axis=0), color=BASE, lw=2, ls=(0, (5, 1.5)), label="base, mean")
    panel.plot(_PERCENTILES, one.head.mean(axis=0), color=HEAD, lw=2, label="head, mean")
    low, high = min(one.base.min(), one.head.min()), max(one.base.max(), one.head.max())
    if low > 0 and high / low > 20:
        log(panel, "y")
    else:
        panel.set_ylim(0, high * 1.05 or 1)
        plain(panel.yaxis)
    panel.set_xlim(0, 100)


def _difference(panel: Axes, one: Shift) -> None:
    if one.noise is not None:
        panel.fill_between(_PERCENTILES, -one.noise, one.noise, **BAND)
    panel.axhline(0, color=INK, lw=0.8)
    panel.plot(_PERCENTILES, one.difference, color=HEAD, lw=2, label="head − base")
    panel.set_xlim(0, 100)
    plain(panel.yaxis)


def _title(one: Shift) -> str:
    moved = {p: float(one.difference[PROBABILITIES.index(p)]) for p in _TOLD}
    told = [f"{amounts.difference(Metric.RESPONSE_TIME_P50, ms)} at p{p * 100:.0f}" for p, ms in moved.items()]
    words = f"{short(one.entry, 60)}: {_NAMES[one.time]} {', '.join(told)}"
    if one.noise is None:
        return words
    beyond = int(np.sum(np.abs(one.difference) > one.noise))
    if beyond == 0:
        return f"{words}: all of it within run-to-run noise"
    return f"{words}; beyond run-to-run noise at {beyond} of {len(PROBABILITIES)} percentiles"
