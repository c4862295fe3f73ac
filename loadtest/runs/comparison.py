"""Paired comparisons. Both sides are loaded in pairs of blocks, and their difference is judged."""

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from loadtest.compare.measurements import RunMeasurements, read
from loadtest.compare.paired import DISCARDED, LOOKS, MOST_PAIRS, block_order, compare_pairs, next_look
from loadtest.compare.results import RunComparison, save
from loadtest.credentials import ENDPOINT_VARIABLE
from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.prepare import endpoint_digest
from loadtest.processes import interrupt_on_terminate, run_module
from loadtest.program import command_line, complain
from loadtest.record import blocks as record
from loadtest.record import run_directory, samples
from loadtest.record.blocks import SIDES, Block, BlockPlan, Side
from loadtest.record.run_info import RunInfo
from loadtest.runs.run import make_load, show_comparison
from loadtest.runs.sides import (
    BothSides,
    Pace,
    SideOptions,
    check_budgets,
    load_environment,
    pace_of,
    plan_sides,
    ready_sides,
    show_plan,
)
from loadtest.runs.target import ResolvedTarget, prepare
from loadtest.scenario import LoadedScenario
from loadtest.terminal import ProgressDisplay


class SeriesEnd(NamedTuple):
    """The result of a series: each pair (base, head) with two finished and measured blocks, in order of time.

    If the series ended early or a block could not be measured, ``code`` and ``reason`` say why; else ``code`` is
    ``PASS``.
    """

    pairs: list[tuple[RunMeasurements, RunMeasurements]]
    code: ExitCode
    reason: str


def compare(
    scenario: str,
    options: Mapping[Side, SideOptions],
    *,
    pairs: int,
    yes: bool,
    no_preflight: bool,
    plan_only: bool,
    fail_on_inconclusive: bool,
    output_dir: Path,
    plots: bool,
    **offer: Any,
) -> int:
    """Plan, load, judge and report two sides, and return the exit code. ``offer`` is passed to ``plan_sides``.

    Raises ``LoadtestError`` if a side must not be loaded, or no block could start.
    """
    sides = plan_sides(scenario, options, **offer)
    order = block_order(0, pairs + DISCARDED)
    show_plan(sides, order, pairs=pairs, least=LOOKS[0])
    check_budgets(sides, order, preflight=not no_preflight)
    if plan_only:
        return int(ExitCode.PASS)
    interrupt_on_terminate()
    loaded = sides["base"].loaded
    with ready_sides(sides, yes=yes, preflight=not no_preflight) as ready:
        for side in SIDES:
            print(f"{side}: {ready[side].description}", flush=True)
        directory = run_directory.new_run_directory(output_dir, f"compare-{loaded.name}")
        series = ComparisonSeries(directory, sides, ready, pace_of(sides, order))
        comparison = make_until_decided(series.make, pairs, loaded)
    # Describe both sides, with every setting that differs.
    made = {"base": comparison.base_runs, "head": comparison.head_runs}
    about = {side: f"{sides[side].words}; {len(made[side])} blocks" for side in SIDES}
    given: dict[str, Any] = {"fail_on_inconclusive": fail_on_inconclusive, "no_preflight": no_preflight, **offer}
    again = larger_command(scenario, options, pairs, loaded.scenario.duration, output_dir=output_dir, **given)
    comparison = msgspec.structs.replace(comparison, command=again, **about)
    save(comparison, directory)
    show_comparison(directory, comparison, plots=plots)
    unclear = comparison.exit_code == ExitCode.INCONCLUSIVE and fail_on_inconclusive
    return int(ExitCode.FAIL) if unclear else comparison.exit_code


def larger_command(
    scenario: str,
    options: Mapping[Side, SideOptions],
    pairs: int,
    duration_s: float,
    *,
    block_s: float | None,
    overrides: Sequence[str],
    **plain: object,
) -> str:
    """Return the command that repeats a comparison with twice the pairs, at most ``MOST_PAIRS``.

    If ``pairs`` already is this maximum, each block lasts twice ``duration_s``. The other options are the user's.
    """
    block_s = 2 * duration_s if pairs == MOST_PAIRS else block_s
    sides: dict[str, object] = {}
    for side in SIDES:
        one = options[side]
        sides |= {side: one.where, f"{side}_set": tuple(one.overrides), f"{side}_version": one.version}
    block = None if block_s is None else f"{block_s:g}s"
    many = min(2 * pairs, MOST_PAIRS)
    return command_line("compare", scenario, **sides, pairs=many, block=block, set=tuple(overrides), **plain)


