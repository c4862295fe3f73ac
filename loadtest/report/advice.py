"""``python -m loadtest.report.advice DIR``: make the pages of DIR's advice from its ``advice.json`` alone."""

import sys
from pathlib import Path

from markupsafe import Markup

from loadtest.advice.results import FILE_NAME, Advice, PolicyResult, load
from loadtest.contract import Operation
from loadtest.errors import ExitCode
from loadtest.program import command_line
from loadtest.report.__main__ import make_pages, short
from loadtest.report.page import UNKNOWN, NextStep, Page, Section, Table, TableCell, TableColumns, table_of
from loadtest.words import count, duration_ms, seconds, times_as


def build(directory: Path) -> Page:
    """Make the page of a directory's advice. Raises ``RecordError`` if ``advice.json`` cannot be read."""
    found = load(directory)
    steps = list[NextStep]()
    facts = [(f"Limiter of {name}", "; or ".join(each)) for name, each in found.limits.items()]
    p50, p95, most = (duration_ms(each * 1000) for each in found.execution_s)
    facts.append(("Execution time", p50 if p50 == most else f"{p50} at the median, 95 % within {p95}, at most {most}"))
    if found.poll_times_s:
        facts.append(("Poll after acceptance", ", ".join(duration_ms(each * 1000) for each in found.poll_times_s)))
    apart = ", ".join(f"{name} {duration_ms(each * 1000)}" for name, each in found.spacing_s.items())
    facts.append(("Safe spacing of each client", apart))
    if confirmed := found.confirmation:
        done = {name: f" ({count(each)} of {count(found.count)} results)" for name, each in confirmed.done.items()}
        times = ", ".join(f"{name} {seconds(each)}{done.get(name, '')}" for name, each in confirmed.seconds.items())
        words = f"Run two policies for real. Expected times: {times}."
        steps.append(NextStep(words, command_line("run", short(directory) / confirmed.file, **confirmed.options)))
    return Page(
        about=("Advice", found.source),
        tab="Advice for a client",
        heading="Which client gets the work done soonest without 429s?",
        tone="good" if found.exit_code == ExitCode.PASS else "bad",
        statements=(found.sentence,),
        reasons=found.reasons,
        steps=tuple(steps),
        sections=(
            Section(tables=(_policies(found),), brief=True),
            Section(facts=tuple(facts)),
        ),
        footer=Markup("Simulated in virtual time; {} has all numbers.").format(FILE_NAME),
    )


def _policies(found: Advice) -> Table:
    def time(row: PolicyResult) -> TableCell:
        if row.seconds is not None:
            return TableCell(seconds(row.seconds))
        if found.rate is not None or row.done is None:
            return UNKNOWN
        return TableCell(f"{count(row.done)} of {count(found.count)} done", tone="bad")

    worst = {row.worst for row in found.policies if row.worst}
    note = "÷ bound: time ÷ the minimum time under the strictest limiter. Wait: from acceptance to the result."
    columns: TableColumns[PolicyResult] = {
        "Policy": lambda row: row.name,
        "#Time": time,
        "#÷ bound": lambda row: None if row.bound_ratio is None else times_as(row.bound_ratio),
        "#429s per 1,000": lambda row: times_as(row.rejected_per_1000),
        "#Wait p95": lambda row: None if row.wait_p95_s is None else duration_ms(row.wait_p95_s * 1000),
        "#Polls per job": lambda row: None if row.polls_per_job is None else times_as(row.polls_per_job),
        "~Worst limit": lambda row: row.worst or None,
        "~Behaviour": lambda row: row.words,
    }
    without = {"#Polls per job"} if found.operation == Operation.SYNC_RUN else set()
    if len(worst) == 1:
        without.add("~Worst limit")
        note += f" Worst limit of every policy: {worst.pop()}."
    shown = {label: of for label, of in columns.items() if label not in without}
    return table_of("Policies", shown, found.policies, note)


if __name__ == "__main__":
    sys.exit(make_pages(FILE_NAME, build, answer=True))
