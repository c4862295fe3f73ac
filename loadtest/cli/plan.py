"""``loadtest plan``: what a run will ask of the limits, before anything is sent."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import msgspec

from loadtest.cli._plan_text import show
from loadtest.credentials import api_keys
from loadtest.errors import InputError
from loadtest.faults import to_words
from loadtest.limits import DOCUMENTED, Limit, LimitName
from loadtest.plan import Plan, Question, believe, make_plan, traffic_plans
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario
from loadtest.scenario.units import parse_duration
from loadtest.targets import TARGETS_FILE, TargetEntry, load_targets

_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")


@click.command("plan")
@click.argument("scenario")
@click.option("--host", help="Plan for this target, with the documented limits; it is not asked anything.")
@click.option("--target", help="Plan for this entry of targets.toml: its limits, its price.")
@click.option("--targets", type=click.Path(path_type=Path), default=TARGETS_FILE, help="The file of such entries.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the scenario. Repeatable."
)
@click.option("--seed", type=click.IntRange(min=0), help="Take another seed than the scenario's.")
@click.option("--keys", type=click.IntRange(1, 1000), help="API keys that share the traffic.")
@click.option("--start", metavar="HH:MM:SS.s", help="UTC time at which the first arrival is due; any by default.")
@click.option("--job-duration", metavar="DURATION", help="What a job or run takes.")
@click.option("--price-per-execution", type=click.FloatRange(min=0), help="Of one workflow execution.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole plan as JSON.")
def command(  # noqa: PLR0917 - click gives every option by name
    scenario: str,
    host: str | None,
    target: str | None,
    targets: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    keys: int | None,
    start: str | None,
    job_duration: str | None,
    price_per_execution: float | None,
    as_json: bool,
) -> None:
    """Say what SCENARIO will ask of the limits, and what is to be expected of them, without sending anything.

    Exit code 0, with warnings too: where the plan contradicts itself, they say what to change.
    """
    if host is not None and target is not None:
        raise click.UsageError("give one of --host and --target")
    loaded = load_scenario(find_scenario(scenario), overrides, seed)
    entry = None if target is None else _entry(targets, target)
    if entry is not None and price_per_execution is None:
        price_per_execution = entry.price_per_execution
    plan = plan_of(
        loaded,
        limits=None if host is None and entry is None else {**DOCUMENTED, **(entry.limits if entry else {})},
        keys=keys,
        start=None if start is None else _seconds(start),
        job_s=None if job_duration is None else _duration(job_duration),
        price=price_per_execution,
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(plan), indent=2).decode())
    else:
        show(plan)


def plan_of(
    loaded: LoadedScenario,
    *,
    limits: Mapping[LimitName, Limit] | None = None,
    keys: int | None = None,
    start: float | None = None,
    job_s: float | None = None,
    price: float | None = None,
) -> Plan:
    """Plan a scenario that was loaded.

    Args:
        loaded: the scenario in force.
        limits: the believed limits of a target that runs somewhere; None for the embedded one of the scenario.
        keys: API keys; None for as many as a run would use.
        start: s since midnight UTC; None for any moment.
        job_s: s that a job takes, or a run; None for what the scenario tells.
        price: of one execution.

    Raises:
        InputError: if there are fewer keys than the scenario needs.
    """
    scenario = loaded.scenario
    if keys is None:
        keys = scenario.keys if limits is None else len(api_keys())
    if keys < (grouped := sum(scenario.key_groups.values())):
        raise InputError(
            f"{loaded.path}: key_groups need {grouped} keys, and there are {keys}",
            "Give --keys, or put as many into WORKFLOW_API_KEYS, separated by commas.",
        )
    embedded = limits is None
    belief = believe(scenario, embedded=embedded, limits=limits)
    settings = scenario.target.settings
    told = embedded and settings.retry_after != "none"
    question = Question(
        scenario,
        traffic_plans(scenario, belief, keys),
        belief,
        retry_after=settings.retry_after_factor if told else None,
        as_date=settings.retry_after == "date",
        start=start,
        job_s=job_s,
    )
    faults = list(map(to_words, settings.fault)) if embedded else []
    return msgspec.structs.replace(make_plan(question, loaded.name, keys, price), faults=faults)


def _entry(path: Path, name: str) -> TargetEntry:
    entries = load_targets(path)
    if name not in entries:
        raise InputError(f"{path}: there is no target {name!r}; there is {', '.join(entries) or 'none'}")
    return entries[name]


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InputError(f"--start {text!r} is no time of day", "Write it as 13:05:30 or 13:05:30.5, in UTC.")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3] or 0)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InputError(f"--job-duration: {error}") from None
