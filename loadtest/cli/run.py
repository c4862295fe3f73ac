"""``loadtest run``: sends a scenario's traffic, records and reports it, and judges it."""

from typing import Any

import click

from loadtest.cli._options import LOAD, TARGET, shared
from loadtest.runs.run import RunOptions, make_run


@click.command("run")
@click.argument("scenario")
@shared(*TARGET, "output_dir", *LOAD, "processes", "master", "bind", "expect_workers")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Serve Prometheus metrics of the run at http://127.0.0.1:PORT/metrics.",
)
@shared("target_version", "plots", "png", "full")
def command(**given: Any) -> int:
    """Run SCENARIO, a scenario's file or name, and report it. The exit code is the verdict.

    Keys and endpoint come from WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT; an embedded target has its own. Every host
    except loopback needs an entry in targets.toml.
    """
    options = RunOptions(**given)
    return make_run(options.load(), options).exit_code
