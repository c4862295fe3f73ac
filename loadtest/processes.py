"""Child processes: starting, interrupting and stopping them, their addresses, and the limit of open files."""

import ipaddress
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import psutil

from loadtest.errors import ExitCode, InputError
from loadtest.program import option_words

LOOPBACK: Final = "127.0.0.1"
LOOPBACK_NAMES: Final = frozenset({LOOPBACK, "localhost", "::1"})
DEFAULT_PORT: Final = 5557
"""Locust's default port for a master."""
_PATIENCE_S: Final = 5.0


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Parse ``HOST:PORT``, with an IPv6 host in brackets. Raise ``ValueError`` for other forms.

    The port may be missing if there is a ``default_port``.
    """
    host, colon, port = text.rpartition(":")
    if default_port is not None and (not colon or text.endswith("]")):
        host, port = text, str(default_port)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def address_text(host: str, port: int) -> str:
    """Format an address so that ``parse_address`` can read it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is ``localhost`` or a loopback address. No name is resolved."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


DEFAULT_ADDRESS: Final = address_text(LOOPBACK, DEFAULT_PORT)


def whole_address(text: str, option: str) -> str:
    """Return an option's ``HOST:PORT``, with the default port if the text has none, or raise ``InputError``."""
    try:
        return address_text(*parse_address(text, DEFAULT_PORT))
    except ValueError:
        raise InputError(f"{option} {text}: not HOST:PORT", f"Write for example {option} {DEFAULT_ADDRESS}.") from None


def check_free(port: int, option: str) -> None:
    """Raise ``InputError`` if a port of loopback is not free."""
    try:
        socket.create_server((LOOPBACK, port)).close()
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "ports are 0 to 65535"
        raise InputError(f"{option} {port}: cannot listen there: {why}", "Choose another port.") from None


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


def start_child(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start ``python -m MODULE`` with pipes for its input and output. ``options`` are those of ``subprocess.Popen``.

    The child has its own session, so that Ctrl-C reaches only the parent. The end of its input tells the child that
    the parent has ended. By default, the child gets this process's environment.
    """
    defaults = {"start_new_session": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment, **{**defaults, **options})


def start_worker(
    master: str, base: Path, environment: Mapping[str, str] | None = None, *, with_parent: bool = True
) -> "subprocess.Popen[bytes]":
    """Start a worker for a master's address. Relative paths in the scenario start from ``base``.

    With ``with_parent``, the worker ends with this process. Otherwise it ends when the master dismisses it.
    """
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL} if with_parent else {"stdin": None, "stdout": None}
    words = [master, str(base), *option_words(with_parent=with_parent)]
    return start_child("loadtest.load.distributed", *words, environment=environment, **streams)


def run_module(module: str, *arguments: str, stdout: IO[bytes] | int | None = None) -> int:
    """Run ``python -m MODULE`` to its end and return its exit code.

    The child has its own session. Ctrl-C reaches only this process, which then kills the child. Children make pages and
    exports, because pandas and matplotlib must not be imported here.
    """
    sys.stdout.flush()
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=False, start_new_session=True, stdout=stdout).returncode


def make_report(
    directory: Path, *, plots: bool, png: bool = False, full: bool = False, baselines: Sequence[Path] = (), **how: Any
) -> int:
    """Make a run's report, print its first screen (everything if ``full``), and return the verdict's exit code.

    ``how`` are keyword arguments of ``run_module``. The exit code is ``ExitCode.BUG`` if the process was killed.
    """
    options = option_words(no_plots=not plots, png=png, full=full, baseline=tuple(baselines))
    code = run_module("loadtest.report", *options, str(directory), **how)
    return code if code >= 0 else int(ExitCode.BUG)


@contextmanager
def interrupts_for(process: "subprocess.Popen[bytes]", number: int) -> Iterator[list[int]]:
    """Forward Ctrl-C and SIGTERM to a child: the first as the signal ``number``, all others as SIGKILL.

    Yields the signals received. No exception is raised, because it could interrupt any step and lose the report.
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
    """Make SIGTERM act as Ctrl-C, so that no process is left running and the report is still made."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def stop(process: "subprocess.Popen[Any]", patience_s: float = _PATIENCE_S, *, terminate: bool = True) -> None:
    """End a child. Close its input and send SIGTERM. If it still runs after ``patience_s``, send SIGKILL.

    ``terminate=False`` skips SIGTERM, which would interrupt a worker that is still handing in its record.
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
"""A process has at most this many open files besides its connections. The number includes a margin."""
MOST_FILES: Final = 65_536


def allow_files() -> int:
    """Raise this process's limit of open files to the system's maximum, at most ``MOST_FILES``, and return it.

    Children inherit the limit.
    """
    process = psutil.Process()
    if not hasattr(process, "rlimit"):
        return MOST_FILES
    soft, hard = (MOST_FILES if n == psutil.RLIM_INFINITY else n for n in process.rlimit(psutil.RLIMIT_NOFILE))
    files = max(soft, min(hard, MOST_FILES))
    if soft < files:
        process.rlimit(psutil.RLIMIT_NOFILE, (files, process.rlimit(psutil.RLIMIT_NOFILE)[1]))
    return files
