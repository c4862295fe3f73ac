"""``loadtest capacity``: the highest rate of a scenario that holds, and what stops more."""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import msgspec

from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.capacity import models, search, sentences
from loadtest.capacity.levels import read_level
from loadtest.capacity.queue import stage_s, with_causes, workers_guess
from loadtest.capacity.results import Capacity, Guess, Level, save
from loadtest.capacity.sentences import Stop
from loadtest.cli import _children as children
from loadtest.cli._options import TargetOptions, output_dir_option, overrides_option, seed_option, target_options
from loadtest.cli._target import ResolvedTarget, prepare, resolved_target
from loadtest.cli.run import make_load
from loadtest.contract import LIMITS_OF_OPERATION, Operation
from loadtest.credentials import api_keys
from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.plan import Question
from loadtest.prepare import assumed_limits_of, check_before_run, planned_traffic
from loadtest.processes import report_command
from loadtest.record import run_directory
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario, at_rate, with_stage_alone
from loadtest.targets import ChosenTarget, choose
from loadtest.targets.look import check_reachable
from loadtest.words import percent

_FOLDER: Final = "levels"
_EXACT: Final = 1.005
"""How near to the highest rate that a budget allows the search for it goes."""
_FURTHER: Final = 1.03
"""Times a rate that held: a run nearer to it would tell nothing."""
_INTERRUPTED: Final = Stop("it was interrupted", ExitCode.INTERRUPTED)


@click.command("capacity")
@click.argument("scenario")
@click.option("--stage", metavar="NAME", help="Stage to judge. Default: the only one that thresholds are about.")
@target_options(embedded=True)
@overrides_option
@seed_option
@click.option("--max-runs", type=click.IntRange(2, 40), default=10, show_default=True, help="Most runs to make.")
@click.option(
    "--max-requests", type=click.IntRange(min=1), help="Stop before a run that would send more than this in all."
)
@click.option("--plan", "plan_only", is_flag=True, help="Only print what is expected, and what the first run costs.")
@output_dir_option
def command(
    scenario: str,
    *,
    stage: str | None,
    target: TargetOptions,
    overrides: tuple[str, ...],
    seed: int | None,
    max_runs: int,
    max_requests: int | None,
    plan_only: bool,
    output_dir: Path,
) -> int:
    """Find the highest rate at which the thresholds of SCENARIO hold, and what stops more.

    Each run has the judged stage alone, at another rate. Exit codes: 0 found, 6 cannot tell, 3 the load generator was
    the bottleneck, 5 target unreachable, 7 the target's request budget allows no more.
    """
    whole = load_scenario(find_scenario(scenario), overrides, seed)
    chosen = None if target.embedded else choose(target.host, target.target, target.targets)
    judged = stage or _only_stage(whole)
    assumed = assumed_limits_of(whole, chosen, embedded=chosen is None)
    loaded = with_stage_alone(whole, judged, _window_s(whole, assumed))
    keys = loaded.scenario.keys if chosen is None else len(api_keys())
    seeking = _Search(loaded, judged, target, chosen, keys, max_runs, max_requests)
    seeking.guess()
    print(seeking.plan(), flush=True)
    if plan_only:
        return int(ExitCode.PASS)
    children.interrupt_on_terminate()
    directory = run_directory.new_run_directory(output_dir, f"capacity-{loaded.name}")
    found = seeking.run(directory)
    save(found, directory)
    print("\n".join([found.sentence, *found.reasons, f"All runs are in {directory}."]), flush=True)
    # Pages are made in a process of their own, like those of a run.
    subprocess.run([sys.executable, "-m", "loadtest.report.capacity", str(directory)], check=False)
    return found.exit_code


def _only_stage(loaded: LoadedScenario) -> str:
    stages = dict.fromkeys(each.name for traffic in loaded.scenario.traffic.values() for each in traffic.stages)
    named = dict.fromkeys(each.stage for each in loaded.scenario.threshold if each.stage) or stages
    if len(named) == 1:
        return next(iter(named))
    raise InputError(
        f"{loaded.path} has thresholds about several stages: {', '.join(named)}",
        f"Name one, as --stage {next(iter(named))}.",
    )


def _window_s(loaded: LoadedScenario, assumed: AssumedLimits) -> float:
    """Seconds of the longest window that the scenario draws on: a stage holds whole ones."""
    drawn = {name for each in loaded.scenario.traffic.values() for name in LIMITS_OF_OPERATION[each.operation]}
    return 0.0 if assumed.spec.algorithm == CONCURRENCY else max(assumed.limit_on(name).window for name in drawn)


