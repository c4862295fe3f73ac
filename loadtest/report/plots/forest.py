"""A forest plot: each change with its 95 % interval and the minimum relevant effect."""

import math
from typing import Final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from loadtest.compare.changes import LEAST_MS, LEAST_RATIO, LEAST_SHARE, least_rise
from loadtest.compare.measurements import NATURES, Metric
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.sentences import in_percent
from loadtest.report import amounts
from loadtest.report.amounts import gated
from loadtest.report.plots import style
from loadtest.report.plots.drawing import Drawing

_ROW_IN: Final = 0.2
_FRAME_IN: Final = 0.55
"""Height of a panel without its rows."""
_MOST: Final = 60
"""Maximum rows of the figure; the table has all."""
_LETTERS: Final = 40
_BEYOND: Final = 1.6
"""Maximum length of an interval, in multiples of the largest estimate."""
_SHORT_REACH: Final = math.log(1.5)
"""Maximum log ratio to which short and polled times stretch the scale."""
_LEAST_REACH: Final = math.log(1.15)


def draw(comparison: RunComparison) -> Drawing | None:
    """Draw a row per judged metric: estimate, interval, minimum relevant effect, minimum detectable change."""
    known = [one for one in gated(comparison) if amounts.estimate(one) is not None]
    if not known:
        return None
    shown = _most_telling(known)
    groups = {
        "times: more is worse": [one for one in shown if NATURES[one.metric].unit == "ms"],
        "goodput: less is worse": [one for one in shown if one.metric is Metric.GOODPUT],
        "shares: more is worse": [one for one in shown if amounts.is_share(one)],
    }
    groups = {title: metrics for title, metrics in groups.items() if metrics}
    figure, axes = style.stacked([_FRAME_IN + _ROW_IN * len(metrics) for metrics in groups.values()])
    stages = amounts.has_stages(comparison.metrics)
    for panel, (title, metrics) in zip(axes, groups.items(), strict=True):
        style.rows(panel, [style.label(one, stages=stages, letters=_LETTERS) for one in metrics])
        _panel(panel, metrics)
        panel.set_title(title)
    present = [word for word in style.VERDICTS if any(style.verdict(one) == word for one in shown)]
    handles: dict[str, Line2D | Patch] = {
        word: style.key(color=style.VERDICTS[word][0], marker=style.VERDICTS[word][1], lw=2.0, ms=5.5)
        for word in present
    }
    handles["too small to count"] = Patch(**style.BAND)
    if any(one.detectable for one in shown):
        handles["smallest change that would be found"] = style.key(color=style.MUTED, marker="|", ls="", ms=8)
    style.keys(figure, handles)
    least = f"{math.expm1(LEAST_RATIO) * 100:.3g} % or {LEAST_MS:g} ms, shares below {LEAST_SHARE * 100:g} to 1 point"
    caption = f"95 % intervals of head against base; the shaded band holds changes too small to count: below {least}."
    if len(known) > len(shown):
        caption += f" Shown are the {len(shown)} of {len(known)} metrics that changed most."
    return Drawing(_title(comparison, known), caption, figure, ())


def _most_telling(metrics: list[MetricComparison]) -> list[MetricComparison]:
    """Return all metrics in their order, or those that changed most if there are very many."""
    if len(metrics) <= _MOST:
        return metrics
    kept = sorted(metrics, key=lambda one: (one.verdict != "regressed", -abs(amounts.worsening(one))))[:_MOST]
    return [one for one in metrics if one in kept]


def _least(one: MetricComparison) -> tuple[float, float]:
    """Return the band in which a change is too small to count, in drawn units."""
    if amounts.is_share(one):
        return -least_rise(one.head or 0.0) * 100, least_rise(one.base or 0.0) * 100
    low, high = -LEAST_RATIO, LEAST_RATIO
    if NATURES[one.metric].unit == "ms" and one.base:
        high = max(high, math.log1p(LEAST_MS / one.base))
        low = min(low, math.log1p(-LEAST_MS / one.base) if one.base > LEAST_MS else -math.inf)
    return low, high


