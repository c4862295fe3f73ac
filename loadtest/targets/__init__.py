"""Which hosts may be loaded, and how much of them: nothing but loopback without an entry in ``targets.toml``."""

from loadtest.errors import InputError
from loadtest.targets.address import Target, UnresolvedError, resolve
from loadtest.targets.choose import TARGETS_FILE, Chosen, choose, confirm, load_targets
from loadtest.targets.entry import TargetEntry
from loadtest.targets.request_budget import Demand, check_request_budget, demand_of, preflight_alone

__all__ = [
    "TARGETS_FILE",
    "Chosen",
    "Demand",
    "Target",
    "TargetEntry",
    "UnresolvedError",
    "allow",
    "check_request_budget",
    "choose",
    "confirm",
    "demand_of",
    "load_targets",
    "preflight_alone",
]


def allow(url: str, *, listed: bool = False) -> Target:
    """Check, where the load is made, that a base URL is one that may be loaded.

    Names are resolved here and nowhere else: what is connected to is an address that was checked, also where a name is
    looked up again during a run.

    Args:
        url: the base URL.
        listed: whether an entry of ``targets.toml`` allows it; without one the host must be loopback.

    Raises:
        InputError: if it is no base URL, or is neither loopback nor listed.
    """
    target = resolve(url)
    if not target.loopback and not listed:
        raise InputError(
            f"{target.server_name!r} is not a loopback address, and only this machine may be loaded without an entry",
            f"Add an entry to {TARGETS_FILE} (see docs/targets.md), or give http://127.0.0.1:PORT.",
        )
    return target
