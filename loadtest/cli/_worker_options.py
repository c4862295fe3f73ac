"""The options that say which processes make a run's load, and the workers that the web UI starts."""

import functools
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from loadtest.errors import InputError
from loadtest.processes import DEFAULT_PORT, LOOPBACK, address_text, parse_address, start_worker, stop


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@dataclass(slots=True)
class Workers:
    """Worker processes, and what makes Locust their master.

    Attributes:
        number: how many; 0 for one process that makes the load itself.
        base: what a relative path in the scenario starts from.
        environment: with the credentials.
        port: where the master waits for them, on loopback.
    """

    number: int
    base: Path
    environment: Mapping[str, str]
    port: int = field(default_factory=_free_port)

    @property
    def arguments(self) -> list[str]:
        """For Locust."""
        if not self.number:
            return []
        return ["--master", "--master-bind-host", LOOPBACK, "--master-bind-port", str(self.port)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the workers during the block; they also end with their master, or with this process."""
        master = address_text(LOOPBACK, self.port)
        processes = [start_worker(master, self.base, self.environment) for _ in range(self.number)]
        try:
            yield
        finally:
            for process in processes:
                stop(process)


_MOST: Final = 256


processes_option = click.option(
    "--processes",
    type=click.IntRange(0, _MOST),
    default=0,
    help="Number of worker processes to start on this machine.",
)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Which processes make the load, as the command line has it.

    Attributes:
        processes: workers to start on this machine; 0 for one process without workers.
        bind: ``HOST:PORT`` to wait for workers at; None if none are to come.
        expect: how many workers to wait for.
    """

    processes: int = 0
    bind: str | None = None
    expect: int = 1

    @property
    def workers(self) -> int:
        """How many processes make requests."""
        return self.expect if self.bind is not None else max(1, self.processes)

    @property
    def arguments(self) -> list[str]:
        """For ``python -m loadtest.load``."""
        if self.bind is not None:
            return ["--bind", self.bind, "--expect-workers", str(self.expect)]
        return ["--processes", str(self.processes)] if self.processes else []


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --processes, --master, --bind and --expect-workers to a command, which gets them as ``crew``."""

    @functools.wraps(command)
    def wrapped(*, processes: int, master: bool, bind: str | None, expect_workers: int | None, **rest: Any) -> Any:
        return command(crew=_crew(processes, master, bind, expect_workers), **rest)

    options = (
        processes_option,
        click.option("--master", is_flag=True, help="Wait for workers on other machines (see `loadtest worker`)."),
        click.option(
            "--bind",
            metavar="HOST:PORT",
            help=f"Address at which to wait for workers.  [default: {LOOPBACK}:{DEFAULT_PORT}]",
        ),
        click.option("--expect-workers", type=click.IntRange(1, _MOST), help="Workers to wait for.  [default: 1]"),
    )
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def host_and_port(text: str, option: str) -> str:
    """``HOST:PORT``, with the default port where there is none.

    Raises:
        InputError: if it is neither.
    """
    try:
        return address_text(*parse_address(text, DEFAULT_PORT))
    except ValueError:
        remedy = f"Write for example {option} {LOOPBACK}:{DEFAULT_PORT}."
        raise InputError(f"{option} {text}: no HOST:PORT", remedy) from None


def _crew(processes: int, master: bool, bind: str | None, expect_workers: int | None) -> WorkerOptions:
    if processes and master:
        raise InputError("--processes and --master exclude each other", "Take --processes on one machine.")
    if not master and (bind is not None or expect_workers is not None):
        raise InputError("--bind and --expect-workers are for --master", "Add --master.")
    if not master:
        return WorkerOptions(processes)
    return WorkerOptions(
        bind=host_and_port(bind or address_text(LOOPBACK, DEFAULT_PORT), "--bind"), expect=expect_workers or 1
    )
