"""Response times: over time, as a spectrum with a log tail, beside service time, and as a heat map of a long run."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgba
from matplotlib.ticker import FixedFormatter, FixedLocator

from loadtest.analysis import numbers
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.timelines import Heat, Responses
from loadtest.contract import LIMIT_OF_OPERATION, Operation
from loadtest.report.plots import stages
from loadtest.report.plots.style import (
    FADED,
    INK,
    MUTED,
    OPERATIONS,
    SCATTER_AS_PATHS,
    THROTTLED,
    Drawing,
    NoData,
    legend,
    line_of,
    panels,
    plain_log,
    time_axis,
)
from loadtest.report.tables.table import Cell, Table
from loadtest.stats import interval_ranks, rank, ranks_to_draw

_MOST_NAMED: Final = 3
"""Entries that a title names one by one."""


def draw_scatter(findings: Findings) -> Drawing | NoData:
    """One panel for each traffic entry that got any answer."""
    record = findings.record
    names = [name for name, responses in findings.responses.items() if responses.dots]
    if not names:
        return NoData("Response time of each operation", "no operation was sent")
    figure, axes = panels(len(names), 1.85)
    marked = False
    for panel, name in zip(axes, names, strict=True):
        _panel(panel, findings.responses[name], name, record.info.traffic[name].operation)
        named = panel is axes[0] or not stages.same_stages(record, name, names[0])
        stages.mark_stages(panel, record, name, names=named)
        limit = LIMIT_OF_OPERATION[Operation(record.info.traffic[name].operation)]
        series = next(
            (one for each, one in findings.rates.items() if limit in record.assumed_limits.together(each)), None
        )
        marked |= series is not None and stages.mark_windows(panel, record, series.boundaries)
    time_axis(axes[-1], record.covered_s)
    legend(figure, axes)
    caption = (
        "Each dot is an operation at its intended start; lower is better. The scale is logarithmic and doesn’t start "
        "at zero. Lines are percentiles of operations that were ok or timed out, drawn dotted where the bin holds "
        "too few to carry them. 429s and errors are marked apart and are in no line."
    )
    if marked:
        caption += f" {stages.window_words(record)}"
    return Drawing(_scatter_title(findings), caption, figure)


def _scatter_title(findings: Findings) -> str:
    parts, medians = [], {}
    for name, figures in findings.metrics.traffic.items():
        block = figures.response_time_ms
        if block.p50 is not None:
            medians[name] = block.p50
            tail = f" ({numbers.bounded(block.get('p95'))})" if block.p95 is not None else ""
            parts.append(f"{name} {numbers.bounded(block.get('p50'))}{tail}")
    if not any(figures.response_time_ms.n for figures in findings.metrics.traffic.values()):
        return "No operation was ok or timed out: there is no median response time"
    if len(parts) > _MOST_NAMED:
        return f"Median response time: {numbers.listed(medians, numbers.duration_ms)}"
    return f"Median (p95) response time: {', '.join(parts)}" if parts else "Too few answers for a median response time"


def _panel(panel: Axes, responses: Responses, name: str, operation: str) -> None:
    good = len(responses.dots.get("ok", ((),))[0])
    looks = {
        "ok": (OPERATIONS[operation], "o", 5.0, 0.85 if good < 300 else 0.55 if good < 2000 else 0.3),
        "429": (THROTTLED, "x", 9.0, 0.55),
        "failed": (MUTED, "+", 20.0, 1.0),
        "timed out": (MUTED, "^", 9.0, 0.8),
    }
    for layer, (seconds, times) in responses.dots.items():
        ink, marker, size, alpha = looks[layer]
        panel.scatter(
            seconds, times, s=size, marker=marker, color=ink, alpha=alpha, linewidths=0 if marker in "o^" else 0.7,
            label=layer, rasterized=len(seconds) > SCATTER_AS_PATHS,
        )  # fmt: skip
    stages.draw_bins(panel, responses.n, responses.cuts, responses.binned)
    panel.set_yscale("log")
    plain_log(panel.yaxis)
    panel.set_ylabel("response time, ms (log)")
    panel.set_title(f"{name}  ·  {operation}")


_SPECTRUM_POINTS = 500
_BAND_POINTS = 90
_FEW = 40
"""Operations of which each is drawn as a point."""
_NO_TAIL = 1.1
"""How many times the median a high percentile is at least for there to be a tail."""
_TAIL = 0.025
"""Each side of a 95 % interval."""
_TICKS = {0.5: "50", 0.1: "90", 0.05: "95", 0.01: "99", 0.001: "99.9", 0.0001: "99.99", 0.00001: "99.999"}


def draw_spectrum(findings: Findings) -> Drawing | NoData:
    """One line for each traffic entry: its nearest-rank percentiles, grey where samples are too few."""
    record = findings.record
    found = {name: record.time("response_time_ms", record.stages(traffic=name)) for name in record.info.traffic}
    names = [name for name, values in found.items() if values.n]
    if not names:
        return NoData("Percentiles of response time", "no operation was answered with success or timed out")
    figure, (panel,) = panels(1, 2.2)
    most = 2
    for name in names:
        _line(panel, found[name], name, line_of(record.info.traffic, name))
        most = max(most, found[name].n)
    panel.set_xscale("log")
    panel.set_yscale("log")
    plain_log(panel.yaxis)
    panel.set_xlim(1, 0.6 / most)
    shown = [tail for tail in _TICKS if tail >= 0.6 / most]
    panel.xaxis.set_major_locator(FixedLocator(shown))
    panel.xaxis.set_major_formatter(FixedFormatter([_TICKS[tail] for tail in shown]))
    panel.xaxis.set_minor_locator(FixedLocator([]))
    panel.set_xlabel("percentile (the tail 1 − p on a log scale)")
    panel.set_ylabel("response time, ms (log)")
    legend(figure, [panel])
    caption = (
        "Lower is better. Each point is an observed response time at its rank, in the band of its 95 % interval "
        "(sampling only: requests of one run are correlated, so the truth is wider). Where a line turns thin and grey, "
        "the run is too short to carry a percentile: no upper 95 % bound exists for it."
    )
    return Drawing(_spectrum_title(findings), caption, figure)


def _line(panel: Axes, values: Distribution, name: str, look: dict[str, Any]) -> None:
    n = values.n
    ranks = np.unique(np.geomspace(1, n, _SPECTRUM_POINTS).astype(int))
    ranks = np.unique(np.r_[ranks, n + 1 - ranks])  # dense at both ends
    times = values.at(ranks)
    tail = 1 - (ranks - 0.5) / n
    # As in interval_ranks: no upper bound exists where (rank / n)^n is above 2.5 %.
    carried = (1 - tail) ** n <= _TAIL
    last = int(carried.nonzero()[0][-1]) if carried.any() else 0
    good = slice(0, last + 1)
    _band(panel, values, look["color"])
    if n < _FEW:
        look = {**look, "marker": look["marker"] or ".", "markevery": None}
    panel.plot(tail[last:], times[last:], color=FADED, lw=0.9, marker="." if n < _FEW else None, ms=4)
    panel.plot(
        tail[good], times[good], lw=1.7, label=f"{name} (n = {numbers.count(n)})", **look,
    )  # fmt: skip


def _band(panel: Axes, values: Distribution, colour: str) -> None:
    """The 95 % interval of each percentile, as far as n carries both bounds."""
    tails = np.geomspace(1, 0.5 / values.n, _BAND_POINTS)[1:]
    found = [(tail, ranks) for tail in tails.tolist() if (ranks := interval_ranks(values.n, 1 - tail)) is not None]
    if len(found) < 2:
        return
    low = values.at([ranks[0] for _, ranks in found])
    high = values.at([ranks[1] for _, ranks in found])
    panel.fill_between([tail for tail, _ in found], low, high, color=colour, alpha=0.2, lw=0, zorder=1.5)


def _spectrum_title(findings: Findings) -> str:
    """Of the entries whose tail is known: one that reaches time-outs has a longer one than any figure says."""
    known, censored = {}, []
    for name, figures in findings.metrics.traffic.items():
        block = figures.response_time_ms
        if block.p50 and "p50" not in block.at_least and not block.at_least:
            known[name] = block
        elif block.n and block.at_least:
            censored.append(name)
    late = f"; {_named(censored)} reached time-outs, so that the tail is longer than is known" if censored else ""
    statistic = next((each for each in ("p99", "p95", "p90") if any(b.get(each).value for b in known.values())), None)
    if statistic is None:
        return f"Too few answers to speak of a tail{late}"
    ratios = {name: value / (b.p50 or 1.0) for name, b in known.items() if (value := b.get(statistic).value)}
    name = max(ratios, key=lambda each: ratios[each])
    words = (
        f"{numbers.duration_ms(known[name].get(statistic).value)}, {numbers.times_as(ratios[name])} times its median"
    )
    if len(ratios) == 1:
        return f"{statistic} of {name} is {words}{late}"
    of = "" if len(ratios) == len(findings.metrics.traffic) else f", of {len(ratios)} entries that carry it"
    if ratios[name] < _NO_TAIL:
        return f"There is hardly a tail: the longest {statistic}{of}, that of {name}, is {words}{late}"
    return f"By {statistic}{of}, the longest tail is that of {name}: {words}{late}"


def _named(names: list[str]) -> str:
    """Some names, or how many."""
    if len(names) > _MOST_NAMED:
        return f"{len(names)} entries"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


_CURVE_POINTS = 600


def draw_service(findings: Findings) -> Drawing | NoData:
    """Cumulative distributions, one panel for each traffic entry that got answers."""
    record = findings.record
    names = [name for name in record.info.traffic if record.time("response_time_ms", record.stages(traffic=name)).n]
    if not names:
        return NoData("Response time beside service time", "no operation was answered with success or timed out")
    figure, axes = panels(len(names), 2.3, columns=min(3, len(names)), share_x=False)
    for panel, name in zip(axes, names, strict=True):
        colour = OPERATIONS[record.info.traffic[name].operation]
        _curve(panel, record.time("response_time_ms", record.stages(traffic=name)), "response time", INK, "-")
        _curve(
            panel,
            record.time("service_time_ms", record.stages(traffic=name)),
            "service time of a request",
            colour,
            (0, (4, 1.5)),
        )
        panel.set_xscale("log")
        plain_log(panel.xaxis)
        panel.set_ylim(0, 102)
        panel.set_xlabel("ms (log)")
        panel.set_title(f"{name}  ·  {record.info.traffic[name].operation}")
    axes[0].set_ylabel("share at most this long, %")
    legend(figure, axes)
    caption = (
        "Response time runs from the intended start, so that nothing which waited is left out; service time is one "
        "request’s, from its first byte sent. Where the curves part, operations waited, retried or polled. Dashed "
        "lines take the colour of the operation."
    )
    return Drawing(_service_title(findings), caption, figure)


def _curve(panel: Axes, values: Distribution, label: str, colour: str, line: Any) -> None:
    if not values.n:
        return
    # Evenly by rank, both ends kept.
    ranks = ranks_to_draw(values.n, _CURVE_POINTS)
    ordered, shares = values.at(ranks), ranks / values.n * 100
    ordered, shares = ordered[ordered > 0], shares[ordered > 0]
    if len(ordered) == 1:
        panel.plot(ordered, shares, "o", color=colour, ms=4, label=label)
    elif len(ordered):
        panel.plot(np.r_[ordered[0], ordered], np.r_[0, shares], color=colour, ls=line, lw=1.5, label=label,
                   drawstyle="steps-post")  # fmt: skip


def _service_title(findings: Findings) -> str:
    """What operations waited, each beside its own request: medians of operations and of requests have no difference."""
    record, waits = findings.record, {}
    for name, plan in record.info.traffic.items():
        waited = record.times.waited.get(record.stage_indices(record.stages(traffic=name)))
        if plan.operation != Operation.ASYNC_RUN and interval_ranks(waited.n, 0.5) is not None:
            waits[name] = waited
    if not waits:
        return _polled_title(findings)
    halves = {name: float(waited.at([rank(waited.n, 0.5)])[0]) for name, waited in waits.items()}
    most = max(waits, key=lambda each: waits[each].most)
    whose = "ok operations" if len(waits) == len(record.info.traffic) else f"ok operations of {_named(list(waits))}"
    half = numbers.duration_ms(max(0.0, *halves.values()))
    at_most = f"{numbers.duration_ms(max(0.0, waits[most].most))} at most{f' ({most})' if len(waits) > 1 else ''}"
    return f"Beside their answered request, {whose} waited {half} or less at the median, {at_most}"


def _polled_title(findings: Findings) -> str:
    """Of jobs, whose requests are many."""
    for name, figures in findings.metrics.traffic.items():
        response, service = figures.response_time_ms, figures.service_time_ms
        if response.p50 is not None and service.p50 is not None:
            whole = numbers.bounded(response.get("p50"))
            return f"At the median a request of {name} takes {numbers.duration_ms(service.p50)}, a whole job {whole}"
    return "Response time, and the service time of single requests"


def draw_heat(findings: Findings) -> Drawing | NoData | None:
    """One panel for each traffic entry with many operations; None in a short run of few, whose dots show them all."""
    record = findings.record
    if not findings.heats:
        return None
    figure, axes = panels(len(findings.heats), 1.9)
    for panel, (name, heat) in zip(axes, findings.heats.items(), strict=True):
        operation = record.info.traffic[name].operation
        colour = OPERATIONS[operation]
        # From transparent to the operation's colour, so that one picture serves light and dark pages.
        scale = LinearSegmentedColormap.from_list("heat", [to_rgba(colour, 0.12), to_rgba(colour, 1.0)])
        counts = np.ma.masked_equal(heat.counts.T, 0)
        most = max(2, int(heat.counts.max()))
        mesh = panel.pcolormesh(heat.cuts, heat.levels, counts, cmap=scale, norm=LogNorm(1, most), rasterized=True)
        bar = figure.colorbar(mesh, ax=panel, pad=0.01, aspect=14)
        plain_log(bar.ax.yaxis)
        bar.set_label("operations (log)")
        bar.outline.set_visible(False)
        panel.set_yscale("log")
        plain_log(panel.yaxis)
        panel.set_ylabel("response time, ms (log)")
        panel.set_title(f"{name}  ·  {operation}")
        named = panel is axes[0] or not stages.same_stages(record, name, next(iter(findings.heats)))
        stages.mark_stages(panel, record, name, names=named)
    time_axis(axes[-1], record.covered_s)
    caption = (
        "Each field counts the operations of a stretch of time that took so long: the stronger its colour, the more, "
        "on a log scale; an empty field is none. Ok and timed-out operations, at their intended start. A stall is a "
        "column that reaches up, slow drift a band that climbs."
    )
    return Drawing(_heat_title(findings), caption, figure, tuple(_heat_table(n, h) for n, h in findings.heats.items()))


def _heat_medians(heat: Heat) -> np.ndarray:
    """Of each bin of time the middle of the field that holds its median, in ms; NaN without operations."""
    sums = heat.counts.cumsum(axis=1)
    n = sums[:, -1]
    place = (sums >= np.maximum(1, (n + 1) // 2)[:, None]).argmax(axis=1)
    middles = np.sqrt(heat.levels[:-1] * heat.levels[1:])
    return np.where(n > 0, middles[place], np.nan)


def _heat_title(findings: Findings) -> str:
    """Where the last third of the run differs most from the first."""
    drifts = []
    for name, heat in findings.heats.items():
        known = _heat_medians(heat)
        known = known[np.isfinite(known)]
        third = len(known) // 3
        if third:
            drifts.append((float(np.median(known[-third:]) / np.median(known[:third])), name))
    if not drifts:
        return "Response times over the whole run"
    drift, name = max(drifts, key=lambda one: abs(np.log(one[0])))
    # A field is 15 % high: less than that is no finding.
    if abs(np.log(drift)) < np.log(1.2):
        return "Response times at the end of the run are those of its beginning"
    return f"The median of {name} in the last third of the run is {drift:.2g} times that of the first"


def _heat_table(name: str, heat: Heat) -> Table:
    medians, n = _heat_medians(heat), heat.counts.sum(axis=1)
    kept: list[int] = np.unique(np.linspace(0, len(n) - 1, min(16, len(n))).round().astype(int)).tolist()
    rows = tuple(
        (
            Cell(f"{heat.cuts[k]:g}"),
            Cell(numbers.count(float(n[k]))),
            Cell(numbers.milliseconds(float(medians[k]) if np.isfinite(medians[k]) else None)),
        )
        for k in kept
    )
    columns = (("From s", True), ("Operations", True), ("Median ms, ± 8 %", True))
    return Table("data", f"Response times of {name}", columns, rows, f"{len(rows)} of {len(n)} stretches.")
