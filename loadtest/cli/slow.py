"""``loadtest slow``: the slowest operations of a run, with their requests."""

import json
from pathlib import Path
from typing import Any

import click

from loadtest.errors import InputError, RecordError
from loadtest.record import run_directory


@click.command()
@click.argument("run", metavar="[RUN]", default=run_directory.LATEST)
@click.option("--traffic", help="Show only this traffic entry.")
@click.option("--count", type=click.IntRange(1, 100), default=10, show_default=True, help="Operations of each entry.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, traffic: str | None, count: int, as_json: bool) -> None:
    """List the slowest operations of RUN, with their requests and the trace id by which the target knows them.

    RUN is a run directory, a run's id, or 'latest', which is the default. Make its report first.
    """
    directory = run_directory.find_run(run)
    slowest = _slowest(directory)
    if traffic is not None and traffic not in slowest:
        raise InputError(f"--traffic {traffic}: the run has {', '.join(slowest) or 'no traffic'}")
    shown = {name: found[:count] for name, found in slowest.items() if traffic in (None, name)}
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    for name, found in shown.items():
        click.echo(f"{name}: {'no operation was answered' if not found else f'the slowest {len(found)}'}")
        for one in found:
            click.echo("\n".join(_lines(one)))


def _slowest(directory: Path) -> dict[str, list[dict[str, Any]]]:
    path = directory / "metrics.json"
    try:
        found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))["slowest"]
    except FileNotFoundError:
        raise InputError(f"{path} is missing", f"Make the report: loadtest report {directory}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise RecordError(f"{path} can't be read", f"Make the report again: loadtest report {directory}") from None
    return found


def _lines(one: dict[str, Any]) -> list[str]:
    why = f" ({one['reason']})" if one["reason"] else ""
    executed = "" if one["execution_ms"] is None else f", executionTime {one['execution_ms']:.1f} ms"
    head = f"  {one['response_ms']:10.1f} ms  {one['outcome']}{why}  arrival {one['arrival']}, stage {one['stage']}, "
    lines = [f"{head}at {one['intended_s']:.3f} s, start lag {one['start_lag_ms']:.2f} ms{executed}"]
    lines.append(f"                 trace id {one['request_id'] or '–'}")
    for phase in one["phases"]:
        end = "never ended" if phase["end_ms"] is None else f"{phase['end_ms'] - phase['start_ms']:.1f} ms"
        lines.append(
            f"                 {phase['start_ms']:10.1f} ms  {phase['kind']}: {phase['status'] or 'no answer'}, {end}"
        )
    return lines
