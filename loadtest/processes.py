"""Processes: a master's workers, where they listen, what makes a report, and how many files one may have open."""

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from loadtest.errors import InputError

LOOPBACK: Final = "127.0.0.1"
DEFAULT_PORT: Final = 5557
"""Where a master listens: Locust's own."""
_PATIENCE_S: Final = 5.0


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Read ``HOST:PORT``, an IPv6 host in brackets, as host and port.

    Args:
        text: what somebody wrote.
        default_port: of a text without a port; None if it must have one.

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


def start_worker(
    master: str, base: Path, environment: Mapping[str, str] | None = None, *, with_parent: bool = True
) -> "subprocess.Popen[bytes]":
    """Start a worker of a master.

    Args:
        master: its address, as ``parse_address`` reads it.
        base: what a relative path in a scenario starts from.
        environment: with the credentials; that of this process by default.
        with_parent: whether it ends with this process; else it runs until it is told to leave.
    """
    command = [sys.executable, "-m", "loadtest.load.distributed", master, str(base)]
    # A session of its own, so that Ctrl-C reaches only us; the end of its input tells it that we are gone.
    return subprocess.Popen(
        [*command, "--with-parent"] if with_parent else command,
        env=None if environment is None else dict(environment),
        stdin=subprocess.PIPE if with_parent else None,
        stdout=subprocess.DEVNULL if with_parent else None,
        start_new_session=True,
    )


def stop(process: "subprocess.Popen[Any]", patience_s: float = _PATIENCE_S, *, terminate: bool = True) -> None:
    """End a child by the end of its input and SIGTERM; by SIGKILL if it is still there after a while.

    Args:
        process: the child.
        patience_s: how long it may take.
        terminate: whether SIGTERM is sent, too; a worker that has to hand in what it recorded is not interrupted.
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


def report_command(directory: Path, *, plots: bool, baselines: Sequence[Path] = ()) -> list[str]:
    """The command that makes a run's report. It never imports gevent, and pandas and matplotlib stay out of ours."""
    earlier = [f"--baseline={one}" for one in baselines]
    return [sys.executable, "-m", "loadtest.report", *([] if plots else ["--no-plots"]), *earlier, str(directory)]


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