@dataclass
class _Search:
    """A search under way.

    Attributes:
        loaded: the scenario with the judged stage alone.
        stage: the judged one.
        target: what the command line says of it.
        chosen: the running target; None for the embedded one.
        keys: API keys that share the traffic.
        max_runs: most to make.
        max_requests: most to send in all; None for as many as the runs take.
        measured: levels so far, as each alone looks.
        levels: the same, with what stopped them in the light of all.
        expected: guesses before anything is sent.
        guesses: these, and what the levels tell.
    """

    loaded: LoadedScenario
    stage: str
    target: TargetOptions
    chosen: ChosenTarget | None
    keys: int
    max_runs: int
    max_requests: int | None
    measured: list[Level] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    expected: list[Guess] = field(default_factory=list)
    guesses: list[Guess] = field(default_factory=list)

    @property
    def assumed(self) -> AssumedLimits:
        """What is assumed of the limits."""
        return assumed_limits_of(self.loaded, self.chosen, embedded=self.chosen is None)

    @property
    def offered(self) -> sentences.Offered:
        """What is offered at multiplier 1."""
        plans = planned_traffic(self.loaded, self.assumed, self.keys)
        base_rates = {name: plan.stages[-1].rate for name, plan in plans.items()}
        operations = {name: Operation(plan.operation) for name, plan in plans.items()}
        return sentences.Offered(base_rates, operations, self.assumed, self.keys)

    def guess(self) -> None:
        """Ask the forecast where the limits are expected."""
        plans = planned_traffic(self.loaded, self.assumed, self.keys)
        question = Question(self.loaded.scenario, plans, self.assumed, start=0.0)
        self.expected = models.limit_guesses(question, models.tolerances(self.loaded.scenario))
        if self.chosen is None:
            workers = workers_guess(self.loaded.scenario, self.offered.base_rates, self.assumed, self.keys)
            self.expected += [] if workers is None else [workers]
        self.guesses = list(self.expected)

    def plan(self) -> str:
        """What is expected and what the first run costs, in sentences."""
        each = sorted(self.guesses, key=lambda guess: guess.multiplier)
        expected = [f"{g.limit or g.constraint} at {sentences.rates(g.multiplier, self.offered)}" for g in each]
        wanted = self._next() or search.Run(1.0, None)
        first = self._allowed(wanted)
        if isinstance(first, Stop):  # Not before anything was measured.
            first = wanted
        scout = "" if first.scout_s is None else f" in {first.scout_s:g} s, to find the way,"
        return (
            f"Expected constraints: {'; '.join(expected) or 'none that is known'}.\n"
            f"Each run judges {stage_s(self.loaded.scenario):g} s of stage {self.stage!r}, at most {self.max_runs} "
            f"runs; the first offers {self._operations_of(first):,.0f} operations{scout} at {first.multiplier:.3g} "
            "times the scenario's rates."
        )

    def _next(self) -> search.Run | None:
        return search.next_run(self.levels, self.guesses, self.loaded.scenario, self.offered.base_rates)

    def _operations_of(self, run: search.Run) -> float:
        seconds = run.scout_s or stage_s(self.loaded.scenario)
        return sum(self.offered.base_rates.values()) * run.multiplier * seconds

    def run(self, directory: Path) -> Capacity:
        """Make one run after the other until the answer is known, or no more may be made.

        Raises:
            LoadtestError: if the first run could not begin.
        """
        stopped: Stop | None = None
        target = ""
        with self._target() as reach:
            while (run := self._next()) is not None:
                if stopped := self._spent(run):
                    break
                allowed: search.Run | Stop = run
                try:
                    allowed = self._allowed(run)
                    level, target = (
                        self._make(directory, allowed, reach) if isinstance(allowed, search.Run) else (allowed, target)
                    )
                except LoadtestError as error:
                    if not self.measured:
                        raise
                    # What was measured counts. Input was right for the first run: it is the budget that is spent.
                    code = ExitCode.ABORTED if isinstance(error, InputError) else error.exit_code
                    level = Stop(error.message.rstrip("."), code)
                except KeyboardInterrupt:  # Between two loads; during one, the load ends early.
                    level = _INTERRUPTED
                if isinstance(level, Stop):
                    stopped = level
                    if not isinstance(allowed, Stop):
                        at = sentences.rates(allowed.multiplier, self.offered)
                        stopped = level._replace(words=f"the next run, of {at}, was not finished: {level.words}")
                    break
                self._learn(level)
                print(_line(self.levels[-1]), flush=True)
        return self._found(target, stopped)

    def _allowed(self, run: search.Run) -> search.Run | Stop:
        """The run, or a slower one where the budget of the target's entry allows none so fast.

        Raises:
            InputError: if it allows none at all.
        """
        refused = self._refused(run)
        if refused is None:
            return run
        low = search.bracket(self.levels).low
        least = search.LOWEST if low is None else low.multiplier
        if low is None and (at_all := self._refused(search.Run(least, None))) is not None:
            raise at_all
        most, too_much = least, run.multiplier
        while too_much / most > _EXACT:
            middle = math.sqrt(most * too_much)
            most, too_much = (middle, too_much) if self._refused(search.Run(middle, None)) is None else (most, middle)
        if low is None or most > low.multiplier * _FURTHER:
            return search.Run(most, None)
        return Stop(f"the target's budget allows no more: {refused.message.rstrip('.')}", ExitCode.ABORTED)

    def _refused(self, run: search.Run) -> InputError | None:
        """Why the budget does not allow a run; None if it does."""
        if self.chosen is None:
            return None
        loaded = at_rate(self.loaded, run.multiplier, run.scout_s)
        try:
            check_before_run(loaded, self.chosen, keys=self.keys, preflight=not self.levels)
        except InputError as error:
            return error
        return None

    def _learn(self, level: Level) -> None:
        scenario = self.loaded.scenario
        self.measured.append(level)
        self.levels = with_causes(self.measured, scenario, self.assumed, self.keys)
        learned = models.learned_guesses(self.levels, self.assumed, self.keys, scenario)
        self.guesses = [*self.expected, *learned]

    def _spent(self, run: search.Run) -> Stop | None:
        if len(self.levels) >= self.max_runs:
            return Stop(f"--max-runs {self.max_runs} were made", ExitCode.INCONCLUSIVE)
        sent = sum(level.requests for level in self.levels)
        if self.max_requests is not None and sent + self._operations_of(run) > self.max_requests:
            words = f"the next run would send more than --max-requests {self.max_requests:,} in all"
            return Stop(words, ExitCode.INCONCLUSIVE)
        return None

    @contextmanager
    def _target(self) -> Iterator[Callable[[LoadedScenario], AbstractContextManager[ResolvedTarget]]]:
        """Gives what a level is sent to: a new embedded API each time, or the running target, left alone in between."""
        if self.chosen is None:
            yield lambda loaded: resolved_target(loaded, self.target)
            return
        chosen = self.chosen
        with resolved_target(at_rate(self.loaded, search.LOWEST, None), self.target) as resolved:
            yield lambda _: self._left_alone(chosen, resolved)

    @contextmanager
    def _left_alone(self, chosen: ChosenTarget, resolved: ResolvedTarget) -> Iterator[ResolvedTarget]:
        """A running target whose limits count nothing of the level before."""
        check_reachable(chosen.target)
        if self.levels:
            silence = _window_s(self.loaded, self.assumed)
            print(f"Waits {silence:g} s, so that no limit counts the run before.", flush=True)
            time.sleep(silence)
        yield resolved

    def _make(
        self,
        directory: Path,
        run: search.Run,
        reach: Callable[[LoadedScenario], AbstractContextManager[ResolvedTarget]],
    ) -> tuple[Level | Stop, str]:
        """Make a run; gives its level, or why it did not come to its end, and the target in words."""
        loaded = at_rate(self.loaded, run.multiplier, run.scout_s)
        name = f"{_FOLDER}/{len(self.levels) + 1:02d}"
        with reach(loaded) as resolved:
            place, _ = prepare(loaded, resolved, directory, block=name, first=not self.levels)
            code = make_load(place, loaded.path.parent, resolved)
            words = resolved.description
        info = run_directory.load(place)
        if code == ExitCode.INTERRUPTED or info.end == "interrupted":
            return _INTERRUPTED, words
        # Each run has a report of its own; here only its figures are read.
        subprocess.run(report_command(place, plots=False), check=False, stdout=subprocess.DEVNULL)
        if code != ExitCode.PASS:
            return Stop(f"its load ended with exit code {code}: see load.log in {name}", ExitCode.BUG), words
        level = read_level(place, name=name, multiplier=run.multiplier, stage=self.stage, scenario=loaded.scenario)
        level = msgspec.structs.replace(level, scout=run.scout_s is not None)
        if info.end == "aborted" and level.outcome != "breaks":
            return Stop(info.end_reason or "it was aborted", ExitCode.ABORTED), words
        return level, words

    def _found(self, target: str, stopped: Stop | None) -> Capacity:
        between = search.bracket(self.levels)
        high = between.high
        constraint = None if high is None else high.constraint
        answer = sentences.answer(self.levels, self.guesses, self.offered, stopped)
        return Capacity(
            scenario=self.loaded.name,
            title=self.loaded.scenario.title,
            stage=self.stage,
            target=target,
            base_rates=dict(self.offered.base_rates),
            multiplier=answer.multiplier,
            low=None if between.low is None else between.low.multiplier,
            high=None if high is None else high.multiplier,
            constraint=constraint,
            limit=None if high is None else high.limit,
            sentence=answer.sentence,
            reasons=sentences.reasons(self.levels, self.offered, constraint),
            levels=tuple(self.levels),
            guesses=tuple(self.guesses),
            exit_code=int(answer.code),
        )


def _line(level: Level) -> str:
    """A level in a line: its rates, times and 429s."""
    outcome = f"finds the way, in {level.stage_s:g} s" if level.scout else level.outcome
    parts = [f"{level.multiplier:.3g} times the rate: {outcome}"]
    for name, entry in level.entries.items():
        p95 = "–" if entry.response_p95_ms is None else f"{entry.response_p95_ms:,.0f} ms"
        parts.append(f"{name} {entry.offered_rate * 60:,.0f}/min, 429 {percent(entry.throttled_rate)}, p95 {p95}")
    return "  ".join([*parts, *(() if level.scout else level.broken)])
