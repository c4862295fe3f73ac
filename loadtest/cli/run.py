"""``loadtest run``: offer a scenario's traffic, record it, report it, judge it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from loadtest.cli import _children as children
from loadtest.cli._children import plots_option
from loadtest.cli._progress import ProgressDisplay
from loadtest.cli._target_options import (
    ResolvedTarget,
    TargetOptions,
    preflight_option,
    resolve_target,
    target_options,
    tell_pending,
)
from loadtest.cli._worker_options import WorkerOptions, worker_options
from loadtest.errors import ExitCode, InputError
from loadtest.prepare import prepare_run
from loadtest.record.run_directory import note_target_died
from loadtest.record.run_info import RunInfo
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario


@click.command("run")
@click.argument("scenario")
@target_options
@preflight_option
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("reports"),
    show_default=True,
    help="Folder for run directories.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the scenario. Repeatable."
)
@click.option("--seed", type=click.IntRange(min=0), help="Replace the scenario's seed.")
@worker_options
@plots_option
def command(
    scenario: str,
    *,
    output_dir: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    crew: WorkerOptions,
    plots: bool,
    **named: Any,
) -> int:
    """Run SCENARIO, a file or the name of one in scenarios/, and report it.

    Keys and endpoint come from WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT; an embedded target has its own. Every host but
    loopback needs an entry in targets.toml.
    """
    loaded = load_scenario(find_scenario(scenario), overrides, seed)
    children.interrupt_on_terminate()
    target = TargetOptions(**named)
    if not target.embedded:
        resolved = resolve_target(loaded, target)
        url, keys = resolved.chosen.target.url, len(resolved.keys)
        prepared = _prepare(loaded, output_dir, url, resolved=resolved, keys=keys, crew=crew)
        print(resolved.where)
        return _run(loaded, prepared, children.child_environment(resolved.keys, resolved.endpoint), crew, plots=plots)
    if crew.bind is not None:
        raise InputError(
            "--master needs a target that runs: workers on other machines do not know an embedded target's keys",
            "Name it with --host or --target, or start workers on this machine with --processes N.",
        )
    own_keys, endpoint = children.own_credentials(loaded.scenario)
    environment = children.child_environment(own_keys, endpoint)
    with children.embedded_target(loaded.scenario.target.settings, environment) as embedded:
        prepared = _prepare(loaded, output_dir, embedded.url, keys=len(own_keys), crew=crew)
        print(f"Load goes to {embedded.url}: loopback only, embedded target.")
        return _run(loaded, prepared, {**environment, **embedded.environment}, crew, embedded, plots=plots)


def _prepare(
    loaded: LoadedScenario,
    output_dir: Path,
    url: str,
    *,
    keys: int,
    crew: WorkerOptions,
    resolved: ResolvedTarget | None = None,
) -> tuple[Path, RunInfo]:
    return prepare_run(
        loaded,
        url=url,
        embedded=resolved is None,
        keys=keys,
        command=["loadtest", *sys.argv[1:]],
        output_dir=output_dir,
        chosen=None if resolved is None else resolved.chosen,
        preflight=() if resolved is None else resolved.preflight.sent,
        workers=crew.workers,
    )


def _run(
    loaded: LoadedScenario,
    prepared: tuple[Path, RunInfo],
    environment: Mapping[str, str],
    crew: WorkerOptions,
    embedded: children.EmbeddedTarget | None = None,
    *,
    plots: bool,
) -> int:
    directory, info = prepared
    print(f"{info.scenario.title} [{loaded.name}, seed {info.seed}, hash {info.scenario.hash}]", flush=True)
    with ProgressDisplay() as progress:
        code = children.make_load(directory, loaded.path.parent, environment, progress.show, crew.arguments)
    if embedded is not None:
        if embedded.crashed:
            click.echo(f"loadtest: the embedded target ended during the run; see {directory}/target.log", err=True)
            note_target_died(directory)
        embedded.write_log(directory / "target.log")
    if code != ExitCode.PASS:
        click.echo(f"loadtest: the load ended with exit code {code}; see {directory}/load.log", err=True)
    verdict = children.make_report(directory, plots=plots)
    tell_pending(directory)
    return int(code) if code in {ExitCode.BUG, ExitCode.INTERRUPTED} else verdict
