"""The options that name a target, and the checks before it is loaded: request budget, confirmation, preflight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from loadtest.cli import _children as children
from loadtest.credentials import credentials
from loadtest.errors import TargetError
from loadtest.prepare import check_before_run
from loadtest.record import run_directory
from loadtest.record.run_info import Preflight
from loadtest.scenario.parse import LoadedScenario
from loadtest.targets import Chosen, choose, confirm
from loadtest.targets.connection import header_values


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How the command line names the target."""

    host: str | None
    target: str | None
    targets: Path | None
    yes: bool
    no_preflight: bool = False

    @property
    def embedded(self) -> bool:
        """Whether no target is named: then the embedded one is started."""
        return self.host is None and self.target is None


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """A target that passed every check, with its credentials and its preflight."""

    chosen: Chosen
    keys: Sequence[str]
    endpoint: str
    preflight: Preflight

    @property
    def where(self) -> str:
        """The target and the bounds of its load, in a sentence."""
        entry = self.chosen.entry
        url = self.chosen.target.url
        if entry is None:
            return f"Load goes to {url}: loopback only, a target that was running."
        return (
            f"Load goes to {url}, within the request budget of {self.chosen.name!r} in {self.chosen.path} "
            f"({entry.environment}, {entry.owner})."
        )


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --host, --target, --targets and --yes to a command."""
    options = (
        click.option("--host", help="Base URL of the target. By default an embedded one is started."),
        click.option("--target", metavar="NAME", help="Name of the target's entry in targets.toml."),
        click.option("--targets", type=click.Path(path_type=Path), help="File of targets.  [default: targets.toml]"),
        click.option("--yes", is_flag=True, help="Load a production target without asking for its host name."),
    )
    for option in reversed(options):
        command = option(command)
    return command


preflight_option = click.option("--no-preflight", is_flag=True, help="Skip the preflight, which spends quota.")


def resolve_target(loaded: LoadedScenario, named: TargetOptions) -> ResolvedTarget:
    """Resolve the target that was named, and make every check that comes before a run.

    Raises:
        InputError: if the target may not be loaded, or the run would exceed its request budget.
        TargetError: if the preflight finds that it cannot be loaded.
    """
    chosen = choose(named.host, named.target, named.targets)
    keys, endpoint = credentials_for(chosen)
    check_before_run(loaded, chosen, keys=len(keys), preflight=not named.no_preflight)
    confirm(chosen, yes=named.yes)
    if named.no_preflight:
        children.check_reachable(chosen.target)
        return ResolvedTarget(chosen, keys, endpoint, Preflight())
    seen = look(loaded, chosen, keys, endpoint)
    if (failure := seen.failure) is not None:
        if failure.name == "reachable":
            raise TargetError(f"nothing answers at {chosen.target.url}: {failure.words}", failure.remedy)
        raise TargetError(f"preflight of {chosen.target.url}, {failure.name}: {failure.words}", failure.remedy)
    return ResolvedTarget(chosen, keys, endpoint, seen)


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
    """Print how many jobs a run left pending, and what they may still cost."""
    info = run_directory.load(directory)
    if not info.pending_jobs:
        return
    budget = info.target.budget
    price = None if budget is None else budget.price_per_execution
    cost = ", at an unknown cost (no price_per_execution)"
    if price is not None:
        cost = f": they may still cost {info.pending_jobs * price:g} ({price:g} each)"
    elif info.target.embedded:
        cost = ""
    jobs = "1 job was" if info.pending_jobs == 1 else f"{info.pending_jobs:,} jobs were"
    print(f"{jobs} left pending, listed in {directory / run_directory.PENDING_NAME}{cost}.")
