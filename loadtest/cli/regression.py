"""``loadtest regression``: whether a service became slower or refuses more than its history says."""

from pathlib import Path
from typing import Any, Final

import click
import msgspec

from loadtest.cli._options import TARGET, shared
from loadtest.compare import audit as auditing
from loadtest.compare import history_file, suspects
from loadtest.compare.history import FORMATS, History
from loadtest.errors import InputError
from loadtest.processes import run_module
from loadtest.runs.regression import CheckOptions, decide, warn
from loadtest.runs.regression import check as check_run
from loadtest.terminal.history import show_audit, show_history

_PLACE: Final = click.Path(path_type=Path)
_history_option = click.option(
    "--history",
    "place",
    type=_PLACE,
    default=Path("reports") / "baselines",
    show_default=True,
    metavar="DIR|FILE",
    help="The history: a file that ends in .jsonl, or a folder with one for each scenario.",
)
_fail_option = click.option(
    "--fail-on-inconclusive", is_flag=True, help="End with 1 instead of 6 where nothing can be decided."
)
_reason_option = click.option("--reason", required=True, metavar="TEXT", help="Why, for those who read the history.")


@click.group("regression")
def command() -> None:
    """Tell whether a service became slower or refuses more than its accepted runs did.

    Exit codes: 0 no regression (or still learning), 3 invalid or not comparable, 4 regressed, 6 inconclusive.
    """


@command.command(short_help="Run a scenario, and compare the run with its history.")
@click.argument("scenario")
@shared(*TARGET)
@_history_option
@shared("output_dir", "set", "seed", "target_version")
@_fail_option
@click.option("--no-rerun", is_flag=True, help="Do not confirm a suspicion here: end with 6 and write suspects.json.")
@shared("plots")
def check(**options: Any) -> int:
    """Run SCENARIO, and compare it with its accepted runs.

    What is suspected is run once more, and only the same metrics can confirm it. Passed runs join the history by
    themselves; regressed ones only if `accept` says so. Below five accepted runs the history is still learning.
    """
    return check_run(CheckOptions(**options))


@command.command(short_help="Run again what a check suspects, on another machine.")
@click.argument("file", metavar="SUSPECTS", type=_PLACE)
@shared("targets", "yes", "no_preflight")
@click.option("--history", "place", type=_PLACE, metavar="DIR|FILE", help="Default: that of the check.")
@shared("output_dir")
@_fail_option
@shared("plots")
def confirm(file: Path, **options: Any) -> int:
    """Run the scenario of SUSPECTS again: only the metrics that a check suspected can confirm it.

    SUSPECTS is the suspects.json of `check --no-rerun`, best on another machine. Ends with 4 if it is confirmed, 0 if
    not, 6 if nothing can be decided. Both runs join the history.
    """
    found = suspects.load(file)
    return check_run(CheckOptions.repeating(found.repeat, **options), found)


@command.command(short_help="Accept a run as evidence for later checks.")
@click.argument("run")
@_reason_option
@_history_option
@shared("output_dir")
@click.option("--new-segment", is_flag=True, help="Compare later runs with those from here on only.")
def accept(run: str, **options: Any) -> None:
    """Accept RUN as evidence, together with its rerun.

    A regressed run that is accepted is the new normal: later runs are compared with those from here on. RUN is an id, a
    run directory, or 'latest'; a run that is not in the history yet joins it.
    """
    decide(run, "accepted", **options)


@command.command(short_help="Reject a run as evidence.")
@click.argument("run")
@_reason_option
@_history_option
@shared("output_dir")
def reject(run: str, **options: Any) -> None:
    """Reject RUN as evidence, together with its rerun: no later run is compared with it."""
    decide(run, "rejected", **options)


@command.command(short_help="Show a history, or print it for other tools.")
@click.argument("scenario", required=False)
@_history_option
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots instead.")
@click.option("--to", "form", type=click.Choice(list(FORMATS)), help="Print the history in another tool's format.")
def history(scenario: str | None, *, place: Path, html: Path | None, form: str | None) -> int:
    """Show the runs of a history with their verdicts and what was decided about them.

    `--to otava` prints CSV with a row for each run that is valid and not rejected; bmf and benchmark-action print
    the last such run.
    """
    files = _history_files(place, scenario)
    if (html is not None or form is not None) and len(files) != 1:
        names = ", ".join(path.stem for path in files) or "none"
        raise InputError(f"--html and --to take one history; in {place} there is: {names}", "Name a SCENARIO.")
    if html is not None:
        return run_module("loadtest.report.regression", "--history", str(files[0]), "--output", str(html))
    for path in files:
        if form is not None:
            click.echo(FORMATS[form](_read(path)), nl=False)
        else:
            show_history(path, _read(path))
    return 0


@command.command(short_help="Count the false alarms that a history would have had.")
@click.argument("scenario", required=False)
@_history_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(scenario: str | None, *, place: Path, as_json: bool) -> None:
    """Replay the rule over a history: how often would it have cried wolf, and what could it have seen?

    Each accepted run is compared with all others of its segment, and the run after it takes the place of its rerun.
    """
    for path in _history_files(place, scenario):
        found = auditing.audit(_read(path))
        if as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        else:
            show_audit(path, found)


def _read(path: Path) -> History:
    contents = history_file.read(path)
    warn(contents.warnings)
    return contents.history


def _history_files(place: Path, scenario: str | None) -> list[Path]:
    """The histories that a command line means: that of a scenario, or all in a folder."""
    if scenario is None and place.suffix != history_file.ENDING:
        found, missing = sorted(place.glob(f"*{history_file.ENDING}")), f"there is no history in {place}"
    else:
        # As LoadedScenario.name, of a path or a name.
        path = history_file.path_for(place, Path(scenario or "").name.removesuffix(".toml"))
        found, missing = [path] if path.is_file() else [], f"there is no history {path}"
    if not found:
        raise InputError(missing, "`loadtest regression check SCENARIO` makes it with its first run.")
    return found
