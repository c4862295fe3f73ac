"""``loadtest compare``: two versions that can both be reached, in pairs of blocks one after the other."""

import secrets
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec

from loadtest.cli import _children as children
from loadtest.cli._options import output_dir_option, overrides_option, plots_option, seed_option
from loadtest.cli._pairs import Series, SeriesEnd
from loadtest.cli._sides import Pace, PlannedSide, SideOptions, Sides, check_budgets, pace_of, plan_sides, ready_sides
from loadtest.cli.plan import plan_of
from loadtest.compare.measurements import Key
from loadtest.compare.paired import DISCARDED, LEAST_PAIRS, block_order, compare_pairs
from loadtest.compare.results import RunComparison, save
from loadtest.compare.sentences import listed, short, where
from loadtest.contract import DOCUMENTED
from loadtest.errors import ExitCode, InputError
from loadtest.plan import Plan
from loadtest.record import run_directory
from loadtest.record.blocks import SIDES, Side
from loadtest.scenario.parse import LoadedScenario
from loadtest.units import parse_duration

_MOST_PAIRS: Final = 200


class Wanted(NamedTuple):
    """How a comparison is to be made.

    Attributes:
        pairs: that count.
        rerun: whether a suspicion is settled by a second series.
        output_dir: parent of its directory.
        yes: load a production target without asking.
        preflight: look at running targets first.
    """

    pairs: int
    rerun: bool
    output_dir: Path
    yes: bool
    preflight: bool


@click.command("compare")
@click.argument("scenario")
@click.option("--base", metavar="URL|TARGET", help="Present version: its URL, or its name in targets.toml.")
@click.option("--head", metavar="URL|TARGET", help="New version. Default of both: two embedded reference APIs.")
@click.option("--targets", type=click.Path(path_type=Path), help="Another file than targets.toml.")
@click.option(
    "--pairs",
    type=click.IntRange(LEAST_PAIRS, _MOST_PAIRS),
    default=6,
    show_default=True,
    help="Pairs of blocks that count; one more comes before them.",
)
@click.option(
    "--block", metavar="DURATION", help="Scale the stages to blocks of this length, as 20s.  [default: as is]"
)
@overrides_option
@click.option(
    "--base-set", multiple=True, metavar="KEY=VALUE", help="As --set, of the base side's embedded API alone: target.…"
)
@click.option(
    "--head-set", multiple=True, metavar="KEY=VALUE", help="As --set, of the head side's embedded API alone: target.…"
)
@click.option("--base-version", default="", metavar="TEXT", help="What to call the present version.")
@click.option("--head-version", default="", metavar="TEXT", help="What to call the new version.")
@seed_option
@click.option("--yes", is_flag=True, help="Load a production target without asking for its host name.")
@click.option("--no-preflight", is_flag=True, help="Skip the preflights, which spend quota.")
@click.option("--plan", "plan_only", is_flag=True, help="Only print what would be sent, and check the budgets.")
@click.option("--no-rerun", is_flag=True, help="Do not settle a suspicion by a second series: exit code 6.")
@click.option("--fail-on-inconclusive", is_flag=True, help="Exit code 1 instead of 6.")
@output_dir_option
@plots_option
def command(
    scenario: str,
    *,
    base: str | None,
    head: str | None,
    targets: Path | None,
    pairs: int,
    block: str | None,
    overrides: tuple[str, ...],
    base_set: tuple[str, ...],
    head_set: tuple[str, ...],
    base_version: str,
    head_version: str,
    seed: int | None,
    yes: bool,
    no_preflight: bool,
    plan_only: bool,
    no_rerun: bool,
    fail_on_inconclusive: bool,
    output_dir: Path,
    plots: bool,
) -> int:
    """Compare two versions of a service by SCENARIO, in pairs of blocks that alternate. The exit code is the verdict.

    A block is the whole scenario once. Exit codes: 0 no regression found, 4 regressed, 6 inconclusive, 3 invalid.
    """
    options: dict[Side, SideOptions] = {
        "base": SideOptions(base, base_set, base_version),
        "head": SideOptions(head, head_set, head_version),
    }
    sides = plan_sides(scenario, options, overrides=overrides, seed=seed, block_s=_block_s(block), targets=targets)
    wanted = Wanted(pairs, not no_rerun, output_dir, yes, not no_preflight)
    order, seed_of_order = _draw_order(wanted)
    show_plan(sides, order, pace_of(sides, order), pairs=pairs, rerun=wanted.rerun)
    check_budgets(sides, order, rerun=wanted.rerun, preflight=wanted.preflight)
    if plan_only:
        return int(ExitCode.PASS)
    code = compare(sides, wanted, order, seed_of_order, plots=plots)
    return int(ExitCode.FAIL) if code == ExitCode.INCONCLUSIVE and fail_on_inconclusive else code


