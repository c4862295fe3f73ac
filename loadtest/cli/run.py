"""Progress of a run: one line that changes on a terminal, plain lines elsewhere.

``loadtest run``: offer a scenario's traffic, record it, report it, judge it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadtest.cli import _children as children
from loadtest.cli._children import plots_option
from loadtest.cli._options import (
    CrewOptions,
    Named,
    Ready,
    crew_options,
    get_ready,
    preflight_option,
    target_options,
    tell_pending,
)
from loadtest.errors import ExitCode, InputError
from loadtest.prepare import prepare_run
from loadtest.record.progress import LiveFigures, WaitingForWorkers
from loadtest.record.run_directory import note_target_died
from loadtest.record.run_info import RunInfo
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario

_PLAIN_EVERY: Final = 10.0
_BAR: Final = 24


class Progress:
    """Shows how a run goes. A context manager; ``show`` takes what ``make_load`` passes on."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False) if sys.stdout.isatty() else None
        self._next_line = 0.0
        self._shown = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, message: LiveFigures | WaitingForWorkers) -> None:
        """Show the latest message."""
        if isinstance(message, WaitingForWorkers):
            self._show_waiting(message)
        elif self._live is not None:
            self._live.update(Text.assemble(_bar(message), "\n", _line(message)), refresh=True)
        elif message.phase != self._shown or message.elapsed_s >= self._next_line:
            self._shown = message.phase
            self._next_line = message.elapsed_s + _PLAIN_EVERY
            print(_line(message), flush=True)

    def _show_waiting(self, message: WaitingForWorkers) -> None:
        line = f"waiting for workers: {message.connected} of {message.expected} are there"
        if self._live is not None:
            self._live.update(Text(line), refresh=True)
        elif line != self._shown:
            self._shown = line
            print(line, flush=True)


def _line(figures: LiveFigures) -> str:
    if figures.phase in {"preparing", "over"}:
        return f"{figures.phase} …"
    stages = list(dict.fromkeys(stage for stage in figures.stages.values() if stage))
    where = "draining" if figures.phase == "draining" else " + ".join(stages)
    parts = [
        f"{figures.elapsed_s:5.0f} s of {figures.total_s:.0f} s",
        f"{where:<8}",
        f"offered {figures.offered:,}",
        f"accepted {figures.accepted:,}",
        f"429 {figures.throttled:,}",
        f"failed {figures.failed:,}",
        *([f"timed out {figures.timed_out:,}"] if figures.timed_out else []),
        f"in flight {figures.in_flight:,}",
        "p95 –" if figures.p95_ms is None else f"p95 {figures.p95_ms:,.0f} ms",
    ]
    return "  ".join(parts)


def _bar(figures: LiveFigures) -> Text:
    share = min(1.0, figures.elapsed_s / figures.total_s) if figures.total_s else 0.0
    full = round(share * _BAR)
    return Text.assemble(("━" * full, "cyan"), ("─" * (_BAR - full), "dim"), f" {share:4.0%}")


@click.command("run")
@click.argument("scenario")
@target_options
@preflight_option
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
@crew_options
@plots_option
def command(
    scenario: str,
    *,
    output_dir: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    crew: CrewOptions,
    plots: bool,
    **named: Any,
) -> int:
    """Run SCENARIO, a file or the name of one in scenarios/, and report it.

    Keys and endpoint come from WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT; the embedded target makes its own. A host that
    is not this machine's loopback needs an entry in targets.toml.
    """
    loaded = load_scenario(find_scenario(scenario), overrides, seed)
    children.interrupt_on_terminate()
    target = Named(**named)
    if not target.embedded:
        ready = get_ready(loaded, target)
        url, keys = ready.chosen.target.url, len(ready.keys)
        prepared = _prepare(loaded, output_dir, url, ready=ready, keys=keys, crew=crew)
        print(ready.where)
        return _run(loaded, prepared, children.child_environment(ready.keys, ready.endpoint), crew, plots=plots)
    if crew.bind is not None:
        raise InputError(
            "--master has no embedded target: workers elsewhere would not know its keys",
            "Name one that runs, with --host or --target; --processes N starts workers on this machine.",
        )
    own_keys, endpoint = children.own_credentials(loaded.scenario)
    environment = children.child_environment(own_keys, endpoint)
    with children.embedded_target(loaded.scenario.target, environment) as embedded:
        prepared = _prepare(loaded, output_dir, embedded.url, keys=len(own_keys), crew=crew)
        print(f"Load goes to {embedded.url}: loopback only, embedded target.")
        return _run(loaded, prepared, {**environment, **embedded.environment}, crew, embedded, plots=plots)


def _prepare(
    loaded: LoadedScenario, output_dir: Path, url: str, *, keys: int, crew: CrewOptions, ready: Ready | None = None
) -> tuple[Path, RunInfo]:
    return prepare_run(
        loaded,
        url=url,
        embedded=ready is None,
        keys=keys,
        command=["loadtest", *sys.argv[1:]],
        output_dir=output_dir,
        chosen=None if ready is None else ready.chosen,
        preflight=() if ready is None else ready.preflight.sent,
        workers=crew.workers,
    )


def _run(
    loaded: LoadedScenario,
    prepared: tuple[Path, RunInfo],
    environment: Mapping[str, str],
    crew: CrewOptions,
    embedded: children.EmbeddedTarget | None = None,
    *,
    plots: bool,
) -> int:
    directory, info = prepared
    print(f"{info.scenario.title} [{loaded.name}, seed {info.seed}, hash {info.scenario.hash}]", flush=True)
    with Progress() as progress:
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
