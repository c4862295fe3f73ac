"""``loadtest regression``: checks whether a service became slower or rejects more requests than in its history."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from rich.progress import track

from loadtest.cli._options import PATH, SHARE, TARGET, print_json, shared
from loadtest.compare import amounts, history_file
from loadtest.compare import audit as auditing
from loadtest.compare.audit import LEAST, Audit, Sensitivity
from loadtest.compare.history import History, growth, to_otava
from loadtest.compare.measurements import NATURES
from loadtest.compare.shifts import HistoryChange
from loadtest.console import Console, page_console, page_table
from loadtest.errors import InputError
from loadtest.processes import run_module
from loadtest.program import command_line, mention, pasteable, typed
from loadtest.runs.regression import CheckOptions, decide, load_suspects, warn
from loadtest.runs.regression import check as check_run
from loadtest.words import NOTHING, counted, percent

_MOST_PROPOSED: Final = 10
"""A command is printed for at most this many changes."""
_history_option = click.option(
    "--history",
    "place",
    type=PATH,
    default=Path("reports") / "baselines",
    show_default=True,
    metavar="DIR|FILE",
    help="The history: a .jsonl file, or a folder with a file for each scenario.",
)
_reason_option = click.option("--reason", required=True, metavar="TEXT", help="Reason to record in the history.")


@click.group("regression")
def command() -> None:
    """Check whether a service has become slower or rejects more requests than in its accepted runs.

    Exit codes: 0 no regression (or still learning), 1 threshold failed, 2 bad input, 3 invalid or not comparable, 4
    regressed, 5 target unreachable, 6 inconclusive, 7 aborted.
    """


@command.command(short_help="Run a scenario, and compare the run with its history.")
@click.argument("scenario")
@shared(*TARGET)
@_history_option
@shared("output_dir", "set", "seed", "target_version")
@click.option("--must-find", type=SHARE, metavar="SHARE", help="Exit with 6 if the check could miss a rise by SHARE.")
@shared("fail_on_inconclusive")
@click.option("--no-rerun", is_flag=True, help="Instead of a rerun, write suspects.json and exit with 6.")
@shared("plots")
def check(**options: Any) -> int:
    """Run SCENARIO, and compare it with its accepted runs.

    A suspected regression triggers one rerun and counts only if the same metrics regress again. Passed runs are
    accepted automatically, regressed runs only by `accept`. Until five runs are accepted, the history is learning.
    """
    if options["must_find"] == 0:
        raise InputError("--must-find 0: must be above zero", "Give a share, such as --must-find 20%.")
    return check_run(CheckOptions(**options))


@command.command(short_help="Rerun a suspected regression, on another machine.")
@click.argument("file", metavar="SUSPECTS", type=PATH)
@shared("targets", "yes", "no_preflight")
@click.option("--history", "place", type=PATH, metavar="DIR|FILE", help="Default: the check's history.")
@shared("output_dir", "fail_on_inconclusive", "plots")
def confirm(file: Path, **options: Any) -> int:
    """Run the scenario of SUSPECTS again. Only the suspected metrics can confirm the regression.

    SUSPECTS is the suspects.json of `check --no-rerun`. Another machine gives the best evidence. Exit codes: 4
    confirmed, 0 not confirmed, 6 inconclusive. Both runs join the history.
    """
    found = load_suspects(file)
    return check_run(CheckOptions.repeating(found.repeat, **options), found)


@command.command(short_help="Accept a run as evidence for later checks.")
@click.argument("run")
@_reason_option
@_history_option
@shared("output_dir")
@click.option(
    "--new-segment", is_flag=True, help="Start a new baseline period: later runs are not compared with older runs."
)
def accept(run: str, **options: Any) -> None:
    """Accept RUN and its rerun as evidence.

    If RUN regressed, it starts a new baseline period: later runs are not compared with runs before it. RUN is an id, a
    run directory, or 'latest'. A run that is not in the history is added to it.
    """
    decide(run, "accepted", **options)


@command.command(short_help="Reject a run as evidence.")
@click.argument("run")
@_reason_option
@_history_option
@shared("output_dir")
def reject(run: str, **options: Any) -> None:
    """Reject RUN and its rerun as evidence: no later run is compared with them."""
    decide(run, "rejected", **options)


@command.command(short_help="Show a history, or print it as CSV.")
@click.argument("scenario", required=False)
@_history_option
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots to this file.")
@click.option("--to", "form", metavar="otava", help="Print the history as CSV for Apache Otava.")
def history(scenario: str | None, *, place: Path, html: Path | None, form: str | None) -> int:
    """Show the runs of a history with their verdicts and decisions.

    `--to otava` prints CSV with a row for each run that is valid and not rejected.
    """
    if form not in {None, "otava"}:
        remedy = "Use `--to otava` for CSV of all runs. For the values of one run, read its comparison.openmetrics.txt."
        raise InputError(f"--to {form} is not supported", remedy)
    if html is not None and form is not None:
        raise InputError("--html and --to cannot be combined", "Run the command once for each.")
    files = _history_files(place, scenario)
    if (html is not None or form is not None) and len(files) != 1:
        names = ", ".join(path.stem for path in files) or "none"
        raise InputError(f"--html and --to need exactly one history; {place} has: {names}", "Give a SCENARIO.")
    if html is not None:
        return run_module("loadtest.report.regression", "--history", str(files[0]), "--output", str(html))
    for path in files:
        if form is not None:
            click.echo(to_otava(_read(path)), nl=False)
        else:
            _show_history(path, _read(path))
    return 0


@command.command(short_help="Estimate a history's false-alarm rate.")
@click.argument("scenario", required=False)
@_history_option
@shared("as_json")
def audit(scenario: str | None, *, place: Path, as_json: bool) -> None:
    """Replay the rule over a history to estimate its false-alarm rate and the smallest change it can detect.

    Each accepted run is compared with the other runs of its baseline period, and the next run serves as its rerun.
    """
    for path in _history_files(place, scenario):
        found = auditing.audit(known := _read(path), _tracked)
        if as_json:
            print_json(found)
        else:
            _show_audit(path, known, found)


def _read(path: Path) -> History:
    contents = history_file.read(path)
    warn(contents.warnings)
    return contents.history


def _history_files(place: Path, scenario: str | None) -> list[Path]:
    if scenario is None and place.suffix != history_file.ENDING:
        found, missing = sorted(place.glob(f"*{history_file.ENDING}")), f"there is no history in {place}"
    else:
        # ``scenario`` is a path or a name. A history is named like ``LoadedScenario.name``.
        path = history_file.path_for(place, Path(scenario or "").name.removesuffix(".toml"))
        found, missing = [path] if path.is_file() else [], f"there is no history {path}"
    if not found:
        check = mention("regression", "check", scenario or "regression", history=place)
        raise InputError(missing, f"The first {check} creates it.")
    return found


def _show_history(path: Path, history: History) -> None:
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


def _tracked(items: Sequence[int]) -> Iterable[int]:
    """Return the items of an audit. On a terminal, a bar shows how many of them have been taken."""
    console = Console(stderr=True)
    return track(items, "Replaying the rule", console=console, transient=True) if console.is_terminal else items


def _show_audit(path: Path, history: History, found: Audit) -> None:
    """Print the audit of a history. The conclusion comes first."""
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
        "Only stretches without a change are replayed. Each run is compared with the runs before it, and the next run "
        "is its rerun. A year has 365 independent checks. The smallest change is found in 80 % of cases.",
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
    """Yield a command for each change, the latest first: begin a baseline period at a step, reject an odd run."""
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
