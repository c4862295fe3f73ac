"""Child processes: how they are started, interrupted and stopped, where they listen, which files they may open."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from loadtest.errors import ExitCode, InputError

LOOPBACK: Final = "127.0.0.1"
DEFAULT_PORT: Final = 5557
"""Where a master listens: Locust's own."""
_PATIENCE_S: Final = 5.0


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Read ``HOST:PORT``, an IPv6 host in brackets, as host and port; without ``default_port`` the port must be there.

    Raises:
        ValueError: if it is of another form.
    """
    host, colon, port = text.rpartition(":")
    if default_port is not None and (not colon or text.endswith("]")):
        host, port = text, str(default_port)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def address_text(host: str, port: int) -> str:
    """The text that ``parse_address`` reads as these."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


DEFAULT_ADDRESS: Final = address_text(LOOPBACK, DEFAULT_PORT)


def whole_address(text: str, option: str) -> str:
    """``HOST:PORT``, with the default port where an option's text has none.

    Raises:
        InputError: if it is neither.
    """
    try:
        return address_text(*parse_address(text, DEFAULT_PORT))
    except ValueError:
        raise InputError(f"{option} {text}: not HOST:PORT", f"Write for example {option} {DEFAULT_ADDRESS}.") from None


def check_free(port: int, option: str) -> None:
    """Check that something can listen on a port of loopback, before anything is started.

    Raises:
        InputError: if nothing can.
    """
    try:
        socket.create_server((LOOPBACK, port)).close()
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "no port has that number"
        raise InputError(f"{option} {port}: cannot listen there: {why}", f"Choose another {option}.") from None


def free_port() -> int:
    """A port of loopback at which nothing listens now."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


def start_child(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start ``python -m MODULE``; its input and output are pipes to us.

    It has a session of its own, so that Ctrl-C reaches only us. The end of its input tells it that we are gone.
    ``environment`` holds the credentials and is ours by default; ``options`` are others of ``subprocess.Popen``.
    """
    command = [sys.executable, "-m", module, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, **{"start_new_session": True, **pipes, **options})


def start_worker(
    master: str, base: Path, environment: Mapping[str, str] | None = None, *, with_parent: bool = True
) -> "subprocess.Popen[bytes]":
    """Start a worker of the master at an address; ``base`` is what a relative path in a scenario starts from.

    It ends with this process, or (not ``with_parent``) runs until it is told to leave.
    """
    arguments = [master, str(base), *(["--with-parent"] if with_parent else [])]
    pipes = {} if with_parent else {"stdin": None}
    output = subprocess.DEVNULL if with_parent else None
    return start_child("loadtest.load.distributed", *arguments, environment=environment, stdout=output, **pipes)


def run_module(module: str, *arguments: str, quiet: bool = False, apart: bool = False) -> int:
    """Run ``python -m MODULE`` to its end, and give its exit code.

    Ctrl-C ends it with us, unless it is ``apart``: then it has a session of its own, as ``start_child`` has it.

    Pandas and matplotlib, which pages and exports need, are imported there and never here.
    """
    sys.stdout.flush()
    output = subprocess.DEVNULL if quiet else None
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=False, start_new_session=apart, stdout=output).returncode


def make_report(
    directory: Path, *, plots: bool, baselines: Sequence[Path] = (), quiet: bool = False, apart: bool = False
) -> int:
    """Make a run's report, which prints its summary unless ``quiet``; ``apart`` as of ``run_module``.

    Returns:
        The verdict's exit code; ``ExitCode.BUG`` if the report was killed.
    """
    options = [*([] if plots else ["--no-plots"]), *(f"--baseline={one}" for one in baselines)]
    code = run_module("loadtest.report", *options, str(directory), quiet=quiet, apart=apart)
    return code if code >= 0 else int(ExitCode.BUG)


@contextmanager
def interrupts_for(process: "subprocess.Popen[bytes]", number: int) -> Iterator[list[int]]:
    """Pass Ctrl-C and SIGTERM on to a child: the first lets it end early, by a signal of its own; the second kills it.

    Gives the signals that came. Nothing is raised: an exception could come between any two steps, and the report would
    not be made.
    """
    came: list[int] = []

    def pass_on(which: int, _frame: object) -> None:
        came.append(which)
        if len(came) == 1:
            process.send_signal(number)
        else:
            process.kill()

    before = {each: signal.signal(each, pass_on) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def interrupt_on_terminate() -> None:
    """Let SIGTERM act as Ctrl-C, so that nothing is left running and the report is still made."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def stop(process: "subprocess.Popen[Any]", patience_s: float = _PATIENCE_S, *, terminate: bool = True) -> None:
    """End a child by the end of its input and SIGTERM; by SIGKILL if it is still there after ``patience_s``.

    Without ``terminate``, a worker that has to hand in what it recorded is not interrupted by SIGTERM.
    """
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        if terminate:
            process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


SPARE_FILES: Final = 64
"""Files that a process has open beside its connections, with room to spare."""
MOST_FILES: Final = 65_536


def allow_files() -> int:
    """Let this process, and those that it starts, have as many files open as the system lets it, at most 65,536.

    Returns:
        How many that is. Where there is no such limit, as many.
    """
    process = psutil.Process()
    if not hasattr(process, "rlimit"):
        return MOST_FILES
    soft, hard = (MOST_FILES if n == psutil.RLIM_INFINITY else n for n in process.rlimit(psutil.RLIMIT_NOFILE))
    files = max(soft, min(hard, MOST_FILES))
    if soft < files:
        process.rlimit(psutil.RLIMIT_NOFILE, (files, process.rlimit(psutil.RLIMIT_NOFILE)[1]))
    return files
