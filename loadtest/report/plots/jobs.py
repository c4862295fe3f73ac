"""Polling cost of jobs. Their waits have bounds, which a table shows more clearly."""

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import JobFigures, JobStage
from loadtest.contract import POLLED_OPERATIONS, Operation
from loadtest.report.deciding import deciding
from loadtest.report.plots.drawing import Drawing, NoData
from loadtest.report.plots.style import DOT, INK, OPERATIONS, PAPER, ecdf, keys, note, panels, plain, rows, short
from loadtest.report.tables.target import polling_table

_LINES: Final[tuple[Any, ...]] = (
    "-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1, 1.5)), (0, (1, 3)), (0, (10, 3)), (0, (4, 1, 1, 1, 1, 1)),
)  # fmt: skip
_MOST_LINES: Final = 8
"""Lines that a legend in a panel has room for, and bars beside them."""


def _why_none(findings: Findings) -> str:
    """Return why there is no data on jobs; empty if there is any."""
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


def draw_polls(findings: Findings) -> Drawing | NoData:
    """Draw the distribution of polls per job, and each stage's use of the retrieval limit."""
    if why := _why_none(findings):
        return NoData("Polling cost", why)
    figure, (left, right) = panels(2, 2.4, columns=2, share_x=False)
    plans = {name: plan for name, plan in findings.record.info.traffic.items() if plan.operation in POLLED_OPERATIONS}
    lines = max(len(plan.stages) for plan in plans.values())
    by_stage = lines <= _MOST_LINES
    names, left_out = deciding(findings, plans, _MOST_LINES // lines if by_stage else _MOST_LINES)
    _per_job(left, findings, names, by_stage=by_stage)
    _spent(right, figure, findings)
    caption = "Left: jobs that ended or were given up; right: requests of each stage, by when they were sent."
    if not by_stage:
        caption += f" The {_MOST_LINES} stages with the highest use of the limit are shown."
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
            look = {"color": OPERATIONS[record.info.traffic[name].operation], "ls": next(lines), "lw": 1.5}
            ecdf(panel, polls, floor=None, label=short(label), **look)
            most = max(most, polls.most)
    plain(panel.xaxis)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlim(0, most * 1.5 + 0.5)  # a legend beside the last step
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
            panel.barh(place, polls, height=0.5, color=OPERATIONS[Operation.ASYNC_RUN]),
            panel.barh(place, rest, left=polls, height=0.5, color=OPERATIONS[Operation.RETRIEVAL], alpha=0.6),
        ]
        said = f"{words.count(polls)}\u00a0%" if polls > 100 else words.share(polls / 100)
        note(
            panel, f"polls {said}{DOT}n = {words.count(each.retrievals)}", (0, place - 0.38), (2, 0), va="center",
            fontsize=8, zorder=4, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        longest = max(longest, polls + rest)
    rows(panel, [short(name) for name in stages], top=-0.75)
    panel.set_xlim(0, longest * 1.05)
    plain(panel.xaxis)
    if of_limit:
        handles.append(panel.axvline(100, color=INK, lw=1.0, ls=(0, (4, 2))))
    asked = "asked of the retrieval limit" if of_limit else "of all retrievals"
    panel.set(xlabel=f"{asked}, %", title=asked.capitalize())
    keys(figure, dict(zip(("polls", "retrieves", "what the limit allows"), handles, strict=False)))


def _polls_stages(findings: Findings) -> Mapping[str, JobStage]:
    for operation in POLLED_OPERATIONS:
        if isinstance(found := findings.metrics.operations.get(operation), JobFigures):
            return found.stages
    return {}


def _polls_title(findings: Findings) -> str:
    spent = [(figures.polling, name) for name, figures in _polls_stages(findings).items() if figures.polling.retrievals]
    if not spent:
        return "No job was polled or retrieved"
    most, name = max(spent, key=lambda each: each[0].share_of_limit or each[0].share_of_retrievals or 0.0)
    text = f"In “{name}”, polls are {words.share(most.share_of_retrievals)} of the retrievals"
    if most.share_of_limit is None:
        return text
    factor = most.share_of_limit
    of = f"{words.times(factor)}{' of' if factor <= 1 else ''}"
    return f"{text} and ask for {of} what their limit allows"
