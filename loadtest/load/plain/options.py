"""Locust's command line: two options of ours, and what is refused before anything starts.

What Locust knows by its name and would do otherwise here, or not at all, is refused in a sentence that says where the
scenario says it. It may stand on the command line, in Locust's variables or in a configuration file.
"""

import argparse
import math
from typing import Any, Final

import locust
from locust.argument_parser import get_parser

from loadtest.errors import InputError

_POOL: Final = (
    "the users are a pool of the scenario's, and all start at once. How much load there is, the stages say (rate, "
    "ramp_to); max_users of a traffic entry bounds its users"
)
_TASKS: Final = "traffic entries have no tags. Name those that are to run instead, as in `locust greetings`"

REFUSED: Final[dict[str, tuple[str, str]]] = {
    "num_users": ("-u/--users", _POOL),
    "spawn_rate": ("-r/--spawn-rate", _POOL),
    "run_time": ("-t/--run-time", "a run is as long as the scenario's stages: set their duration"),
    "stop_timeout": ("-s/--stop-timeout", "what is in flight at the end may take as long as the scenario's drain"),
    "tags": ("-T/--tags", _TASKS),
    "exclude_tags": ("-E/--exclude-tags", _TASKS),
    "config_users": ("--config-users", "what users do is written in the scenario, below [traffic.NAME]"),
    "equal_weights": ("--equal-weights", _POOL),
    "class_picker": ("--class-picker", "the scenario's traffic runs together. Name entries, as in `locust greetings`"),
    "exit_code_on_error": ("--exit-code-on-error", "the exit code is the verdict's: see `loadtest run --help`"),
    "web_login": ("--web-login", "the web UI has no accounts: it serves this machine alone"),
}
"""Options that are refused where they are not at their default: how they are spelled, and why."""

_TUNNEL: Final = (
    "Keep 127.0.0.1, and come by an SSH tunnel (`ssh -L 8089:127.0.0.1:8089 HOST`) or a reverse proxy on this machine "
    "that knows its users and sends `Host: 127.0.0.1`."
)
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def parse_command_line(seed: int, rate_multiplier: float) -> argparse.Namespace:
    """What Locust is told by its command line, its variables and its configuration files, with our options.

    Locust reads it a second time, after the locustfile was imported. What it does not know is left for it to refuse.

    Raises:
        InputError: if something is refused.
    """

    def add_options(parser: Any, **_: Any) -> None:
        # On the parser itself, not in a group: these are fields of the web UI's form.
        parser.add_argument("--seed", type=int, default=seed, help="in place of the scenario's")
        parser.add_argument(
            "--rate-multiplier", type=float, default=rate_multiplier, help="every rate and burst times this"
        )

    locust.events.init_command_line_parser.add_listener(add_options)
    parser = get_parser()
    options: argparse.Namespace = parser.parse_known_args()[0]
    if not options.worker:
        _refuse(options, {name: parser.get_default(name) for name in REFUSED})
    return options


def _refuse(options: argparse.Namespace, defaults: dict[str, Any]) -> None:
    for name, (spelled, why) in REFUSED.items():
        # A default may be the text of a number.
        if str(getattr(options, name)) != str(defaults[name]):
            raise InputError(f"{spelled} is refused: {why}.")
    if not options.headless and options.web_host not in _LOOPBACK:
        where = options.web_host or "every address of this machine"
        raise InputError(f"--web-host: the web UI is not served to {where}: whoever reaches it can start load", _TUNNEL)


def read_seed(text: str) -> int:
    """Read a seed of the form.

    Raises:
        InputError: if it is none.
    """
    if not text.strip().isdecimal() or int(text) >= 2**63:
        raise InputError(f"Seed: {text!r} is no whole number from 0 to 2⁶³ − 1", "")
    return int(text)


def read_multiplier(text: str) -> float:
    """Read a rate multiplier of the form.

    Raises:
        InputError: if it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1000:
        raise InputError(f"Rate multiplier: {text!r} is no number above 0 and at most 1000", "")
    return value
