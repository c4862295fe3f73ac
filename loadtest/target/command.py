"""The command that starts the server: ``loadtest serve``, or ``python -m loadtest.target``.

Its first line on standard output is an interface: whoever starts the server as a process reads the URL from it.
"""

import sys
from difflib import get_close_matches
from typing import Any

import click

from loadtest.credentials import LOCAL_KEY, api_keys, workflow_endpoint
from loadtest.errors import InputError
from loadtest.limiters import ALGORITHMS
from loadtest.limits import DOCUMENTED, LIMIT_NAMES, Limit, LimitName, parse_limit
from loadtest.target.config import ServerConfig, check_loopback

_DEFAULTS = ServerConfig()


def parse_limits(texts: tuple[str, ...]) -> dict[LimitName, Limit]:
    """Read ``("sync_run=5/1s", ...)`` over the documented limits.

    Raises:
        InputError: if a name isn't a limit's, or a limit can't be read.
    """
    limits = dict(DOCUMENTED)
    for text in texts:
        name, equals, value = text.partition("=")
        known = next((known for known in LIMIT_NAMES if known == name.strip()), None)
        if known is None or not equals:
            nearest = get_close_matches(name, LIMIT_NAMES, n=1, cutoff=0.4)
            hint = f"Did you mean {nearest[0]}? " if nearest and known is None else ""
            remedy = f"{hint}Write NAME=COUNT/WINDOW, NAME being one of {', '.join(LIMIT_NAMES)}."
            raise InputError(f"--limit {text}: this is not a limit of the API", remedy)
        try:
            limits[known] = parse_limit(value)
        except ValueError as error:
            raise InputError(f"--limit {text}: {error}") from None
    return limits


@click.command("serve")
@click.option("--host", default=_DEFAULTS.host, show_default=True, help="Loopback address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=_DEFAULTS.port, show_default=True, help="0 takes a free port."
)
@click.option(
    "--limit", "limits", multiple=True, metavar="NAME=N/W", help="A limit per key, such as sync_run=5/1s. Repeatable."
)
@click.option(
    "--algorithm",
    type=click.Choice(list(ALGORITHMS)),
    default=_DEFAULTS.algorithm,
    show_default=True,
    help="How limits are enforced.",
)
@click.option(
    "--retry-after",
    type=click.Choice(["none", "seconds"]),
    default=_DEFAULTS.retry_after,
    show_default=True,
    help="Retry-After header of a 429.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=_DEFAULTS.workers,
    show_default=True,
    help="Jobs that execute at the same time.",
)
@click.option("--queue", type=click.IntRange(0), default=_DEFAULTS.queue, show_default=True, help="Jobs that may wait.")
@click.option(
    "--retention",
    type=click.FloatRange(0),
    default=_DEFAULTS.retention,
    show_default=True,
    help="Seconds that a finished job is kept.",
)
@click.option("--exit-with-parent", is_flag=True, help="Stop when standard input ends.")
def command(limits: tuple[str, ...], host: str, exit_with_parent: bool, **options: Any) -> None:
    """Serve the reference Workflow API on this machine.

    The environment gives the API keys (WORKFLOW_API_KEYS, separated by commas) and the endpoint (WORKFLOW_ENDPOINT).
    Without keys a well-known local one works; without an endpoint any is accepted.
    """
    from loadtest.target.server import serve  # noqa: PLC0415 -- help and usage errors must not wait for uvicorn

    config = ServerConfig(
        host=check_loopback(host),
        keys=api_keys(),
        endpoint=workflow_endpoint(),
        limits=parse_limits(limits),
        **options,
    )
    serve(config, lambda url: _announce(url, config), exit_with_parent=exit_with_parent)


def _announce(url: str, config: ServerConfig) -> None:
    keys = f"{len(config.keys)} from WORKFLOW_API_KEYS"
    if config.keys == (LOCAL_KEY,):
        keys = f"{LOCAL_KEY} (well known, no secret; set WORKFLOW_API_KEYS for keys of your own)"
    limits = ", ".join(f"{name} {limit}" for name, limit in config.limits.items())
    lines = [
        f"Workflow API (reference) on {url}",
        f"  limits per key: {limits}, {config.algorithm}",
        f"  API keys: {keys}",
        f"  endpoint: {'the one in WORKFLOW_ENDPOINT' if config.endpoint else 'any (WORKFLOW_ENDPOINT is not set)'}",
        "  stop with Ctrl-C or SIGTERM",
    ]
    # In one write, so that a reader that leaves after the first line can't break the pipe between two of them.
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
