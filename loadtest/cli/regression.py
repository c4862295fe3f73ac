"""``loadtest regression``: checks whether a service became slower or rejects more requests than in its history."""

from pathlib import Path
from typing import Any

import click

from loadtest.cli._options import PATH, SHARE, TARGET, shared
from loadtest.compare import audit as auditing
from loadtest.compare import history_file
from loadtest.compare.history import History, to_otava
from loadtest.errors import InputError
from loadtest.foreign_text import print_json
from loadtest.processes import run_module
from loadtest.program import mention
from loadtest.runs.regression import CheckOptions, decide, load_suspects, warn
from loadtest.runs.regression import check as check_run
from loadtest.terminal.history import show_audit, show_history, tracked

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
@click.option(
    "--must-find",
    type=SHARE,
    metavar="SHARE",
    help="Exit with 6 if a response time p50 could rise by SHARE unnoticed.",
)
@shared("fail_on_inconclusive")
@click.option("--no-rerun", is_flag=True, help="Exit with 6 instead of rerunning a suspected regression.")
@shared("plots")
def check(**options: Any) -> int:
    """Run SCENARIO, and compare the run with the scenario's accepted runs.

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
    confirmed, 0 not confirmed, others as for `check`. Both runs join the history.
    """
    found = load_suspects(file)
    return check_run(CheckOptions.repeating(found.repeat, **options), found)


@command.command(short_help="Accept a run as evidence for later checks.")
@click.argument("run")
@_reason_option
@_history_option
@shared("output_dir")
@click.option(
    "--new-segment", is_flag=True, help="Start a new baseline period: later runs are not compared with runs before RUN."
)
def accept(run: str, **options: Any) -> None:
    """Accept RUN and its rerun as evidence.

    If one of them regressed, the first starts a new baseline period: later runs are not compared with runs before it.
    RUN is an id, a run directory, or 'latest'. A run that is not in the history is added to it.
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
        remedy = "Use `--to otava` for CSV of a history. For the values of a run, read its comparison.openmetrics.txt."
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
            show_history(path, _read(path))
    return 0


@command.command(short_help="Estimate a history's false-alarm rate.")
@click.argument("scenario", required=False)
@_history_option
@shared("as_json")
def audit(scenario: str | None, *, place: Path, as_json: bool) -> None:
    """Replay the rule over a history to estimate its false-alarm rate and the smallest change it can detect.

    Only stretches of accepted runs without a change are replayed. Each run is compared with others of its stretch, and
    a neighbouring run serves as the rerun.
    """
    for path in _history_files(place, scenario):
        found = auditing.audit(known := _read(path), tracked)
        if as_json:
            print_json(found)
        else:
            show_audit(path, known, found)


def _read(path: Path) -> History:
    contents = history_file.read(path)
    warn(contents.warnings)
    return contents.history


def _history_files(place: Path, scenario: str | None) -> list[Path]:
    if scenario is None and place.suffix != history_file.ENDING:
        found, missing = sorted(place.glob(f"*{history_file.ENDING}")), f"there is no history in {place}"
    else:
        # ``scenario`` is a path or a name, and a history's file is named after the scenario.
        path = history_file.path_for(place, Path(scenario or "").name.removesuffix(".toml"))
        found, missing = [path] if path.is_file() else [], f"there is no history {path}"
    if not found:
        check = mention("regression", "check", scenario or "regression", history=place)
        raise InputError(missing, f"The first {check} creates it.")
    return found
