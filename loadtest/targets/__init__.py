"""Which hosts may be loaded, and how much: only loopback without an entry in ``targets.toml``."""

from loadtest.errors import InputError, TargetError
from loadtest.program import serve_command
from loadtest.record.run_info import REFUSED
from loadtest.targets.choose import (
    TARGETS_FILE,
    ChosenTarget,
    PreflightOrder,
    choose,
    confirm,
    entry_named,
    load_targets,
)
from loadtest.targets.connection import Target, UnresolvedError, resolve
from loadtest.targets.entry import TargetEntry
from loadtest.targets.request_budget import MinimumLoad, check_request_budget, minimum_load, preflight_load, repeated

__all__ = [
    "TARGETS_FILE",
    "ChosenTarget",
    "MinimumLoad",
    "PreflightOrder",
    "Target",
    "TargetEntry",
    "UnresolvedError",
    "allow",
    "check_request_budget",
    "choose",
    "confirm",
    "entry_named",
    "load_targets",
    "minimum_load",
    "preflight_load",
    "refused",
    "repeated",
]


def refused(target: Target) -> TargetError:
    """The error of a target at whose address nothing listens."""
    remedy = (
        f"Start it (`{serve_command(target.port)}`) or name another with --host."
        if target.loopback
        else f"Check that it runs, and its URL in {TARGETS_FILE}."
    )
    return TargetError(f"{target.url} {REFUSED}", remedy)


def allow(url: str, *, listed: bool = False) -> Target:
    """Check, in the process that makes the load, that a base URL may be loaded.

    Names are resolved here and nowhere else, so every connection goes to a checked address, also where a name is looked
    up again during a run.

    Args:
        url: the base URL.
        listed: whether an entry allows this run; without one the host must be loopback.

    Raises:
        InputError: if it is not a base URL, or its host is neither loopback nor allowed by an entry.
    """
    target = resolve(url)
    if not target.loopback and not listed:
        raise InputError(
            f"{target.server_name!r} is not a loopback address, and only this machine may be loaded without an entry",
            f"Add an entry to {TARGETS_FILE} (see docs/targets.md), or give http://127.0.0.1:PORT.",
        )
    return target