def make_until_decided(make: Callable[[int], SeriesEnd], most: int, loaded: LoadedScenario) -> RunComparison:
    """Make pairs until the evidence decides, and return the verdict.

    ``make(n)`` makes n pairs. ``most`` is the maximum number of pairs, without the discarded pair. Invalid pairs are
    replaced until ``most`` pairs are made.
    """
    made: list[tuple[RunMeasurements, RunMeasurements]] = []
    while True:
        valid = sum(base.valid and head.valid for base, head in made[DISCARDED:])
        left = most + DISCARDED - len(made)
        wanted = next_look(valid, most) - valid + (0 if made else DISCARDED)
        end = make(min(left, wanted))
        made += end.pairs
        comparison = judge(end._replace(pairs=made), most, loaded)
        done = end.code != ExitCode.PASS or len(made) >= most + DISCARDED or not end.pairs
        if done or comparison.word in {"regressed", "pass", "not comparable"}:
            return comparison
        print(f"After {len(made) - DISCARDED} of at most {most} pairs: {comparison.sentence}", flush=True)


def judge(end: SeriesEnd, most: int, loaded: LoadedScenario) -> RunComparison:
    """Return the verdict on the pairs so far: ``invalid`` if a target failed, or an early end left too few pairs."""
    title = loaded.scenario.title
    if len(end.pairs) <= DISCARDED:
        empty = RunComparison(kind="paired", scenario=loaded.name, title=title, base="", head="", runs=())
        return _stopped(empty, end, most)
    comparison = compare_pairs(end.pairs, title=title)
    return comparison if end.code == ExitCode.PASS else _stopped(comparison, end, most)


def _stopped(comparison: RunComparison, end: SeriesEnd, pairs: int) -> RunComparison:
    """Mark a comparison as ended early. The sentence begins with the reason, and the exit code is that of ``end``."""
    done = max(0, len(end.pairs) - DISCARDED)
    sentence = f"Stopped after {done} of {pairs} pairs: {end.reason}."
    # A side whose target has gone cannot be judged.
    carried = done >= LOOKS[0] and end.code != ExitCode.TARGET
    return msgspec.structs.replace(
        comparison,
        word=comparison.word if carried else "invalid",
        exit_code=int(end.code),
        sentence=f"{sentence} {comparison.sentence}" if carried else sentence,
    )


