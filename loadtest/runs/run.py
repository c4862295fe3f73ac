"""One run: its load and its report, each in a child process. If this process ends, the load ends too."""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from loadtest.compare.results import RunComparison
from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.plan import spoilt_by_duration
from loadtest.processes import (
    DEFAULT_ADDRESS,
    check_free,
    interrupt_on_terminate,
    interrupts_for,
    make_report,
    run_module,
    start_child,
    stop,
    whole_address,
)
from loadtest.program import complain, option_words
from loadtest.record import run_directory
from loadtest.record.progress import Failure, LoadProgress, decode_progress
from loadtest.runs.target import ResolvedTarget, ScenarioOptions, plan_of, prepare, resolved_target
from loadtest.scenario import LoadedScenario
from loadtest.terminal import ProgressDisplay


@dataclass(frozen=True, kw_only=True)
class RunOptions(ScenarioOptions):
    """The options of a verb that makes a run. Raises ``InputError`` if options cannot be combined."""

    output_dir: Path
    target_version: str = ""
    plots: bool = True
    png: bool = False
    full: bool = False
    processes: int = 0
    master: bool = False
    bind: str | None = None
    expect_workers: int | None = None
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        if self.processes and self.master:
            raise InputError("--processes and --master exclude each other", "Use --processes on one machine.")
        if not self.master and (self.bind is not None or self.expect_workers is not None):
            raise InputError("--bind and --expect-workers need --master", "Add --master.")
        self.load_arguments()

    @property
    def workers(self) -> int:
        """Number of processes that send requests."""
        return (self.expect_workers if self.master else self.processes) or 1

    def load_arguments(self) -> list[str]:
        given: dict[str, Any] = {"processes": self.processes or None}
        if self.master:
            address = whole_address(self.bind or DEFAULT_ADDRESS, "--bind")
            given = {"bind": address, "expect_workers": self.workers}
        return option_words(**given, metrics_port=self.metrics_port)


class MadeRun(NamedTuple):
    """A reported run. ``exit_code`` is that of its verdict, unless its load was interrupted or had a bug."""

    directory: Path
    exit_code: int


def make_run(loaded: LoadedScenario, options: RunOptions) -> MadeRun:
    """Run a scenario, print its progress, and report it. Raises ``LoadtestError`` if the run could not start."""
    if options.metrics_port is not None:
        check_free(options.metrics_port, "--metrics-port")
    interrupt_on_terminate()
    if options.master and options.embedded:
        raise InputError(
            "--master needs a running target: workers on other machines do not have the embedded target's keys",
            "Use --host or --target, or --processes N for workers on this machine.",
        )
    if options.duration is not None:
        plan = plan_of(loaded, chosen=options.entry)
        for warning in spoilt_by_duration(plan.warnings):
            print(f"warning: {loaded.place(warning.key)}: {warning.message}. {warning.remedy}", flush=True)
    with resolved_target(loaded, options) as resolved:
        version, workers = options.target_version, options.workers
        directory, info = prepare(loaded, resolved, options.output_dir, workers=workers, target_version=version)
        print(resolved.description)
        print(f"{info.scenario.title} [{loaded.name}, seed {info.seed}, hash {info.scenario.hash}]", flush=True)
        code = load_target(directory, loaded.path.parent, resolved, options.load_arguments())
        if note := run_directory.pending_note(directory):
            print(note)
        verdict = make_report(directory, plots=options.plots, png=options.png, full=options.full)
    return MadeRun(directory, code if code in {ExitCode.BUG, ExitCode.INTERRUPTED} else verdict)


def load_target(
    directory: Path, base: Path, target: ResolvedTarget, arguments: Sequence[str] = (), *, logged: bool = True
) -> int:
    """Make the load of a prepared run, show its progress, and save the embedded target's output.

    Return the exit code as ``make_load`` does. With ``logged``, progress is printed even without a terminal.
    """
    with ProgressDisplay(logged=logged) as display:
        code = make_load(directory, base, target.environment, display.show, arguments)
    if target.embedded is not None:
        if target.embedded.crashed:
            complain(f"the embedded target ended during the run; see {directory}/target.log")
            run_directory.note_target_died(directory)
        target.embedded.write_log(directory / "target.log")
    if code not in {ExitCode.PASS, ExitCode.INTERRUPTED}:
        complain(f"the load ended with exit code {code}; see {directory}/load.log")
    return code


def make_load(
    directory: Path,
    base: Path,
    environment: Mapping[str, str],
    on_progress: Callable[[LoadProgress], None],
    arguments: Sequence[str] = (),
) -> int:
    """Make the load of one or more prepared runs in a separate process, and wait until the record is closed.

    The first Ctrl-C (or SIGTERM) lets the load end early and close its record. The second kills the load, as does any
    Ctrl-C before the load is ready.

    Returns:
        The load's exit code, or ``ExitCode.INTERRUPTED`` if Ctrl-C killed the load. After ``ExitCode.BUG`` or a
        negative signal number, the record may be incomplete.

    Raises:
        LoadtestError: if the run could not start.
    """
    # A comparison makes several loads, one for each series, so the output of earlier loads is kept.
    with (directory / "load.log").open("a", encoding="utf-8") as log:
        options = [str(directory), str(base), *arguments]
        process = start_child("loadtest.load", *options, environment=environment, stderr=log)
    failed = None
    try:
        with interrupts_for(process, signal.SIGINT) as interrupts:
            for line in process.stdout or ():
                try:
                    progress = decode_progress(line)
                except msgspec.MsgspecError:
                    continue  # The load never waits for this process, so it truncates lines if reading is too slow.
                if isinstance(progress, Failure):
                    failed = LoadtestError(progress.error)
                else:
                    on_progress(progress)
    finally:
        stop(process)
    if failed is not None:
        failed.exit_code = ExitCode(process.returncode)
        raise failed
    return int(ExitCode.INTERRUPTED) if interrupts and process.returncode < 0 else process.returncode


def show_comparison(directory: Path, comparison: RunComparison, *, plots: bool, history: Path | None = None) -> None:
    """Make the pages of a saved comparison in a separate process, which prints the summary."""
    arguments = [*([] if plots else ["--no-plots"]), *([f"--history={history}"] if history else []), str(directory)]
    code = run_module("loadtest.report.regression", *arguments)
    if code != comparison.exit_code:
        # The verdict is valid without its page.
        print(comparison.sentence)
        complain(f"the pages of {directory} could not be created (exit code {code})")
