"""Response times: over time, beside service time, and as a heat map of a long run."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgba
from matplotlib.figure import Figure

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationFigures, bounded
from loadtest.analysis.timelines import Heat
from loadtest.arrays import Floats, Ints
from loadtest.contract import LIMIT_OF_OPERATION, POLLED_OPERATIONS, Operation, Outcome
from loadtest.report.deciding import deciding, deciding_of
from loadtest.report.page import Table, TableCell, table_of
from loadtest.report.plots import marks, style
from loadtest.report.plots.drawing import Drawing, NoData, picked
from loadtest.stats.order_statistics import interval_ranks, rank

_NEARLY_ALL: Final = 0.99
"""Share of the operations from which their times are those of all."""
_LEAST_SPAN: Final = 4.0
"""Minimum ratio of the axis's ends."""


def draw_scatter(findings: Findings) -> Drawing | NoData:
    """Draw a panel per traffic entry with an answer."""
    record = findings.record
    names = [name for name, responses in findings.responses.items() if responses.dots]
    if not names:
        return NoData("Response time of each operation", "no operation was sent")
    names, left_out = deciding(findings, names)
    figure, axes = style.panels(len(names), 1.85)
    marked = False
    for panel, name, colour in style.entries(record, axes, names):
        _panel(panel, findings, name, colour)
        limit = LIMIT_OF_OPERATION[Operation(record.info.traffic[name].operation)]
        over = [one for each, one in findings.rates.items() if limit in record.assumed_limits.together(each)]
        marked |= bool(over) and marks.mark_windows(panel, record, over[0].boundaries)
    marks.over_time(axes, record, names)
    caption = (
        "Each dot is an operation at its intended start, on a log scale; lines are percentiles of operations "
        "that were ok or "
        "timed out (dotted: too few samples), ticks at the lower edge are 429s, dashed lines are thresholds."
    )
    if marked:
        caption += f" {marks.window_words(record)}"
    return Drawing(_scatter_title(findings), caption, figure, left_out=left_out)


def _scatter_title(findings: Findings) -> str:
    """Return each stage's p95 if all entries share two stages, else each entry's times."""
    traffic = findings.metrics.traffic
    two = {tuple(figures.stages) for figures in traffic.values()}
    if len(two) == 1 and len(names := two.pop()) == 2 and len(traffic) <= style.MOST_NAMED:
        tails = {
            name: [figures.stages[stage].response_time_ms.get("p95") for stage in names]
            for name, figures in traffic.items()
        }
        if all(tail.value is not None for both in tails.values() for tail in both):
            said = [f"{name} {' → '.join(map(bounded, both))}" for name, both in tails.items()]
            return f"p95 response time, {' → '.join(names)}: {', '.join(said)}"
    blocks = {name: figures.response_time_ms for name, figures in traffic.items()}
    if not any(block.n for block in blocks.values()):
        return "No operation was ok or timed out: there is no median response time"
    medians = {name: p50 for name, block in blocks.items() if (p50 := block.p50) is not None}
    if len(medians) > style.MOST_NAMED:
        halves = {name: blocks[name].get("p50") for name in medians}
        late = [name for name, half in halves.items() if half.most != medians[name]]
        known = {name: median for name, median in medians.items() if name not in late}
        open_ = f"time-outs leave that of {style.names_or_count(late)} open" if late else ""
        few = {name: _answered(traffic[name]) for name in medians}
        of = "" if min(few.values()) > _NEARLY_ALL else " of operations that were ok"
        return f"Median response time{of}: {'; '.join(filter(None, (words.listed(known, words.duration_ms), open_)))}"
    parts = [
        f"{name} {bounded(block.get('p50'))}" + (f" ({bounded(block.get('p95'))})" if block.p95 is not None else "")
        for name, block in blocks.items()
        if name in medians
    ]
    if not parts:
        return "Too few answers for a median response time"
    of = "" if all(_answered(figures) > _NEARLY_ALL for figures in traffic.values()) else " of operations that were ok"
    return f"Median (p95) response time{of}: {', '.join(parts)}"


def _answered(figures: OperationFigures) -> float:
    """Return the share of the sent operations that were ok or timed out."""
    counts = figures.operations
    return (counts.ok + counts.timed_out) / max(1, counts.sent)


