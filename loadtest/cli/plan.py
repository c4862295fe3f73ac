"""``loadtest plan``: forecasts a scenario's load against the rate limits."""

import re
from typing import Any, Final

import click

from loadtest.cli._options import DURATION, LOAD, NumberRange, shared
from loadtest.errors import InputError
from loadtest.foreign_text import print_json
from loadtest.runs.target import ScenarioOptions, plan_of
from loadtest.terminal.plan import show_plan

_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")


@click.command("plan")
@click.argument("scenario")
@click.option("--host", help="Plan for this target. If it has an entry in targets.toml, use the entry's limits.")
@click.option("--target", help="Plan for this entry of targets.toml, with its limits and price.")
@shared("targets", *LOAD)
@click.option("--keys", type=click.IntRange(1, 1000), help="Number of API keys that share the traffic.")
@click.option("--start", metavar="HH:MM:SS.s", help="UTC time of the load's start.  [default: unknown]")
@click.option("--job-duration", "job_s", type=DURATION, help="Duration of each job or sync run.")
@click.option("--price-per-execution", "price", type=NumberRange(min=0), help="Price of one workflow execution.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole plan as JSON.")
def command(
    *, keys: int | None, start: str | None, job_s: float | None, price: float | None, as_json: bool, **given: Any
) -> None:
    """Forecast SCENARIO's load against the rate limits, and the expected 429s. Nothing is sent.

    Warnings name contradictions in the plan and their remedies. The exit code is still 0.
    """
    options = ScenarioOptions(**given)
    if options.host is not None and options.target is not None:
        raise InputError("--host and --target exclude each other", "Remove one of them.")
    loaded = options.load()
    start_s = None if start is None else _start_s(start)
    made = plan_of(loaded, chosen=options.entry, keys=keys, start=start_s, job_s=job_s, price=price)
    if as_json:
        print_json(made)
    else:
        show_plan(made, loaded.place)


def _start_s(text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InputError(f"--start {text!r} is not a time of day", "Use a form such as 13:05:30 or 13:05:30.5, in UTC.")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3] or 0)
