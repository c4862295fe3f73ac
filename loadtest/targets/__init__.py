"""The hosts that may be loaded, and how much: only loopback without an entry in ``targets.toml``."""

from loadtest.targets.choose import ChosenTarget, PreflightOrder, choose, confirm, look, make_preflight
from loadtest.targets.connection import (
    TARGETS_FILE,
    Target,
    UnresolvedError,
    allow,
    check_reachable,
    header_values,
    refused,
    server_of,
    tls_context,
)
from loadtest.targets.entry import TargetEntry, entry_named, load_targets, save_limits
from loadtest.targets.request_budget import (
    PREFLIGHT_KEYS,
    MinimumLoad,
    check_request_budget,
    first_workflow,
    minimum_load,
    preflight_load,
    repeated,
    workflow_operation,
)

__all__ = [
    "PREFLIGHT_KEYS",
    "TARGETS_FILE",
    "ChosenTarget",
    "MinimumLoad",
    "PreflightOrder",
    "Target",
    "TargetEntry",
    "UnresolvedError",
    "allow",
    "check_reachable",
    "check_request_budget",
    "choose",
    "confirm",
    "entry_named",
    "first_workflow",
    "header_values",
    "load_targets",
    "look",
    "make_preflight",
    "minimum_load",
    "preflight_load",
    "refused",
    "repeated",
    "save_limits",
    "server_of",
    "tls_context",
    "workflow_operation",
]
