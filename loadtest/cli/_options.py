"""Options that several verbs share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from loadtest.contract import LIMIT_NAMES, LimitName
from loadtest.errors import InputError
from loadtest.processes import DEFAULT_ADDRESS
from loadtest.record.run_directory import LATEST
from loadtest.units import Limit, Rate, parse_duration, parse_limit, parse_rate, parse_share
from loadtest.words import suggestion

_MOST_WORKERS: Final = 256
PATH: Final = click.Path(path_type=Path)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_Value = TypeVar("_Value")


class _Written(click.ParamType[_Value]):
    """The type of an option whose value is parsed from text."""

    def __init__(self, name: str, parse: Callable[[str], _Value]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> _Value:
        del ctx
        try:
            return self._parse(value)
        except ValueError as error:
            raise InputError(f"{param.opts[0] if param else value}: {error}") from None


class NumberRange(click.FloatRange):
    """A number option that rejects ``nan``. The option's bounds would accept it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def _absolute(rate: Rate) -> float:
    if rate.of_limit or not rate.value:
        raise ValueError(f"'{rate}' is not a rate above zero, such as 12/s or 90/min")
    return rate.value


def _limit_of(text: str) -> tuple[LimitName, Limit]:
    name, _, limit = text.partition("=")
    if name not in LIMIT_NAMES:
        raise ValueError(f"{name!r} is not a limit{suggestion(name, LIMIT_NAMES)}")
    return LimitName(name), parse_limit(limit)


LIMIT: Final = _Written("limit", _limit_of)
"""Converts a text such as sync_run=10/1s to the name of a limit and its value."""
DURATION: Final = _Written("duration", parse_duration)
"""Converts a text with a unit, such as 20s, to seconds."""
RATE: Final = _Written("rate", lambda text: _absolute(parse_rate(text)))
"""Converts a text such as 12/s to a rate per second."""
SHARE: Final = _Written("share", parse_share)
"""Converts a share such as 0.2 or 20% to a number from 0 to 1."""


SHARED: Final[dict[str, Decorator]] = {
    "run": click.argument("run", metavar="[RUN]", default=LATEST),
    "host": click.option("--host", help="Base URL of a running target."),
    "host or embedded": click.option(
        "--host", help="Base URL of a running target. Default: start the embedded reference API."
    ),
    "target": click.option("--target", metavar="NAME", help="Name of a running target's entry in targets.toml."),
    "targets": click.option("--targets", type=PATH, help="Read targets from this file instead of targets.toml."),
    "yes": click.option("--yes", is_flag=True, help="Load a production target without typing its host name."),
    "no_preflight": click.option("--no-preflight", is_flag=True, help="Skip the preflight, which spends quota."),
    "set": click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the scenario. Repeatable."
    ),
    "seed": click.option("--seed", type=click.IntRange(min=0), help="Override the scenario's seed."),
    "rate_multiplier": click.option(
        "--rate-multiplier", type=float, metavar="X", help="Multiply every rate and burst by X."
    ),
    "duration": click.option(
        "-t", "--duration", type=DURATION, help="Scale the stages so that the longest traffic entry lasts this long."
    ),
    "output_dir": click.option(
        "--output-dir", type=PATH, default=Path("reports"), show_default=True, help="Folder for runs."
    ),
    "fail_on_inconclusive": click.option("--fail-on-inconclusive", is_flag=True, help="Exit with 1 instead of 6."),
    "full": click.option("--full", is_flag=True, help="Print every table and fact, not only the first screen."),
    "plots": click.option(
        "--plots/--no-plots",
        default=True,
        envvar="LOADTEST_PLOTS",
        show_envvar=True,
        help="Draw plots. Plots take about a third of a short report's time.",
    ),
    "png": click.option("--png", is_flag=True, help="Write plots as PNG files, too."),
    "target_version": click.option(
        "--target-version",
        default="",
        metavar="TEXT",
        envvar="LOADTEST_TARGET_VERSION",
        show_envvar=True,
        help="Name of the target's version. The record, reports and histories show it.",
    ),
    "processes": click.option(
        "--processes",
        type=click.IntRange(0, _MOST_WORKERS),
        default=0,
        help="Number of worker processes on this machine that send the load.",
    ),
    "as_json": click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    "master": click.option("--master", is_flag=True, help="Wait for workers on other machines (`loadtest worker`)."),
    "bind": click.option(
        "--bind", metavar="HOST:PORT", help=f"Address at which a master listens.   [default: {DEFAULT_ADDRESS}]"
    ),
    "expect_workers": click.option(
        "--expect-workers",
        type=click.IntRange(1, _MOST_WORKERS),
        help="Number of workers that a master waits for.  [default: 1]",
    ),
}
RUNNING: Final = ("host", "target", "targets", "yes")
"""Options of a verb that needs a running target."""
PROBED: Final = ("host or embedded", *RUNNING[1:])
"""Options that choose a target. The default is the embedded target."""
TARGET: Final = (*PROBED, "no_preflight")
"""Options of a verb that loads a target. The default is the embedded target."""
LOAD: Final = ("set", "seed", "rate_multiplier", "duration")
"""Options that change a verb's scenario."""


def shared(*names: str) -> Decorator:
    """Add options of ``SHARED`` to a command. The help shows them in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        # Decorators apply from the last to the first.
        for name in reversed(names):
            command = SHARED[name](command)
        return command

    return decorate
