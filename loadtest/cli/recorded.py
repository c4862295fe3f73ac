"""Verbs about a recorded run: ``loadtest report``, ``export`` and ``slow``."""

from pathlib import Path
from typing import Final

import click

from loadtest.cli._options import shared
from loadtest.errors import InputError
from loadtest.foreign_text import print_json
from loadtest.processes import make_report, run_module
from loadtest.record import run_directory
from loadtest.record.figures import SlowOperation, read_slowest

_INDENT: Final = " " * 17


@click.command()
@shared("run", "plots", "png", "full")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="RUN",
    help="Show the differences from this earlier run. The verdict stays the same. Repeatable. With five or more "
    "baselines, the differences are judged as in `loadtest regression check`.",
)
@click.option("--schema", is_flag=True, help="Print the JSON schema of metrics.json and exit.")
def report(run: str, baselines: tuple[str, ...], schema: bool, **how: bool) -> int:
    """Recreate the report of RUN from its record. The exit code is the verdict.

    RUN is a run directory, a run's id, or 'latest' (the default).
    """
    if schema:
        return run_module("loadtest.analysis", "schema")
    directory = run_directory.find_run(run)
    return make_report(directory, **how, baselines=[run_directory.find_run(one) for one in baselines])


@click.command()
@shared("run")
@click.option("--to", "form", type=click.Choice(["csv", "parquet"]), required=True, help="Format of the files.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the files. Default: the run directory.",
)
def export(run: str, form: str, output: Path | None) -> int:
    """Export the operations and the requests of RUN to two files, and print their paths.

    RUN is a run directory, a run's id, or 'latest' (the default). docs/notebooks.md explains the columns.
    """
    directory = run_directory.find_run(run)
    return run_module("loadtest.analysis", "export", form, str(output or directory), str(directory))


@click.command()
@shared("run")
@click.option("--traffic", help="Only this traffic entry.")
@click.option(
    "--count", type=click.IntRange(1, 100), default=10, show_default=True, help="Number of operations for each entry."
)
@shared("as_json")
def slow(run: str, traffic: str | None, count: int, as_json: bool) -> None:
    """List the slowest operations of RUN with their requests and trace ids.

    RUN is a run directory, a run's id, or 'latest' (the default). The run must have a report.
    """
    slowest = read_slowest(run_directory.find_run(run))
    if traffic is not None and traffic not in slowest:
        raise InputError(f"--traffic {traffic}: the run has {', '.join(slowest) or 'no traffic'}")
    shown = {name: operations[:count] for name, operations in slowest.items() if traffic in {None, name}}
    if as_json:
        print_json(shown)
        return
    for name, operations in shown.items():
        click.echo(f"{name}: {f'the slowest {len(operations)}' if operations else 'no operation was answered'}")
        for operation in operations:
            click.echo("\n".join(_lines(operation)))


def _lines(slow: SlowOperation) -> list[str]:
    reason = f" ({slow.reason})" if slow.reason else ""
    head = (
        f"  {slow.response_ms:10.1f} ms  {slow.outcome}{reason}  arrival {slow.arrival}, "
        f"stage {slow.stage}, at {slow.intended_s:.3f} s"
    )
    head += "" if slow.start_lag_ms is None else f", start lag {slow.start_lag_ms:.2f} ms"
    head += "" if slow.execution_ms is None else f", executionTime {slow.execution_ms:.1f} ms"
    lines = [head, f"{_INDENT}trace id {slow.request_id or '–'}"]
    for phase in slow.phases:
        took = "never ended" if phase.end_ms is None else f"{phase.end_ms - phase.start_ms:.1f} ms"
        lines.append(f"{_INDENT}{phase.start_ms:10.1f} ms  {phase.kind}: {phase.status or 'no answer'}, {took}")
    return lines
