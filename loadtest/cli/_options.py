"""The options that name a target, and what has to hold before it is loaded: leash, confirmation, preflight.

Workers of this machine beside Locust's web UI, as ``loadtest run --processes`` has them beside its load.

The options that say which processes make a run's load.
"""

import functools
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from loadtest.cli import _children as children
from loadtest.credentials import credentials
from loadtest.errors import InputError, TargetError
from loadtest.prepare import hold_leash
from loadtest.record import run_directory
from loadtest.record.run_info import Preflight
from loadtest.scenario.parse import LoadedScenario
from loadtest.targets import Chosen, choose, confirm
from loadtest.targets.connection import header_values


@dataclass(frozen=True, slots=True)
class Named:
    """What the command line says of the target."""

    host: str | None
    target: str | None
    targets: Path | None
    yes: bool
    no_preflight: bool = False

    @property
    def embedded(self) -> bool:
        """Whether nothing is named, so that the embedded target is meant."""
        return self.host is None and self.target is None


@dataclass(frozen=True, slots=True)
class Ready:
    """A target that may be loaded now, with what to send to it."""

    chosen: Chosen
    keys: Sequence[str]
    endpoint: str
    preflight: Preflight

    @property
    def where(self) -> str:
        """Where load goes, and what holds it, in a sentence."""
        entry = self.chosen.entry
        url = self.chosen.target.url
        if entry is None:
            return f"Load goes to {url}: loopback only, a target that was running."
        return (
            f"Load goes to {url}, within the leash of {self.chosen.name!r} in {self.chosen.path} "
            f"({entry.environment}, {entry.owner})."
        )


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --host, --target, --targets and --yes to a command."""
    options = (
        click.option("--host", help="Base URL of a target that runs; without it the embedded one is started."),
        click.option("--target", metavar="NAME", help="A target that runs, by the name of its entry in targets.toml."),
        click.option("--targets", type=click.Path(path_type=Path), help="Another file than targets.toml."),
        click.option("--yes", is_flag=True, help="Load a production target without asking for its host name."),
    )
    for option in reversed(options):
        command = option(command)
    return command


preflight_option = click.option(
    "--no-preflight", is_flag=True, help="Do not look at the target first (saves its quota)."
)


def get_ready(loaded: LoadedScenario, named: Named) -> Ready:
    """Do everything that comes before the first request of a run on a target that was not started for it.

    Raises:
        InputError: if the target may not be loaded, or not so much of it.
        TargetError: if the preflight says that it cannot be loaded.
    """
    chosen = choose(named.host, named.target, named.targets)
    keys, endpoint = credentials_for(chosen)
    hold_leash(loaded, chosen, keys=len(keys), preflight=not named.no_preflight)
    confirm(chosen, yes=named.yes)
    if named.no_preflight:
        children.check_reachable(chosen.target)
        return Ready(chosen, keys, endpoint, Preflight())
    seen = look(loaded, chosen, keys, endpoint)
    if (failure := seen.failure) is not None:
        if failure.name == "reachable":
            raise TargetError(f"nothing answers at {chosen.target.url}: {failure.words}", failure.remedy)
        raise TargetError(f"preflight of {chosen.target.url}, {failure.name}: {failure.words}", failure.remedy)
    return Ready(chosen, keys, endpoint, seen)


def credentials_for(chosen: Chosen) -> tuple[tuple[str, ...], str]:
    """Keys and endpoint; the entry's endpoint where it has one.

    Raises:
        InputError: as ``loadtest.credentials.credentials``, and where a header that the entry wants is missing.
    """
    keys, endpoint = credentials()
    header_values(chosen.headers)
    entry = chosen.entry
    return keys, endpoint if entry is None or entry.endpoint is None else entry.endpoint


def look(loaded: LoadedScenario, chosen: Chosen, keys: Sequence[str], endpoint: str) -> Preflight:
    """Make a preflight, in a process of its own."""
    environment = children.child_environment(keys, endpoint)
    return children.make_preflight(chosen, loaded.effective, environment)


def tell_pending(directory: Path) -> None:
    """Say in one line what a run left pending, and what that may still cost; nothing if it left nothing."""
    info = run_directory.load(directory)
    if not info.pending_jobs:
        return
    leash = info.target.leash
    price = None if leash is None else leash.price_per_execution
    cost = ": what they cost is not known here (no price_per_execution)"
    if price is not None:
        cost = f": they may still cost {info.pending_jobs * price:g} ({price:g} each)"
    elif info.target.embedded:
        cost = ""
    jobs = "1 job was" if info.pending_jobs == 1 else f"{info.pending_jobs:,} jobs were"
    print(f"{jobs} left pending, listed in {directory / run_directory.PENDING_NAME}{cost}.")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
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
        return ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(self.port)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have them there; they wait for their master, and end with it, with us, or after the block."""
        processes = [self._start() for _ in range(self.number)]
        try:
            yield
        finally:
            for process in processes:
                children.stop(process)

    def _start(self) -> "subprocess.Popen[bytes]":
        # A session of its own, so that Ctrl-C reaches only us; the end of its input tells it that we are gone.
        command = [sys.executable, "-m", "loadtest.load.distributed", f"127.0.0.1:{self.port}", str(self.base)]
        return subprocess.Popen(
            [*command, "--with-parent"],
            env=dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )


DEFAULT_PORT: Final = 5557
"""Locust's own."""
_MOST: Final = 256


processes_option = click.option(
    "--processes",
    type=click.IntRange(0, _MOST),
    default=0,
    help="Make the load with so many worker processes on this machine.",
)


@dataclass(frozen=True, slots=True)
class CrewOptions:
    """Which processes make the load.

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


def crew_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --processes, --master, --bind and --expect-workers to a command, which gets them as ``crew``."""

    @functools.wraps(command)
    def wrapped(*, processes: int, master: bool, bind: str | None, expect_workers: int | None, **rest: Any) -> Any:
        return command(crew=_crew(processes, master, bind, expect_workers), **rest)

    options = (
        processes_option,
        click.option("--master", is_flag=True, help="Make it with workers elsewhere (see `loadtest worker`)."),
        click.option(
            "--bind",
            metavar="HOST:PORT",
            help=f"Where a master waits for workers.  [default: 127.0.0.1:{DEFAULT_PORT}]",
        ),
        click.option("--expect-workers", type=click.IntRange(1, _MOST), help="How many it waits for.  [default: 1]"),
    )
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def host_and_port(text: str, option: str) -> str:
    """``HOST:PORT``, with the default port where there is none.

    Raises:
        InputError: if it is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host and not host.startswith("[")):
        raise InputError(f"{option} {text}: no HOST:PORT", f"Write for example {option} 127.0.0.1:{DEFAULT_PORT}.")
    return f"{host}:{port}"


def _crew(processes: int, master: bool, bind: str | None, expect_workers: int | None) -> CrewOptions:
    if processes and master:
        raise InputError("--processes and --master exclude each other", "Take --processes on one machine.")
    if not master and (bind is not None or expect_workers is not None):
        raise InputError("--bind and --expect-workers are for --master", "Add --master.")
    if not master:
        return CrewOptions(processes)
    return CrewOptions(bind=host_and_port(bind or f"127.0.0.1:{DEFAULT_PORT}", "--bind"), expect=expect_workers or 1)
