"""Plots of response times: over time, by percentile, by rate, beside service time, and as a heat map."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from loadtest import words
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.timelines import Heat, Responses
from loadtest.analysis.times import WAITED
from loadtest.arrays import Floats, Ints
from loadtest.contract import LIMIT_OF_OPERATION, POLLED_OPERATIONS, Operation, Outcome
from loadtest.report.deciding import StagePart, deciding, stage_parts
from loadtest.report.facts import start_of
from loadtest.report.page import Point, Table, TableCell, TableColumns, table_of
from loadtest.report.plots import marks, style
from loadtest.report.plots.drawing import Drawing, entry_panels, medians, names_or_count, picked
from loadtest.stats.order_statistics import interval_ranks, rank

_LEAST_SPAN: Final = 4.0
"""In plots over time, the upper end of the log axis is at least this many times the lower end."""


def draw_scatter(findings: Findings) -> Drawing | Point:
    """Draw response times over time, with a panel for each traffic entry that sent an operation."""
    record = findings.record
    found = {name: responses for name, responses in findings.responses.items() if responses.dots}
    if not found:
        return Point("Response time of each operation", "no operation was sent")
    figure, drawn, left_out = entry_panels(findings, found, 1.85)
    marked = False
    for panel, name, responses, colour in drawn:
        _panel(panel, findings, name, responses, colour)
        limit = LIMIT_OF_OPERATION[Operation(record.info.traffic[name].operation)]
        over = [one for each, one in findings.rates.items() if limit in record.assumed_limits.together(each)]
        marked |= bool(over) and marks.mark_windows(panel, record, over[0].boundaries)
    marks.over_time(figure.axes, record, [name for _, name, _, _ in drawn])
    caption = (
        f"Each dot is an operation at its {start_of(record)}; lines are percentiles (dotted: too few samples), and "
        "ticks at the lower edge are 429s."
    )
    if marked:
        caption += f" {marks.window_words(record)}"
    title = medians(findings, findings.metrics.traffic, "response time", lambda part: part.response_time_ms)
    return Drawing(title, caption, figure, left_out=left_out)


def _panel(panel: Axes, findings: Findings, name: str, responses: Responses, colour: str) -> None:
    looks: dict[str, dict[str, Any]] = {
        Outcome.OK: {"colour": colour},
        Outcome.FAILED: {"colour": style.MUTED, "marker": "+", "size": 20.0, "alpha": 1.0, "linewidths": 0.7},
        "timed out": {"colour": style.MUTED, "marker": "^", "size": 9.0, "alpha": 0.8},
    }
    for layer, look in looks.items():
        if layer in responses.dots:
            seconds, response = responses.dots[layer]
            marks.draw_dots(panel, seconds, response, label=layer, **look)
    marks.draw_bins(panel, findings.record, name, responses.series.cuts, responses.series.bins())
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    # A wide axis makes steady values look steady.
    wider = max(1.0, (_LEAST_SPAN * low / high) ** 0.5)
    panel.set_ylim(low / wider, high * wider)
    marks.draw_bounds(panel, findings, name)
    low, high = panel.get_ylim()
    panel.set_ylim(low, high * (high / low) ** 0.12)  # room for names of stages
    if "429" in responses.dots:
        _rug(panel, responses.dots["429"][0])
    style.plain_log(panel.yaxis)
    panel.set_ylabel("response time, ms (log)")


def _rug(panel: Axes, seconds: Floats) -> None:
    """Draw 429s as ticks at the lower edge, because their short times would compress the scale."""
    low, high = panel.get_ylim()
    if panel.has_data():
        panel.set_ylim(low / (high / low) ** 0.1, high)
    else:
        panel.set_ylim(1, 10)
        panel.tick_params(axis="y", which="both", left=False, labelleft=False)
    panel.plot(
        seconds, np.full(len(seconds), 0.035), "|", transform=panel.get_xaxis_transform(), color=style.THROTTLED, ms=6,
        mew=0.7, alpha=0.55, label="429", rasterized=len(seconds) > style.SCATTER_AS_PATHS,
    )  # fmt: skip


def draw_service(findings: Findings) -> Drawing | Point | None:
    """Draw distributions of response and service times, with a panel for each traffic entry that does not poll jobs.

    A job has many service times. Return None if all entries poll, or for a log, whose response times are service times.
    """
    record = findings.record
    names = [name for name, plan in record.info.traffic.items() if plan.operation not in POLLED_OPERATIONS]
    if record.info.imported or (record.info.traffic and not names):
        return None
    found = {name: stages for name in names if record.time("response_time_ms", stages := record.stages(traffic=name)).n}
    if not found:
        return Point("Response time beside service time", "no operation was ok, and none timed out")
    figure, drawn, left_out = entry_panels(findings, found, 2.3, columns=3)
    for panel, _, stages, colour in drawn:
        response, service = (record.time(each, stages) for each in ("response_time_ms", "service_time_ms"))
        style.ecdf(panel, response, color=style.INK, ls="-", lw=1.5, label="response time")
        style.ecdf(panel, service, color=colour, ls=(0, (4, 1.5)), lw=1.5, label="service time of a request")
        style.log(panel, "x", "ms")
    figure.axes[0].set_ylabel("share at most this long, %")
    caption = "Response time begins at the intended start, service time with connecting or sending; the gap is a wait."
    return Drawing(_service_title(findings), caption, figure, left_out=left_out)


def _service_title(findings: Findings) -> str:
    """Return the title. Waits are computed for each operation, because medians cannot be subtracted."""
    record, waits = findings.record, {}
    for name, plan in record.info.traffic.items():
        waited = record.time(WAITED, record.stages(traffic=name))
        if plan.operation not in POLLED_OPERATIONS and interval_ranks(waited.n, 0.5) is not None:
            waits[name] = waited
    if not waits:
        return "Too few operations for the median wait beyond service time"
    half = words.duration_ms(max(0.0, *(float(waited.at([rank(waited.n, 0.5)])[0]) for waited in waits.values())))
    most = max(waits, key=lambda each: waits[each].most)
    whose = f" of {names_or_count(list(waits))}" if len(waits) < len(record.info.traffic) else ""
    worst = f"{words.duration_ms(max(0.0, waits[most].most))} in the worst case{f' ({most})' if len(waits) > 1 else ''}"
    return f"Queueing and retries added at most {half} at the median{whose}, {worst}"


def draw_heat(findings: Findings) -> Drawing | None:
    """Draw a heat map for each traffic entry with many operations, or for each entry of a long run."""
    if not findings.heats:
        return None
    figure, drawn, left_out = entry_panels(findings, findings.heats, 1.9)
    for panel, _, heat, colour in drawn:
        _heat_panel(figure, panel, heat, colour)
    marks.over_time(figure.axes, findings.record, [name for _, name, _, _ in drawn])
    start = start_of(findings.record)
    caption = f"Each field counts the ok and timed-out operations whose {start} and response time are in its ranges."
    tables = tuple(_heat_table(name, heat) for _, name, heat, _ in drawn)
    return Drawing(_heat_title(findings), caption, figure, tables, left_out)


def _heat_panel(figure: Figure, panel: Axes, heat: Heat, colour: str) -> None:
    # Colours go from nearly transparent to the operation's colour, so that one picture serves light and dark pages.
    scale = LinearSegmentedColormap.from_list("heat", [to_rgba(colour, 0.12), to_rgba(colour, 1.0)])
    counts = np.ma.masked_equal(heat.counts.T, 0)
    norm = LogNorm(1, max(2, int(heat.counts.max())))
    mesh = panel.pcolormesh(heat.cuts, heat.levels, counts, cmap=scale, norm=norm, rasterized=True)
    bar = figure.colorbar(mesh, cax=panel.inset_axes((1.01, 0, 0.012, 1)))
    style.plain_log(bar.ax.yaxis)
    bar.set_label("operations (log)")
    bar.outline.set_visible(False)
    style.log(panel, "y", "response time, ms")


def _median_fields(counts: np.ndarray) -> Ints:
    """For each row of a heat map's counts, return the index of the field that contains the median."""
    sums = counts.cumsum(axis=1)
    places: Ints = (sums >= np.maximum(1, (sums[:, -1:] + 1) // 2)).argmax(axis=1)
    return places


def _heat_title(findings: Findings) -> str:
    """Return a title that compares the median of the last third of the run with the median of the first third."""
    drifts = {}
    for name, heat in findings.heats.items():
        third = len(heat.counts) // 3
        ends = np.array([part.sum(axis=0) for part in (heat.counts[:third], heat.counts[len(heat.counts) - third :])])
        if ends.any(axis=1).all():
            # A median may lie anywhere in its field, so the ratio is uncertain by one field in each direction.
            first, last = _median_fields(ends).tolist()
            height = float(heat.levels[1] / heat.levels[0])
            drifts[name] = (height ** (last - first - 1), height ** (last - first + 1))
    if not drifts:
        return "Response times over the whole run"
    name = max(drifts, key=lambda each: abs(np.log(drifts[each][0] * drifts[each][1])))
    low, high = drifts[name]
    if low <= 1 <= high:
        most = max(max(high, 1 / low) for low, high in drifts.values())
        whose = names_or_count(list(drifts))
        same = f"is that of the first, within {np.ceil((most - 1) * 100):.0f}\u00a0%"
        return f"The median response time of {whose} in the last third of the run {same}"
    times = f"{low:.2g} to {high:.2g} times that of the first"
    return f"The median response time of {name} in the last third of the run is {times}"


def _heat_table(name: str, heat: Heat) -> Table:
    n = heat.counts.sum(axis=1).tolist()
    medians = np.sqrt(heat.levels[:-1] * heat.levels[1:])[_median_fields(heat.counts)].tolist()
    columns: TableColumns[int] = {
        "#From s": lambda k: TableCell(f"{heat.cuts[k]:g}"),
        "#Operations": lambda k: n[k],
        "#Median ms, ± 8 %": lambda k: words.milliseconds(medians[k] if n[k] else None),
    }
    rows = picked(len(n), 16).tolist()
    return table_of(f"Response times of {name}", columns, rows, f"{len(rows)} of {len(n)} time spans.")


_TAILS: Final = {"p50": 0.5, "p90": 0.1, "p95": 0.05, "p99": 0.01}
"""Axis positions of the percentiles that thresholds use."""
_TICKS = {0.5: "50", 0.1: "90", 0.05: "95", 0.01: "99", 0.001: "99.9", 0.0001: "99.99", 0.00001: "99.999"}


def draw_spectrum(findings: Findings) -> Drawing | Point:
    """Draw the nearest-rank percentiles of each traffic entry. Percentiles with too few samples are grey."""
    record = findings.record
    found = {name: record.time("response_time_ms", record.stages(traffic=name)) for name in record.info.traffic}
    found = {name: values for name, values in found.items() if values.n}
    if not found:
        return Point("Percentiles of response time", "no operation was ok, and none timed out")
    found, left_out = deciding(findings, found)
    figure, (panel,) = style.panels(1, 2.2)
    for name, values in found.items():
        look = style.line_of(record, name)
        _spectrum_line(panel, values, name, look)
        for bound in marks.upper_bounds(findings, name):
            if (tail := _TAILS.get(bound.statistic)) is not None:
                _allowed(panel, bound, tail, look["color"])
    panel.set_xscale("log")
    style.log(panel, "y", "response time, ms")
    end = 0.6 / max(2, *(values.n for values in found.values()))
    shown = [tail for tail in _TICKS if tail >= end]
    panel.set(xlim=(1, end), xticks=shown, xticklabels=[_TICKS[tail] for tail in shown])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("share that took longer (log scale; ticks name the percentile)")
    caption = "95 % intervals cover sampling error only; a thick dash is a threshold, a diamond the measured value."
    return Drawing(_spectrum_title(findings), caption, figure, left_out=left_out)


def _allowed(panel: Axes, bound: marks.UpperBound, tail: float, colour: str) -> None:
    """Draw a threshold and the measured value at their percentile, and a line between them."""
    panel.vlines(tail, bound.value_ms, bound.edge_ms, color=colour, lw=0.8, ls=":")
    panel.plot([tail], [bound.value_ms], ls="", marker="D", ms=4, mfc=style.PAPER, mec=colour, zorder=4)
    where = f"threshold, {bound.judged.scope}"
    panel.plot([tail], [bound.edge_ms], ls="", marker="_", ms=16, mew=2.0, color=colour, label=where)


def _spectrum_line(panel: Axes, values: Distribution, name: str, look: dict[str, Any]) -> None:
    n, few = values.n, values.n < 40
    ranks = np.unique(np.geomspace(1, n, 500).astype(int))
    ranks = np.unique(np.r_[ranks, n + 1 - ranks])  # dense at both ends
    times = values.at(ranks)
    tail = 1 - (ranks - 0.5) / n
    # As in ``interval_ranks``, the percentile 1 − tail has no upper bound if (1 − tail)^n is above 2.5 %.
    last = int(np.max(((1 - tail) ** n <= 0.025).nonzero()[0], initial=0))
    tails = np.geomspace(1, 0.5 / n, 90)[1:].tolist()
    bounds = [(each, *ranked) for each in tails if (ranked := interval_ranks(n, 1 - each)) is not None]
    if len(bounds) > 1:
        carried, low, high = zip(*bounds, strict=True)
        panel.fill_between(carried, values.at(low), values.at(high), color=look["color"], alpha=0.2, lw=0, zorder=1.5)
    panel.plot(tail[last:], times[last:], color=style.FADED, lw=0.9, marker="." if few else None, ms=4)
    more = {"marker": look["marker"] or ".", "markevery": None} if few else {}
    panel.plot(tail[: last + 1], times[: last + 1], lw=1.7, label=f"{name} (n = {words.count(n)})", **{**look, **more})


def _spectrum_title(findings: Findings) -> str:
    """Name the percentile furthest above its threshold, or else nearest to it.

    Without thresholds, name the highest known p99, or else the highest p95 or p90.
    """
    traffic = findings.metrics.traffic
    late = [name for name, each in traffic.items() if each.response_time_ms.at_least]
    open_ = f"; time-outs hide the tail of {names_or_count(late)}" if late else ""
    bounds = [one for one in marks.upper_bounds(findings) if one.statistic in _TAILS]
    if bounds:
        worst = max(bounds, key=lambda one: one.value_ms - one.edge_ms)
        measured, edge = words.duration_ms(worst.value_ms), words.duration_ms(worst.edge_ms)
        which = "over" if worst.value_ms > worst.edge_ms else "nearest to"
        return f"{worst.statistic} of {worst.judged.scope} is {which} its threshold: {measured}, allowed {edge}{open_}"
    known = {name: each.response_time_ms for name, each in traffic.items() if name not in late}
    for statistic in ("p99", "p95", "p90"):
        times = {name: value for name, block in known.items() if (value := block.get(statistic).value)}
        if times:
            name = max(times, key=lambda each: times[each])
            median = words.duration_ms(known[name].p50)
            longest = f"Highest known {statistic}: {words.duration_ms(times[name])} of {name}"
            return f"{longest}, beside a median of {median}{open_}"
    return f"Too few answers for a tail{open_}"


_LEAST_RATES: Final = 3
"""An entry needs at least this many stages at different rates, because two points always form a line."""


def draw_by_rate(findings: Findings) -> Drawing | None:
    """Draw a panel for each traffic entry with at least three stages at different rates. Bursts are left out."""
    found = {}
    for name in findings.metrics.traffic:
        parts = [part for part in stage_parts(findings, name) if _rate(part) and part.figures.response_time_ms.p50]
        parts = sorted((part for part in parts if not part.key.stage.burst), key=_rate)
        if len({round(_rate(part), 6) for part in parts}) >= _LEAST_RATES:
            found[name] = parts
    if not found:
        return None
    figure, drawn, left_out = entry_panels(findings, found, 2.2, columns=2)
    for panel, _, parts, colour in drawn:
        _by_rate_panel(panel, parts, colour, marks.WHOLE_IN if len(drawn) == 1 else marks.HALF_IN)
    figure.axes[0].set_ylabel("response time, ms (log)")
    caption = (
        "Response times (ok or timed out) of each stage at its mean offered rate, with 95 % intervals (sampling only)."
    )
    columns: TableColumns[StagePart] = {
        "Stage": lambda part: part.stage,
        "#Offered /min": lambda part: f"{_rate(part):.4g}",
        "#n": lambda part: part.figures.response_time_ms.n,
        "#p50 ms": lambda part: words.milliseconds(part.figures.response_time_ms.p50),
        "#p95 ms": lambda part: words.milliseconds(part.figures.response_time_ms.p95),
        "#429": lambda part: words.share(part.figures.throttled_rate),
    }
    tables = tuple(table_of(f"Stages of {name}", columns, parts) for _, name, parts, _ in drawn)
    return Drawing(_by_rate_title(found), caption, figure, tables, left_out)


def _rate(part: StagePart) -> float:
    """Return a stage's mean offered rate, per minute."""
    return 60 * (part.figures.operations.offered_rate or 0.0)


def _by_rate_panel(panel: Axes, parts: list[StagePart], colour: str, wide_in: float) -> None:
    for statistic, ink, line, marker in (("p50", colour, "-", "o"), ("p95", style.INK, (0, (4, 1.5)), "^")):
        found = [(_rate(part), part.figures.response_time_ms.get(statistic)) for part in parts]
        # Time-outs may leave a percentile without an upper bound, and so without an interval.
        known = [(rate, one.value, *(one.interval or (np.nan, np.nan))) for rate, one in found if one.value is not None]
        if known:
            rates, values, low, high = np.array(known, float).T
            panel.vlines(rates, low, high, color=ink, lw=2.2, alpha=0.4)
            panel.plot(rates, values, color=ink, ls=line, lw=1.0, marker=marker, ms=4.5, label=statistic)
    end = _rate(parts[-1]) * 1.1
    panel.set(yscale="log", xlim=(0, end), xlabel="operations offered, 1/min")
    room = marks.name_stages(panel, [(_rate(part) / end, part.stage) for part in parts], wide_in)
    low, high = panel.get_ylim()
    low, high = low / 1.1, high * 1.1  # a steady value should look steady
    style.log(panel, "y", "", low, high * (high / low) ** (room / (1 - room)))
    style.plain(panel.xaxis)


def _by_rate_title(found: dict[str, list[StagePart]]) -> str:
    # A median that time-outs leave without an upper bound is not compared.
    known = dict[str, list[tuple[float, float]]]()
    for name, parts in found.items():
        medians = [(_rate(part), part.figures.response_time_ms.get("p50")) for part in parts]
        points = [(rate, p50.value) for rate, p50 in medians if p50.value and p50.most == p50.value]
        known |= {name: points} if len(points) > 1 else {}
    if not known:
        return "Response time by offered rate; time-outs hide the medians"
    grown = [(each[-1][1] / each[0][1], name, each[-1][0] / each[0][0]) for name, each in known.items()]
    factor, name, more = max(grown, key=lambda one: abs(np.log(one[0])))
    times = f"{words.times_as(factor)} times as long"
    return f"At {more:.3g} times the rate, the median response time of {name} is {times}"
