"""A history on the terminal: its runs, and its audit."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.cli._check import warn
from loadtest.errors import InputError
from loadtest.program import pasteable
from loadtest.regression import history_file
from loadtest.regression.audit import LEAST, Audit, Rate, Sensitivity, audit
from loadtest.regression.export import FORMATS
from loadtest.regression.history import HistoryRun
from loadtest.regression.measurements import NATURES
from loadtest.units import percent

_WIDTH: Final = 100
_COMMIT: Final = 8
_TRIPLE: Final = 3.0
"""From here on a factor is easier to read than percent."""


def history_files(place: Path, scenario: str | None) -> list[Path]:
    """The histories that a command line means: that of a scenario, or all in a folder.

    Raises:
        InputError: if the one that is named is not there, or there is none at all.
    """
    remedy = "`loadtest regression check SCENARIO` makes it with its first run."
    if scenario is None and place.suffix != history_file.ENDING:
        if not (found := sorted(place.glob(f"*{history_file.ENDING}"))):
            raise InputError(f"there is no history in {place}", remedy)
        return found
    # As LoadedScenario.name, of a path or a name.
    name = "" if scenario is None else Path(scenario).name.removesuffix(".toml")
    if not (path := history_file.path_for(place, name)).is_file():
        raise InputError(f"there is no history {path}", remedy)
    return [path]


def export(path: Path, form: str) -> None:
    """Print a history in another tool's format."""
    contents = history_file.read(path)
    warn(contents.warnings)
    click.echo(FORMATS[form](contents.history), nl=False)


def write_page(path: Path, html: Path) -> int:
    """Write a history as a page, in a process of its own that may draw, and give its exit code."""
    command = [sys.executable, "-m", "loadtest.report.regression", "--history", str(path), "--output", str(html)]
    return subprocess.run(command, check=False).returncode


def show_history(path: Path) -> None:
    """Print a history's runs, the oldest first."""
    contents = history_file.read(path)
    warn(contents.warnings)
    runs = contents.history.runs
    console = _console()
    counts = {status: sum(each.status == status for each in runs) for status in ("accepted", "waiting")}
    console.print(
        f"{path}: {len(runs)} run{'s' if len(runs) != 1 else ''}, {counts['accepted']} accepted, {counts['waiting']} "
        + pasteable("waiting for `loadtest regression accept` or `reject`"),
        soft_wrap=True,
    )
    table = _table("Run", "Version", "Verdict", "Status", "What was found or decided")
    for each in runs:
        if each.new_segment:
            table.add_section()
        run = each.measurements
        table.add_row(
            each.id,
            run.target_version or run.commit[:_COMMIT] or "–",
            f"{each.line.verdict}{' (rerun)' if each.line.confirms else ''}",
            f"{each.status}{', new segment' if each.new_segment else ''}",
            _words(each),
        )
    console.print(table)


def _words(each: HistoryRun) -> str:
    return each.reason or ("" if each.line.verdict in {"pass", "learning"} else each.line.sentence)


def show_audit(path: Path, *, as_json: bool) -> None:
    """Print the audit of a history, its conclusion first."""
    contents = history_file.read(path)
    warn(contents.warnings)
    found = audit(contents.history)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    console = _console()
    console.print(f"{path}: {_conclusion(found)}", soft_wrap=True)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items())
    console.print(f"Recorded verdicts: {verdicts or 'none'}.", soft_wrap=True)
    if not found.replayed:
        return
    console.print()
    rates = _table("Replayed checks", "Alarms", "Share", "95 %: at most", "A year", "95 %: at most")
    rates.add_row("false alarms of the rule", *_rate(found.false_alarms))
    rates.add_row("reruns of the rule", *_rate(found.reruns))
    rates.add_row("“ratio > 10 %” instead", *_rate(found.plain))
    console.print(rates)
    console.print()
    metrics = _table("Traffic", "Stage", "Metric", "Median", "Run to run", "Smallest change seen")
    for each in found.metrics:
        metrics.add_row(*_sensitivity(each))
    console.print(metrics)
    console.print(
        "\nEach accepted run is compared with all others of its segment; the run after it takes the place of its "
        "rerun. A year has 365 checks. The bounds take checks as independent. The smallest change is found in 80 % of "
        "cases.",
        soft_wrap=True,
    )


def _conclusion(found: Audit) -> str:
    runs = f"{found.accepted} accepted run{'s' if found.accepted != 1 else ''}"
    if not found.replayed:
        return f"too few runs for an audit: it takes {LEAST} accepted runs of one segment, and there are {runs} in all."
    rate = found.false_alarms
    return (
        f"{rate.count} of {rate.of} replayed checks ended in a false alarm, which is {rate.a_year:.0f} a year at one "
        f"check a night; with 95 % confidence at most {percent(rate.upper)} of checks, {rate.a_year_upper:.0f} a year. "
        f"“Ratio > 10 %” would have alarmed in {found.plain.count}. It rests on {runs}, in {found.segments} "
        f"segment{'s' if found.segments != 1 else ''}."
    )


def _rate(rate: Rate) -> list[str]:
    return [
        f"{rate.count} of {rate.of}",
        percent(rate.share),
        percent(rate.upper),
        f"{rate.a_year:.0f}",
        f"{rate.a_year_upper:.0f}",
    ]


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


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False, emoji=False, markup=False)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "Run")
    return table
