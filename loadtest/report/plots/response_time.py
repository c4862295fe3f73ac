"""Response times: over time, beside service time, and as a heat map of a long run."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgba
from matplotlib.figure import Figure

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.timelines import Heat, Responses
from loadtest.arrays import Floats, Ints
from loadtest.contract import LIMIT_OF_OPERATION, POLLED_OPERATIONS, Operation, Outcome
from loadtest.report.page import Table, TableCell, TableColumns, table_of
from loadtest.report.plots import marks, style
from loadtest.report.plots.drawing import Drawing, NoData, entry_panels, picked
from loadtest.report.plots.titles import medians, names_or_count
from loadtest.stats.order_statistics import interval_ranks, rank

_LEAST_SPAN: Final = 4.0
"""Minimum ratio of the axis's ends."""


def draw_scatter(findings: Findings) -> Drawing | NoData:
    """Draw a panel per traffic entry with an answer."""
    record = findings.record
    found = {name: responses for name, responses in findings.responses.items() if responses.dots}
    if not found:
        return NoData("Response time of each operation", "no operation was sent")
    figure, drawn, left_out = entry_panels(findings, found, 1.85)
    marked = False
    for panel, name, responses, colour in drawn:
        _panel(panel, findings, name, responses, colour)
        limit = LIMIT_OF_OPERATION[Operation(record.info.traffic[name].operation)]
        over = [one for each, one in findings.rates.items() if limit in record.assumed_limits.together(each)]
        marked |= bool(over) and marks.mark_windows(panel, record, over[0].boundaries)
    marks.over_time(figure.axes, record, [name for _, name, _, _ in drawn])
    caption = (
        "Each dot is an operation at its intended start; lines are percentiles (dotted: too few samples), and ticks at "
        "the lower edge are 429s."
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
            marks.draw_dots(panel, *responses.dots[layer], label=layer, **look)
    marks.draw_bins(panel, findings.record, name, responses.cuts, responses.binned)
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    # A steady value is to look steady.
    wider = max(1.0, (_LEAST_SPAN * low / high) ** 0.5)
    panel.set_ylim(low / wider, high * wider)
    marks.draw_bounds(panel, findings, name)
    low, high = panel.get_ylim()
    panel.set_ylim(low, high * (high / low) ** 0.12)  # room for names of stages
    _rug(panel, responses.dots.get("429", ((), ()))[0])
    style.plain_log(panel.yaxis)
    panel.set_ylabel("response time, ms (log)")


def _rug(panel: Axes, seconds: Floats | tuple[()]) -> None:
    """Draw 429s as ticks at the lower edge: their short times would compress the scale."""
    if not len(seconds):
        return
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


def draw_service(findings: Findings) -> Drawing | NoData | None:
    """Cumulative distributions, one panel for each entry whose operations are one request.

    None if there are only jobs: each consists of many requests, so no single service time compares with it.
    """
    record = findings.record
    names = [name for name, plan in record.info.traffic.items() if plan.operation not in POLLED_OPERATIONS]
    if record.info.traffic and not names:
        return None
    found = {name: stages for name in names if record.time("response_time_ms", stages := record.stages(traffic=name)).n}
    if not found:
        return NoData("Response time beside service time", "no operation was answered with success or timed out")
    figure, drawn, left_out = entry_panels(findings, found, 2.3, columns=3)
    for panel, _, stages, colour in drawn:
        response, service = (record.time(each, stages) for each in ("response_time_ms", "service_time_ms"))
        style.ecdf(panel, response, color=style.INK, ls="-", lw=1.5, label="response time")
        style.ecdf(panel, service, color=colour, ls=(0, (4, 1.5)), lw=1.5, label="service time of a request")
        style.log(panel, "x")
        panel.set_xlabel("ms (log)")
    figure.axes[0].set_ylabel("share at most this long, %")
    caption = "Response time starts at the intended start, service time at a request’s first byte: the gap is waiting."
    return Drawing(_service_title(findings), caption, figure, left_out=left_out)


def _service_title(findings: Findings) -> str:
    """Return each operation's wait beyond its own request, since medians cannot be subtracted."""
    record, waits = findings.record, {}
    for name, plan in record.info.traffic.items():
        waited = record.times.waited.get(record.stage_indices(record.stages(traffic=name)))
        if plan.operation not in POLLED_OPERATIONS and interval_ranks(waited.n, 0.5) is not None:
            waits[name] = waited
    if not waits:
        return "Too few answers for the wait beyond requests"
    half = words.duration_ms(max(0.0, *(float(waited.at([rank(waited.n, 0.5)])[0]) for waited in waits.values())))
    most = max(waits, key=lambda each: waits[each].most)
    whose = f" of {names_or_count(list(waits))}" if len(waits) < len(record.info.traffic) else ""
    worst = f"{words.duration_ms(max(0.0, waits[most].most))} in the worst case{f' ({most})' if len(waits) > 1 else ''}"
    return f"Queueing and retries added at most {half} at the median{whose}, {worst}"


def draw_heat(findings: Findings) -> Drawing | NoData | None:
    """Draw a panel per traffic entry with many operations; None for few, which the scatter shows."""
    if not findings.heats:
        return None
    figure, drawn, left_out = entry_panels(findings, findings.heats, 1.9)
    for panel, _, heat, colour in drawn:
        _heat_panel(figure, panel, heat, colour)
    marks.over_time(figure.axes, findings.record, [name for _, name, _, _ in drawn])
    caption = "Each field counts the ok and timed-out operations of a time span, by intended start and response time."
    tables = tuple(_heat_table(name, heat) for _, name, heat, _ in drawn)
    return Drawing(_heat_title(findings), caption, figure, tables, left_out)


def _heat_panel(figure: Figure, panel: Axes, heat: Heat, colour: str) -> None:
    # From transparent to the operation's colour, so that one picture serves light and dark pages.
    scale = LinearSegmentedColormap.from_list("heat", [to_rgba(colour, 0.12), to_rgba(colour, 1.0)])
    counts = np.ma.masked_equal(heat.counts.T, 0)
    norm = LogNorm(1, max(2, int(heat.counts.max())))
    mesh = panel.pcolormesh(heat.cuts, heat.levels, counts, cmap=scale, norm=norm, rasterized=True)
    bar = figure.colorbar(mesh, cax=panel.inset_axes((1.01, 0, 0.012, 1)))
    style.plain_log(bar.ax.yaxis)
    bar.set_label("operations (log)")
    bar.outline.set_visible(False)
    style.log(panel, "y")
    panel.set_ylabel("response time, ms (log)")


def _median_fields(counts: np.ndarray) -> Ints:
    """Return the index of the median's field in each row of counts."""
    sums = counts.cumsum(axis=1)
    places: Ints = (sums >= np.maximum(1, (sums[:, -1:] + 1) // 2)).argmax(axis=1)
    return places


def _heat_title(findings: Findings) -> str:
    """Compare the last third of the run with the first, to the resolution of the fields."""
    drifts = {}
    for name, heat in findings.heats.items():
        third = len(heat.counts) // 3
        ends = np.array([part.sum(axis=0) for part in (heat.counts[:third], heat.counts[len(heat.counts) - third :])])
        if ends.any(axis=1).all():
            # Both medians are somewhere in their fields, so that their ratio is known within two heights of one.
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
    return table_of("data", f"Response times of {name}", columns, rows, f"{len(rows)} of {len(n)} stretches.")
