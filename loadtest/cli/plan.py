"""``loadtest plan``: forecast a scenario's load against the rate limits, as text of 100 columns or as JSON."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.cli._options import overrides_option, seed_option
from loadtest.contract import DOCUMENTED, LIMIT_NAMES, LimitName
from loadtest.credentials import api_keys
from loadtest.errors import InputError
from loadtest.faults import to_words
from loadtest.limits import LimiterSpec
from loadtest.plan import AssumedLimits, Plan, Question, make_plan, traffic_plans
from loadtest.plan.summary import LimitRow, Spread, StageRow
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario
from loadtest.targets import TARGETS_FILE, entry_named
from loadtest.units import Limit, parse_duration
from loadtest.words import percent

_WIDTH: Final = 100
_NAMES: Final = 2
"""The first columns of each table are names."""
_SHARED: Final = ("name", "global")
"""Scopes in which keys share a limiter."""
_LONGEST_LIMIT: Final = max(map(len, LIMIT_NAMES))
_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")


@click.command("plan")
@click.argument("scenario")
@click.option("--host", help="Plan for this target, with the documented limits. Nothing is sent to it.")
@click.option("--target", help="Plan for this entry of targets.toml, with its limits and price.")
@click.option(
    "--targets", type=click.Path(path_type=Path), default=TARGETS_FILE, help="Another file than targets.toml."
)
@overrides_option
@seed_option
@click.option("--keys", type=click.IntRange(1, 1000), help="Number of API keys that share the traffic.")
@click.option("--start", metavar="HH:MM:SS.s", help="UTC time of the first arrival.  [default: any]")
@click.option("--job-duration", metavar="DURATION", help="Time that each job or run takes.")
@click.option("--price-per-execution", type=click.FloatRange(min=0), help="Price of one workflow execution.")
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
    """Forecast SCENARIO's load against the rate limits, and the 429s to expect. Nothing is sent.

    Where the plan contradicts itself, a warning says what to change; the exit code is 0 all the same.
    """
    if host is not None and target is not None:
        raise click.UsageError("--host and --target exclude each other")
    loaded = load_scenario(find_scenario(scenario), overrides, seed)
    entry = None if target is None else entry_named(targets, target)
    if entry is not None and price_per_execution is None:
        price_per_execution = entry.price_per_execution
    plan = plan_of(
        loaded,
        limits=None if host is None and entry is None else {**DOCUMENTED, **(entry.limits if entry else {})},
        limiter=None if entry is None else entry.limiter,
        keys=keys,
        start=None if start is None else _start_s(start),
        job_s=None if job_duration is None else _job_s(job_duration),
        price=price_per_execution,
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(plan), indent=2).decode())
    else:
        _show(plan)


def plan_of(
    loaded: LoadedScenario,
    *,
    limits: Mapping[LimitName, Limit] | None = None,
    limiter: LimiterSpec | None = None,
    keys: int | None = None,
    start: float | None = None,
    job_s: float | None = None,
    price: float | None = None,
) -> Plan:
    """Make the plan of a scenario.

    Args:
        loaded: the scenario in force.
        limits: the assumed limits of a running target; None for the scenario's embedded one.
        limiter: how a running target is assumed to count; None for the default.
        keys: number of API keys; None for as many as a run would use.
        start: s since midnight UTC; None for any moment.
        job_s: s that a job or run takes; None for what the scenario implies.
        price: of one execution.

    Raises:
        InputError: if there are fewer keys than the scenario needs.
    """
    scenario = loaded.scenario
    keys = keys if keys is not None else scenario.keys if limits is None else len(api_keys())
    if keys < (grouped := sum(scenario.key_groups.values())):
        raise InputError(
            f"{loaded.path}: key_groups need {grouped} keys, and there are {keys}",
            "Give --keys, or put as many into WORKFLOW_API_KEYS, separated by commas.",
        )
    embedded = limits is None
    assumed = AssumedLimits.for_scenario(scenario, embedded=embedded, limits=limits, limiter=limiter)
    settings = scenario.target.settings
    question = Question(
        scenario,
        traffic_plans(scenario, assumed, keys),
        assumed,
        retry_after=settings.retry_after_factor if embedded and settings.retry_after != "none" else None,
        as_date=settings.retry_after == "date",
        start=start,
        job_s=job_s,
    )
    faults = list(map(to_words, settings.fault)) if embedded else []
    return msgspec.structs.replace(make_plan(question, loaded.name, keys, price), faults=faults)


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


def _show(plan: Plan) -> None:
    console = Console(width=_WIDTH, highlight=False, soft_wrap=False, emoji=False, markup=False)
    console.print(_head(plan), soft_wrap=True)
    console.print()
    for table in [
        _traffic(plan.stages),
        *([_limits(plan.limit_use, shared=plan.limit_scope in _SHARED)] if plan.limit_use else []),
    ]:
        console.print(table)
        console.print()
    for note in [_how(plan), *plan.assumptions]:
        _print(console, note)
    if plan.faults:
        _print(console, f"The target injects faults, which the forecast leaves out: {'; '.join(plan.faults)}.")
    if plan.warnings:
        console.print(f"\n{len(plan.warnings)} warning{'s' if len(plan.warnings) > 1 else ''}:", style="yellow")
    for warning in plan.warnings:
        _print(console, f"{warning.key}: {warning.message}.", "- ")
        _print(console, warning.remedy, "  ")


def _print(console: Console, text: str, begin: str = "") -> None:
    console.print(textwrap.fill(text, _WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin)))


def _head(plan: Plan) -> str:
    seconds = plan.wall.warmup_s + plan.wall.stages_s
    time = f"{_duration(seconds)}, then at most {_duration(plan.wall.drain_at_most_s)} of drain"
    counts = [f"{plan.operations:,} operations"]
    if plan.requests is not None and plan.executions is not None:
        counts += [f"{_range(plan.requests)} requests", f"{_range(plan.executions)} workflow executions"]
    if plan.cost is not None:
        counts[-1] += f" (price {_range(plan.cost, 2)})"
    title = f"{plan.title} [{plan.scenario}, seed {plan.seed}, hash {plan.hash}]"
    keys = f"{plan.keys} key{'s' if plan.keys != 1 else ''}"
    return f"{textwrap.fill(title, _WIDTH)}\nNothing was sent. {time}; {keys}.\n{', '.join(counts)}."


def _how(plan: Plan) -> str:
    if not plan.phases:
        return ""
    if plan.start is not None and plan.replayed_over == "nothing":
        method = "429s: one replay of this schedule at the given start."
    elif plan.replayed_over == "durations":
        method = f"429s: mean (and range) of {plan.phases} replays with other random durations."
    elif plan.replayed_over == "nothing":
        method = "429s: one replay of this schedule. The start of a run makes no difference to this limiter."
    else:
        method = f"429s: mean (and range) of {plan.phases} replays that start at other moments of a window."
    seeds = f", over {plan.schedules} schedules with other seeds, too" if plan.schedules else ""
    return f"{method} Chance: of any 429{seeds}."


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for number, column in enumerate(columns):
        # Names may be long and are folded; figures are not.
        table.add_column(
            column,
            justify="left" if number < _NAMES else "right",
            overflow="fold",
            no_wrap=number >= _NAMES,
            min_width=_LONGEST_LIMIT if column == "Limit" else None,
        )
    return table


def _traffic(rows: list[StageRow]) -> Table:
    table = _table("Traffic", "Stage", "Per min", "Operations", "Requests", "429 of operations", "Samples", "Carries")
    last = ""
    for row in rows:
        carries = row.percentiles[-1] if row.percentiles else "–"
        table.add_row(
            row.traffic if row.traffic != last else "",
            row.stage,
            _rate(row),
            f"{row.operations:,}",
            "–" if row.requests is None else f"{row.requests.mean:,.0f}",
            "–" if row.throttled_rate is None else _percent(row.throttled_rate),
            "–" if row.samples is None or row.warmup else f"{row.samples:,}",
            "–" if row.warmup else carries,
            style="dim" if row.warmup else "",
        )
        last = row.traffic
    return table


def _limits(rows: list[LimitRow], *, shared: bool) -> Table:
    # Where keys share a limiter, the requests of all keys count together.
    share = "Of allowed" if shared else "Busiest key"
    table = _table("Limit", "Stage", "Asked / min", "Allowed", share, "429 of requests", "Chance")
    last = ""
    for row in sorted(rows, key=lambda row: [each.limit for each in rows].index(row.limit)):
        table.add_row(
            row.limit if row.limit != last else "",
            row.stage,
            f"{row.asked_per_min:,.0f}",
            "–" if row.allowed_per_min is None else f"{row.allowed_per_min:,.0f}",
            "–" if row.share is None else f"{row.share:.2f} ×",
            _percent(row.throttled_rate),
            percent(row.chance, 0),
            style="bold" if row.share is not None and row.share > 1 else "",
        )
        last = row.limit
    return table


def _rate(row: StageRow) -> str:
    if row.burst:
        return f"burst {row.burst:,}"
    if row.rate_per_min == row.rate_to_per_min:
        return f"{row.rate_per_min:,.4g}" if row.rate_per_min < 1000 else f"{row.rate_per_min:,.0f}"
    return f"{row.rate_per_min:,.0f}–{row.rate_to_per_min:,.0f}"


def _percent(spread: Spread) -> str:
    if spread.high - spread.low < 0.0005:
        return percent(spread.mean, 1 if spread.mean else 0)
    return f"{percent(spread.mean)} ({spread.low * 100:.1f}–{percent(spread.high)})"


def _range(spread: Spread, digits: int = 0) -> str:
    if spread.low == spread.high:
        return f"{spread.mean:,.{digits}f}"
    return f"{spread.low:,.{digits}f} to {spread.high:,.{digits}f}"


def _duration(seconds: float) -> str:
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [
        f"{hours:.0f} h" if hours else "",
        f"{minutes:.0f} min" if minutes else "",
        f"{rest:.3g} s" if rest else "",
    ]
    return " ".join(part for part in parts if part) or "0 s"
