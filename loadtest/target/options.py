"""The options of ``loadtest serve``, and how their values are read."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar, get_args

import click

from loadtest.error_codes import ERROR_CODES
from loadtest.errors import InputError
from loadtest.limiters import ALGORITHMS, SCOPES, SHARED_SCOPES, LimiterSpec, SpecError, check_spec
from loadtest.limits import DOCUMENTED, LIMIT_NAMES, Limit, LimitName, parse_limit
from loadtest.target.config import (
    Draws,
    FaultClock,
    PendingTime,
    RateHeaders,
    Recode,
    RetryAfter,
    ServerConfig,
    Unknown,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DEFAULTS: Final = ServerConfig()
_RECODE = re.compile(r"(?P<usual>[a-z_]+)=(?P<status>[45]\d\d)?(?:/(?P<code>\S+))?")
ALL: Final = "all"
"""The name, in ``--limit``, of the limit of all requests together."""


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
        type=click.FloatRange(0),
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
        type=click.FloatRange(0),
        default=_DEFAULTS.retention,
        show_default=True,
        help="Seconds that a finished job is kept.",
    ),
    click.option(
        "--run-timeout",
        type=click.FloatRange(0, min_open=True),
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
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Keep jobs on disk, in this directory.",
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


def parse_limits(texts: tuple[str, ...]) -> tuple[dict[LimitName, Limit], Limit | None]:
    """Read ``("sync_run=5/1s", ...)`` over the documented limits.

    Returns:
        The limit of each limit name, and that of all together, if one is given.

    Raises:
        InputError: if a name isn't a limit's, or a limit can't be read.
    """
    limits: dict[str, Limit] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if name not in (*LIMIT_NAMES, ALL) or not equals:
            nearest = get_close_matches(name, LIMIT_NAMES, n=1, cutoff=0.4)
            hint = f"Did you mean {nearest[0]}? " if nearest and name not in LIMIT_NAMES else ""
            remedy = f"{hint}Write NAME=COUNT/WINDOW, NAME being one of {', '.join((*LIMIT_NAMES, ALL))}."
            raise InputError(f"--limit {text}: this is not a limit of the API", remedy)
        try:
            limits[name] = parse_limit(value)
        except ValueError as error:
            raise InputError(f"--limit {text}: {error}") from None
    return {name: limits.get(name, DOCUMENTED[name]) for name in LIMIT_NAMES}, limits.get(ALL)


def parse_recodes(texts: tuple[str, ...]) -> dict[str, Recode]:
    """Read ``("queue_full=429/too_many_jobs", ...)``: errors by their usual code, and how they are answered instead.

    Raises:
        InputError: if one has another form, or no error has its code.
    """
    recodes = {}
    for text in texts:
        match = _RECODE.fullmatch(text)
        if match is None or not (match["status"] or match["code"]):
            remedy = "Write CODE=STATUS, CODE=/NEWCODE or CODE=STATUS/NEWCODE, such as queue_full=429."
            raise InputError(f"--answer {text}: this does not say how to answer an error", remedy)
        if match["usual"] not in ERROR_CODES:
            nearest = get_close_matches(match["usual"], ERROR_CODES, n=1)
            remedy = f"Did you mean {nearest[0]}?" if nearest else f"Write one of {', '.join(ERROR_CODES)}."
            raise InputError(f"--answer {text}: no error has the code {match['usual']}", remedy)
        recodes[match["usual"]] = Recode(int(match["status"]) if match["status"] else None, match["code"])
    return recodes


def check_faults(texts: tuple[str, ...], keys: int) -> None:
    """Check ``("latency,ms=200", ...)``: how a server with so many keys is to misbehave.

    Raises:
        InputError: if one can't be read, or is about a key that there isn't.
    """
    from loadtest.faults import check_keys, parse  # noqa: PLC0415 -- help must not wait for what faults need

    for text in texts:
        try:
            check_keys(parse(text), keys)
        except InputError as error:
            raise InputError(f"--fault {text}: {error.message}", error.remedy) from None


def server_config(
    *,
    limits: tuple[str, ...],
    algorithm: str,
    burst: int | None,
    count_rejected: bool,
    limit_scope: Any,
    recodes: tuple[str, ...],
    faults: tuple[str, ...],
    keys: tuple[str, ...],
    **others: Any,
) -> ServerConfig:
    """Make a server's config of the options' values; ``others`` are fields as they are.

    Raises:
        InputError: if a value can't be read, or two don't go together.
    """
    check_faults(faults, len(keys))
    named, limit_all = parse_limits(limits)
    if limit_scope in SHARED_SCOPES and limit_all is None:
        raise InputError(
            f"--limit-scope {limit_scope}: all requests share one limit, and none is given",
            "Give it as --limit all=N/W, such as --limit all=1000/60s.",
        )
    if limit_all is not None and limit_scope not in SHARED_SCOPES:
        raise InputError(
            f"--limit all={limit_all}: nothing counts all requests together with --limit-scope {limit_scope}",
            "Give --limit-scope key or global, or limits by name.",
        )
    spec = LimiterSpec(algorithm, burst, count_rejected, limit_scope)
    try:
        check_spec(spec)
    except SpecError as error:
        option = f"--{error.field.replace('_', '-')}"
        raise InputError(f"{option}: {error.problem}", f"{error.remedy.capitalize()}.") from None
    return ServerConfig(
        limits=MappingProxyType(named),
        limit_all=limit_all,
        limiter=spec,
        recodes=MappingProxyType(parse_recodes(recodes)),
        faults=faults,
        keys=keys,
        **others,
    )
