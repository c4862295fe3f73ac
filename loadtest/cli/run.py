"""``loadtest run``: offer a scenario's traffic, record it, report it, judge it."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from loadtest.cli import _children as children
from loadtest.cli._progress import Progress
from loadtest.credentials import credentials
from loadtest.errors import ExitCode, TargetError
from loadtest.prepare import prepare_run
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario
from loadtest.targets import Target, allow


@click.command("run")
@click.argument("scenario")
@click.option("--host", help="Base URL of a target on this machine; without it the embedded one is started.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("reports"),
    show_default=True,
    help="Parent of the run.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the scenario. Repeatable."
)
@click.option("--seed", type=click.IntRange(min=0), help="Take another seed than the scenario's.")
def command(scenario: str, host: str | None, output_dir: Path, overrides: tuple[str, ...], seed: int | None) -> int:
    """Run SCENARIO, a file or the name of one in scenarios/, and report it.

    Keys and endpoint come from WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT; the embedded target makes its own.
    """
    loaded = load_scenario(find_scenario(scenario), overrides, seed)
    children.interrupt_on_terminate()
    if host is not None:
        target = allow(host)
        keys, endpoint = credentials()
        _check_reachable(target)
        return _run(loaded, target.url, keys, endpoint, output_dir, embedded=None)
    keys, endpoint = children.own_credentials(loaded.scenario)
    environment = children.child_environment(keys, endpoint)
    with children.embedded_target(loaded.scenario.target, environment) as embedded:
        return _run(loaded, embedded.url, keys, endpoint, output_dir, embedded=embedded)


def _run(
    loaded: LoadedScenario,
    url: str,
    keys: Sequence[str],
    endpoint: str,
    output_dir: Path,
    *,
    embedded: children.EmbeddedTarget | None,
) -> int:
    directory, info = prepare_run(
        loaded,
        url=url,
        embedded=embedded is not None,
        keys=len(keys),
        command=["loadtest", *sys.argv[1:]],
        output_dir=output_dir,
    )
    whose = "embedded target" if embedded is not None else "a target that was running"
    print(f"Load goes to {url}: loopback only, {whose}.")
    print(f"{info.scenario.title} [{loaded.name}, seed {info.seed}, hash {info.scenario.hash}]", flush=True)
    environment = children.child_environment(keys, endpoint)
    with Progress() as progress:
        code = children.make_load(directory, loaded.path.parent, environment, progress.show)
    if embedded is not None:
        if embedded.crashed:
            click.echo(f"loadtest: the embedded target ended during the run; see {directory}/target.log", err=True)
        embedded.write_log(directory / "target.log")
    if code != ExitCode.PASS:
        click.echo(f"loadtest: the load ended with exit code {code}; see {directory}/load.log", err=True)
    verdict = children.make_report(directory)
    return int(code) if code in {ExitCode.BUG, ExitCode.INTERRUPTED} else verdict


def _check_reachable(target: Target) -> None:
    try:
        socket.create_connection((target.address, target.port), timeout=5).close()
    except OSError as error:
        raise TargetError(
            f"nothing answers at {target.url}: {error.strerror or error}",
            "Start it (`loadtest serve` starts the reference API), or leave out --host.",
        ) from None