def _block_s(text: str | None) -> float | None:
    try:
        seconds = None if text is None else parse_duration(text)
    except ValueError as error:
        raise InputError(f"--block: {error}") from None
    if seconds == 0:
        raise InputError("--block 0s: a block needs time", "Give it some seconds, as --block 20s.")
    return seconds


def compare(sides: Sides, wanted: Wanted, order: Sequence[Side], seed: int, *, plots: bool) -> int:
    """Compare two sides: load, verdict, pages; gives the exit code.

    Raises:
        LoadtestError: if no block could begin.
    """
    children.interrupt_on_terminate()
    loaded = sides["base"].loaded
    with ready_sides(sides, yes=wanted.yes, preflight=wanted.preflight) as ready:
        for side in SIDES:
            print(f"{side}: {ready[side].description}", flush=True)
        directory = run_directory.new_run_directory(wanted.output_dir, f"compare-{loaded.name}")
        series = Series(directory, sides, ready, pace_of(sides, order))
        first = series.make(order, seed)
        comparison = judge(first, wanted.pairs, loaded)
        suspects = frozenset(one.key for one in comparison.metrics if one.suspect)
        if suspects and wanted.rerun and first.code == ExitCode.PASS:
            print(f"{comparison.sentence} The rerun begins.", flush=True)
            comparison = settle(comparison, series.make(*_draw_order(wanted)), suspects)
    comparison = _described(comparison, sides)
    save(comparison, directory)
    children.show_comparison(directory, comparison, plots=plots)
    return comparison.exit_code


def _draw_order(wanted: Wanted) -> tuple[Sequence[Side], int]:
    """The order of a series, and the seed that it was drawn with: another one each time, and recorded."""
    seed = secrets.randbits(32)
    return block_order(seed, wanted.pairs + DISCARDED), seed


def judge(end: SeriesEnd, pairs: int, loaded: LoadedScenario) -> RunComparison:
    """The verdict of a first series; of one that ended early, as far as its pairs carry one.

    Args:
        end: of the series.
        pairs: that were to count.
        loaded: the scenario.
    """
    if len(end.pairs) <= DISCARDED:
        return _stopped(_empty(loaded), end, pairs)
    comparison = compare_pairs(end.pairs, title=loaded.scenario.title)
    return comparison if end.code == ExitCode.PASS else _stopped(comparison, end, pairs)


def settle(first: RunComparison, again: SeriesEnd, suspects: Collection[Key]) -> RunComparison:
    """The verdict after the rerun; the first one stands, unsettled, if the rerun ended early.

    Args:
        first: the verdict with the suspicion.
        again: the rerun.
        suspects: what alone can confirm.
    """
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
    """A comparison of nothing."""
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


def _described(comparison: RunComparison, sides: Sides) -> RunComparison:
    """Say of both sides what they are, with every setting that differs."""
    counts = len(comparison.base_runs), len(comparison.head_runs)
    base, head = (f"{sides[side].words}; {count} blocks" for side, count in zip(SIDES, counts, strict=True))
    return msgspec.structs.replace(comparison, base=base, head=head)


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
