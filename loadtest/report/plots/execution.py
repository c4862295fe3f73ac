"""Plots of executionTime, which the server reports, and of overhead, the client's wait beyond executionTime."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from loadtest import words
from loadtest.analysis.columns import StageKey
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationStage
from loadtest.analysis.run_record import Record
from loadtest.analysis.timelines import Executions
from loadtest.contract import EXECUTING_OPERATIONS, POLLED_OPERATIONS, JobState, Operation
from loadtest.record.effective_scenario import written_entry
from loadtest.report.deciding import deciding
from loadtest.report.facts import start_of
from loadtest.report.page import Point, Table, TableColumns, table_of
from loadtest.report.plots import marks, style
from loadtest.report.plots.drawing import MOST_NAMED, Drawing, entries, entry_panels, medians, names_or_count, ok_share

_RETRIES: Final = "429s and waits before retries"
_LEGEND: Final = {
    "lag": "start lag",
    "retries": _RETRIES,
    "execution": "execution / seen pending",
    "overhead": "overhead: transport, submit",
    "between": "between two polls",
}
"""Legend labels by the look of a bar's part."""
_NOTHING: Final = 0.01
"""The title names the largest part of the time if executionTime has less than this share in every entry."""
_MOST_ROWS: Final = 30
"""The panels of the figure share this many rows."""
_LEAST_ROWS: Final = 5
"""A panel may have this many rows even if the figure then has more than ``_MOST_ROWS``."""
_MOST_TIMES: Final = 5
"""The entries of an operation share a scale if their longest bars differ by at most this factor."""


@dataclass(frozen=True)
class _Row:
    """A bar whose parts add up to the mean response time. A part is (label, ms, key of ``_LEGEND``)."""

    stage: str
    n: int
    parts: tuple[tuple[str, float, str], ...]
    execution: float | None

    @property
    def ms(self) -> float:
        return sum(ms for _, ms, _ in self.parts)


