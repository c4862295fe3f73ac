"""``loadtest compare``: two versions that can both be reached, in pairs of blocks one after the other."""

import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec

from loadtest.cli import _children as children
from loadtest.cli._options import output_dir_option, overrides_option, plots_option, seed_option
from loadtest.cli._pairs import Pair, Series, SeriesEnd
from loadtest.cli._sides import Pace, PlannedSide, SideOptions, check_budgets, pace_of, plan_sides, ready_sides
from loadtest.cli.plan import plan_of
from loadtest.contract import DOCUMENTED
from loadtest.errors import ExitCode, InputError
from loadtest.plan import Plan
from loadtest.record import run_directory
from loadtest.record.blocks import COMPARISON_NAME, SIDES, Side
from loadtest.regression.measurements import Key
from loadtest.regression.paired import DISCARDED, LEAST_PAIRS, block_order, compare_pairs
from loadtest.regression.results import Comparison
from loadtest.units import parse_duration

_MOST_PAIRS: Final = 200
_WARNED: Final = frozenset({"multiplier", "pool", "retrievals", "polls", "wait"})
"""Contradictions of a plan that spoil a comparison as well; thresholds are not judged here."""


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
    code = compare(sides, wanted, plots=plots)
    return int(ExitCode.FAIL) if code == ExitCode.INCONCLUSIVE and fail_on_inconclusive else code


def _block_s(text: str | None) -> float | None:
    try:
        seconds = None if text is None else parse_duration(text)
    except ValueError as error:
        raise InputError(f"--block: {error}") from None
    if seconds == 0:
        raise InputError("--block 0s: a block needs time", "Give it some seconds, as --block 20s.")
    return seconds


def compare(sides: Mapping[Side, PlannedSide], wanted: Wanted, *, plots: bool) -> int:
    """Compare two sides: plan, budget, load, verdict, pages; gives the exit code.

    Args:
        sides: as planned.
        wanted: how.
        plots: draw plots, too.

    Raises:
        LoadtestError: if no block could begin.
    """
    children.interrupt_on_terminate()
    seed = secrets.randbits(32)
    order = block_order(seed, wanted.pairs + DISCARDED)
    pace = pace_of(sides, order)
    # A rerun may be needed: what it costs has to be there before the first request.
    longest = (*order, *order) if wanted.rerun else order
    show_plan(sides, order, pace, wanted)
    check_budgets(sides, longest, pace_of(sides, longest), preflight=wanted.preflight)
    with ready_sides(sides, yes=wanted.yes, preflight=wanted.preflight) as ready:
        for side in SIDES:
            print(f"{side}: {ready[side].description}", flush=True)
        directory = run_directory.new_run_directory(wanted.output_dir, f"compare-{sides['base'].loaded.name}")
        series = Series(directory, sides, ready, pace)
        title = sides["base"].loaded.scenario.title
        first = series.make(order, seed)
        comparison = judge(first, wanted.pairs, title)
        suspects = frozenset(Key(one.traffic, one.stage, one.metric) for one in comparison.metrics if one.suspect)
        if suspects and wanted.rerun and first.code == ExitCode.PASS:
            print(f"{comparison.sentence} The rerun begins.", flush=True)
            seed = secrets.randbits(32)
            again = series.make(block_order(seed, wanted.pairs + DISCARDED), seed)
            comparison = confirm_or_not(comparison, again, wanted.pairs, title, suspects)
    return _write(directory, comparison, plots=plots)


def judge(end: SeriesEnd, pairs: int, title: str) -> Comparison:
    """The verdict of a first series; of one that ended early, as far as its pairs carry one.

    Args:
        end: of the series.
        pairs: that were to count.
        title: of the scenario.
    """
    if len(end.pairs) <= DISCARDED:
        return _stopped(_empty(end.pairs, title), end, pairs)
    comparison = compare_pairs(end.pairs, title=title)
    return comparison if end.code == ExitCode.PASS else _stopped(comparison, end, pairs)


