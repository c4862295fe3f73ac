"""Plots of a comparison: changes with their 95 % intervals, and metrics by pair or run."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from loadtest.compare import amounts
from loadtest.compare.changes import LEAST_MS, LEAST_RATIO, LEAST_SHARE, least_rise
from loadtest.compare.history import History, HistoryRun, segments
from loadtest.compare.measurements import NATURES, Metric
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.report.page import Plot
from loadtest.report.plots import draw_plots, style
from loadtest.report.plots.drawing import Drawing
from loadtest.words import counted

_MOST_CHANGES: Final = 60
"""The figure has at most this many rows; the table has all metrics."""
_SHORT_REACH: Final = math.log(1.5)
"""Short and polled times extend the axis to at most this log ratio, or twice as far as other metrics if more."""


def draw(comparison: RunComparison, history: History | None = None) -> tuple[Plot, ...]:
    """Draw a comparison's plots. Plots without data are left out."""
    before = [] if history is None else periods_until(comparison, history)
    chosen = drawable(comparison)
    return draw_plots(
        {
            "changes": partial(draw_forest, comparison),
            "over-runs": partial(draw_over_runs, comparison, chosen[:_FIRST], before),
            "over-runs-others": partial(draw_over_runs, comparison, chosen[_FIRST:], before),
        }
    )


def draw_forest(comparison: RunComparison) -> Drawing | None:
    """Draw each judged metric's change with its interval, the changes too small to count, and the detectable change."""
    known = [one for one in amounts.gated(comparison) if amounts.estimate(one) is not None]
    if not known:
        return None
    kept = sorted(known, key=lambda one: (one.verdict != "regressed", -abs(amounts.worsening(one))))[:_MOST_CHANGES]
    shown = [one for one in known if one in kept]
    groups = {
        "times: more is worse": [one for one in shown if one.nature.unit == "ms"],
        "goodput: less is worse": [one for one in shown if one.metric is Metric.GOODPUT],
        "shares: more is worse": [one for one in shown if amounts.is_share(one)],
    }
    groups = {title: metrics for title, metrics in groups.items() if metrics}
    figure, axes = style.row_panels(map(len, groups.values()), 0.2)
    for panel, (title, metrics) in zip(axes, groups.items(), strict=True):
        style.rows(panel, [style.label(one, comparison.metrics, 40) for one in metrics])
        _forest_panel(panel, metrics)
        panel.set_title(title)
    looks = {style.verdict(one): style.marked(one) for one in shown}
    handles: dict[str, Line2D | Patch] = {
        word: style.key(lw=2.0, ms=5.5, **looks[word]) for word in style.VERDICTS if word in looks
    }
    handles["too small to count"] = Patch(**style.BAND)
    if any(one.detectable for one in shown):
        handles["minimum detectable change"] = style.key(color=style.MUTED, marker="|", ls="", ms=8)
    style.keys(figure, handles)
    least = f"{math.expm1(LEAST_RATIO) * 100:.3g} % or {LEAST_MS:g} ms (shares: {LEAST_SHARE * 100:g} to 1 point)"
    caption = f"95 % intervals of head against base; the shaded band holds changes too small to count: below {least}."
    if len(known) > len(shown):
        caption += f" The figure shows {len(shown)} of {len(known)} metrics."
    return Drawing(_forest_title(comparison, known), caption, figure, ())


def _least(one: MetricComparison) -> tuple[float, float]:
    """Return the band of changes that are too small to count, in the units of the axis."""
    if amounts.is_share(one):
        return -least_rise(one.head or 0.0) * 100, least_rise(one.base or 0.0) * 100
    low, high = -LEAST_RATIO, LEAST_RATIO
    if one.nature.unit == "ms" and one.base:
        high = max(high, math.log1p(LEAST_MS / one.base))
        low = min(low, math.log1p(-LEAST_MS / one.base) if one.base > LEAST_MS else -math.inf)
    return low, high


def _forest_panel(panel: Axes, metrics: list[MetricComparison]) -> None:
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
    right = (one.ratio or 1.0) > 1
    style.note(
        panel, f"{style.verdict(one)} {amounts.change(one)}", (limits[right], place), (-6 if right else 6, 0),
        ha="right" if right else "left", va="center", fontsize=7, color=style.marked(one)["color"],
        bbox={**style.PAPERED, "alpha": 1, "pad": 0.5},
    )  # fmt: skip


