"""``loadtest regression``: whether a service became slower or refuses more than its history says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from loadtest.cli._check import Order, warn
from loadtest.cli._check import check as check_run
from loadtest.cli._check import confirm as confirm_suspects
from loadtest.cli._history import decide, export, history_files, show_audit, show_history, write_page
from loadtest.cli._options import (
    TargetOptions,
    output_dir_option,
    overrides_option,
    plots_option,
    seed_option,
    target_options,
    target_version_option,
)
from loadtest.compare import history_file, suspects
from loadtest.compare.export import FORMATS
from loadtest.compare.suspects import Repeat
from loadtest.errors import InputError

_BASELINES: Final = Path("reports") / "baselines"

_history_option = click.option(
    "--history",
    "place",
    type=click.Path(path_type=Path),
    default=_BASELINES,
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
@target_options(embedded=True)
@_history_option
@output_dir_option
@overrides_option
@seed_option
@target_version_option
@_fail_option
@click.option("--no-rerun", is_flag=True, help="Do not confirm a suspicion here: end with 6 and write suspects.json.")
@plots_option
def check(
    scenario: str,
    *,
    target: TargetOptions,
    place: Path,
    output_dir: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    target_version: str,
    fail_on_inconclusive: bool,
    no_rerun: bool,
    plots: bool,
) -> int:
    """Run SCENARIO, and compare it with its accepted runs.

    What is suspected is run once more, and only the same metrics can confirm it. Passed runs join the history by
    themselves; regressed ones only if `accept` says so. Below five accepted runs the history is still learning.
    """
    repeat = Repeat(
        scenario=scenario,
        overrides=overrides,
        seed=seed,
        host=target.host,
        target=target.target,
        target_version=target_version,
        history=str(place),
    )
    order = Order(repeat, target, output_dir, plots=plots, fail_on_inconclusive=fail_on_inconclusive)
    return check_run(order, rerun=not no_rerun)


@command.command(short_help="Run again what a check suspects, on another machine.")
@click.argument("file", metavar="SUSPECTS", type=click.Path(path_type=Path))
@click.option("--targets", type=click.Path(path_type=Path), help="Another file than targets.toml.")
@click.option("--yes", is_flag=True, help="Load a production target without asking for its host name.")
@click.option("--no-preflight", is_flag=True, help="Skip the preflight, which spends quota.")
@click.option(
    "--history", "place", type=click.Path(path_type=Path), metavar="DIR|FILE", help="Default: that of the check."
)
@output_dir_option
@_fail_option
@plots_option
def confirm(
    file: Path,
    *,
    targets: Path | None,
    yes: bool,
    no_preflight: bool,
    place: Path | None,
    output_dir: Path,
    fail_on_inconclusive: bool,
    plots: bool,
) -> int:
    """Run the scenario of SUSPECTS again: only the metrics that a check suspected can confirm it.

    SUSPECTS is the suspects.json of `check --no-rerun`, best on another machine. Ends with 4 if it is confirmed, 0 if
    not, 6 if nothing can be decided. Both runs join the history.
    """
    found = suspects.load(file)
    repeat = found.repeat
    target = TargetOptions(repeat.host, repeat.target, targets, yes=yes, no_preflight=no_preflight)
    order = Order(repeat, target, output_dir, plots=plots, fail_on_inconclusive=fail_on_inconclusive)
    path = history_file.path_for(Path(repeat.history) if place is None else place, found.line.run.scenario)
    return confirm_suspects(found, order, path)


def _decision(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (output_dir_option, _history_option, _reason_option, click.argument("run")):
        function = option(function)
    return function


@command.command(short_help="Accept a run as evidence for later checks.")
@_decision
@click.option("--new-segment", is_flag=True, help="Compare later runs with those from here on only.")
def accept(run: str, *, reason: str, place: Path, output_dir: Path, new_segment: bool) -> None:
    """Accept RUN as evidence, together with its rerun.

    A regressed run that is accepted is the new normal: later runs are compared with those from here on. RUN is an id, a
    run directory, or 'latest'; a run that is not in the history yet joins it.
    """
    warn(decide(run, place, output_dir, "accepted", reason, new_segment=new_segment))


@command.command(short_help="Reject a run as evidence.")
@_decision
def reject(run: str, *, reason: str, place: Path, output_dir: Path) -> None:
    """Reject RUN as evidence, together with its rerun: no later run is compared with it."""
    warn(decide(run, place, output_dir, "rejected", reason))


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
    files = history_files(place, scenario)
    if (html is not None or form is not None) and len(files) != 1:
        names = ", ".join(path.stem for path in files) or "none"
        raise InputError(f"--html and --to take one history; in {place} there is: {names}", "Name a SCENARIO.")
    if html is not None:
        return write_page(files[0], html)
    for path in files:
        if form is not None:
            export(path, form)
        else:
            show_history(path)
    return 0


@command.command(short_help="Count the false alarms that a history would have had.")
@click.argument("scenario", required=False)
@_history_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(scenario: str | None, *, place: Path, as_json: bool) -> None:
    """Replay the rule over a history: how often would it have cried wolf, and what could it have seen?

    Each accepted run is compared with all others of its segment, and the run after it takes the place of its rerun.
    """
    for path in history_files(place, scenario):
        show_audit(path, as_json=as_json)
