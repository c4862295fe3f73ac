"""The two sides of a paired comparison: their targets, the load of all blocks, and the budget checks.

Both sides get the same load: one scenario with one seed. Only targets and the settings of embedded APIs can differ.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import LIMIT_NAMES
from loadtest.credentials import ENDPOINT_VARIABLE, KEYS_VARIABLE, side_environment
from loadtest.errors import InputError
from loadtest.faults import CONTROL_VARIABLE
from loadtest.plan import Plan
from loadtest.prepare import assumed_limits_of, check_before_run, planned_traffic
from loadtest.record.blocks import SIDES, Side
from loadtest.record.run_info import TrafficPlan
from loadtest.runs.target import ResolvedTarget, credentials_for, own_credentials, plan_of, ready_target
from loadtest.scenario import LoadedScenario, find_scenario, load_scenario, scaled
from loadtest.targets import ChosenTarget, choose, confirm, minimum_load, repeated

_OWN: Final = "target."
"""Prefix of the scenario keys that may differ between the sides."""
_WARNED: Final = frozenset({"multiplier", "pool", "retrievals", "polls", "wait"})
"""Kinds of plan warnings that spoil a comparison."""


@dataclass(frozen=True, slots=True)
class SideOptions:
    """The options of a side. ``where`` is a URL or the name of an entry of targets.toml; None for an embedded API."""

    where: str | None
    overrides: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class PlannedSide:
    """One side of a comparison, before any load. ``chosen`` is None for an embedded API."""

    side: Side
    options: SideOptions
    loaded: LoadedScenario
    chosen: ChosenTarget | None
    keys: tuple[str, ...] = field(repr=False)
    endpoint: str = field(repr=False)

    @property
    def place(self) -> str:
        """URL of the target; for an embedded API, the side's name. Sides with equal URLs share limits and budget."""
        return self.side if self.chosen is None else self.chosen.target.url

    @property
    def assumed(self) -> AssumedLimits:
        return assumed_limits_of(self.loaded, self.chosen)

    @property
    def traffic(self) -> dict[str, TrafficPlan]:
        return planned_traffic(self.loaded, self.assumed, len(self.keys))

    @property
    def words(self) -> str:
        name, where = (None, "embedded API") if self.chosen is None else (self.chosen.name, self.chosen.target.url)
        return ", ".join(filter(None, [name, where, *self.options.overrides, self.options.version]))


BothSides = Mapping[Side, PlannedSide]


def plan_sides(
    scenario: str,
    options: Mapping[Side, SideOptions],
    *,
    overrides: Sequence[str],
    seed: int | None,
    block_s: float | None,
    targets: Path | None,
) -> dict[Side, PlannedSide]:
    """Resolve both sides. ``block_s`` is the duration in s to which the longest traffic is scaled.

    Raises ``InputError`` if a side cannot be used, or the sides' loads would differ.
    """
    _check_options(options)
    path = find_scenario(scenario)
    sides: dict[Side, PlannedSide] = {}
    for side in SIDES:
        mine = options[side]
        loaded = load_scenario(path, (*overrides, *mine.overrides), seed)
        if block_s is not None:
            loaded = scaled(loaded, block_s)
        chosen = None
        if mine.where is not None:
            chosen = choose(mine.where, None, targets) if "://" in mine.where else choose(None, mine.where, targets)
            known = credentials_for(chosen, side_environment(side))
        elif not sides:
            known = own_credentials(loaded.scenario.keys)
        # The head's embedded API gets the base's keys, so that only settings differ.
        sides[side] = PlannedSide(side, mine, loaded, chosen, *known)
    _check_same_offer(sides)
    return sides


def _check_options(options: Mapping[Side, SideOptions]) -> None:
    named = [side for side in SIDES if options[side].where is not None]
    if len(named) == 1:
        raise InputError(
            f"--{named[0]} is a running target, but the other side is missing",
            "Give both --base and --head, or neither for two embedded APIs on this machine.",
        )
    for side in SIDES:
        for override in options[side].overrides:
            if named:
                raise InputError(
                    f"--{side}-set {override}: {options[side].where} is a running target, whose settings are fixed",
                    "Remove it, or compare two embedded APIs by omitting --base and --head.",
                )
            if not override.strip().startswith(_OWN):
                raise InputError(
                    f"--{side}-set {override}: only keys of [target] may differ between the sides",
                    f"Use --{side}-set {_OWN}KEY=VALUE, or --set {override} for both sides.",
                )


