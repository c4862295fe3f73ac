"""A history's runs and its audit, as terminal tables."""

from pathlib import Path
from typing import Final

from loadtest.compare.audit import LEAST, AlarmRate, Audit, Sensitivity
from loadtest.compare.history import History
from loadtest.compare.measurements import NATURES
from loadtest.program import pasteable
from loadtest.terminal import page_console, page_table
from loadtest.words import counted, percent

_COMMIT: Final = 8
_TRIPLE: Final = 3.0
"""Minimum ratio that is shown as a factor instead of a percentage."""


def show_history(path: Path, history: History) -> None:
    """Print a history's runs, the oldest first."""
    runs = history.runs
    console = page_console()
    counts = {status: sum(each.status == status for each in runs) for status in ("accepted", "waiting")}
    console.print(
        f"{path}: {counted(len(runs), 'run')}, {counts['accepted']} accepted, {counts['waiting']} "
        + pasteable("waiting for `loadtest regression accept` or `reject`"),
        soft_wrap=True,
    )
    table = page_table({"header": "Run", "no_wrap": True}, "Version", "Verdict", "Status", "Finding or decision")
    for each in runs:
        if each.new_segment:
            table.add_section()
        run = each.measurements
        table.add_row(
            each.id,
            run.target_version or run.commit[:_COMMIT] or "–",
            f"{each.line.verdict}{' (rerun)' if each.line.confirms else ''}",
            f"{each.status}{', new baseline' if each.new_segment else ''}",
            each.reason or ("" if each.line.verdict in {"pass", "learning"} else each.line.sentence),
        )
    console.print(table)


def show_audit(path: Path, found: Audit) -> None:
    """Print the audit of a history, its conclusion first."""
    console = page_console()
    console.print(f"{path}: {_conclusion(found)}", soft_wrap=True)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items())
    console.print(f"Recorded verdicts: {verdicts or 'none'}.", soft_wrap=True)
    if not found.replayed:
        return
    console.print()
    rates = page_table("Replayed checks", "Alarms", "Share", "95 %: at most", "A year", "95 %: at most")
    rates.add_row("false alarms of the rule", *_rate(found.false_alarms))
    rates.add_row("reruns of the rule", *_rate(found.reruns))
    rates.add_row("“ratio > 10 %” instead", *_rate(found.plain))
    console.print(rates)
    console.print()
    metrics = page_table("Traffic", "Stage", "Metric", "Median", "Run to run", "Smallest change seen")
    for each in found.metrics:
        metrics.add_row(*_sensitivity(each))
    console.print(metrics)
    console.print(
        "\nEach accepted run is compared with the rest of its baseline period; the next run replaces its rerun. A year "
        "has 365 checks. The bounds assume independent checks. The smallest change is found in 80 % of cases.",
        soft_wrap=True,
    )


def _conclusion(found: Audit) -> str:
    runs = counted(found.accepted, "accepted run")
    if not found.replayed:
        return f"too few runs for an audit: it needs {LEAST} accepted runs of one baseline period, and has {runs}."
    rate = found.false_alarms
    return (
        f"{rate.count} of {rate.of} replayed checks ended in a false alarm, which is {rate.a_year:.0f} a year at one "
        f"check a night; with 95 % confidence at most {percent(rate.upper)} of checks, {rate.a_year_upper:.0f} a year. "
        f"“Ratio > 10 %” would have alarmed in {found.plain.count}. The audit used {runs} in "
        f"{counted(found.segments, 'baseline period')}."
    )


def _rate(rate: AlarmRate) -> list[str]:
    share, upper = percent(rate.share), percent(rate.upper)
    return [f"{rate.count} of {rate.of}", share, upper, f"{rate.a_year:.0f}", f"{rate.a_year_upper:.0f}"]


def _sensitivity(each: Sensitivity) -> list[str]:
    nature = NATURES[each.metric]
    value = percent(each.value) if nature.unit == "share" else f"{each.value:,.4g} {nature.unit}"
    if each.detectable is None:
        smallest = "–"
    elif nature.scale == "log":
        smallest = f"{each.detectable - 1:+.0%}" if each.detectable < _TRIPLE else f"× {_factor(each.detectable)}"
    else:
        smallest = f"odds × {_factor(each.detectable)}"
    spread = "–" if each.sd is None else percent(each.sd) if nature.scale == "log" else f"{each.sd:.2f} log odds"
    return [each.traffic, each.stage, nature.name, value, spread, smallest]


def _factor(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
