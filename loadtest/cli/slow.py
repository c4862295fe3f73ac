"""``loadtest slow``: lists the slowest operations of a run, with their requests."""

from typing import Final

import click
import msgspec

from loadtest.cli._options import shared
from loadtest.errors import InputError
from loadtest.record import run_directory
from loadtest.record.figures import SlowOperation, read_slowest

_INDENT: Final = " " * 17


@click.command()
@shared("run")
@click.option("--traffic", help="Only this traffic entry.")
@click.option(
    "--count", type=click.IntRange(1, 100), default=10, show_default=True, help="Number of operations for each entry."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, traffic: str | None, count: int, as_json: bool) -> None:
    """List the slowest operations of RUN with their requests and trace ids.

    RUN is a run directory, a run's id, or 'latest' (the default). The run must have a report.
    """
    directory = run_directory.find_run(run)
    slowest = read_slowest(directory)
    if traffic is not None and traffic not in slowest:
        raise InputError(f"--traffic {traffic}: the run has {', '.join(slowest) or 'no traffic'}")
    shown = {name: operations[:count] for name, operations in slowest.items() if traffic in {None, name}}
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2))
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
