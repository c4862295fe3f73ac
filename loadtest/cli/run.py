"""``loadtest run``: send a scenario's traffic, record it, report it, judge it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from loadtest.cli import _children as children
from loadtest.cli._options import (
    TargetOptions,
    WorkerOptions,
    metrics_option,
    output_dir_option,
    overrides_option,
    plots_option,
    seed_option,
    target_options,
    target_version_option,
    worker_options,
)
from loadtest.cli._progress import ProgressDisplay
from loadtest.cli._target import ResolvedTarget, prepare, resolved_target
from loadtest.errors import ExitCode, InputError
from loadtest.processes import check_free
from loadtest.record.run_directory import note_target_died
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario


@click.command("run")
@click.argument("scenario")
@target_options(embedded=True)
@output_dir_option
@overrides_option
@seed_option
@worker_options
@metrics_option
@target_version_option
@plots_option
def command(
    scenario: str,
    *,
    target: TargetOptions,
    output_dir: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    workers: WorkerOptions,
    metrics_port: int | None,
    target_version: str,
    plots: bool,
) -> int:
    """Run SCENARIO, a file or a name in scenarios/, and report it. The exit code is the verdict.

    Keys and endpoint come from WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT; an embedded target has its own. Every host but
    loopback needs an entry in targets.toml.
    """
    loaded = load_scenario(find_scenario(scenario), overrides, seed)
    if metrics_port is not None:
        check_free(metrics_port, "--metrics-port")
    made = make_run(
        loaded,
        target,
        output_dir=output_dir,
        workers=workers,
        metrics_port=metrics_port,
        target_version=target_version,
        plots=plots,
    )
    return made.exit_code


class MadeRun(NamedTuple):
    """A run that was made and reported: its directory, and the exit code of its verdict (or of how it ended)."""

    directory: Path
    exit_code: int


def make_run(
    loaded: LoadedScenario,
    target: TargetOptions,
    *,
    output_dir: Path,
    workers: WorkerOptions,
    target_version: str,
    plots: bool,
    metrics_port: int | None = None,
) -> MadeRun:
    """Run a scenario and report it, with progress on standard output.

    Args:
        loaded: the scenario in force.
        target: where to.
        output_dir: parent of the run directory.
        workers: which processes make the load.
        target_version: what the user calls the version of the target.
        plots: draw plots, too.
        metrics_port: where the load serves its figures; None for nowhere.

    Raises:
        LoadtestError: if the run could not begin.
    """
    children.interrupt_on_terminate()
    _check_workers(target, workers)
    with resolved_target(loaded, target) as resolved:
        directory, info = prepare(loaded, resolved, output_dir, workers=workers.count, version=target_version)
        print(resolved.description)
        print(f"{info.scenario.title} [{loaded.name}, seed {info.seed}, hash {info.scenario.hash}]", flush=True)
        arguments = [*workers.arguments, *([] if metrics_port is None else ["--metrics-port", str(metrics_port)])]
        code = make_load(directory, loaded.path.parent, resolved, arguments)
        verdict = children.make_report(directory, plots=plots)
    return MadeRun(directory, int(code) if code in {ExitCode.BUG, ExitCode.INTERRUPTED} else verdict)


def _check_workers(target: TargetOptions, workers: WorkerOptions) -> None:
    if target.embedded and workers.bind is not None:
        raise InputError(
            "--master needs a running target: workers on other machines do not know the keys of the embedded one",
            "Name a running one with --host or --target; --processes N starts workers on this machine.",
        )


def make_load(directory: Path, base: Path, target: ResolvedTarget, arguments: Sequence[str] = ()) -> int:
    """Make the load of a prepared run, with progress on standard output, and keep what its embedded target said.

    Args:
        directory: of the run.
        base: relative paths in the scenario start here.
        target: where to.
        arguments: options of the load.

    Returns:
        Its exit code, as ``_children.make_load`` says.

    Raises:
        LoadtestError: if the run could not begin.
    """
    with ProgressDisplay() as display:
        code = children.make_load(directory, base, target.environment, display.show, arguments)
    if target.embedded is not None:
        if target.embedded.crashed:
            click.echo(f"loadtest: the embedded target ended during the run; see {directory}/target.log", err=True)
            note_target_died(directory)
        target.embedded.write_log(directory / "target.log")
    if code not in {ExitCode.PASS, ExitCode.INTERRUPTED}:
        click.echo(f"loadtest: the load ended with exit code {code}; see {directory}/load.log", err=True)
    return code
