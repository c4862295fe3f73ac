"""Tables of a history's runs, and of its audit, for the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from rich.progress import track

from loadtest.compare import amounts
from loadtest.compare.audit import LEAST, Audit, Sensitivity
from loadtest.compare.history import History, growth
from loadtest.compare.measurements import NATURES
from loadtest.compare.shifts import HistoryChange
from loadtest.console import Console, page_console, page_table
from loadtest.program import command_line, pasteable, typed
from loadtest.words import NOTHING, counted, percent

_MOST_PROPOSED: Final = 10
"""A command is printed for at most this many changes."""


def show_history(path: Path, history: History) -> None:
    """Print a history's runs, oldest first."""
    console = page_console()
    runs = history.runs
    accepted, waiting = ([each.id for each in runs if each.status == status] for status in ("accepted", "waiting"))
    counts = f"{counted(len(runs), 'run')}, {len(accepted)} accepted, {len(waiting)} waiting for a decision"
    console.print(f"{path}: {counts}", soft_wrap=True)
    table = page_table({"header": "Run", "no_wrap": True}, "Version", "Verdict", "Status", "Finding or decision")
    for each in runs:
        if each.new_segment:
            table.add_section()
        table.add_row(
            each.id,
            each.measurements.target_version or NOTHING,
            f"{each.line.verdict}{' (rerun)' if each.line.confirms else ''}",
            f"{each.status}{', new baseline' if each.new_segment else ''}",
            each.reason or ("" if each.line.verdict in {"pass", "learning"} else each.line.sentence),
        )
    console.print(table)
    if grown := growth(history):
        console.print(grown, soft_wrap=True)
    if waiting:
        decide = command_line("regression", "accept", waiting[-1], reason="…", history=path)
        console.print(pasteable(f"To decide on a waiting run, use `{decide}`, or `reject`."), soft_wrap=True)


def tracked(items: Sequence[int]) -> Iterable[int]:
    """Return the items of an audit. A terminal shows a progress bar."""
    console = Console(stderr=True)
    return track(items, "Replaying the rule", console=console, transient=True) if console.is_terminal else items


def show_audit(path: Path, history: History, found: Audit) -> None:
    """Print the audit of a history."""
    console = page_console()
    console.print(f"{path}: {_conclusion(found)}", soft_wrap=True)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items())
    console.print(f"Recorded verdicts: {verdicts or 'none'}. {growth(history)}".strip(), soft_wrap=True)
    if found.changes:
        table = page_table("Change", "Since", "Metric", "Size", "95 %", "Also in")
        for change in found.changes:
            table.add_row(*_change(change))
        console.print("\n", table, sep="")
        for line in _proposals(path, found.changes):
            console.print(line, soft_wrap=True)
    if not found.replayed:
        return
    rates = page_table("Replayed checks", "Alarms", "Share", "95 %: at most", "A year", "95 %: at most")
    for name, rate in (("false alarms of the rule", found.false_alarms), ("reruns of the rule", found.reruns)):
        yearly = f"{rate.a_year:.0f}", f"{rate.a_year_upper:.0f}"
        rates.add_row(name, f"{rate.count} of {rate.of}", percent(rate.share), percent(rate.upper), *yearly)
    console.print("\n", rates, "\n", sep="")
    metrics = page_table("Traffic", "Stage", "Metric", "Median", "Run to run", "Smallest change found")
    for each in found.metrics:
        metrics.add_row(*_sensitivity(each))
    console.print(metrics)
    console.print(
        "Only periods without a change are replayed. Each replayed run is compared with other runs of its period, and "
        "a neighbouring run serves as its rerun. A year counts as 365 independent checks. The smallest change is "
        "found in 80 % of cases.",
        soft_wrap=True,
    )


def _conclusion(found: Audit) -> str:
    runs = f"{counted(found.accepted, 'accepted run')} in {counted(found.segments, 'baseline period')}"
    changes = counted(len(found.changes), "unmarked change") if found.changes else "no unmarked change"
    if not found.replayed:
        return f"{runs}, {changes}. A false-alarm rate needs {LEAST} accepted runs without a change between them."
    rate = found.false_alarms
    return (
        f"{runs}, {changes}. In the {found.calm} runs without a change, {rate.count} of {rate.of} replayed checks "
        f"ended in a false alarm. The rate is at most {percent(rate.upper)} (95 %), or {rate.a_year_upper:.0f} a year."
    )


def _change(each: HistoryChange) -> Sequence[str]:
    nature = NATURES[each.metric]
    said = amounts.percent if nature.scale == "log" else partial(amounts.difference, each.metric)
    where = ": ".join(part for part in (each.traffic, nature.name) if part)
    when = f"{each.started[:10]} to {each.until[:10]}" if each.kind == "trend" else each.started[:10]
    also = counted(each.also, "metric") if each.also else ""
    return each.kind, when, where, said(each.change), " to ".join(map(said, each.interval)), also


def _proposals(path: Path, changes: Sequence[HistoryChange]) -> Iterator[str]:
    """Yield commands for the latest changes. They begin a baseline period at a step, or reject an odd run."""
    shown = [each for each in changes if each.kind != "trend"]
    for each in shown[: -1 - _MOST_PROPOSED : -1]:
        _, _, where, size, *_ = _change(each)
        reason, step = f"{where} {size}", each.kind == "step"
        verb, words = ("accept", "Begin a baseline period") if step else ("reject", "Reject the odd run")
        command = command_line("regression", verb, each.run, new_segment=step, reason=reason, history=path)
        yield f"{words}: {typed(command)}"
    if len(shown) > _MOST_PROPOSED:
        yield f"{counted(len(shown) - _MOST_PROPOSED, 'earlier change')} without a command."
    if any(each.kind == "trend" for each in changes):
        yield "Find the cause of a trend, then begin a baseline period with the run after it."


def _sensitivity(each: Sensitivity) -> list[str]:
    nature = NATURES[each.metric]
    of_share, smallest = nature.scale == "logit", NOTHING
    if of_share and each.detectable_value is not None:
        smallest = f"a rise to {amounts.value(each.metric, each.detectable_value)} or more"
    elif each.detectable is not None and not of_share:
        smallest = amounts.percent(each.detectable)
    spread = NOTHING if each.sd is None else f"{each.sd:.2f} log odds" if of_share else percent(each.sd)
    return [each.traffic, each.stage, nature.name, amounts.value(each.metric, each.value), spread, smallest]