def confirm_or_not(first: Comparison, again: SeriesEnd, pairs: int, title: str, suspects: frozenset[Key]) -> Comparison:
    """The verdict after the rerun; the first one stands, unsettled, if the rerun ended early.

    Args:
        first: the verdict with the suspicion.
        again: the rerun.
        pairs: that were to count.
        title: of the scenario.
        suspects: what alone can confirm.
    """
    if again.code != ExitCode.PASS or len(again.pairs) <= DISCARDED:
        return _stopped(first, again._replace(reason=f"the rerun ended early, {again.reason}"), pairs)
    second = compare_pairs(again.pairs, confirming=suspects, title=title)
    earlier = f"Suspected in the first series: {first.sentence}"
    return msgspec.structs.replace(
        second, runs=(*first.runs, *second.runs), reasons=(*second.reasons, earlier), confirmed=True
    )


def _stopped(comparison: Comparison, end: SeriesEnd, pairs: int) -> Comparison:
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


def _empty(pairs: Sequence[Pair], title: str) -> Comparison:
    """A comparison of nothing."""
    return Comparison(
        kind="paired",
        scenario=pairs[0][0].scenario if pairs else "",
        title=title,
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


def _write(directory: Path, comparison: Comparison, *, plots: bool) -> int:
    """Write the comparison, and have its pages made; gives its exit code."""
    content = msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n"
    run_directory.write_atomically(directory / COMPARISON_NAME, content)
    sys.stdout.flush()
    arguments = [*([] if plots else ["--no-plots"]), str(directory)]
    command = [sys.executable, "-m", "loadtest.report.regression", *arguments]
    # A session of its own, so that Ctrl-C reaches only us.
    code = subprocess.run(command, check=False, start_new_session=True).returncode
    return comparison.exit_code if code == comparison.exit_code else int(ExitCode.BUG)


def show_plan(sides: Mapping[Side, PlannedSide], order: Sequence[Side], pace: Pace, wanted: Wanted) -> None:
    """Print what will be sent to both sides, before anything is.

    Args:
        sides: as planned.
        order: of the blocks of a series.
        pace: how they follow each other.
        wanted: how the comparison is to be made.
    """
    for line in _plan_lines(sides, order, pace, wanted):
        click.echo(line)


def _plan_lines(sides: Mapping[Side, PlannedSide], order: Sequence[Side], pace: Pace, wanted: Wanted) -> Iterator[str]:
    loaded = sides["base"].loaded
    yield f"{loaded.scenario.title} [{loaded.name}, seed {loaded.scenario.seed}]"
    again = ", and as long again if something is suspected" if wanted.rerun else ""
    yield (
        f"{len(order)} blocks of {pace.block_s:g} s: {wanted.pairs} pairs, and {DISCARDED} before them that does not "
        f"count; {_minutes(pace.total_s)} at least{again}."
    )
    if pace.silence_s:
        yield (
            f"The blocks exceed a limit. So each waits until its target was silent for {pace.silence_s:g} s: no limit "
            "then counts requests of the block before."
        )
    if sides["base"].place == sides["head"].place:
        yield "Both sides are the same target: one budget, and the same limits, for all blocks."
    for side, one in sides.items():
        yield f"{side}: {one.words}; {_cost(one, order.count(side))}"
        yield from (f"warning: {side}: {line}" for line in _warnings(one))


def _cost(side: PlannedSide, blocks: int) -> str:
    plan = _plan_of(side)
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
        keys=len(side.keys),
        price=None if entry is None else entry.price_per_execution,
    )


def _warnings(side: PlannedSide) -> Iterator[str]:
    """What a comparison cannot cure: contradictions of the plan, and stages above a limit that hold no whole window."""
    for warning in _plan_of(side).warnings:
        if warning.kind in _WARNED:
            yield f"{warning.key}: {warning.message}. {warning.remedy}"
    for name, plan in side.traffic.items():
        for stage in plan.stages:
            window = max((side.assumed.limit_on(limit).window for limit in stage.over), default=0.0)
            if stage.duration_s < window and not stage.warmup and not stage.burst and side.assumed.windowed:
                yield (
                    f"traffic.{name}.stages.{stage.name} passes a limit for {stage.duration_s:g} s, less than a window "
                    f"of {window:g} s: its 429s depend on the second in which a block begins. Give longer blocks, or "
                    "a rate within the limit."
                )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
