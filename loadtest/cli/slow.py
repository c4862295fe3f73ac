"""``loadtest slow``: the slowest operations of a run, with their requests."""

from typing import Final

import click
import msgspec

from loadtest.cli._options import shared
from loadtest.errors import InputError
from loadtest.record import run_directory
from loadtest.record.figures import read_figures

_INDENT: Final = " " * 17


class ListedRequest(msgspec.Struct, frozen=True):
    """What is shown of one request: times in ms since the operation's intended start."""

    kind: str
    start_ms: float
    end_ms: float | None
    status: int | None


class ListedOperation(msgspec.Struct, frozen=True):
    """What is shown of one of the slowest operations."""

    stage: str
    arrival: int
    intended_s: float
    response_ms: float
    start_lag_ms: float
    outcome: str
    reason: str | None
    execution_ms: float | None
    request_id: str | None
    phases: list[ListedRequest]


@click.command()
@shared("run")
@click.option("--traffic", help="Only this traffic entry.")
@click.option("--count", type=click.IntRange(1, 100), default=10, show_default=True, help="How many of each entry.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, traffic: str | None, count: int, as_json: bool) -> None:
    """List the slowest operations of RUN with their requests, and the trace id under which the target knows each.

    RUN is a run directory, a run's id, or 'latest' (the default). It must have a report.
    """
    directory = run_directory.find_run(run)
    slowest = read_figures(directory).slowest
    if traffic is not None and traffic not in slowest:
        raise InputError(f"--traffic {traffic}: the run has {', '.join(slowest) or 'no traffic'}")
    shown = {name: operations[:count] for name, operations in slowest.items() if traffic in {None, name}}
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2))
        return
    for name, operations in shown.items():
        click.echo(f"{name}: {f'the slowest {len(operations)}' if operations else 'no operation was answered'}")
        for operation in operations:
            click.echo("\n".join(_lines(msgspec.json.decode(operation, type=ListedOperation))))


def _lines(operation: ListedOperation) -> list[str]:
    reason = f" ({operation.reason})" if operation.reason else ""
    executed = "" if operation.execution_ms is None else f", executionTime {operation.execution_ms:.1f} ms"
    head = (
        f"  {operation.response_ms:10.1f} ms  {operation.outcome}{reason}  arrival {operation.arrival}, "
        f"stage {operation.stage}, at {operation.intended_s:.3f} s, start lag {operation.start_lag_ms:.2f} ms"
    )
    lines = [head + executed, f"{_INDENT}trace id {operation.request_id or '–'}"]
    for phase in operation.phases:
        took = "never ended" if phase.end_ms is None else f"{phase.end_ms - phase.start_ms:.1f} ms"
        lines.append(f"{_INDENT}{phase.start_ms:10.1f} ms  {phase.kind}: {phase.status or 'no answer'}, {took}")
    return lines
