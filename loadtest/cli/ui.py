"""``loadtest ui``: opens a scenario in Locust's web UI, on this machine."""

from typing import Any

import click

from loadtest.cli._options import TARGET, shared
from loadtest.runs.ui import serve_ui


@click.command("ui")
@click.argument("scenario")
@shared(*TARGET)
@click.option("--port", type=click.IntRange(1, 65535), default=8089, show_default=True, help="Port of the web UI.")
@shared("seed", "rate_multiplier", "duration", "output_dir", "processes", "plots")
def command(**options: Any) -> int:
    """Open SCENARIO in Locust's web UI. Each start there makes a run with its own record and report.

    Unless --no-preflight is given, a preflight checks a running target before each run.
    """
    return serve_ui(**options)