def _panel(panel: Axes, metrics: list[MetricComparison]) -> None:
    estimates = [amounts.estimate(one) or (0.0, 0.0, 0.0) for one in metrics]
    low, high = _limits(metrics, estimates)
    for place, (one, (centre, left, right)) in enumerate(zip(metrics, estimates, strict=True)):
        least, most = (min(max(bound, low), high) for bound in _least(one))
        panel.barh(place, most - least, left=least, height=0.92, **style.BAND)
        look = style.marked(one)
        panel.hlines(place, max(left, low), min(right, high), color=look["color"], lw=2.0, alpha=0.55)
        for is_cut, edge, arrow in ((left < low, low, "<"), (right > high, high, ">")):
            if is_cut:
                panel.plot([edge], [place], marker=arrow, color=look["color"], ms=4, clip_on=False)
        if low <= centre <= high:
            panel.plot([centre], [place], ls="", ms=5.5, **look)
        else:
            _beyond(panel, one, place, (low, high))
        if one.detectable and not amounts.is_share(one) and low <= math.log(one.detectable) <= high:
            panel.vlines(math.log(one.detectable), place - 0.32, place + 0.32, color=style.MUTED, lw=1.0)
    panel.axvline(0, color=style.INK, lw=0.8)
    panel.set_xlim(low, high)
    if amounts.is_share(metrics[0]):
        panel.set_xlabel("difference, percentage points")
    else:
        style.change_axis(panel.xaxis)
        panel.set_xlabel("change (log scale)")


def _beyond(panel: Axes, one: MetricComparison, place: int, limits: tuple[float, float]) -> None:
    """Write a change that lies beyond the frame at its edge."""
    right = (one.ratio or 1.0) > 1
    style.note(
        panel, f"{style.verdict(one)} {amounts.change(one)}", (limits[right], place), (-6 if right else 6, 0),
        ha="right" if right else "left", va="center", fontsize=7, color=style.marked(one)["color"],
        bbox={**style.PAPERED, "alpha": 1, "pad": 0.5},
    )  # fmt: skip


def _limits(metrics: list[MetricComparison], estimates: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Return axis limits that include all estimates, and intervals unless these are much longer.

    Short and polled times do not set the scale: 20 ms more of 10 µs are × 2,000, and nothing else would be seen.
    """
    share = amounts.is_share(metrics[0])
    least = 2.0 if share else _LEAST_REACH
    telling = [
        estimate for one, estimate in zip(metrics, estimates, strict=True) if share or in_percent(one)
    ] or estimates
    reach = max(least, max(abs(centre) for centre, _, _ in telling) * _BEYOND)
    reach = max(reach, min(max(abs(centre) for centre, _, _ in estimates) * 1.1, max(_SHORT_REACH, 2 * reach)))
    low = max(-reach, min(*(min(estimate) for estimate in estimates), -least) * 1.05)
    high = min(reach, max(*(max(estimate) for estimate in estimates), least) * 1.05)
    return low, high


def _title(comparison: RunComparison, known: list[MetricComparison]) -> str:
    stages = amounts.has_stages(comparison.metrics)
    worse = [one for one in known if one.suspect or one.verdict == "regressed"]
    worst = max(worse or known, key=amounts.telling)
    change = amounts.difference(worst.metric, worst.difference) if amounts.is_share(worst) else amounts.change(worst)
    name = style.label(worst, stages=stages)
    if worse:
        became = "are suspected to be worse" if any(one.suspect for one in worse) else "became worse"
        return f"{len(worse)} of {len(known)} judged metrics {became}, most of all {name} {change}"
    most = "most changed for the worse, short and polled times aside" if in_percent(worst) else "most changed"
    return f"None of {len(known)} judged metrics became worse; {most}: {name} {change}"
