"""``loadtest plan``: forecast a scenario's load against the rate limits, as text of 100 columns or as JSON."""

import re
from pathlib import Path
from typing import Final

import click
import msgspec

from loadtest.cli._options import shared
from loadtest.errors import InputError
from loadtest.runs.forecast import plan_of
from loadtest.scenario import find_scenario, load_scenario
from loadtest.targets import TARGETS_FILE, entry_named
from loadtest.terminal.plan import show_plan
from loadtest.units import parse_duration

_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")


@click.command("plan")
@click.argument("scenario")
@click.option("--host", help="Plan for this target, with the documented limits. Nothing is sent to it.")
@click.option("--target", help="Plan for this entry of targets.toml, with its limits and price.")
@shared("targets", "set", "seed")
@click.option("--keys", type=click.IntRange(1, 1000), help="Number of API keys that share the traffic.")
@click.option("--start", metavar="HH:MM:SS.s", help="UTC time of the first arrival.  [default: any]")
@click.option("--job-duration", metavar="DURATION", help="Time that each job or run takes.")
@click.option("--price-per-execution", "price", type=click.FloatRange(min=0), help="Price of one workflow execution.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole plan as JSON.")
def command(  # noqa: PLR0917 - click gives every option by name
    scenario: str,
    host: str | None,
    target: str | None,
    targets: Path | None,
    overrides: tuple[str, ...],
    seed: int | None,
    keys: int | None,
    start: str | None,
    job_duration: str | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Forecast SCENARIO's load against the rate limits, and the 429s to expect. Nothing is sent.

    Where the plan contradicts itself, a warning says what to change; the exit code is 0 all the same.
    """
    if host is not None and target is not None:
        raise click.UsageError("--host and --target exclude each other")
    loaded = load_scenario(find_scenario(scenario), overrides, seed)
    plan = plan_of(
        loaded,
        entry=None if target is None else entry_named(targets or TARGETS_FILE, target),
        embedded=host is None and target is None,
        keys=keys,
        start=None if start is None else _start_s(start),
        job_s=None if job_duration is None else _job_s(job_duration),
        price=price,
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(plan), indent=2).decode())
    else:
        show_plan(plan)


def _start_s(text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InputError(f"--start {text!r} is not a time of day", "Write it as 13:05:30 or 13:05:30.5, in UTC.")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3] or 0)


def _job_s(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InputError(f"--job-duration: {error}") from None
