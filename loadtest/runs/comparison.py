"""A paired comparison: two sides that can both be reached, loaded in alternating blocks, and judged."""

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from loadtest.compare.measurements import Key
from loadtest.compare.paired import DISCARDED, LEAST_PAIRS, block_order, compare_pairs
from loadtest.compare.results import RunComparison, save
from loadtest.compare.sentences import listed, short, where
from loadtest.errors import ExitCode, InputError
from loadtest.plan import Plan
from loadtest.processes import interrupt_on_terminate
from loadtest.record import run_directory
from loadtest.record.blocks import SIDES, Side
from loadtest.runs.blocks import BlockSeries, SeriesEnd
from loadtest.runs.forecast import plan_of
from loadtest.runs.run import show_comparison
from loadtest.runs.sides import (
    BothSides,
    PlannedSide,
    SideOptions,
    check_budgets,
    pace_of,
    plan_sides,
    ready_sides,
)
from loadtest.scenario.parse import LoadedScenario
from loadtest.units import parse_duration


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The options of ``loadtest compare``."""

    scenario: str
    base: str | None
    head: str | None
    targets: Path | None
    pairs: int
    block: str | None
    overrides: tuple[str, ...]
    base_set: tuple[str, ...]
    head_set: tuple[str, ...]
    base_version: str
    head_version: str
    seed: int | None
    yes: bool
    no_preflight: bool
    plan_only: bool
    no_rerun: bool
    fail_on_inconclusive: bool
    output_dir: Path
    plots: bool

    @property
    def block_s(self) -> float | None:
        """How long a block is to be, in seconds.

        Raises:
            InputError: if it is no length of time.
        """
        try:
            seconds = None if self.block is None else parse_duration(self.block)
        except ValueError as error:
            raise InputError(f"--block: {error}") from None
        if seconds == 0:
            raise InputError("--block 0s: a block needs time", "Give it some seconds, as --block 20s.")
        return seconds


def compare(options: CompareOptions) -> int:
    """Compare two sides: plan, load, verdict, pages; gives the exit code.

    Raises:
        LoadtestError: if a side may not be loaded so much, or no block could begin.
    """
    of_sides: dict[Side, SideOptions] = {
        "base": SideOptions(options.base, options.base_set, options.base_version),
        "head": SideOptions(options.head, options.head_set, options.head_version),
    }
    sides = plan_sides(
        options.scenario,
        of_sides,
        overrides=options.overrides,
        seed=options.seed,
        block_s=options.block_s,
        targets=options.targets,
    )
    order, seed = _draw_order(options.pairs)
    _show_plan(sides, order, options)
    check_budgets(sides, order, rerun=not options.no_rerun, preflight=not options.no_preflight)
    if options.plan_only:
        return int(ExitCode.PASS)
    code = _compare(sides, options, order, seed).exit_code
    return int(ExitCode.FAIL) if code == ExitCode.INCONCLUSIVE and options.fail_on_inconclusive else code


def _compare(sides: BothSides, options: CompareOptions, order: Sequence[Side], seed: int) -> RunComparison:
    interrupt_on_terminate()
    loaded = sides["base"].loaded
    with ready_sides(sides, yes=options.yes, preflight=not options.no_preflight) as ready:
        for side in SIDES:
            print(f"{side}: {ready[side].description}", flush=True)
        directory = run_directory.new_run_directory(options.output_dir, f"compare-{loaded.name}")
        series = BlockSeries(directory, sides, ready, pace_of(sides, order))
        first = series.make(order, seed)
        comparison = judge(first, options.pairs, loaded)
        suspects = frozenset(one.key for one in comparison.metrics if one.suspect)
        if suspects and not options.no_rerun and first.code == ExitCode.PASS:
            print(f"{comparison.sentence} The rerun begins.", flush=True)
            comparison = settle(comparison, series.make(*_draw_order(options.pairs)), suspects)
    # What both sides are, with every setting that differs.
    counts = len(comparison.base_runs), len(comparison.head_runs)
    base, head = (f"{sides[side].words}; {count} blocks" for side, count in zip(SIDES, counts, strict=True))
    comparison = msgspec.structs.replace(comparison, base=base, head=head)
    save(comparison, directory)
    show_comparison(directory, comparison, plots=options.plots)
    return comparison


def _draw_order(pairs: int) -> tuple[Sequence[Side], int]:
    """The order of a series, and the seed that it was drawn with: another one each time, and recorded."""
    seed = secrets.randbits(32)
    return block_order(seed, pairs + DISCARDED), seed


def judge(end: SeriesEnd, pairs: int, loaded: LoadedScenario) -> RunComparison:
    """The verdict of a first series; of one that ended early, as far as its pairs carry one.

    Args:
        end: of the series.
        pairs: how many were to count.
        loaded: the scenario.
    """
    if len(end.pairs) <= DISCARDED:
        return _stopped(_empty(loaded), end, pairs)
    comparison = compare_pairs(end.pairs, title=loaded.scenario.title)
    return comparison if end.code == ExitCode.PASS else _stopped(comparison, end, pairs)


def settle(first: RunComparison, again: SeriesEnd, suspects: Collection[Key]) -> RunComparison:
    """The verdict after a rerun, which the suspects alone can confirm; the first one stands if it ended early."""
    if again.code != ExitCode.PASS:
        sentence = f"The rerun ended early: {again.reason}. {first.sentence}"
        return msgspec.structs.replace(first, exit_code=int(again.code), sentence=sentence)
    second = compare_pairs(again.pairs, confirming=suspects, title=first.title)
    named = [f"{where((one.traffic, one.stage), first.metrics)}: {short(one.cause)}" for one in first.findings]
    earlier = (f"Suspected in the first series: {listed(named)}.",) if named else ()
    return msgspec.structs.replace(
        second, runs=(*first.runs, *second.runs), reasons=(*second.reasons, *earlier), confirmed=True
    )


def _stopped(comparison: RunComparison, end: SeriesEnd, pairs: int) -> RunComparison:
    """A comparison that ended early: why comes first, and decides the exit code."""
    done = max(0, len(end.pairs) - DISCARDED)
    sentence = f"Stopped after {done} of {pairs} pairs: {end.reason}."
    # A side that is gone is no version that can be called slower, or not.
    carried = done >= LEAST_PAIRS and end.code != ExitCode.TARGET
    return msgspec.structs.replace(
        comparison,
        word=comparison.word if carried else "invalid",
        exit_code=int(end.code),
        sentence=f"{sentence} {comparison.sentence}" if carried else sentence,
    )


def _empty(loaded: LoadedScenario) -> RunComparison:
    return RunComparison(
        kind="paired",
        scenario=loaded.name,
        title=loaded.scenario.title,
        word="invalid",
        exit_code=int(ExitCode.INVALID),
        sentence="",
        reasons=(),
        base="",
        head="",
        runs=(),
        confirmed=False,
        findings=(),
        metrics=(),
        controls=(),
    )


_WARNED: Final = frozenset({"multiplier", "pool", "retrievals", "polls", "wait"})
"""Contradictions of a plan that spoil a comparison as well; thresholds are not judged here."""


def _show_plan(sides: BothSides, order: Sequence[Side], options: CompareOptions) -> None:
    loaded, pace = sides["base"].loaded, pace_of(sides, order)
    print(f"{loaded.scenario.title} [{loaded.name}, seed {loaded.scenario.seed}]")
    again = "" if options.no_rerun else ", and as long again if something is suspected"
    print(
        f"{len(order)} blocks of {pace.block_s:.4g} s: {options.pairs} pairs that count, after one that does not; "
        f"{_minutes(pace.total_s)} at least{again}."
    )
    if pace.silence_s:
        print(
            f"Blocks exceed a limit: each waits until its target was silent for {pace.silence_s:g} s, so that no limit "
            "still counts requests of the block before."
        )
    if sides["base"].place == sides["head"].place:
        print("Both sides are the same target: one budget, and the same limits, for all blocks.")
    warnings: dict[str, None] = {}
    for side, one in sides.items():
        entry = None if one.chosen is None else one.chosen.entry
        plan = plan_of(one.loaded, entry=entry, embedded=one.chosen is None, keys=len(one.keys))
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
    return f"{', '.join(parts)} in {blocks} blocks"


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