def _check_same_offer(sides: BothSides) -> None:
    base, head = (sides[side] for side in SIDES)
    # Both embedded APIs get the base's keys, so compare the numbers of keys that their scenarios set.
    keys = [one.loaded.scenario.keys if one.chosen is None else len(one.keys) for one in (base, head)]
    if keys[0] != keys[1]:
        raise InputError(
            f"the base side has {keys[0]} API keys and the head side {keys[1]}, so their loads would differ",
            f"Give both sides the same number of keys. BASE_{KEYS_VARIABLE} replaces {KEYS_VARIABLE} on the base side, "
            f"and HEAD_{KEYS_VARIABLE} on the head side.",
        )
    others = head.traffic
    for name, plan in base.traffic.items():
        for one, other in zip(plan.stages, others[name].stages, strict=True):
            if (one.rate, one.rate_to, one.burst) != (other.rate, other.rate_to, other.burst):
                raise InputError(
                    f"{base.loaded.path}: traffic.{name}.stages.{one.name} is {one.rate:g}/s for the base side, "
                    f"and {other.rate:g}/s for the head side: a rate in units of a limit, and the limits differ",
                    "Give the rate in requests per second, such as 5/s, or give both sides the same limits.",
                )


@dataclass(frozen=True, slots=True)
class Pace:
    """The planned times of a comparison's blocks."""

    block_s: float
    """Minimum duration of a block in s: the duration of its longest traffic, including the warm-up."""
    silence_s: float
    """Minimum pause in s between a target's blocks, after which no exceeded limit counts earlier requests."""
    starts_s: tuple[float, ...]
    """Planned start of each block, in s since the start of the first."""

    @property
    def total_s(self) -> float:
        """Duration of all blocks and pauses in s, without the drains."""
        return self.starts_s[-1] + self.block_s


def pace_of(sides: BothSides, order: Sequence[Side]) -> Pace:
    """Return the times of blocks in this order, so that no exceeded limit counts requests of two blocks.

    If the blocks stay within all limits, no pause is needed. Otherwise the pause is the longest window of the exceeded
    limits, or two windows of a sliding counter.
    """
    block_s = max(stage.end_s for plan in sides["base"].traffic.values() for stage in plan.stages)
    places = [sides[side].place for side in order]
    starts = _starts(places, block_s, 0.0)
    silence = max(
        _counted_s(one, [start for start, place in zip(starts, places, strict=True) if place == one.place])
        for one in sides.values()
    )
    return Pace(block_s, silence, tuple(_starts(places, block_s, silence)))


def _starts(places: Sequence[str], block_s: float, silence_s: float) -> list[float]:
    starts: list[float] = []
    ended: dict[str, float] = {}
    now = 0.0
    for place in places:
        now = max(now, ended.get(place, -silence_s) + silence_s)
        starts.append(now)
        now += block_s
        ended[place] = now
    return starts


def _counted_s(side: PlannedSide, starts_s: Sequence[float]) -> float:
    """Return for how many seconds requests count against a limit that a side's blocks exceed; 0 if there is none."""
    assumed, traffic = side.assumed, side.traffic
    counted = [assumed.counted_s(name) for plan in traffic.values() for each in plan.stages for name in each.over]
    load = repeated(minimum_load(side.loaded.scenario, traffic), starts_s)
    for name in LIMIT_NAMES:
        limit = assumed.limit_on(name)
        if load.peak(name, limit, *assumed.together(name)) > limit.count * assumed.quotas(len(side.keys)):
            counted.append(assumed.counted_s(name))
    return max(counted, default=0.0)


