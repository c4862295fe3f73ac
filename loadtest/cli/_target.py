"""What comes before a target is loaded: budget, confirmation and preflight; or the start of the embedded one."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.cli import _children as children
from loadtest.cli._options import TargetOptions
from loadtest.credentials import ENDPOINT_VARIABLE, credentials
from loadtest.errors import InputError
from loadtest.plan.contradictions import unknown_workflows
from loadtest.prepare import check_before_run, prepare_run
from loadtest.record.run_info import Preflight, RunInfo
from loadtest.scenario.parse import LoadedScenario
from loadtest.targets import ChosenTarget, choose, confirm
from loadtest.targets.connection import header_values
from loadtest.targets.look import look


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """A target that may be loaded now.

    Attributes:
        environment: of the processes that load it, with the credentials.
        description: where load goes and what limits it, in a sentence.
        chosen: the target and its entry; None for the embedded one.
        preflight: what a preflight saw.
        embedded: the process of the embedded target.
    """

    url: str
    keys: Sequence[str] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    description: str
    chosen: ChosenTarget | None = None
    preflight: Preflight = field(default_factory=Preflight)
    embedded: children.EmbeddedTarget | None = None

    @property
    def endpoint(self) -> str:
        """The value of ``x-wf-endpoint``."""
        return self.environment[ENDPOINT_VARIABLE]


@contextmanager
def resolved_target(loaded: LoadedScenario, options: TargetOptions) -> Iterator[ResolvedTarget]:
    """The target of a run: a running one that may be loaded, or the embedded one, which lives as long as the block.

    Raises:
        InputError: if the target may not be loaded, or not so much.
        TargetError: if the preflight fails, or the embedded target does not start.
    """
    if options.embedded:
        with embedded_target(loaded, *children.own_credentials(loaded.scenario.keys)) as resolved:
            yield resolved
        return
    chosen = choose(options.host, options.target, options.targets)
    keys, endpoint = credentials_for(chosen)
    check_before_run(loaded, chosen, keys=len(keys), preflight=not options.no_preflight)
    confirm(chosen, yes=options.yes)
    yield running_target(loaded, chosen, keys, endpoint, preflight=not options.no_preflight)


@contextmanager
def embedded_target(loaded: LoadedScenario, keys: Sequence[str], endpoint: str) -> Iterator[ResolvedTarget]:
    """An embedded target as long as the block lasts.

    Raises:
        InputError: if the scenario runs a workflow that it does not have.
        TargetError: if it does not start.
    """
    for wrong in unknown_workflows(loaded.scenario):
        raise InputError(f"{loaded.path}, {wrong.key}: {wrong.message}", wrong.remedy)
    environment = children.child_environment(keys, endpoint)
    with children.embedded_target(loaded.scenario.target.settings, environment) as embedded:
        yield ResolvedTarget(
            embedded.url,
            keys,
            {**environment, **embedded.environment},
            f"Load goes to {embedded.url}: loopback only, embedded target.",
            embedded=embedded,
        )


def credentials_for(chosen: ChosenTarget, environ: Mapping[str, str] = os.environ) -> tuple[tuple[str, ...], str]:
    """Keys and endpoint; the entry's endpoint where it has one.

    Raises:
        InputError: as ``loadtest.credentials.credentials``, and if a header that the entry needs is missing.
    """
    keys, endpoint = credentials(environ)
    header_values(chosen.headers)
    entry = chosen.entry
    return keys, endpoint if entry is None or entry.endpoint is None else entry.endpoint


def running_target(
    loaded: LoadedScenario, chosen: ChosenTarget, keys: Sequence[str], endpoint: str, *, preflight: bool
) -> ResolvedTarget:
    """A running target whose budget was checked: look at it with a preflight, or only whether it is there.

    Raises:
        TargetError: if that fails.
    """
    environment = children.child_environment(keys, endpoint)
    url = chosen.target.url
    seen = look(chosen, loaded.effective, environment, preflight=preflight)
    return ResolvedTarget(url, keys, environment, _description(chosen), chosen, seen)


def _description(chosen: ChosenTarget) -> str:
    entry = chosen.entry
    if entry is None:
        return f"Load goes to {chosen.target.url}: loopback only, a target that was running."
    return (
        f"Load goes to {chosen.target.url}, within the request budget of {chosen.name!r} in {chosen.path} "
        f"({entry.environment}, {entry.owner})."
    )


def prepare(
    loaded: LoadedScenario,
    target: ResolvedTarget,
    output_dir: Path,
    *,
    block: str | None = None,
    first: bool = True,
    workers: int = 1,
    version: str = "",
) -> tuple[Path, RunInfo]:
    """Make the directory of a run of a target, and write its ``run.json``.

    Args:
        loaded: the scenario in force.
        target: where to.
        output_dir: parent of the run directory.
        block: as ``prepare_run`` has it.
        first: whether it is the first run after the preflight, whose requests it counts then.
        workers: how many processes make the load.
        version: what the user calls the version of the target.

    Raises:
        InputError: as ``prepare_run``.
    """
    return prepare_run(
        loaded,
        url=target.url,
        embedded=target.embedded is not None,
        keys=len(target.keys),
        command=["loadtest", *sys.argv[1:]],
        output_dir=output_dir,
        chosen=target.chosen,
        preflight=target.preflight.sent if first else (),
        workers=workers,
        target_version=version,
        block=block,
    )