class ComparisonSeries:
    """Makes the blocks of one comparison. A series of blocks is made before each look at the evidence."""

    def __init__(self, directory: Path, sides: BothSides, ready: Mapping[Side, ResolvedTarget], pace: Pace) -> None:
        self._directory = directory
        self._sides = sides
        self._ready = ready
        self._pace = pace
        name = sides["base"].loaded.name
        self._plan = BlockPlan(scenario=name, seeds=[], silence_s=pace.silence_s, blocks=[])

    def make(self, pairs: int) -> SeriesEnd:
        """Make and measure the next series of ``pairs`` pairs.

        Raises ``LoadtestError`` if no block could start, or the harness failed.
        """
        series, seed = len(self._plan.seeds) + 1, secrets.randbits(32)
        order = block_order(seed, pairs)
        self._prepare(order, seed, series)
        failure: LoadtestError | None = None
        code = int(ExitCode.PASS)
        try:
            with ProgressDisplay(self._pace.total_s / len(self._pace.starts_s)) as display:
                folder, environment = self._sides["base"].loaded.path.parent, load_environment(self._ready)
                code = make_load(self._directory, folder, environment, display.show, ["--series", str(series)])
        except LoadtestError as error:
            failure = error
        infos = self._keep_begun(series)
        if failure is not None and (failure.exit_code != ExitCode.TARGET or not infos):
            raise failure
        for side, ready in self._ready.items():
            if ready.embedded is not None:
                ready.embedded.write_log(self._directory / f"{side}-target.log")
                mine = [block for block, _ in infos if block.side == side]
                if ready.embedded.crashed and mine:
                    run_directory.note_target_died(self._directory / mine[-1].directory)
        return self._end(infos, self._measured(infos), code, failure)

    def _prepare(self, order: Sequence[Side], seed: int, series: int) -> None:
        """Create the directories of a series' blocks. Within a side, ``run.json`` differs only in id and preflight."""
        first: dict[Side, RunInfo] = {}
        for at, side in enumerate(order):
            name = f"{record.FOLDER}/{len(self._plan.blocks) + 1:02d}-{side}"
            if side in first:
                info = msgspec.structs.replace(first[side], id=f"{self._directory.name}/{name}", preflight=[])
                (self._directory / name).mkdir(parents=True)
                run_directory.save(info, self._directory / name)
            else:
                first[side] = self._prepare_first(side, name, series)
            self._plan.blocks.append(Block(directory=name, side=side, pair=at // 2, series=series))
        self._plan.seeds.append(seed)
        record.save(self._plan, self._directory)

    def _prepare_first(self, side: Side, name: str, series: int) -> RunInfo:
        planned, ready = self._sides[side], self._ready[side]
        first, version = series == 1, planned.options.version
        _, info = prepare(planned.loaded, ready, self._directory, block=name, first=first, target_version=version)
        if ready.chosen is not None:
            info.target.endpoint_digest = endpoint_digest(ready.environment[ENDPOINT_VARIABLE])
            run_directory.save(info, self._directory / name)
        return info

    def _keep_begun(self, series: int) -> list[tuple[Block, RunInfo]]:
        """Delete blocks that never started. Return the other blocks of the series."""
        kept: list[tuple[Block, RunInfo]] = []
        for block in self._plan.of(series):
            directory = self._directory / block.directory
            info = run_directory.load(directory)
            if record.begun(info) or (directory / samples.FILE_NAME).exists():
                kept.append((block, info))
            else:
                shutil.rmtree(directory)
                self._plan.blocks.remove(block)
        record.save(self._plan, self._directory)
        return kept

    def _measured(self, infos: Sequence[tuple[Block, RunInfo]]) -> dict[str, RunMeasurements]:
        """Measure blocks in a separate process. If a block cannot be measured, print its error and leave it out."""
        directories = [self._directory / block.directory for block, _ in infos]
        run_module("loadtest.analysis", "measure", *map(str, directories))
        found: dict[str, RunMeasurements] = {}
        for directory in directories:
            try:
                one = read(directory)
                found[one.run] = one
            except InputError as error:
                complain(error)
        return found

    def _end(
        self,
        infos: Sequence[tuple[Block, RunInfo]],
        measured: Mapping[str, RunMeasurements],
        code: int,
        failure: LoadtestError | None,
    ) -> SeriesEnd:
        found: dict[int, dict[Side, RunMeasurements]] = {}
        for block, info in infos:
            if info.end == "finished" and info.id in measured:
                found.setdefault(block.pair, {})[block.side] = measured[info.id]
        pairs = [(found[pair]["base"], found[pair]["head"]) for pair in sorted(found) if len(found[pair]) > 1]
        last = infos[-1][1] if infos else None
        dead = [side for side, ready in self._ready.items() if ready.embedded is not None and ready.embedded.crashed]
        if code == ExitCode.INTERRUPTED:
            return SeriesEnd(pairs, ExitCode.INTERRUPTED, "interrupted")
        if code == ExitCode.BUG or code < 0:
            return SeriesEnd(pairs, ExitCode.BUG, "internal error of the load generator; see load.log")
        if last is None or last.end == "interrupted":
            return SeriesEnd(pairs, ExitCode.INTERRUPTED, "interrupted")
        if dead:
            words = f"the embedded API of the {dead[0]} side ended; see {dead[0]}-target.log"
            return SeriesEnd(pairs, ExitCode.TARGET, words)
        if failure is not None:
            return SeriesEnd(pairs, ExitCode.TARGET, failure.message)
        if last.end == "aborted":
            return SeriesEnd(pairs, ExitCode.ABORTED, last.end_reason or "aborted")
        if unmeasured := [info.id for _, info in infos if info.id not in measured]:
            return SeriesEnd(pairs, ExitCode.INVALID, f"{unmeasured[0]} could not be measured")
        return SeriesEnd(pairs, ExitCode.PASS, "")
