"""What the values of the options of ``loadtest serve`` mean together: a server's config."""

import re
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from loadtest.contract import DOCUMENTED, ERROR_CODES, LIMIT_NAMES, LimitName
from loadtest.errors import InputError
from loadtest.limiters import SHARED_SCOPES, LimiterSpec, SpecError, check_spec
from loadtest.target.config import Recode, ServerConfig
from loadtest.units import Limit, parse_limit

_RECODE: Final = re.compile(r"(?P<usual>[a-z_]+)=(?P<status>[45]\d\d)?(?:/(?P<code>[!-~]+))?")
ALL: Final = "all"
"""The name, in ``--limit``, of the limit of all requests together."""


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
    data: str | None,
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
    _check_scope(limit_scope, limits, limit_all)
    spec = LimiterSpec(algorithm, burst, count_rejected, limit_scope)
    try:
        check_spec(spec)
    except SpecError as error:
        option = f"--{error.field.replace('_', '-')}"
        raise InputError(f"{option}: {error.problem}", f"{error.remedy.capitalize()}.") from None
    config = ServerConfig(
        limits=MappingProxyType(named),
        limit_all=limit_all,
        limiter=spec,
        recodes=MappingProxyType(parse_recodes(recodes)),
        data=_directory(data),
        faults=faults,
        keys=keys,
        **others,
    )
    _check_effect(config)
    return config


def _directory(text: str | None) -> Path | None:
    if text is not None and not text.strip():  # a path of nothing would be the working directory
        raise InputError("--data: no directory is named", "Name one, or leave --data out to keep jobs in memory.")
    return None if text is None else Path(text)


def _check_scope(scope: Any, texts: tuple[str, ...], limit_all: Limit | None) -> None:
    """Refuse limits that nothing would draw on with this scope, and a scope without the limit that it needs."""
    if scope not in SHARED_SCOPES:
        if limit_all is not None:
            raise InputError(
                f"--limit all={limit_all}: nothing counts all requests together with --limit-scope {scope}",
                "Give --limit-scope key or global, or limits by name.",
            )
        return
    if limit_all is None:
        raise InputError(
            f"--limit-scope {scope}: all requests share one limit, and none is given",
            "Give it as --limit all=N/W, such as --limit all=1000/60s.",
        )
    for text in texts:
        if text.partition("=")[0].strip() != ALL:
            raise InputError(
                f"--limit {text}: no request draws on it with --limit-scope {scope}, where all share one limit",
                "Leave it out, or give --limit-scope key-and-name or name.",
            )


def _check_effect(config: ServerConfig) -> None:
    """Refuse what would have no effect, as what was meant to be seen would not be."""
    if config.retry_after_factor != 1 and config.retry_after == "none":
        raise InputError(
            f"--retry-after-factor {config.retry_after_factor:g}: no answer has a Retry-After",
            "Give --retry-after seconds or date as well.",
        )
    if config.fault_clock == "epoch" and config.control_port is None:
        raise InputError(
            "--fault-clock epoch: the epoch is told to the control endpoint, and there is none",
            "Give --control-port 0 as well.",
        )
