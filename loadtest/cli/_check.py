"""How a run is checked against a history: made, judged, and made once more where something is suspected."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import msgspec

from loadtest.cli._children import show_comparison
from loadtest.cli._options import TargetOptions, WorkerOptions
from loadtest.cli.run import MadeRun, make_run
from loadtest.compare import history, history_file, measurements, suspects
from loadtest.compare.history import RunLine
from loadtest.compare.results import RunComparison, save
from loadtest.compare.rule import judge_history
from loadtest.compare.suspects import Repeat, Suspects
from loadtest.errors import ExitCode, InputError
from loadtest.program import pasteable
from loadtest.scenario import find_scenario, load_scenario, scenario_hash
from loadtest.scenario.parse import LoadedScenario

_NO_RUN: Final = {ExitCode.BUG, ExitCode.INTERRUPTED, ExitCode.ABORTED, ExitCode.USAGE, ExitCode.TARGET}
"""How a run ends of which no comparison is made."""
_PRECEDENCE: Final = (ExitCode.INVALID, ExitCode.REGRESSED, ExitCode.FAIL, ExitCode.INCONCLUSIVE, ExitCode.PASS)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be checked, as the command line says it.

    Attributes:
        repeat: how the run is made.
        target: where to; its host and name are those of ``repeat``.
        output_dir: parent of the run directories.
        fail_on_inconclusive: end with 1 instead of 6.
    """

    repeat: Repeat
    target: TargetOptions
    output_dir: Path
    plots: bool
    fail_on_inconclusive: bool

    @property
    def scenario(self) -> LoadedScenario:
        """The scenario in force."""
        return load_scenario(find_scenario(self.repeat.scenario), self.repeat.overrides, self.repeat.seed)

    def exit_code(self, run: int, comparison: RunComparison) -> int:
        """Of a check: the weightier of the run's own verdict and the comparison's."""
        code = next((code for code in _PRECEDENCE if code in {run, comparison.exit_code}), comparison.exit_code)
        return int(ExitCode.FAIL if code == ExitCode.INCONCLUSIVE and self.fail_on_inconclusive else code)


def check(order: Order, *, rerun: bool) -> int:
    """Run the scenario, compare it with its history, and record it there.

    Args:
        order: what to check.
        rerun: whether a suspicion is confirmed at once, by one more run.

    Returns:
        The exit code.

    Raises:
        LoadtestError: if the run could not begin, or the history cannot be used.
    """
    loaded = order.scenario
    path = history_file.path_for(Path(order.repeat.history), loaded.name)
    warn(history_file.read(path).warnings)
    history_file.check_writable(path)
    made = _run(order, loaded)
    if (code := _without_measurements(made)) is not None:
        return code
    run = history.compact(measurements.read(made.directory))
    # Read only now: another check may have ended meanwhile.
    evidence = history_file.read(path).history.evidence(run)
    comparison = judge_history(evidence, run, title=loaded.scenario.title)
    line = history.run_line(run, comparison.word, sentence=comparison.sentence)
    save(comparison, made.directory)
    warn(history_file.append(path, line))
    found = suspects.suspected(comparison, line, evidence, order.repeat)
    if found is None:
        show_comparison(made.directory, comparison, plots=order.plots, history=path)
        return order.exit_code(made.exit_code, comparison)
    file = suspects.save(found, made.directory)
    if rerun:
        print(f"\n{comparison.sentence}\nOne more run decides: only what is suspected can be confirmed.\n", flush=True)
        # Who loads a production target has typed its name for the first run.
        return confirm(found, dataclasses.replace(order, target=dataclasses.replace(order.target, yes=True)), path)
    show_comparison(made.directory, comparison, plots=order.plots, history=path)
    decides = f"`loadtest regression confirm {file}` decides, best on another machine."
    print(pasteable(f"Suspected, not confirmed: {decides}"))
    return order.exit_code(made.exit_code, comparison)


def confirm(found: Suspects, order: Order, path: Path) -> int:
    """Run the scenario of a suspicion again; only the suspected metrics can confirm it. Both runs are recorded.

    Returns:
        The exit code.

    Raises:
        LoadtestError: if the run could not begin, the scenario is another one, or the history cannot be used.
    """
    loaded, suspected = order.scenario, found.line.run
    if (now := scenario_hash(loaded.scenario)) != suspected.scenario_hash:
        raise InputError(
            f"{loaded.path} is not the scenario that was suspected: its hash is {now}, not {suspected.scenario_hash}",
            "Check out the same commit, and confirm with the same files.",
        )
    history_file.check_writable(path)
    made = _run(order, loaded)
    if (code := _without_measurements(made)) is not None:
        return code
    run = history.compact(measurements.read(made.directory))
    comparison = judge_history(found.history, run, confirming=found.keys, title=found.title)
    comparison = msgspec.structs.replace(
        comparison,
        runs=tuple(dict.fromkeys((*comparison.runs[:-1], suspected.run, run.run))),
        head_runs=(suspected, *(each for each in comparison.head_runs if each.run != suspected.run)),
    )
    line = history.run_line(run, comparison.word, sentence=comparison.sentence, confirms=suspected.run)
    save(comparison, made.directory)
    warn(history_file.append(path, *_lines(found.line, line, path)))
    show_comparison(made.directory, comparison, plots=order.plots, history=path)
    return order.exit_code(made.exit_code, comparison)


def _lines(suspected: RunLine, rerun: RunLine, path: Path) -> list[history.HistoryLine]:
    """What a rerun adds to a history."""
    # In a second job the file may be one without the first job's line.
    known = history_file.read(path).history.find(suspected.run.run)
    lines: list[history.HistoryLine] = [*([suspected] if known is None else []), rerun]
    if rerun.verdict == "pass":
        # What was not confirmed was noise. Without such runs the history would know less noise than there is.
        reason = f"not confirmed by {rerun.run.run}"
        lines.append(history.decision_line(suspected.run.run, "accepted", reason))
    return lines


def _run(order: Order, loaded: LoadedScenario) -> MadeRun:
    return make_run(
        loaded,
        order.target,
        output_dir=order.output_dir,
        workers=WorkerOptions(),
        target_version=order.repeat.target_version,
        plots=order.plots,
    )


def _without_measurements(made: MadeRun) -> int | None:
    """The exit code of a run that cannot be compared, because it was cut short or left no measurements; else None."""
    if made.exit_code not in _NO_RUN and (made.directory / measurements.FILE_NAME).is_file():
        return None
    click.echo(f"loadtest: {made.directory.name} was not completed: it is not compared and not recorded", err=True)
    return made.exit_code or int(ExitCode.BUG)


def warn(messages: list[str]) -> None:
    """Print what is wrong with a history, to standard error."""
    for message in messages:
        click.echo(f"loadtest: {message}", err=True)
