"""Plots of a run's operations: comparisons, polls of jobs, the slowest operations, and the punctuality of starts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from loadtest import words
from loadtest.analysis.answers import ComparisonAnswer, SideFigure
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import JobFigures, JobStage
from loadtest.analysis.timelines import Lags
from loadtest.contract import POLLED_OPERATIONS, THROTTLED_STATUS, Operation, Outcome
from loadtest.record.figures import SlowOperation
from loadtest.record.generator_limits import DISPATCH_LAG_MS
from loadtest.report import answers
from loadtest.report.deciding import MOST, deciding
from loadtest.report.facts import start_of
from loadtest.report.page import Point
from loadtest.report.plots import marks, style
from loadtest.report.plots.drawing import Drawing, entries
from loadtest.report.tables.target import polling_table, slowest, slowest_table
from loadtest.units import Unit

_SCALE: Final[dict[Unit, tuple[float, str]]] = {
    "ms": (1.0, "ms"), "share": (100.0, "%"), "per_s": (1.0, "1/s"), "number": (1.0, ""),
}  # fmt: skip


def draw_answers(findings: Findings) -> Drawing | None:
    """Draw a panel for each of the first four metrics of each comparison, with a dot and an interval for each side."""
    drawn = [
        (found, place)
        for found in findings.answers
        for place in range(min(4, len(found.by)))
        if any(side.figures[place].value is not None for side in found.sides)
    ]
    if not drawn:
        return None
    left, drawn = len(drawn) - MOST, drawn[:MOST]
    most = max(len(found.sides) for found, _ in drawn)
    figure, axes = style.panels(len(drawn), 0.62 + 0.27 * most, columns=min(2, len(drawn)), share_x=False)
    for panel, (found, place) in zip(axes, drawn, strict=True):
        _answer_panel(panel, findings, found, place)
    caption = (
        "Dots are figures with 95 % intervals (an arrow: no upper bound); the table has the intervals of differences."
    )
    if left > 0:
        caption += f" The figures of {left} more panels are in the tables."
    return Drawing(words.capital(answers.answer(findings)), caption, figure, answers.answer_tables(findings))


def _answer_panel(panel: Axes, findings: Findings, found: ComparisonAnswer, place: int) -> None:
    figures = [side.figures[place] for side in found.sides]
    factor, unit_name = _SCALE[figures[0].unit]
    ends = [end for each in figures for end in (each.value, *(each.interval or ())) if end is not None]
    longest = max(filter(math.isfinite, ends), default=0.0)
    if unit_name == "ms" and longest >= 1000:
        factor = 0.001
        unit_name = "s"
    right = longest * factor * 1.12 or 1.0
    style.rows(panel, [style.short(side.name) for side in found.sides])
    panel.tick_params(axis="y", labelcolor=style.INK)
    for row, (side, each) in enumerate(zip(found.sides, figures, strict=True)):
        operation = findings.record.info.traffic[found.entry or side.name].operation
        lead = side.name == found.chosen or (found.kind == "effect" and row == 0)
        _answer_dot(panel, each, row, (factor, right, style.OPERATIONS[operation]), lead=lead)
    name = answers.label(found.by[place])
    panel.set(xlim=(0, right * 1.16), title=name if found.entry is None else f"{found.entry}: {name}", xlabel=unit_name)
    style.plain(panel.xaxis)


def _answer_dot(panel: Axes, figure: SideFigure, row: int, how: tuple[float, float, str], *, lead: bool) -> None:
    factor, right, colour = how
    if figure.value is None and not figure.infinite:
        panel.text(right * 0.01, row, figure.why, va="center", color=style.MUTED, fontsize=7)
        return
    low, high = figure.interval or (figure.value, figure.value)
    begin = (right if figure.infinite else 0.0) if low is None else low * factor
    end = right if high is None else high * factor
    ink = style.FADED if figure.infinite else colour
    if figure.interval is not None or figure.infinite:
        panel.plot([begin, end], [row, row], color=ink, lw=2.4, alpha=0.55)
    if high is None or figure.infinite:
        panel.plot([end], [row], marker=">", color=ink, ms=5, ls="")
    if figure.value is not None:
        face = colour if lead else "none"
        panel.plot([figure.value * factor], [row], marker="o", ms=6, color=colour, mfc=face, clip_on=False, ls="")
    weight = "bold" if lead else "normal"
    style.note(panel, answers.value(figure), (end, row), (7, 0), va="center", color=style.INK, fontweight=weight)


_LINES: Final[tuple[Any, ...]] = (
    "-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1, 1.5)), (0, (1, 3)), (0, (10, 3)), (0, (4, 1, 1, 1, 1, 1)),
)  # fmt: skip
_MOST_LINES: Final = 8
"""The left panel of ``draw_polls`` has at most this many lines, and the right panel at most this many rows."""


def _why_none(findings: Findings) -> str:
    """Return why there are no data on jobs; empty if there are data."""
    jobs = [figures for figures in findings.metrics.traffic.values() if isinstance(figures, JobFigures)]
    if not jobs:
        return "no traffic entry submits jobs"
    if any(figures.time_to_result_lower_ms.n for figures in jobs):
        return ""
    sent = sum(figures.requests.sent for figures in jobs)
    if not sent:
        return "no job was submitted"
    if sum(figures.requests.throttled for figures in jobs) == sent:
        return "every submit got 429"
    return "no job was accepted, or none was seen to end and none was given up"


def draw_polls(findings: Findings) -> Drawing | Point:
    """Draw the distribution of polls per job, and each stage's use of the retrieval limit."""
    if why := _why_none(findings):
        return Point("Polling cost", why)
    figure, (left, right) = style.panels(2, 2.4, columns=2, share_x=False)
    plans = {name: plan for name, plan in findings.record.info.traffic.items() if plan.operation in POLLED_OPERATIONS}
    lines = max(len(plan.stages) for plan in plans.values())
    by_stage = lines <= _MOST_LINES
    names, left_out = deciding(findings, plans, _MOST_LINES // lines if by_stage else _MOST_LINES)
    _per_job(left, findings, names, by_stage=by_stage)
    _spent(right, figure, findings)
    caption = "Left: jobs that ended or were given up; right: retrievals in each stage, by sending time."
    if len(_polls_stages(findings)) > _MOST_LINES:
        caption += f" The right panel shows the {_MOST_LINES} stages with the highest use of the limit."
    return Drawing(_polls_title(findings), caption, figure, (polling_table(findings),), left_out)


def _per_job(panel: Axes, findings: Findings, names: Iterable[str], *, by_stage: bool) -> None:
    record, lines, most = findings.record, cycle(_LINES), 1.0
    for name in names:
        stages = record.stages(traffic=name)
        shown = {f"{name} · {stage.stage.name}": [stage] for stage in stages} if by_stage else {name: stages}
        for label, own in shown.items():
            polls = record.time("polls", own)
            if not polls.n:
                continue
            look = {"color": style.OPERATIONS[record.info.traffic[name].operation], "ls": next(lines), "lw": 1.5}
            style.ecdf(panel, polls, floor=None, label=style.short(label), **look)
            most = max(most, polls.most)
    style.plain(panel.xaxis)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlim(0, most * 1.5 + 0.5)  # room for the legend beside the last step
    panel.set(xlabel="polls of a job", ylabel="share of jobs, %", title="Polls of a job")
    panel.legend(loc="lower right")


def _spent(panel: Axes, figure: Figure, findings: Findings) -> None:
    stages = {name: figures.polling for name, figures in _polls_stages(findings).items()}
    costly = sorted(stages, key=lambda name: -(stages[name].share_of_limit or 0.0))[:_MOST_LINES]
    stages = {name: each for name, each in stages.items() if name in costly}
    of_limit = all(each.share_of_limit is not None for each in stages.values())
    handles: list[Any] = []
    longest = 100.0
    for place, each in enumerate(stages.values()):
        share = (each.share_of_limit if of_limit else each.share_of_retrievals) or 0.0
        everything = (each.limit_use or 0.0) if of_limit else float(bool(each.retrievals))
        polls, rest = share * 100, (everything - share) * 100
        handles = [
            panel.barh(place, polls, height=0.5, color=style.OPERATIONS[Operation.ASYNC_RUN]),
            panel.barh(place, rest, left=polls, height=0.5, color=style.OPERATIONS[Operation.RETRIEVAL], alpha=0.6),
        ]
        said = f"{words.count(polls)}\u00a0%" if polls > 100 else words.share(polls / 100)
        style.note(
            panel, f"polls {said}{style.DOT}n = {words.count(each.retrievals)}", (0, place - 0.38), (2, 0), va="center",
            fontsize=8, zorder=4, bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        longest = max(longest, polls + rest)
    style.rows(panel, [style.short(name) for name in stages], top=-0.75)
    panel.set_xlim(0, longest * 1.05)
    style.plain(panel.xaxis)
    if of_limit:
        handles.append(panel.axvline(100, color=style.INK, lw=1.0, ls=(0, (4, 2))))
    asked = "use of the retrieval limit" if of_limit else "share of all retrievals"
    panel.set(xlabel=f"{asked}, %", title=asked.capitalize())
    style.keys(figure, dict(zip(("polls", "retrieves", "what the limit allows"), handles, strict=False)))


def _polls_stages(findings: Findings) -> Mapping[str, JobStage]:
    jobs = findings.metrics.operations.get(Operation.ASYNC_RUN)
    return jobs.stages if isinstance(jobs, JobFigures) else {}


def _polls_title(findings: Findings) -> str:
    spent = [(figures.polling, name) for name, figures in _polls_stages(findings).items() if figures.polling.retrievals]
    if not spent:
        return "No job was polled or retrieved"
    most, name = max(spent, key=lambda each: each[0].share_of_limit or each[0].share_of_retrievals or 0.0)
    text = f"In “{name}”, polls are {words.share(most.share_of_retrievals)} of the retrievals"
    if most.share_of_limit is None:
        return text
    return f"{text} and ask for {words.times_what(most.share_of_limit)} what their limit allows"


_HALF: Final = 0.31
"""Half of the height of a bar, in rows."""
_ANSWER: Final = 0.4
"""Opacity of a request's bar after the first byte of its answer."""
_Bar = tuple[int, float, float]
"""Row, begin and end of a bar."""
_ENDED: Final[dict[str, str]] = {
    Outcome.THROTTLED: "was throttled (429) after",
    Outcome.FAILED: "failed after",
    Outcome.TIMED_OUT: "timed out after",
}


def draw_slowest(findings: Findings) -> Drawing | Point:
    """Draw the slowest operations: a panel for each traffic entry, a row for each operation, a bar for each request."""
    found = slowest(findings)
    if not found:
        return Point("The slowest operations", "no operation was answered")
    shown = {one.traffic: [each for each in found if each.traffic == one.traffic] for one in found}
    shown, left_out = deciding(findings, shown)
    figure, axes = style.row_panels(map(len, shown.values()), 0.21)
    colours = dict[str, None]()
    for panel, name, colour in entries(findings.record, axes, shown):
        colours[colour] = None
        _waterfall(panel, shown[name], colour)
        style.rows(panel, [words.count(one.arrival) for one in shown[name]])
        panel.set_xlim(0, max(one.response_ms for one in shown[name]) * 1.14)
        style.plain(panel.xaxis)
    axes[-1].set_xlabel(f"ms since the {start_of(findings.record)}")
    style.keys(
        figure,
        {
            "waiting for the next request": Patch(color=style.SHADE),
            "start lag": Patch(color=style.INK),
            "request, until its first byte": tuple(Patch(color=colour) for colour in colours),
            "rest of its answer": tuple(Patch(color=colour, alpha=_ANSWER) for colour in colours),
            "429": Patch(color=style.THROTTLED),
        },
    )
    caption = (
        "Each row is an operation with its arrival’s number, each bar is a request; gaps are poll intervals or backoff."
    )
    worst = found[0]
    asked = words.counted(len(worst.phases), "request")
    ended = f"{_ENDED.get(worst.outcome, 'took')} {words.duration_ms(worst.response_ms)}"
    title = f"The slowest operation, of {worst.traffic}, {ended} in {asked}"
    return Drawing(title, caption, figure, (slowest_table(findings),), left_out)


def _waterfall(panel: Axes, shown: Sequence[SlowOperation], colour: str) -> None:
    """Draw all bars of a colour at once, because drawing them one by one would take most of the time."""
    waits, lags = (style.SHADE, 1.0), (style.INK, 1.0)
    inks = [(ink, alpha) for ink in (colour, style.THROTTLED) for alpha in (1.0, _ANSWER)]
    bars: dict[tuple[str, float], list[_Bar]] = {look: [] for look in (waits, lags, *inks)}
    for place, one in enumerate(shown):
        bars[waits].append((place, 0.0, one.response_ms))
        bars[lags] += [(place, 0.0, one.start_lag_ms)] if one.start_lag_ms else []
        least = one.response_ms * 0.002  # a shorter bar would not be visible
        for phase in one.phases:
            end = one.response_ms if phase.end_ms is None else phase.end_ms
            first = end if phase.first_byte_ms is None else phase.first_byte_ms
            ink = style.THROTTLED if phase.status == THROTTLED_STATUS else colour
            bars[ink, 1.0].append((place, phase.start_ms, max(first, phase.start_ms + least)))
            bars[ink, _ANSWER].append((place, first, end))
        ended = "" if one.outcome == Outcome.OK else f"  {one.outcome.replace('_', ' ')}"
        text = f"{words.duration_ms(one.response_ms)}{ended}"
        style.note(panel, text, (one.response_ms, place), (4, 0), va="center", fontsize=7, color=style.MUTED)
    for (ink, alpha), found in bars.items():
        if not found:
            continue
        row, left, right = np.array(found, float).T
        low, high = row - _HALF, row + _HALF
        corners = np.stack([left, low, right, low, right, high, left, high], axis=1).reshape(-1, 4, 2)
        panel.add_collection(PolyCollection(list(corners), color=ink, alpha=alpha, lw=0), autolim=False)


_FLOOR_MS = 0.01
"""Shorter lags are drawn at this value, because a log scale has no zero."""


def draw_lag(findings: Findings) -> Drawing | Point:
    """Draw each entry's longest start and dispatch lag in each time bin, and the distributions of all lags."""
    record = findings.record
    if not findings.lags:
        return Point("Start lag of operations", "no operation was sent")
    figure, (panel, spread) = style.panels(2, 1.9, share_x=False)
    shown, left_out = deciding(findings, findings.lags)
    for name, lags in shown.items():
        _lag_lines(panel, lags, f"{name}: worst of a bin", style.line_of(record, name))
    worst = np.concatenate([lags.longest[0] for lags in findings.lags.values()])
    top = 4 * float(np.max(worst, where=np.isfinite(worst), initial=DISPATCH_LAG_MS))
    panel.axhline(DISPATCH_LAG_MS, label=f"limit of the dispatch lag’s p99, {DISPATCH_LAG_MS:g} ms", **style.LIMIT)
    marks.mark_stages(panel, record)
    style.log(panel, "y", "lag, ms", _FLOOR_MS, top)
    marks.time_axis(panel, record)
    for lag, look in (("start", {"lw": 2.6, "alpha": 0.4}), ("dispatch", {"lw": 0.9})):
        every = record.time(f"{lag}_lag_ms", record.stages())
        style.ecdf(spread, every, floor=_FLOOR_MS, color=style.INK, label=f"all {lag} lags", **look)
    spread.axvline(DISPATCH_LAG_MS, **style.LIMIT)
    style.log(spread, "x", "lag, ms", _FLOOR_MS, top)
    spread.set_ylabel("at most this late, %")
    caption = "Start lag lasts until connecting or sending begins; dispatch lag (thin) excludes waits for a user."
    late = next(check for check in findings.checks if check.name == "dispatch lag p99")
    starts = record.time("start_lag_ms", record.stages())
    longest = words.duration_ms(starts.most) if starts.n else words.NOTHING
    how = "Requests left on time" if late.ok else "The generator was late"
    title = f"{how}: dispatch lag p99 {late.value}, worst start lag {longest}"
    return Drawing(title, caption, figure, left_out=left_out)


def _lag_lines(panel: Axes, lags: Lags, label: str, look: dict[str, Any]) -> None:
    middles = (lags.cuts[:-1] + lags.cuts[1:]) / 2
    dots = "." if len(middles) < 12 else ""
    looks = ({"lw": 1.5, "label": label, "marker": look["marker"] or dots}, {"lw": 0.7, "alpha": 0.8, "marker": dots})
    for worst, more in zip(lags.longest, looks, strict=True):
        panel.plot(middles, np.fmax(worst, _FLOOR_MS + 0 * worst), **{**look, "markevery": None, **more})