def _panel(panel: Axes, findings: Findings, name: str, colour: str) -> None:
    responses = findings.responses[name]
    good = len(responses.dots.get(Outcome.OK, ((),))[0])
    looks = {
        Outcome.OK: (colour, "o", 5.0, 0.85 if good < 300 else 0.55 if good < 2000 else 0.3),
        Outcome.FAILED: (style.MUTED, "+", 20.0, 1.0),
        "timed out": (style.MUTED, "^", 9.0, 0.8),
    }
    for layer, (ink, marker, size, alpha) in looks.items():
        seconds, times = responses.dots.get(layer, ((), ()))
        if len(seconds):
            panel.scatter(
                seconds, times, s=size, marker=marker, color=ink, alpha=alpha, linewidths=0 if marker in "o^" else 0.7,
                label=layer, rasterized=len(seconds) > style.SCATTER_AS_PATHS,
            )  # fmt: skip
    marks.draw_bins(panel, responses.n, responses.cuts, responses.binned)
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
    stages = {name: record.stages(traffic=name) for name in names}
    names = [name for name in names if record.time("response_time_ms", stages[name]).n]
    if not names:
        return NoData("Response time beside service time", "no operation was answered with success or timed out")
    names, left_out = deciding(findings, names)
    figure, axes = style.panels(len(names), 2.3, columns=min(3, len(names)), share_x=False)
    for panel, name, colour in style.entries(record, axes, names):
        style.ecdf(
            panel, record.time("response_time_ms", stages[name]), color=style.INK, ls="-", lw=1.5, label="response time"
        )
        service = record.time("service_time_ms", stages[name])
        style.ecdf(panel, service, color=colour, ls=(0, (4, 1.5)), lw=1.5, label="service time of a request")
        style.log(panel, "x")
        panel.set_xlabel("ms (log)")
    axes[0].set_ylabel("share at most this long, %")
    caption = (
        "Response time runs from the intended start, service time from a request’s first byte sent; the gap "
        "is waiting and "
        "retries."
    )
    return Drawing(_service_title(findings), caption, figure, left_out=left_out)


def _service_title(findings: Findings) -> str:
    """Return each operation's wait beyond its own request, since medians cannot be subtracted."""
    record, waits = findings.record, {}
    for name, plan in record.info.traffic.items():
        waited = record.times.waited.get(record.stage_indices(record.stages(traffic=name)))
        if plan.operation not in POLLED_OPERATIONS and interval_ranks(waited.n, 0.5) is not None:
            waits[name] = waited
    if not waits:
        return "Too few answers for the waits of operations beyond their request"
    half = words.duration_ms(max(0.0, *(float(waited.at([rank(waited.n, 0.5)])[0]) for waited in waits.values())))
    most = max(waits, key=lambda each: waits[each].most)
    whose = f" of {style.names_or_count(list(waits))}" if len(waits) < len(record.info.traffic) else ""
    at_most = f"{words.duration_ms(max(0.0, waits[most].most))} at most{f' ({most})' if len(waits) > 1 else ''}"
    return f"At the median ok operations{whose} waited {half} or less beyond their answered request, {at_most}"


def draw_heat(findings: Findings) -> Drawing | NoData | None:
    """Draw a panel per traffic entry with many operations; None for few, which the scatter shows."""
    if not findings.heats:
        return None
    heats, left_out = deciding_of(findings, findings.heats)
    figure, axes = style.panels(len(heats), 1.9)
    for panel, name, colour in style.entries(findings.record, axes, heats):
        _heat_panel(figure, panel, heats[name], colour)
    marks.over_time(axes, findings.record, list(heats))
    caption = (
        "Each field counts the ok and timed-out operations of a time span with such a response time, by "
        "intended start; "
        "stronger colours mean more, on a log scale."
    )
    tables = tuple(_heat_table(name, heat) for name, heat in heats.items())
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
        whose = style.names_or_count(list(drifts))
        same = f"is that of the first, within {np.ceil((most - 1) * 100):.0f}\u00a0%"
        return f"The median response time of {whose} in the last third of the run {same}"
    times = f"{low:.2g} to {high:.2g} times that of the first"
    return f"The median response time of {name} in the last third of the run is {times}"


def _heat_table(name: str, heat: Heat) -> Table:
    n = heat.counts.sum(axis=1).tolist()
    medians = np.sqrt(heat.levels[:-1] * heat.levels[1:])[_median_fields(heat.counts)].tolist()
    rows = tuple(
        (TableCell(f"{heat.cuts[k]:g}"), words.count(n[k]), words.milliseconds(medians[k] if n[k] else None))
        for k in picked(len(n), 16).tolist()
    )
    columns = "#From s | #Operations | #Median ms, ± 8 %"
    return table_of("data", f"Response times of {name}", columns, rows, f"{len(rows)} of {len(n)} stretches.")
