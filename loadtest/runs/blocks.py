"""The blocks of a paired comparison: prepared, loaded, measured; and what is left of them when they end early."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from loadtest.compare import measurements
from loadtest.compare.measurements import RunMeasurements
from loadtest.credentials import ENDPOINT_VARIABLE
from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.prepare import endpoint_digest
from loadtest.processes import run_module
from loadtest.program import complain
from loadtest.record import blocks as record
from loadtest.record import run_directory, samples
from loadtest.record.blocks import Block, BlockPlan, Side
from loadtest.record.run_info import RunInfo
from loadtest.runs.run import make_load
from loadtest.runs.sides import Pace, PlannedSide, load_environment
from loadtest.runs.target import ResolvedTarget, prepare
from loadtest.terminal.progress import ProgressDisplay


class SeriesEnd(NamedTuple):
    """How a series of blocks went.

    Attributes:
        pairs: (base, head) of every pair of which both blocks came to their end, in the order of time.
        code: ``PASS`` if all did; else why not.
        reason: likewise, as the rest of a sentence.
    """

    pairs: list[tuple[RunMeasurements, RunMeasurements]]
    code: ExitCode
    reason: str


class BlockSeries:
    """Makes the series of blocks of one comparison."""

    def __init__(
        self,
        directory: Path,
        sides: Mapping[Side, PlannedSide],
        ready: Mapping[Side, ResolvedTarget],
        pace: Pace,
    ) -> None:
        self._directory = directory
        self._sides = sides
        self._ready = ready
        self._pace = pace
        name = sides["base"].loaded.name
        self._plan = BlockPlan(scenario=name, seeds=[], silence_s=pace.silence_s, blocks=[])

    def make(self, order: Sequence[Side], seed: int) -> SeriesEnd:
        """Make the next series: its load, and the measurements of every block.

        Args:
            order: of the blocks, two a pair.
            seed: what it was drawn with.

        Raises:
            LoadtestError: if no block could begin, or the harness broke.
        """
        series = len(self._plan.seeds) + 1
        self._prepare(order, seed, series)
        failure: LoadtestError | None = None
        code = int(ExitCode.PASS)
        try:
            with ProgressDisplay(self._pace.total_s / len(order)) as display:
                base, environment = self._sides["base"].loaded.path.parent, load_environment(self._ready)
                code = make_load(self._directory, base, environment, display.show, ["--series", str(series)])
        except LoadtestError as error:
            failure = error
        infos = self._keep_begun(series)
        if failure is not None and (failure.exit_code != ExitCode.TARGET or not infos):
            raise failure
        self._note_crashes(infos)
        measured = measure([self._directory / block.directory for block, _ in infos])
        return self._end(infos, measured, code, failure)

    def _prepare(self, order: Sequence[Side], seed: int, series: int) -> None:
        """Make the directory of every block. One differs from the others of its side by its id alone."""
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
        """Forget the blocks of a series that never began; gives the others."""
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

    def _note_crashes(self, infos: Sequence[tuple[Block, RunInfo]]) -> None:
        """Note in the last block of a side that its embedded API ended, and keep what it printed."""
        for side, ready in self._ready.items():
            if ready.embedded is not None:
                ready.embedded.write_log(self._directory / f"{side}-target.log")
                mine = [block for block, _ in infos if block.side == side]
                if ready.embedded.crashed and mine:
                    run_directory.note_target_died(self._directory / mine[-1].directory)

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
            return SeriesEnd(pairs, ExitCode.BUG, "an error of the harness's own; see load.log")
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


def measure(directories: Sequence[Path]) -> dict[str, RunMeasurements]:
    """Write ``measurements.json`` of each run in a process of its own, and read them; by the run's id.

    A run that cannot be measured is said, and left out.
    """
    run_module("loadtest.analysis", "measure", *map(str, directories))
    found: dict[str, RunMeasurements] = {}
    for directory in directories:
        try:
            one = measurements.read(directory)
            found[one.run] = one
        except InputError as error:
            complain(error)
    return found
