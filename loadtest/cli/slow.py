"""``loadtest slow``: the slowest operations of a run, with their requests."""

from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from loadtest.cli._options import shared
from loadtest.errors import InputError
from loadtest.record import run_directory
from loadtest.record.figures import read_figures

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
            click.echo("\n".join(_lines(msgspec.json.decode(operation))))


def _lines(operation: Mapping[str, Any]) -> list[str]:
    reason = f" ({operation['reason']})" if operation["reason"] else ""
    executed = "" if (ms := operation["execution_ms"]) is None else f", executionTime {ms:.1f} ms"
    head = (
        f"  {operation['response_ms']:10.1f} ms  {operation['outcome']}{reason}  arrival {operation['arrival']}, "
        f"stage {operation['stage']}, at {operation['intended_s']:.3f} s"
    )
    lag = operation["start_lag_ms"]
    head += "" if lag is None else f", start lag {lag:.2f} ms"
    lines = [head + executed, f"{_INDENT}trace id {operation['request_id'] or '–'}"]
    for phase in operation["phases"]:
        start, end = phase["start_ms"], phase["end_ms"]
        took = "never ended" if end is None else f"{end - start:.1f} ms"
        lines.append(f"{_INDENT}{start:10.1f} ms  {phase['kind']}: {phase['status'] or 'no answer'}, {took}")
    return lines