def draw_decomposition(findings: Findings) -> Drawing | Point:
    """Draw the parts of mean times, with a panel for each traffic entry and a bar for each stage."""
    record = findings.record
    rows = {name: [_row(record, key) for key in record.stages(traffic=name)] for name in record.info.traffic}
    found = {name: bars for name, row in rows.items() if (bars := [bar for bar in row if bar.n])}
    if not found:
        return Point("Mean time by part", "no operation succeeded")
    shown, left_out = deciding(findings, found)
    tables, most = tuple(_table(name, bars) for name, bars in shown.items()), max(_LEAST_ROWS, _MOST_ROWS // len(shown))
    cut = max(map(len, shown.values())) > most
    longest_first = {name: sorted(bars, key=lambda bar: -bar.ms)[:most] for name, bars in shown.items()}
    shown = {name: [bar for bar in bars if bar in longest_first[name]] for name, bars in shown.items()}
    figure, axes = style.row_panels(map(len, shown.values()), 0.36)  # two lines of text
    longest = {name: max(bar.ms for bar in bars) or 1.0 for name, bars in shown.items()}
    keys = dict[str, dict[str, Patch]]()
    for panel, name, colour in entries(record, axes, shown):
        operation = record.info.traffic[name].operation
        alike = [longest[each] for each in shown if record.info.traffic[each].operation == operation]
        # Entries of one operation share a scale, so that bars can be compared, unless a bar would be too short to see.
        shared = max(alike) <= _MOST_TIMES * min(alike)
        for _, _, look in shown[name][0].parts:
            whose = "all" if look == "lag" else colour
            keys.setdefault(_LEGEND[look], {}).setdefault(whose, Patch(**_looks(colour)[look]))
        _bars(panel, shown[name], colour, max(alike) if shared else longest[name])
    axes[-1].set_xlabel("mean time of an ok operation, ms")
    style.keys(figure, {label: tuple(keys[label].values()) for label in _LEGEND.values() if label in keys})
    caption = "Means of ok operations; the bracket is executionTime. A job’s result becomes ready “between two polls”."
    if cut:
        caption += f" Only the {most} slowest stages of each entry are drawn; the table lists all stages."
    return Drawing(_decomposition_title(findings, found), caption, figure, tables, left_out)


def _table(name: str, bars: list[_Row]) -> Table:
    def part(place: int, bar: _Row) -> str:
        return words.milliseconds(bar.parts[place][1])

    columns: TableColumns[_Row] = {
        "Stage": lambda bar: bar.stage,
        "#n": lambda bar: bar.n,
        **{f"#{label} ms": partial(part, place) for place, (label, _, _) in enumerate(bars[0].parts)},
        "#executionTime ms": lambda bar: words.milliseconds(bar.execution),
    }
    return table_of(f"Means of {name}", columns, bars)


def _row(record: Record, key: StageKey) -> _Row:
    lag, retries, total, submit, lower = (
        record.means.mean(key.place, name) or 0.0
        for name in ("start_lag", "retries", "response", "submit", "pending_lower")
    )
    execution = record.means.mean(key.place, "execution")
    parts: list[tuple[str, float, str]] = [("start lag", lag, "lag")]
    if written_entry(record.info, key.traffic).retries:
        parts += [(_RETRIES, retries, "retries")]
    lag += retries
    if key.operation == Operation.SYNC_RUN:
        spent = min(execution or 0.0, total - lag)
        parts += [("execution", spent, "execution"), ("overhead", total - lag - spent, "overhead")]
    elif key.operation in POLLED_OPERATIONS:
        sure = max(0.0, lower - lag - submit)
        parts += [("submit", submit, "overhead"), (JobState.PENDING, sure, "execution")]
        parts += [("between polls", max(0.0, total - lag - submit - sure), "between")]
    else:
        parts += [("service", total - lag, "overhead")]
        execution = None
    return _Row(key.stage.name, int(record.means.n[key.place]), tuple(parts), execution)


def _looks(colour: str) -> dict[str, dict[str, Any]]:
    return {
        "lag": {"color": style.INK},
        "execution": {"color": colour},
        "retries": {"facecolor": style.PAPER, "edgecolor": colour, "hatch": "....", "linewidth": 0.6},
        "overhead": {"color": colour, "alpha": 0.45},
        "between": {"facecolor": style.PAPER, "edgecolor": colour, "hatch": "////", "linewidth": 0.6},
    }


def _bars(panel: Axes, bars: list[_Row], colour: str, longest: float) -> None:
    looks = _looks(colour)
    for place, bar in enumerate(bars):
        left = 0.0
        for _, ms, look in bar.parts:
            panel.barh(place, ms, left=left, height=0.5, **looks[look])
            left += ms
        text = words.duration_ms(left)
        if bar.execution is not None:
            text += f"{style.DOT}executionTime {words.duration_ms(bar.execution)}"
            begin, y = sum(ms for _, ms, look in bar.parts[:2] if look != "execution"), place - 0.36
            end = begin + bar.execution
            panel.plot([begin, begin, end, end], [y + 0.07, y, y, y + 0.07], color=style.MUTED, lw=1.0)
        style.note(panel, text, (left, place), (5, 0), va="center", fontsize=8)
    style.rows(panel, [f"{bar.stage}\nn = {words.count(bar.n)}" for bar in bars], top=-0.62)
    panel.set_xlim(0, longest * 1.32)
    style.plain(panel.xaxis)
    panel.spines["left"].set_visible(False)


def _decomposition_title(findings: Findings, found: dict[str, list[_Row]]) -> str:
    shares = {}
    for name, bars in found.items():
        known = [(bar.n, bar.ms, bar.execution) for bar in bars if bar.execution is not None]
        n = sum(n for n, _, _ in known)
        if known and (total := sum(n * ms for n, ms, _ in known) / n):
            shares[name] = min(sum(n * execution for n, _, execution in known) / n / total, 1.0)
    if not shares:
        return "Mean time of ok operations by part"
    if max(shares.values()) < _NOTHING:
        return f"Largest part of the mean time of ok operations: {_largest_parts(found)}"
    said = ", ".join(f"{words.share(share)} for {name}{ok_share(findings, name)}" for name, share in shares.items())
    if len(shares) > MOST_NAMED:
        said = words.listed(shares, words.share)
    return f"Share of executionTime in the mean time of ok operations: {said}"


def _largest_parts(found: dict[str, list[_Row]]) -> str:
    """Return the largest part of each entry's time: ``overhead for greetings; between polls for jobs``."""
    said: dict[str, list[str]] = {}
    for name, bars in found.items():
        sums = Counter[str]()
        for bar in bars:
            sums.update({label: bar.n * ms for label, ms, _ in bar.parts})
        said.setdefault(sums.most_common(1)[0][0], []).append(name)
    return "; ".join(f"{label} for {names_or_count(names)}" for label, names in said.items())


def why_none(findings: Findings) -> str:
    """Return why there is no executionTime; empty if there is any."""
    if any(entry.n for entry in findings.executions.values()):
        return ""
    overall = findings.metrics.overall
    if overall.requests.sent and overall.requests.throttled == overall.requests.sent:
        return "every request got 429"
    if not any(plan.operation in EXECUTING_OPERATIONS for plan in findings.record.info.traffic.values()):
        return "no traffic entry executes a workflow: retrieved jobs ran earlier"
    return "no answer has an executionTime" if overall.operations.ok else "no operation ended with success"


def over_time(findings: Findings) -> Drawing | Point:
    """Draw executionTimes over time, with a panel for each traffic entry that has any."""
    if why := why_none(findings):
        return Point("executionTime over time", why)
    figure, drawn, left_out = entry_panels(findings, findings.executions, 1.7)
    for panel, name, entry, colour in drawn:
        seconds, execution, _ = entry.dots
        marks.draw_dots(panel, seconds, execution, colour, "an operation")
        marks.draw_bins(panel, findings.record, name, entry.series.cuts, entry.series.bins())
        _span(panel, execution)
    marks.over_time(figure.axes, findings.record, [name for _, name, _, _ in drawn])
    start = start_of(findings.record)
    caption = f"Each dot is an operation at its {start}; lines are percentiles (dotted: too few samples)."
    title = medians(findings, findings.executions, "executionTime", lambda part: part.execution_time_ms)
    return Drawing(title, caption, figure, left_out=left_out)


def against_latency(findings: Findings) -> Drawing | None:
    """Draw executionTime against the client's wait for each traffic entry that has an impossible executionTime."""
    anomalous = {name: entry for name, entry in findings.executions.items() if entry.anomaly_count}
    if not anomalous:
        return None
    figure, drawn, left_out = entry_panels(findings, anomalous, 2.6, columns=3)
    for panel, name, entry, colour in drawn:
        _square(panel, entry, colour)
        sync = findings.record.info.traffic[name].operation == Operation.SYNC_RUN
        panel.set_xlabel(f"{'service time' if sync else 'submit to result'}, as the client saw it, ms (log)")
    figure.axes[0].set_ylabel("executionTime, ms (log)")
    caption = (
        "Above the line, an executionTime is longer than the client waited; values below zero are drawn at the lower "
        "edge."
    )
    count = sum(entry.anomaly_count for entry in anomalous.values())
    which = f"executionTime{'' if count == 1 else 's'} of {', '.join(anomalous)}"
    title = f"{words.count(count)} {which} cannot be true: below zero, or longer than the client waited"
    return Drawing(title, caption, figure, left_out=left_out)


def _span(panel: Axes, values: Any) -> None:
    """Set a log axis that spans at least a factor of four, so that a steady value looks steady."""
    known = values[values > 0]
    low, high = (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)
    middle = (low * high) ** 0.5
    margin = 1.1 * (high / low) ** 0.07
    style.log(panel, "y", "ms", min(low / margin, middle / 2), max(high * margin, middle * 2))


def _square(panel: Axes, entry: Executions, colour: str) -> None:
    (_, execution, seen), (anomalous, anomalous_seen) = entry.dots, entry.anomalous
    every = np.concatenate((execution, seen, anomalous, anomalous_seen))
    every = every[every > 0]
    low, high = (float(every.min()) / 1.5, float(every.max()) * 1.5) if len(every) else (0.5, 2.0)
    marks.draw_dots(panel, seen, np.maximum(execution, low), colour, "an operation")
    if len(anomalous):
        marks.draw_dots(
            panel, anomalous_seen, np.maximum(anomalous, low), style.THROTTLED, "impossible", marker="x", size=22,
            alpha=1.0, linewidths=1.1, clip_on=False, zorder=3,
        )  # fmt: skip
    panel.plot([low, high], [low, high], color=style.INK, lw=0.9, label="as long as the client waited")
    panel.fill_between([low, high], [low, high], high, color=style.SHADE, lw=0, zorder=0)
    style.log(panel, "x", "", low, high)
    style.log(panel, "y", "", low, high)


_MOST_LEVEL: Final = 4
"""If there are more stages than this, their names are turned, because they have no room side by side."""


def draw_overhead(findings: Findings) -> Drawing | Point:
    """Draw distributions of executionTime and overhead by traffic entry, and overhead by stage if there are several."""
    if why := why_none(findings):
        return Point("Overhead beyond executionTime", why)
    shown = {name: figures for name in findings.executions if (figures := findings.metrics.traffic[name]).overhead_ms.n}
    if not shown:
        return Point("Overhead beyond executionTime", "only the warm-up has an executionTime")
    title = medians(findings, shown, "overhead", lambda part: part.overhead_ms)
    shown, left_out = deciding(findings, shown, 5)
    columns = 1 + any(len(figures.stages) > 1 for figures in shown.values())
    figure, axes = style.panels(columns * len(shown), 2.1, columns=columns, share_x=columns == 1)
    for place, (panel, name, colour) in enumerate(entries(findings.record, axes[::columns], shown)):
        own = findings.record.stages(traffic=name)
        execution, overhead = (findings.record.time(each, own) for each in ("execution_time_ms", "overhead_ms"))
        style.ecdf(panel, execution, color=style.INK, ls=(0, (1, 1.5)), lw=1.1, label="executionTime")
        style.ecdf(panel, overhead, color=colour, ls="-", lw=1.5, label="overhead")
        style.log(panel, "x")
        panel.set_ylabel("at most this long, %")
        if columns > 1:
            panel.set_xlabel("ms (log)")
            _by_stage(axes[place * 2 + 1], shown[name].stages, colour)
    axes[-columns].set_xlabel("ms (log)")
    caption = "Overhead is the service time, or a job’s time from submit to result, without the executionTime."
    if columns > 1:
        caption += " Stages are in the order of the run, with 95 % intervals of their medians (sampling only)."
    return Drawing(title, caption, figure, left_out=left_out)


def _by_stage(panel: Axes, stages: Mapping[str, OperationStage], colour: str) -> None:
    """Draw median and p95 of each stage. No line connects stages, because nothing was measured between them."""
    panel.set_title("by stage")
    known = {name: part.overhead_ms for name, part in stages.items() if part.overhead_ms.p50 is not None}
    if not known:
        panel.text(
            0.5, 0.5, "no data, because no stage\nhas a median", transform=panel.transAxes, color=style.MUTED,
            ha="center", va="center",
        )  # fmt: skip
        return
    places, names = range(len(known)), list(known)
    low, high = np.array([each.p50_interval for each in known.values()]).T
    middles, tails = np.array([(each.p50, each.p95) for each in known.values()], float).T
    panel.vlines(places, low, high, color=colour, lw=2.2, alpha=0.5)
    panel.plot(places, middles, color=colour, lw=0, marker="o", ms=4.5, label="p50 of a stage")
    if np.isfinite(tails).any():
        panel.plot(places, tails, color=style.INK, lw=0, marker="^", ms=4.5, label="p95 of a stage")
    named = places[:: 1 + len(names) // 12]
    panel.set_xticks(named, [names[k] for k in named], rotation=30 if len(names) > _MOST_LEVEL else 0)
    panel.set(
        xlim=(-0.5, len(names) - 0.5), xlabel="stage", ylabel="overhead, ms",
        ylim=(0, max(float(np.nanmax([high, tails])), 1e-3) * 1.2),
    )  # fmt: skip
    style.plain(panel.yaxis)