def _limits(metrics: list[MetricComparison], estimates: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Return axis limits that include all estimates except those of short and polled times. Long intervals are cut off.

    Short and polled times extend the limits little: a change from 10 µs to 20 ms (× 2,000) would hide other changes.
    """
    share = amounts.is_share(metrics[0])
    least = 2.0 if share else math.log(1.15)
    telling = [
        centre for one, (centre, _, _) in zip(metrics, estimates, strict=True) if share or amounts.in_percent(one)
    ]
    reach = max(least, max(map(abs, telling or [centre for centre, _, _ in estimates])) * 1.6)
    reach = max(reach, min(max(abs(centre) for centre, _, _ in estimates) * 1.1, max(_SHORT_REACH, 2 * reach)))
    low = max(-reach, min(*(min(estimate) for estimate in estimates), -least) * 1.05)
    high = min(reach, max(*(max(estimate) for estimate in estimates), least) * 1.05)
    return low, high


def _forest_title(comparison: RunComparison, known: list[MetricComparison]) -> str:
    worse = [one for one in known if one.suspect or one.verdict == "regressed"]
    worst = max(worse or known, key=amounts.telling)
    change = amounts.change(worst)
    name = style.label(worst, comparison.metrics)
    if worse:
        became = "are suspected to be worse" if any(one.suspect for one in worse) else "became worse"
        return f"{len(worse)} of {len(known)} judged metrics {became}, most of all {name} {change}"
    most = "apart from short and polled times, the worst is" if amounts.in_percent(worst) else "most changed"
    return f"None of {len(known)} judged metrics became worse; {most}: {name} {change}"


_MOST_BEFORE: Final = 40
"""At most this many runs of earlier baseline periods are drawn."""
_FIRST: Final = 6
"""The first figure of pairs or runs has at most this many panels."""
_MOST_PANELS: Final = 12
"""A figure has at most this many panels."""
_ACCEPTED: Final[dict[str, Any]] = {"color": style.MUTED, "marker": "o", "lw": 0.8}
_EARLIER: Final[dict[str, Any]] = {"color": style.FADED, "marker": "o", "ms": 3, "lw": 0.8}
_SUSPECTED: Final[dict[str, Any]] = {"color": style.UNSURE, "marker": "o", "mfc": "none"}
_PAIRS_CAPTION: Final = "Each dot is a pair of blocks (head against base), in order; scales differ between panels."


def periods_until(comparison: RunComparison, history: History) -> list[list[HistoryRun]]:
    """Return the baseline periods up to that of the comparison, or nothing if the comparison uses the first period.

    The earlier periods have at most ``_MOST_BEFORE`` runs in all.
    """
    base = {one.run for one in comparison.base_runs}
    cut = segments([one for one in history.runs if one.status == "accepted"])
    own = next((place for place, part in enumerate(cut) if any(one.id in base for one in part)), 0)
    return [*segments([one for part in cut[:own] for one in part][-_MOST_BEFORE:]), cut[own]] if own else []


def drawable(comparison: RunComparison) -> list[MetricComparison]:
    """Return the metrics that can be drawn: metrics of findings first, then the other judged metrics by change."""
    found = [one for finding in comparison.findings for one in (finding.cause, *finding.symptoms)]
    named = {one.key for one in found}
    others = [one for one in amounts.gated(comparison) if one.key not in named]
    others.sort(key=lambda one: -abs(amounts.worsening(one)))
    # Shares come last within the changed and within the other metrics: 0.01 percentage points may be a large ratio.
    others.sort(key=lambda one: (not amounts.is_changed(one), amounts.is_share(one), not amounts.in_percent(one)))
    paired = comparison.kind == "paired"
    return [one for one in (*found, *others) if (_pairs(comparison, one) if paired else one.earlier and one.later)]


def _pairs(comparison: RunComparison, one: MetricComparison) -> list[float]:
    """Return each pair's change as it is drawn: a log ratio for times and rates, percentage points for shares."""
    both = zip(comparison.base_runs, comparison.head_runs, strict=False)
    measured = [(base.by_key().get(one.key), head.by_key().get(one.key)) for base, head in both]
    known = [(base, head) for base, head in measured if base is not None and head is not None]
    if amounts.is_share(one):
        return [(head.value - base.value) * 100 for base, head in known]
    return [head.score - base.score for base, head in known]


def draw_over_runs(
    comparison: RunComparison, metrics: Sequence[MetricComparison], before: Sequence[Sequence[HistoryRun]] = ()
) -> Drawing | None:
    """Draw metrics pair by pair, or run by run after the baseline periods in ``before``; None without metrics."""
    if not metrics:
        return None
    chosen = metrics[:_MOST_PANELS]
    more = f" The figure shows {len(chosen)} of {len(metrics)} metrics." if len(metrics) > len(chosen) else ""
    columns = min(3, len(chosen))
    figure, axes = style.panels(len(chosen), 1.45, columns=columns, share_x=False)
    paired = comparison.kind == "paired"
    for panel, one in zip(axes, chosen, strict=True):
        if paired:
            _pair_panel(panel, one, _pairs(comparison, one))
        else:
            _run_panel(panel, one, comparison, before)
        panel.set_title(style.label(one, comparison.metrics, 22), fontsize=7.5)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for panel in axes[-columns:]:
        panel.set_xlabel("pair, in order" if paired else "run, in order; the last is the new one")
    verdicts: dict[str, Line2D | Patch] = {
        style.verdict(one): style.key(ls="", ms=5, **style.marked(one)) for one in chosen
    }
    if paired:
        verdicts["over all pairs"] = style.key(color=style.MUTED, lw=1.2)
        verdicts["its 95 % interval"] = Patch(**style.BAND)
        style.keys(figure, verdicts)
        return Drawing(_title(comparison, chosen[0]), _PAIRS_CAPTION + more, figure)
    if len(comparison.head_runs) > 1:
        verdicts["suspected run, before its rerun"] = style.key(ls="", ms=6.5, **_SUSPECTED)
    verdicts["accepted runs"] = style.key(ls="-", ms=3.5, **_ACCEPTED)
    caption = "Each dot is a run; scales differ between panels and do not start at zero."
    if any(prediction_band(one) for one in chosen):
        verdicts["95 % prediction band without a change"] = Patch(**style.BAND)
    if before:
        told = ", ".join(f"{part[0].measurements.started[:10]} ({part[0].reason})" for part in before[1:])
        caption += f" Dashed lines are accepted changes: {told}."
        verdicts["accepted runs before a change"] = style.key(**_EARLIER)
    style.keys(figure, verdicts)
    return Drawing(_title(comparison, chosen[0]), caption + more, figure)


def _pair_panel(panel: Axes, one: MetricComparison, changes: list[float]) -> None:
    share = amounts.is_share(one)
    if (estimate := amounts.estimate(one)) is not None:
        centre, low, high = estimate
        panel.axhspan(low, high, **style.BAND)
        panel.axhline(centre, color=style.MUTED, lw=1.2)
    panel.plot(range(1, len(changes) + 1), changes, ls="", ms=5, label="change", **style.marked(one))
    room = 0.2 * max(0.5 if share else math.log(1.04), *(abs(change) * 1.15 for change in changes))
    panel.axhline(0, color=style.INK, lw=0.8)
    panel.set(xlim=(0.5, len(changes) + 0.5), ylim=(min(0.0, *changes) - room, max(0.0, *changes) + room))
    if share:
        panel.set_ylabel("points")
    else:
        style.change_axis(panel.yaxis)


def _run_panel(
    panel: Axes, one: MetricComparison, comparison: RunComparison, before: Sequence[Sequence[HistoryRun]]
) -> None:
    factor = 100.0 if amounts.is_share(one) else 1.0
    shown: list[float] = []
    for part in before[:-1]:
        drawn = [style.drawn_value(run.measurements, one.key) for run in part]
        values = [value for value in drawn if value is not None]
        panel.plot(range(len(shown) + 1, len(shown) + len(values) + 1), values, **_EARLIER)
        shown += values
        panel.axvline(len(shown) + 0.5, lw=0.8, **style.CHANGED)
    begin, middle = len(shown), len(shown) + len(one.earlier)
    earlier = [value * factor for value in one.earlier]
    # If the new run is a rerun, the suspected run is drawn beside it.
    suspected = [style.drawn_value(run, one.key) for run in comparison.head_runs[:-1]]
    new = [*(value for value in suspected if value is not None), *(value * factor for value in one.later)]
    end = middle + len(new)
    band = [bound * factor for bound in prediction_band(one) or ()]
    if band:
        panel.fill_between((begin + 0.5, end + 0.5), band[0], band[1], **style.BAND)
    panel.plot(range(begin + 1, middle + 1), earlier, ms=3.5, label="accepted runs", **_ACCEPTED)
    for place, value in enumerate(new, middle + 1):
        named, look = ("new run", style.marked(one)) if place == end else ("suspected run", _SUSPECTED)
        panel.plot([place], [value], ls="", ms=6.5, label=named, **look)
    shown += [*earlier, *new, *band]
    low, high = min(shown), max(shown)
    room = 0.15 * (high - low or abs(shown[0]) * 0.1 or 1.0)
    panel.set(xlim=(0.5, end + 0.5), ylim=(low - room, high + room))
    style.metric_axis(panel, one.metric)


def prediction_band(one: MetricComparison) -> tuple[float, float] | None:
    """Return the band around the base in which 95 % of runs lie if nothing has changed; None if unknown."""
    if one.base is None:
        return None
    if not amounts.is_share(one) and one.ratio and one.ratio_interval and min(one.ratio_interval) > 0:
        low, high = one.ratio_interval
        return one.base * one.ratio / high, one.base * one.ratio / low
    if one.difference is None or one.difference_interval is None:
        return None
    low, high = one.difference_interval
    below, above = one.base - max(0.0, high - one.difference), one.base + max(0.0, one.difference - low)
    return (below if one.metric in amounts.SIGNED else max(0.0, below)), above


def _title(comparison: RunComparison, first: MetricComparison) -> str:
    name = style.label(first, comparison.metrics)
    if comparison.kind == "paired":
        changes = _pairs(comparison, first)
        worse = sum(change * NATURES[first.metric].worse > 0 for change in changes)
        return f"{name}, the head was worse in {worse} of {counted(len(changes), 'pair')}"
    band, new = prediction_band(first), first.later[-1]
    said = amounts.value(first.metric, new)
    if band is None:
        return f"{name} {said}; there are too few earlier runs for a prediction band"
    side = "above" if new > band[1] else "below" if new < band[0] else "within"
    return f"{name} {said}, {side} the band that is expected without a change"
