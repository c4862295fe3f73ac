"""The options that name a target, and what has to hold before it is loaded: leash, confirmation, preflight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from loadtest.cli import _children as children
from loadtest.credentials import credentials
from loadtest.errors import TargetError
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