def show_plan(sides: BothSides, order: Sequence[Side], *, pairs: int, least: int) -> None:
    """Print the load of both sides. The comparison ends after ``least`` to ``pairs`` pairs."""
    loaded, pace = sides["base"].loaded, pace_of(sides, order)
    print(f"{loaded.scenario.title} [{loaded.name}, seed {loaded.scenario.seed}]")
    time = f"{pace.total_s:.0f} s" if pace.total_s < 120 else f"{pace.total_s / 60:.0f} min"
    print(
        f"At most {len(order)} blocks of {pace.block_s:.4g} s in {time}: {least} to {pairs} pairs, after a discarded "
        "first pair."
    )
    if pace.silence_s:
        print(
            f"Blocks exceed a limit. Each waits until its target has had no requests for {pace.silence_s:g} s, "
            "so that no exceeded limit still counts the previous block's requests."
        )
    if sides["base"].place == sides["head"].place:
        print("Both sides are the same target: all blocks share its budget and limits.")
    warnings: dict[str, None] = {}
    for side, one in sides.items():
        plan = plan_of(one.loaded, chosen=one.chosen, keys=len(one.keys))
        print(f"{side}: {one.words}; {_cost(plan, order.count(side))}")
        warnings |= dict.fromkeys(_warnings(one, plan))
    for line in warnings:
        print(f"warning: {line}")


def _cost(plan: Plan, blocks: int) -> str:
    parts = [f"{plan.operations * blocks:,} operations"]
    if plan.requests is not None and plan.executions is not None:
        parts += [
            f"about {plan.requests.mean * blocks:,.0f} requests",
            f"{plan.executions.mean * blocks:,.0f} workflow executions",
        ]
    if plan.cost is not None:
        parts.append(f"price {plan.cost.mean * blocks:,.2f}")
    return f"{', '.join(parts)} in at most {blocks} blocks"


def _warnings(side: PlannedSide, plan: Plan) -> Iterator[str]:
    """Yield problems that spoil a comparison: plan warnings, and stages above a limit but shorter than its window."""
    for warning in plan.warnings:
        if warning.kind in _WARNED:
            yield f"{warning.key}: {warning.message}. {warning.remedy}"
    for name, traffic in side.traffic.items():
        for stage in traffic.stages:
            window = max((side.assumed.limit_on(limit).window for limit in stage.over), default=0.0)
            if stage.duration_s < window and not stage.warmup and not stage.burst and side.assumed.windowed:
                yield (
                    f"traffic.{name}.stages.{stage.name} exceeds a limit for {stage.duration_s:g} s, less than a "
                    f"window of {window:g} s: its 429s depend on when a block starts. Use longer blocks, or "
                    "a rate within the limit."
                )


def check_budgets(sides: BothSides, order: Sequence[Side], *, preflight: bool) -> None:
    """Check that each side's request budget allows the maximum number of blocks. Raises ``InputError``."""
    pace = pace_of(sides, order)
    for one in sides.values():
        if one.chosen is None:
            continue
        starts = [start for start, side in zip(pace.starts_s, order, strict=True) if sides[side].place == one.place]
        try:
            check_before_run(one.loaded, one.chosen, keys=len(one.keys), preflight=preflight, starts_s=starts)
        except InputError as error:
            raise InputError(
                f"{error.message}, for at most {len(starts)} blocks against this target",
                f"{error.remedy} Fewer --pairs or a shorter --block also help.",
            ) from None


@contextmanager
def ready_sides(sides: BothSides, *, yes: bool, preflight: bool) -> Iterator[dict[Side, ResolvedTarget]]:
    """Yield both sides, ready for load, as ``ready_target`` does. Embedded APIs run until the context ends."""
    running = {one.chosen.name or one.place: one.chosen for one in sides.values() if one.chosen is not None}
    for chosen in running.values():
        confirm(chosen, yes=yes)
    with ExitStack() as ends:
        ready: dict[Side, ResolvedTarget] = {}
        for side, one in sides.items():
            # One preflight suffices if both sides are the same target.
            look = preflight and (side == "base" or one.place != sides["base"].place)
            target = ready_target(one.loaded, one.chosen, one.keys, one.endpoint, preflight=look)
            ready[side] = ends.enter_context(target)
        yield ready


def load_environment(ready: Mapping[Side, ResolvedTarget]) -> dict[str, str]:
    """Return the environment of a load's process, with the credentials of both sides under separate names."""
    environment = dict(os.environ)
    for side, target in ready.items():
        for name in (KEYS_VARIABLE, ENDPOINT_VARIABLE, CONTROL_VARIABLE):
            if name in target.environment:
                environment[f"{side.upper()}_{name}"] = target.environment[name]
    return environment
