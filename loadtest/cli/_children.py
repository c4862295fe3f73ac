"""The processes of a run: embedded target, preflight, load, report. Each ends with us, whatever happens."""

import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import click
import msgspec

from loadtest.compare.results import RunComparison
from loadtest.credentials import ENDPOINT_VARIABLE, KEYS_VARIABLE
from loadtest.errors import ExitCode, LoadtestError, TargetError
from loadtest.faults import CONTROL_VARIABLE
from loadtest.processes import report_command, stop
from loadtest.record import run_directory
from loadtest.record.progress import Failure, LoadProgress, decode_progress
from loadtest.reference_settings import ReferenceSettings, to_options

_READY_TIMEOUT: Final = 20.0


class EmbeddedTarget:
    """A reference API that runs for one run only."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, control: str | None, log: list[str]) -> None:
        self.url = url
        self.environment = {} if control is None else {CONTROL_VARIABLE: control}
        """Variables by which the load finds its control endpoint."""
        self._process = process
        self._log = log

    @property
    def crashed(self) -> bool:
        """Whether it ended by itself."""
        return self._process.poll() is not None

    def write_log(self, path: Path) -> None:
        """Write what it printed to a file."""
        path.write_text("".join(self._log), encoding="utf-8")


@contextmanager
def embedded_target(settings: ReferenceSettings, environment: Mapping[str, str]) -> Iterator[EmbeddedTarget]:
    """Run the reference API on a free loopback port as long as the block lasts.

    Args:
        settings: the scenario's ``[target]``.
        environment: of the process; its WORKFLOW_API_KEYS are the keys that it accepts.

    Raises:
        TargetError: if it does not start.
    """
    command = [sys.executable, "-m", "loadtest.cli", "serve", "--port", "0", "--exit-with-parent"]
    command += serve_arguments(settings)
    # A session of its own, so that Ctrl-C reaches only us: the target is needed until the load has drained.
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    log: list[str] = []
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_drain, args=(process, log, lines), daemon=True).start()
    try:
        url = _url_after(lines, log, " on http")
        control = _url_after(lines, log, "control on http") if settings.fault else None
        yield EmbeddedTarget(process, url, control, log)
    finally:
        stop(process)


def serve_arguments(settings: ReferenceSettings) -> list[str]:
    """A scenario's ``[target]`` as options of ``loadtest serve``."""
    # When the load's epoch will be, nobody knows by now: the load says it to the control endpoint.
    faulty = ["--fault-clock", "epoch", "--control-port", "0"] if settings.fault else []
    return [*to_options(settings), *faulty]


def _drain(process: "subprocess.Popen[str]", log: list[str], lines: "queue.SimpleQueue[str | None]") -> None:
    for line in process.stdout or ():
        log.append(line)
        lines.put(line)
    lines.put(None)


def _url_after(lines: "queue.SimpleQueue[str | None]", log: list[str], mark: str) -> str:
    try:
        while (line := lines.get(timeout=_READY_TIMEOUT)) is not None:
            if mark in line:
                return line.rsplit(" ", 1)[-1].strip()
    except queue.Empty:
        pass
    raise TargetError(f"the embedded target did not start: {''.join(log).strip() or 'it printed nothing'}")


def make_load(
    directory: Path,
    base: Path,
    environment: Mapping[str, str],
    on_progress: Callable[[LoadProgress], None],
    more_arguments: Sequence[str] = (),
) -> int:
    """Make the load of a prepared run, or of several, in a process of its own, until its record is closed.

    The first Ctrl-C (or SIGTERM) lets the load end early and close its record; the second kills it.

    Returns:
        Its exit code: 0, or ``ExitCode.BUG`` or a signal's if the record may be incomplete;
        ``ExitCode.INTERRUPTED`` if Ctrl-C killed it: the second one, or one that came before it was ready.

    Raises:
        LoadtestError: if the run could not begin.
    """
    process = _start_load([str(directory), str(base), *more_arguments], environment, directory / "load.log")
    failed = None
    try:
        with Interrupts(process, signal.SIGINT) as interrupts:
            for line in process.stdout or ():
                try:
                    progress = decode_progress(line)
                except msgspec.MsgspecError:
                    continue  # cut: a long line, and we were slow to read; the load does not wait for us
                if isinstance(progress, Failure):
                    failed = progress
                else:
                    on_progress(progress)
    finally:
        stop(process)
    if failed is not None:
        error = LoadtestError(failed.error)
        error.exit_code = ExitCode(process.returncode)
        raise error
    return ExitCode.INTERRUPTED if interrupts.count and process.returncode < 0 else process.returncode


def _start_load(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    # A comparison has a load for each series: what the first one said stays.
    with log.open("a", encoding="utf-8") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "loadtest.load", *arguments],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )


class Interrupts:
    """Passes Ctrl-C and SIGTERM on to a child: the first lets it end early, the second kills it.

    Nothing is raised here: an exception could come between any two steps, and the report would not be made.

    Args:
        process: the child.
        number: the signal that ends it early.
    """

    def __init__(self, process: "subprocess.Popen[Any]", number: int) -> None:
        self.count = 0
        self._process = process
        self._number = number
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _pass_on(self, _number: int, _frame: object) -> None:
        self.count += 1
        if self.count == 1:
            self._process.send_signal(self._number)
        else:
            self._process.kill()


def run_apart(command: Sequence[str]) -> int:
    """Run a child in a session of its own, so that Ctrl-C reaches only us, who may have more to do; gives its code."""
    sys.stdout.flush()
    return subprocess.run(command, check=False, start_new_session=True).returncode


def make_report(directory: Path, *, plots: bool) -> int:
    """Print which jobs of a run are pending, and make its report in a process of its own, which prints the summary.

    Returns:
        The verdict's exit code; ``ExitCode.BUG`` if the report was killed.
    """
    if note := run_directory.pending_note(directory):
        print(note)
    code = run_apart(report_command(directory, plots=plots))
    return code if code >= 0 else int(ExitCode.BUG)


def interrupt_on_terminate() -> None:
    """Let SIGTERM act as Ctrl-C, so that nothing is left running and the report is still made."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def own_credentials(keys: int) -> tuple[tuple[str, ...], str]:
    """So many keys and the endpoint of an embedded target, new for each run."""
    return tuple(secrets.token_urlsafe(24) for _ in range(keys)), "embedded"


def child_environment(keys: Sequence[str], endpoint: str) -> dict[str, str]:
    """Our environment with the credentials of a run: the only way that secrets reach children."""
    return {**os.environ, KEYS_VARIABLE: ",".join(keys), ENDPOINT_VARIABLE: endpoint}


def show_comparison(directory: Path, comparison: RunComparison, *, plots: bool, history: Path | None = None) -> None:
    """Make the pages of a comparison that is saved, in a process of its own, which prints the summary."""
    arguments = [*([] if plots else ["--no-plots"]), *([f"--history={history}"] if history else []), str(directory)]
    code = run_apart([sys.executable, "-m", "loadtest.report.regression", *arguments])
    if code != comparison.exit_code:
        # The verdict stands without its page.
        print(comparison.sentence)
        click.echo(f"loadtest: the pages of {directory} could not be made (exit code {code})", err=True)
