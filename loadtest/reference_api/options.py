"""The options of ``loadtest serve``."""

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, get_args

import click

from loadtest.limiters import ALGORITHMS, SCOPES
from loadtest.reference_api.config import Draws, FaultClock, PendingTime, RateHeaders, RetryAfter, ServerConfig, Unknown

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DEFAULTS: Final = ServerConfig()
_WEEK: Final = 7 * 24 * 3600
"""Seconds, as far as scenarios go, too: more is taken for a mistake."""


class _Number(click.FloatRange):
    """A number; ``nan`` is in no range, though every comparison with it lets it through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def _choice(values: Any) -> click.Choice[str]:
    return click.Choice(list(get_args(values) or values))


_OPTIONS: Final = (
    click.option("--host", default=_DEFAULTS.host, show_default=True, help="Loopback address to listen on."),
    click.option(
        "--port", type=click.IntRange(0, 65535), default=_DEFAULTS.port, show_default=True, help="0 takes a free port."
    ),
    click.option(
        "--limit", "limits", multiple=True, metavar="NAME=N/W", help="A limit, such as sync_run=5/1s. Repeatable."
    ),
    click.option(
        "--algorithm",
        type=_choice(ALGORITHMS),
        default=_DEFAULTS.limiter.algorithm,
        show_default=True,
        help="How limits are enforced.",
    ),
    click.option("--burst", type=click.IntRange(1), help="Requests at once, where the algorithm has a burst."),
    click.option("--count-rejected", is_flag=True, help="Rejected requests are counted, too."),
    click.option(
        "--limit-scope",
        type=_choice(SCOPES),
        default=_DEFAULTS.limiter.scope,
        show_default=True,
        help="What one limiter counts. key and global need --limit all=N/W.",
    ),
    click.option(
        "--draws",
        type=_choice(Draws),
        default=_DEFAULTS.draws,
        show_default=True,
        help="Which requests draw on a limit.",
    ),
    click.option(
        "--retry-after",
        type=_choice(RetryAfter),
        default=_DEFAULTS.retry_after,
        show_default=True,
        help="Retry-After header of a 429.",
    ),
    click.option(
        "--retry-after-factor",
        type=_Number(0, 1000),
        default=_DEFAULTS.retry_after_factor,
        show_default=True,
        help="By how much Retry-After is off.",
    ),
    click.option(
        "--rate-headers",
        type=_choice(RateHeaders),
        default=_DEFAULTS.rate_headers,
        show_default=True,
        help="Headers that tell of the limit's state.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        default=_DEFAULTS.workers,
        show_default=True,
        help="Jobs that execute at the same time.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 1000),
        default=_DEFAULTS.threads,
        show_default=True,
        help="Plain workflow functions that execute at the same time.",
    ),
    click.option(
        "--queue", type=click.IntRange(0), default=_DEFAULTS.queue, show_default=True, help="Jobs that may wait."
    ),
    click.option(
        "--retention",
        type=_Number(0, _WEEK),
        default=_DEFAULTS.retention,
        show_default=True,
        help="Seconds that a finished job is kept.",
    ),
    click.option(
        "--run-timeout",
        type=_Number(0, _WEEK, min_open=True),
        default=_DEFAULTS.run_timeout,
        show_default=True,
        help="Seconds that a synchronous run may execute.",
    ),
    click.option(
        "--workflows",
        multiple=True,
        metavar="MODULE",
        help="Module or .py file with workflows of your own. Repeatable.",
    ),
    click.option(
        "--answer",
        "recodes",
        multiple=True,
        metavar="CODE=STATUS[/CODE]",
        help="Answer an error otherwise, such as queue_full=429. Repeatable.",
    ),
    click.option(
        "--pending-execution-time",
        type=_choice(PendingTime),
        default=_DEFAULTS.pending_execution_time,
        show_default=True,
        help="executionTime of a pending job.",
    ),
    click.option(
        "--unknown-parameters",
        type=_choice(Unknown),
        default=_DEFAULTS.unknown_parameters,
        show_default=True,
        help="Parameters that a workflow doesn't have.",
    ),
    click.option(
        "--max-body",
        type=click.IntRange(1, 1024 * 1024),  # what is larger than that is not read to its end: bodies.DRAINED
        default=_DEFAULTS.max_body,
        show_default=True,
        help="Bytes that a request's body may have.",
    ),
    click.option(
        "--fault",
        "faults",
        multiple=True,
        metavar="KIND[,KEY=VALUE]...",
        help="Misbehave, such as latency,ms=200,start=10s,probability=10%. Repeatable.",
    ),
    click.option(
        "--fault-seed",
        type=click.IntRange(0),
        default=_DEFAULTS.fault_seed,
        show_default=True,
        help="Of the draws of which requests a fault hits.",
    ),
    click.option(
        "--fault-clock",
        type=_choice(FaultClock),
        default=_DEFAULTS.fault_clock,
        show_default=True,
        help="What a fault's start counts from: the server being ready, or POST /epoch to the control endpoint.",
    ),
    click.option(
        "--control-port",
        type=click.IntRange(0, 65535),
        help="Let faults be set and removed there; 0 takes a free port.",
    ),
    click.option("--exit-with-parent", is_flag=True, help="Stop when standard input ends."),
)


def server_options(command: _Command) -> _Command:
    """Give a click command the options of a server."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
