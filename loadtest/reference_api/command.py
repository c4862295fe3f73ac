"""The command that starts the server: ``loadtest serve``, or ``python -m loadtest.reference_api``.

Its first line on standard output is an interface: whoever starts the server as a process reads the URL from it.
"""

import sys
from typing import Any

import click

from loadtest.credentials import LOCAL_KEY, api_keys, workflow_endpoint
from loadtest.reference_api.config import ServerConfig, check_loopback
from loadtest.reference_api.option_values import server_config
from loadtest.reference_api.options import server_options


@click.command("serve")
@server_options
def command(host: str, exit_with_parent: bool, **options: Any) -> None:
    """Serve the reference Workflow API on this machine.

    The environment gives the API keys (WORKFLOW_API_KEYS, separated by commas) and the endpoint (WORKFLOW_ENDPOINT).
    Without keys a well-known local one works; without an endpoint any is accepted.
    """
    from loadtest.reference_api.server import serve  # noqa: PLC0415 -- help and usage errors must not wait for uvicorn

    config = server_config(host=check_loopback(host), keys=api_keys(), endpoint=workflow_endpoint(), **options)
    serve(config, lambda url, control: _announce(url, control, config), exit_with_parent=exit_with_parent)


def _announce(url: str, control: str | None, config: ServerConfig) -> None:
    keys = f"{len(config.keys)} from WORKFLOW_API_KEYS"
    if config.keys == (LOCAL_KEY,):
        keys = f"{LOCAL_KEY} (well known, no secret; set WORKFLOW_API_KEYS for keys of your own)"
    lines = [
        f"Workflow API (reference) on {url}",
        f"  {_limits(config)}",
        *([f"  faults: {_faults(config)}"] if config.faults else []),
        *([f"  control on {control}"] if control else []),
        f"  API keys: {keys}",
        f"  endpoint: {'the one in WORKFLOW_ENDPOINT' if config.endpoint else 'any (WORKFLOW_ENDPOINT is not set)'}",
        "  stop with Ctrl-C or SIGTERM",
    ]
    # In one write, so that a reader that leaves after the first line can't break the pipe between two of them.
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _faults(config: ServerConfig) -> str:
    from loadtest.faults import parse, to_words  # noqa: PLC0415 -- help must not wait for what faults need

    return "; ".join(to_words(parse(text)) for text in config.faults)


def _limits(config: ServerConfig) -> str:
    scope = config.limiter.scope
    limits = ", ".join(f"{name} {limit}" for name, limit in config.limits.items())
    limits = limits if config.limit_all is None else f"{config.limit_all} in all"
    whose = "limits of all keys together" if scope in ("name", "global") else "limits per key"
    burst = f", burst {config.limiter.burst}" if config.limiter.burst else ""
    counting = ", counting rejected requests" if config.limiter.count_rejected else ""
    drawing = ", drawn on by valid requests only" if config.draws == "valid" else ""
    return f"{whose}: {limits}, {config.limiter.algorithm}{burst}{counting}{drawing}"
