"""Options that several verbs share: the run, the scenario, the target, the processes that make the load."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from loadtest.errors import InputError
from loadtest.processes import DEFAULT_PORT, LOOPBACK, address_text, parse_address
from loadtest.record.run_directory import LATEST

_MOST_WORKERS: Final = 256
_DEFAULT_ADDRESS: Final = address_text(LOOPBACK, DEFAULT_PORT)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

run_argument = click.argument("run", metavar="[RUN]", default=LATEST)

overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the scenario. Repeatable."
)
seed_option = click.option("--seed", type=click.IntRange(min=0), help="Override the scenario's seed.")
output_dir_option = click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("reports"),
    show_default=True,
    help="The folder of all runs.",
)
plots_option = click.option(
    "--plots/--no-plots",
    default=True,
    envvar="LOADTEST_PLOTS",
    show_envvar=True,
    help="Draw plots. They take more than half of the time of a short run's report.",
)
target_version_option = click.option(
    "--target-version",
    default="",
    metavar="TEXT",
    envvar="LOADTEST_TARGET_VERSION",
    show_envvar=True,
    help="What to call the target's version in the record, in reports and in histories.",
)
processes_option = click.option(
    "--processes",
    type=click.IntRange(0, _MOST_WORKERS),
    default=0,
    help="Make the load in this many worker processes on this machine.",
)


metrics_option = click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Serve the run's figures for Prometheus at http://127.0.0.1:PORT/metrics.",
)


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What the command line says about the target.

    Attributes:
        host: a base URL.
        target: the name of an entry.
        targets: the file of such entries; ``targets.toml`` if None.
        yes: load a production target without asking.
    """

    host: str | None = None
    target: str | None = None
    targets: Path | None = None
    yes: bool = False
    no_preflight: bool = False

    @property
    def embedded(self) -> bool:
        """Whether no target is named, so that the embedded one is meant."""
        return self.host is None and self.target is None


def target_options(*, embedded: bool) -> Decorator:
    """Add --host, --target, --targets and --yes to a command, which gets them as ``target``.

    Args:
        embedded: whether the command runs load, on the embedded target by default: it gets --no-preflight, too.
    """
    default = " Default: start the embedded reference API." if embedded else ""
    options = [
        click.option("--host", help=f"Base URL of a running target.{default}"),
        click.option("--target", metavar="NAME", help="A running target, by its name in targets.toml."),
        click.option("--targets", type=click.Path(path_type=Path), help="Another file than targets.toml."),
        click.option("--yes", is_flag=True, help="Load a production target without asking for its host name."),
    ]
    if embedded:
        options.append(click.option("--no-preflight", is_flag=True, help="Skip the preflight, which spends quota."))

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapped(*, no_preflight: bool = False, **rest: Any) -> Any:
            named = {key: rest.pop(key) for key in ("host", "target", "targets", "yes")}
            return command(target=TargetOptions(**named, no_preflight=no_preflight), **rest)

        return _with_options(wrapped, options)

    return decorate


@dataclass(frozen=True, slots=True)
class WorkerOptions:
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
    def count(self) -> int:
        """How many processes make requests."""
        return self.expect if self.bind is not None else max(1, self.processes)

    @property
    def arguments(self) -> list[str]:
        """For ``python -m loadtest.load``."""
        if self.bind is not None:
            return ["--bind", self.bind, "--expect-workers", str(self.expect)]
        return ["--processes", str(self.processes)] if self.processes else []


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --processes, --master, --bind and --expect-workers to a command, which gets them as ``workers``."""

    @functools.wraps(command)
    def wrapped(*, processes: int, master: bool, bind: str | None, expect_workers: int | None, **rest: Any) -> Any:
        return command(workers=_read_workers(processes, master, bind, expect_workers), **rest)

    return _with_options(
        wrapped,
        [
            processes_option,
            click.option("--master", is_flag=True, help="Wait for workers on other machines (`loadtest worker`)."),
            click.option(
                "--bind",
                metavar="HOST:PORT",
                help=f"Address that a master listens at.  [default: {_DEFAULT_ADDRESS}]",
            ),
            click.option(
                "--expect-workers",
                type=click.IntRange(1, _MOST_WORKERS),
                help="Number of workers that a master waits for.  [default: 1]",
            ),
        ],
    )


def host_and_port(text: str, option: str) -> str:
    """``HOST:PORT``, with the default port where there is none.

    Raises:
        InputError: if it is neither.
    """
    try:
        return address_text(*parse_address(text, DEFAULT_PORT))
    except ValueError:
        raise InputError(f"{option} {text}: not HOST:PORT", f"Write for example {option} {_DEFAULT_ADDRESS}.") from None


def _read_workers(processes: int, master: bool, bind: str | None, expect_workers: int | None) -> WorkerOptions:
    if processes and master:
        raise InputError("--processes and --master exclude each other", "Use --processes on one machine.")
    if not master and (bind is not None or expect_workers is not None):
        raise InputError("--bind and --expect-workers need --master", "Add --master.")
    if not master:
        return WorkerOptions(processes)
    return WorkerOptions(bind=host_and_port(bind or _DEFAULT_ADDRESS, "--bind"), expect=expect_workers or 1)


def _with_options(command: Callable[..., Any], options: Sequence[Decorator]) -> Callable[..., Any]:
    # Decorators apply from the last to the first; help shows the options in their order here.
    for option in reversed(options):
        command = option(command)
    return command
