"""The text of a plan for the terminal."""

import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from rich.table import Table

from loadtest.console import WIDTH, Console, page_console, page_table
from loadtest.contract import LIMIT_NAMES
from loadtest.plan import LimitRow, Plan, Spread, StageRow
from loadtest.words import NOTHING, count, counted, percent

_Row = TypeVar("_Row")
_NAMES: Final = 2
"""The first two columns hold names, which can be broken into lines. Figures are never broken."""


def show_plan(plan: Plan, place: Callable[[str], str]) -> None:
    """Print a plan. ``place`` formats a key of the scenario."""
    console = page_console(fixed=True)
    console.print(f"{_head(plan)}\n", soft_wrap=True)
    for table in [_traffic(plan.stages), *([_limits(plan)] if plan.limit_use else [])]:
        console.print(table, "")
    for note in [_how(plan), *plan.assumptions]:
        _print(console, note)
    if plan.faults:
        _print(console, f"The target injects faults, which the forecast leaves out: {'; '.join(plan.faults)}.")
    if plan.warnings:
        console.print(f"\n{counted(len(plan.warnings), 'warning')}:", style="yellow")
    for warning in plan.warnings:
        _print(console, f"{place(warning.key)}: {warning.message}.", "- ")
        _print(console, warning.remedy, "  ")


def _print(console: Console, text: str, begin: str = "") -> None:
    console.print(textwrap.fill(text, WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin)))


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
    return f"{textwrap.fill(title, WIDTH)}\nNothing was sent. {time}; {keys}.\n{', '.join(counts)}."


def _how(plan: Plan) -> str:
    if not plan.phases:
        return ""
    if plan.replayed_over == "nothing":
        moment = (
            ". The start of a run makes no difference to this limiter" if plan.start is None else " at the given start"
        )
        method = f"429s: one replay of this schedule{moment}."
    else:
        durations = plan.replayed_over == "durations"
        other = "with different random durations" if durations else "that start at different moments of a window"
        method = f"429s: mean (and range) of {plan.phases} replays {other}."
    seeds = f", from {plan.schedules} schedules with other seeds" if plan.schedules else ""
    return f"{method} Chance: probability of any 429{seeds}."


def _table(columns: Mapping[str, Callable[[_Row], str]], rows: Iterable[_Row], style: Callable[[_Row], str]) -> Table:
    """Return a table with a row per item. The first column omits a name that equals the name above."""
    least, labels = max(map(len, LIMIT_NAMES)), list(columns)
    names = [{"header": name, "min_width": least if name == "Limit" else None} for name in labels[:_NAMES]]
    figures = ({"header": name, "justify": "right", "no_wrap": True} for name in labels[_NAMES:])
    table, last = page_table(*names, *figures), ""
    for row in rows:
        name, *cells = (of(row) for of in columns.values())
        table.add_row("" if name == last else name, *cells, style=style(row))
        last = name
    return table


def _traffic(rows: list[StageRow]) -> Table:
    columns: dict[str, Callable[[StageRow], str]] = {
        "Traffic": lambda row: row.traffic,
        "Stage": lambda row: row.stage,
        "Per min": _rate,
        "Operations": lambda row: count(row.operations),
        "Requests": lambda row: NOTHING if row.requests is None else count(row.requests.mean),
        "429 of operations": lambda row: NOTHING if row.throttled_rate is None else _percent(row.throttled_rate),
        "Samples": lambda row: NOTHING if row.warmup else count(row.samples),
        "Supports": lambda row: NOTHING if row.warmup or not row.percentiles else row.percentiles[-1],
    }
    return _table(columns, rows, lambda row: "dim" if row.warmup else "")


def _limits(plan: Plan) -> Table:
    # If keys share a limiter, the requests of all keys count together.
    share = "Of allowed" if plan.limit_scope in ("name", "global") else "Busiest key"
    columns: dict[str, Callable[[LimitRow], str]] = {
        "Limit": lambda row: row.limit,
        "Stage": lambda row: row.stage,
        "Asked / min": lambda row: count(row.asked_per_min),
        "Allowed": lambda row: count(row.allowed_per_min),
        share: lambda row: NOTHING if row.share is None else f"{row.share:.2f} ×",
        "429 of requests": lambda row: _percent(row.throttled_rate),
        "Chance": lambda row: percent(row.chance, 0),
    }
    order = [row.limit for row in plan.limit_use]
    rows = sorted(plan.limit_use, key=lambda row: order.index(row.limit))
    return _table(columns, rows, lambda row: "bold" if row.share is not None and row.share > 1 else "")


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
    parts = {f"{hours:.0f} h": hours, f"{minutes:.0f} min": minutes, f"{rest:.3g} s": rest}
    return " ".join(text for text, number in parts.items() if number) or "0 s"
