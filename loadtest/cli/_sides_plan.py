"""The plan of a paired comparison in words: what each side will be sent, printed before anything is."""

from collections.abc import Iterator, Sequence
from typing import Final

import click

from loadtest.cli._sides import Pace, PlannedSide, Sides
from loadtest.cli.plan import plan_of
from loadtest.contract import DOCUMENTED
from loadtest.plan import Plan
from loadtest.record.blocks import Side

_WARNED: Final = frozenset({"multiplier", "pool", "retrievals", "polls", "wait"})
"""Contradictions of a plan that spoil a comparison as well; thresholds are not judged here."""


def show_plan(sides: Sides, order: Sequence[Side], pace: Pace, *, pairs: int, rerun: bool) -> None:
    """Print what will be sent to both sides."""
    loaded = sides["base"].loaded
    click.echo(f"{loaded.scenario.title} [{loaded.name}, seed {loaded.scenario.seed}]")
    again = ", and as long again if something is suspected" if rerun else ""
    click.echo(
        f"{len(order)} blocks of {pace.block_s:.4g} s: {pairs} pairs that count, after one that does not; "
        f"{_minutes(pace.total_s)} at least{again}."
    )
    if pace.silence_s:
        click.echo(
            f"Blocks exceed a limit: each waits until its target was silent for {pace.silence_s:g} s, so that no limit "
            "still counts requests of the block before."
        )
    if sides["base"].place == sides["head"].place:
        click.echo("Both sides are the same target: one budget, and the same limits, for all blocks.")
    plans = {side: _plan_of(one) for side, one in sides.items()}
    for side, one in sides.items():
        click.echo(f"{side}: {one.words}; {_cost(plans[side], order.count(side))}")
    warnings = [line for side, one in sides.items() for line in _warnings(one, plans[side])]
    for line in dict.fromkeys(warnings):
        click.echo(f"warning: {line}")


def _cost(plan: Plan, blocks: int) -> str:
    parts = [f"{plan.operations * blocks:,} operations"]
    if plan.requests is not None and plan.executions is not None:
        parts += [
            f"about {plan.requests.mean * blocks:,.0f} requests",
            f"{plan.executions.mean * blocks:,.0f} workflow executions",
        ]
    if plan.cost is not None:
        parts.append(f"price {plan.cost.mean * blocks:,.2f}")
    return f"{', '.join(parts)} in {blocks} blocks"


def _plan_of(side: PlannedSide) -> Plan:
    entry = None if side.chosen is None else side.chosen.entry
    return plan_of(
        side.loaded,
        limits=None if side.chosen is None else {**DOCUMENTED, **(entry.limits if entry else {})},
        limiter=None if entry is None else entry.limiter,
        keys=len(side.keys),
        price=None if entry is None else entry.price_per_execution,
    )


def _warnings(side: PlannedSide, plan: Plan) -> Iterator[str]:
    """What a comparison cannot cure: contradictions of the plan, and stages above a limit that hold no whole window."""
    for warning in plan.warnings:
        if warning.kind in _WARNED:
            yield f"{warning.key}: {warning.message}. {warning.remedy}"
    for name, traffic in side.traffic.items():
        for stage in traffic.stages:
            window = max((side.assumed.limit_on(limit).window for limit in stage.over), default=0.0)
            if stage.duration_s < window and not stage.warmup and not stage.burst and side.assumed.windowed:
                yield (
                    f"traffic.{name}.stages.{stage.name} passes a limit for {stage.duration_s:g} s, less than a window "
                    f"of {window:g} s: its 429s depend on the second in which a block begins. Give longer blocks, or "
                    "a rate within the limit."
                )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
