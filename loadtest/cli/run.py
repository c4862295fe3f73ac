"""``loadtest run``: send a scenario's traffic, record it, report it, judge it."""

import sys
from pathlib import Path
from typing import Final, NamedTuple, Self

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadtest.cli import _children as children
from loadtest.cli._options import (
    TargetOptions,
    WorkerOptions,
    output_dir_option,
    overrides_option,
    plots_option,
    seed_option,
    target_options,
    target_version_option,
    worker_options,
)
from loadtest.cli._target import ResolvedTarget, resolved_target
from loadtest.errors import ExitCode, InputError
from loadtest.prepare import prepare_run
from loadtest.record.progress import Progress, WaitingForWorkers
from loadtest.record.run_directory import note_target_died
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario

_PLAIN_EVERY: Final = 10.0
"""Seconds from one plain line of progress to the next."""
_BAR: Final = 24
"""Characters."""


@click.command("run")
@click.argument("scenario")
@target_options(embedded=True)
@output_dir_option
@overrides_option
@seed_option
@worker_options
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
    target_version: str,
    plots: bool,
) -> int:
    """Run SCENARIO, a file or a name in scenarios/, and report it. The exit code is the verdict.

    Keys and endpoint come from WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT; an embedded target has its own. Every host but
    loopback needs an entry in targets.toml.
    """
    loaded = load_scenario(find_scenario(scenario), overrides, seed)
    made = make_run(loaded, target, output_dir=output_dir, workers=workers, target_version=target_version, plots=plots)
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
) -> MadeRun:
    """Run a scenario and report it, with progress on standard output.

    Args:
        loaded: the scenario in force.
        target: where to.
        output_dir: parent of the run directory.
        workers: which processes make the load.
        target_version: what the user calls the version of the target.
        plots: draw plots, too.

    Raises:
        LoadtestError: if the run could not begin.
    """
    children.interrupt_on_terminate()
    _check_workers(target, workers)
    with resolved_target(loaded, target) as resolved:
        directory, info = prepare_run(
            loaded,
            url=resolved.url,
            embedded=resolved.embedded is not None,
            keys=len(resolved.keys),
            command=["loadtest", *sys.argv[1:]],
            output_dir=output_dir,
            chosen=resolved.chosen,
            preflight=resolved.preflight.sent,
            workers=workers.count,
            target_version=target_version,
        )
        print(resolved.description)
        print(f"{info.scenario.title} [{loaded.name}, seed {info.seed}, hash {info.scenario.hash}]", flush=True)
        code = _make_load(directory, loaded.path.parent, resolved, workers)
        verdict = children.make_report(directory, plots=plots)
    return MadeRun(directory, int(code) if code in {ExitCode.BUG, ExitCode.INTERRUPTED} else verdict)


def _check_workers(target: TargetOptions, workers: WorkerOptions) -> None:
    if target.embedded and workers.bind is not None:
        raise InputError(
            "--master needs a running target: workers on other machines do not know the keys of the embedded one",
            "Name a running one with --host or --target; --processes N starts workers on this machine.",
        )


def _make_load(directory: Path, base: Path, target: ResolvedTarget, workers: WorkerOptions) -> int:
    with ProgressDisplay() as display:
        code = children.make_load(directory, base, target.environment, display.show, workers.arguments)
    if target.embedded is not None:
        if target.embedded.crashed:
            click.echo(f"loadtest: the embedded target ended during the run; see {directory}/target.log", err=True)
            note_target_died(directory)
        target.embedded.write_log(directory / "target.log")
    if code != ExitCode.PASS:
        click.echo(f"loadtest: the load ended with exit code {code}; see {directory}/load.log", err=True)
    return code


class ProgressDisplay:
    """Shows the progress of a run: one line that changes on a terminal, plain lines elsewhere. A context manager."""

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

    def show(self, message: Progress | WaitingForWorkers) -> None:
        """Show the latest message of the load."""
        if isinstance(message, WaitingForWorkers):
            self._show_waiting(message)
        elif self._live is not None:
            self._live.update(Text.assemble(_bar(message), "\n", _line(message)), refresh=True)
        elif message.phase != self._shown or message.elapsed_s >= self._next_line:
            self._shown = message.phase
            self._next_line = message.elapsed_s + _PLAIN_EVERY
            print(_line(message), flush=True)

    def _show_waiting(self, message: WaitingForWorkers) -> None:
        line = f"waiting for workers: {message.workers} of {message.expected} are there"
        if self._live is not None:
            self._live.update(Text(line), refresh=True)
        elif line != self._shown:
            self._shown = line
            print(line, flush=True)


def _line(figures: Progress) -> str:
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


def _bar(figures: Progress) -> Text:
    share = min(1.0, figures.elapsed_s / figures.total_s) if figures.total_s else 0.0
    full = round(share * _BAR)
    return Text.assemble(("━" * full, "cyan"), ("─" * (_BAR - full), "dim"), f" {share:4.0%}")
