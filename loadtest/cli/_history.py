"""A history on the terminal: its runs, its audit, and what somebody decides about a run."""

import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.cli._check import warn
from loadtest.compare import history, history_file, measurements, results
from loadtest.compare.audit import LEAST, AlarmRate, Audit, Sensitivity, audit
from loadtest.compare.export import FORMATS
from loadtest.compare.history import HistoryLine, HistoryRun
from loadtest.compare.measurements import NATURES
from loadtest.errors import InputError, RecordError
from loadtest.program import pasteable
from loadtest.record.run_directory import find_run
from loadtest.words import percent

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


def _rate(rate: AlarmRate) -> list[str]:
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


def decide(
    run: str,
    place: Path,
    output_dir: Path,
    status: Literal["accepted", "rejected"],
    reason: str,
    *,
    new_segment: bool = False,
) -> list[str]:
    """Record a decision about a run and its rerun, and print it.

    Args:
        run: an id, a run directory, or ``latest``.
        place: as ``--history``.
        output_dir: the folder of all runs.
        status: what the run is from now on.
        reason: in words.
        new_segment: whether the service changed here. An accepted regression says so by itself.

    Returns:
        What was repaired in the history, in sentences.

    Raises:
        InputError: if there is no such run, it is invalid, or the reason is empty.
    """
    if not reason.strip():
        raise InputError("--reason is empty", "Say why: whoever reads the history in a year wants to know.")
    path, name, runs, lines = _found(run, place, output_dir)
    # The rerun of a run may be invalid: the run itself can be decided about all the same.
    valid = [each for each in runs if each.status != "invalid"]
    if name not in {each.id for each in valid}:
        raise InputError(f"{name} is invalid or did not come to its end, so it cannot be {status}", "Check again.")
    start = status == "accepted" and (new_segment or any(each.line.verdict == "regressed" for each in valid))
    begins = valid[0].id if start else None
    lines += [history.decision_line(each.id, status, reason.strip(), new_segment=each.id == begins) for each in valid]
    repaired = history_file.append(path, *lines)
    for each in valid:
        print(f"{each.id}: {status}{'; later runs are compared with those from here on' if each.id == begins else ''}")
    return repaired


def _found(run: str, place: Path, output_dir: Path) -> tuple[Path, str, list[HistoryRun], list[HistoryLine]]:
    """The history of a run, its id, the runs that are decided about together, and the line of one that joins now."""
    try:
        directory = find_run(run, output_dir)
    except InputError:
        directory = None
    name = run if directory is None else directory.name
    for path in [place] if place.suffix == history_file.ENDING else sorted(place.glob(f"*{history_file.ENDING}")):
        if runs := history_file.read(path).history.with_rerun(name):
            return path, name, runs, []
    if directory is None:
        raise InputError(
            f"{run!r} is neither in a history of {place} nor a run in {output_dir}",
            "`loadtest regression history` lists the runs.",
        )
    found = history.compact(measurements.read(directory))
    line = history.run_line(found, _verdict(directory))
    return history_file.path_for(place, found.scenario), found.run, list(history.fold([line]).runs), [line]


def _verdict(directory: Path) -> history.RecordedVerdict:
    """The verdict of a run's comparison; a run that was never compared has none."""
    if not (directory / results.FILE_NAME).exists():
        return "not judged"
    try:
        return results.load(directory).word
    except RecordError as error:
        raise InputError(error.message, error.remedy) from error
